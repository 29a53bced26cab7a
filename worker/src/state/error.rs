//! What can go wrong with keyed state.

use thiserror::Error;

/// A failed access to state.
#[derive(Debug, Error)]
pub enum StateError {
    /// The local disk failed. It may be another one after a restart.
    #[error("failed to {verb} keyed state: {reason}")]
    Disk { verb: &'static str, reason: String },
    /// The local disk is full: a restart would fill it again.
    #[error("failed to {verb} keyed state: {reason}; free the disk, or name a larger one in spec.state.directory")]
    DiskFull { verb: &'static str, reason: String },
    /// A snapshot does not fit the tables of this job.
    #[error("failed to restore table {table}: {reason}")]
    Mismatch { table: String, reason: String },
    /// The state is larger than its budget.
    #[error("state of {bytes} bytes is over the limit of {limit} bytes: {detail}")]
    Limit { bytes: u64, limit: u64, detail: String },
    /// A call that the task or a transform must not make.
    #[error("failed to {verb} keyed state: {reason} (a defect of Millstream)")]
    Bug { verb: &'static str, reason: String },
}
