//! What can go wrong with keyed state.

use std::fmt;

use millstream_api::readings::TableSize;
use thiserror::Error;

use crate::limits::Bytes;

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
    #[error("{0}")]
    Full(Box<Fullness>),
    /// A key or a row is larger than the backend can hold.
    #[error("state of {bytes} bytes is over the limit of {limit} bytes: {detail}")]
    Limit { bytes: u64, limit: u64, detail: String },
    /// A call that the task or a transform must not make.
    #[error("failed to {verb} keyed state: {reason} (a defect of Millstream)")]
    Bug { verb: &'static str, reason: String },
}

/// How near a state is to its limit, or how far over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// Its transform and task.
    pub owner: String,
    pub bytes: u64,
    pub bytes_max: u64,
    /// The largest first.
    pub tables: Vec<TableSize>,
}

impl fmt::Display for Fullness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = u128::from(self.bytes) * 100 / u128::from(self.bytes_max.max(1));
        let (bytes, max) = (Bytes(self.bytes), Bytes(self.bytes_max));
        write!(f, "state of {}: {bytes}, {percent} % of its limit of {max}", self.owner)?;
        for table in &self.tables {
            let keys = if table.rows == 1 { "key" } else { "keys" };
            write!(f, "; table {}: {} {keys}, {}", table.table, table.rows, Bytes(table.bytes))?;
        }
        f.write_str("; give the workers more memory, raise the parallelism, or let state expire (table.exec.state.ttl)")
    }
}
