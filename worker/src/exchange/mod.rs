//! Channels between tasks: how rows get from one task's outbox to another's inbox.
//!
//! Owns: the bounded queue per pair of tasks, its credit, the spreading of a batch over the destinations and the
//! gathering of small pieces. Does not own: chained transforms (direct calls in `task`), nor alignment (`task`).

mod channel;
mod output;
mod scatter;
mod size;

pub use channel::{Receiver, Sender, channel};
pub use output::{Output, Routing};
pub use size::batch_bytes;
