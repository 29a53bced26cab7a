//! Keyed state: tables of rows by (key group, namespace, key), versioned by epoch.
//!
//! The namespace is an i64 that orders the entries of a table within a key group: the end of a window slice, a
//! timer's time, 0 where there is none. Two backends stand behind [`State`]: `memory` (packed rows, an undo layer
//! per epoch) and `disk` (embedded LSM). Owns: rows and their versions. Does not own: Parquet and the store
//! (`snapshot`), nor when an epoch ends (`task`).

use thiserror::Error;

/// A failed access to state.
#[derive(Debug, Error)]
pub enum StateError {
    /// The local disk failed or is full.
    #[error("failed to {verb} keyed state: {reason}")]
    Disk { verb: &'static str, reason: String },
    /// A snapshot does not fit the tables of this job.
    #[error("failed to restore table {table}: {reason}")]
    Mismatch { table: String, reason: String },
    /// The state is larger than its budget.
    #[error("state of {bytes} bytes is over the limit of {limit} bytes: {detail}")]
    Limit { bytes: u64, limit: u64, detail: String },
}

/// Keyed state of one transform in one task.
#[derive(Debug, Default)]
pub struct State {}
