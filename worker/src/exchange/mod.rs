//! Channels between tasks: how rows get from one task's outbox to another's inbox.
//!
//! Owns: the bounded queue per pair of tasks, its credit, the spreading of a batch over the destinations, the gathering
//! of small pieces, and the connections to other workers (`remote`). Does not own: chained transforms (direct calls in
//! `task`), nor alignment (`task`).

mod channel;
mod credit;
mod output;
mod queue;
pub mod remote;
mod scatter;
mod size;

use arrow_schema::ArrowError;
use thiserror::Error;

pub use channel::{Receiver, Sender, channel};
pub use output::{Output, Routing};
pub use size::batch_bytes;

/// Rows that cannot be passed on.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// Batches that do not fit each other: a defect.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(
        "a row of {bytes} bytes is too large for the network, which takes {limit} at most: make the values smaller, or leave out the column before the exchange"
    )]
    RowTooLarge { bytes: usize, limit: usize },
}
