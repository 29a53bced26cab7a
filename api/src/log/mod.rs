//! Entries of a job's log: the one truth about the job (protocol rules in `docs/internals/protocol.md`).

mod entry;
mod manifest;

pub use entry::*;
pub use manifest::*;
