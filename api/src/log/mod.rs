//! Entries of a job's log: the one truth about the job (protocol rules in `docs/internals/protocol.md`).

mod entry;
mod manifest;
mod object;
mod savepoint;

pub use entry::*;
pub use manifest::*;
pub use object::{ObjectName, STATE_FOLDER};
pub use savepoint::{SAVEPOINT_OBJECT, SAVEPOINT_VERSION, Savepoint, SavepointError};
