//! Keyed state: tables of rows by (key group, namespace, key), versioned by epoch.
//!
//! The namespace is an i64 that orders the entries of a table within a key group: the end of a window slice, a
//! timer's time, 0 where there is none. Two backends stand behind [`State`]: `memory` (packed rows, an undo layer
//! per epoch) and `disk` (embedded LSM). Owns: rows and their versions. Does not own: Parquet and the store
//! (`snapshot`), nor when an epoch ends (`task`).

mod row;

use std::ops::Range;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use millstream_api::graph::Schema;
use millstream_api::ids::Epoch;
use thiserror::Error;

use crate::keys::KeyBatch;
pub use row::{RowArrays, RowMut, RowRef};

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
    /// A call that the task or a transform must not make.
    #[error("failed to {verb} keyed state: {reason} (a defect of Millstream)")]
    Bug { verb: &'static str, reason: String },
}

/// Where the rows of a [`State`] live and how much they may take.
#[derive(Clone, Debug)]
pub struct StateConfig {
    pub backend: BackendConfig,
    /// Rows, keys and indexes of this state may take so much memory (or local disk).
    pub bytes_max: u64,
    /// Pre-images kept for roll back and for the snapshot in flight. Past it roll back is given up, not the job.
    pub undo_bytes_max: u64,
}

/// The backend.
#[derive(Clone, Debug)]
pub enum BackendConfig {
    Memory,
    /// `dir`: scratch folder of this state alone, emptied at open and removed when the state is dropped.
    Disk {
        dir: PathBuf,
    },
}

/// A table that a transform keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Unique within the transform; stands in the manifest.
    pub name: String,
    pub key: Schema,
    pub value: Schema,
    /// An entry expires so long after its last write, in processing time.
    pub ttl_ms: Option<u64>,
}

/// Index of a table in its [`State`], in order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// The namespaces of a batch of keys.
#[derive(Clone, Copy, Debug)]
pub enum Namespaces<'a> {
    One(i64),
    /// One per key.
    Each(&'a [i64]),
}

/// What becomes of a row that `update` visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row as it is now.
    Keep,
    /// There is no row any more.
    Delete,
    /// Nothing was set: a row that was absent stays absent, and nothing goes into the next snapshot.
    Unchanged,
}

/// Where a scan goes on. `ScanCursor::default()` starts one.
#[derive(Clone, Debug, Default)]
pub struct ScanCursor {}

/// Rows of one table that changed, or that a restore brings.
///
/// Columns: `$group` UInt16, `$namespace` Int64, `$op` Int8 ([`ChangeOp`]), `$written_ms` Int64 (tables with TTL only),
/// the key columns, the value columns. Key and value columns are nullable here: a delete has NULL values, a dropped
/// namespace has neither. Within a batch, and within a segment, drops of a namespace come before its other rows.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    pub table: TableId,
    pub batch: RecordBatch,
}

/// `$op`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ChangeOp {
    Put = 0,
    Delete = 1,
    /// Every entry of the (group, namespace) goes.
    DropNamespace = 2,
}

/// Keyed state of one transform in one task.
#[derive(Debug, Default)]
pub struct State {}

impl State {
    /// Opens empty state for these key groups.
    pub fn open(_config: &StateConfig, _groups: Range<u16>) -> Result<Self, StateError> {
        unimplemented!()
    }

    /// Declares a table. Every table is declared before the first access and before `load`.
    pub fn register(&mut self, _spec: TableSpec) -> Result<TableId, StateError> {
        unimplemented!()
    }

    /// The declared tables, in order.
    pub fn tables(&self) -> impl Iterator<Item = (TableId, &TableSpec)> {
        std::iter::empty()
    }

    /// The clock of TTL, epoch ms; never falls.
    pub fn set_processing_time(&mut self, _now_ms: i64) {}

    /// Visits the row of each key, in order; where there is none, a new one: nullable columns NULL, the others zero or empty.
    /// When the visitor fails, the state is fit for nothing but `roll_back` or the end.
    pub fn update<E: From<StateError>>(
        &mut self,
        _table: TableId,
        _namespaces: Namespaces<'_>,
        _keys: &KeyBatch,
        _visit: impl FnMut(usize, &mut RowMut<'_>) -> Result<Change, E>,
    ) -> Result<(), E> {
        unimplemented!()
    }

    /// Shows the row of each key, in order, or `None`.
    pub fn get_many<E: From<StateError>>(
        &self,
        _table: TableId,
        _namespaces: Namespaces<'_>,
        _keys: &KeyBatch,
        _visit: impl FnMut(usize, Option<RowRef<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        unimplemented!()
    }

    /// Namespaces `<= limit` that have entries, ascending.
    pub fn namespaces_until(&self, _table: TableId, _limit: i64) -> Result<Vec<i64>, StateError> {
        unimplemented!()
    }

    /// Shows up to `max_rows` further entries of a namespace: encoded key (`KeyEncoder::decode`) and row. True: that was
    /// all. The order is the backend's. The namespace must not be changed between the calls of one scan.
    pub fn scan<E: From<StateError>>(
        &self,
        _table: TableId,
        _namespace: i64,
        _cursor: &mut ScanCursor,
        _max_rows: usize,
        _visit: impl FnMut(&[u8], RowRef<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        unimplemented!()
    }

    /// Removes every entry of a namespace.
    pub fn drop_namespace(&mut self, _table: TableId, _namespace: i64) -> Result<(), StateError> {
        unimplemented!()
    }

    /// The barrier of `epoch` has passed: later changes belong to later epochs. Cheap.
    pub fn end_epoch(&mut self, _epoch: Epoch) -> Result<(), StateError> {
        unimplemented!()
    }

    /// The next piece (about `max_rows` rows) of what changed since the last sealed epoch, as of the barrier of `epoch`.
    /// `None`: that was all. Rows may be changed between the calls.
    pub fn snapshot_piece(&mut self, _epoch: Epoch, _max_rows: usize) -> Result<Option<ChangeBatch>, StateError> {
        unimplemented!()
    }

    /// The manifest of `epoch` is in the log: what it covers is no longer dirty.
    pub fn sealed(&mut self, _epoch: Epoch) -> Result<(), StateError> {
        unimplemented!()
    }

    /// The epoch was given up: its changes go into the next snapshot.
    pub fn aborted(&mut self, _epoch: Epoch) -> Result<(), StateError> {
        unimplemented!()
    }

    /// Whether `roll_back` can go to `epoch`.
    #[must_use]
    pub fn can_roll_back(&self, _epoch: Epoch) -> bool {
        unimplemented!()
    }

    /// Back to the barrier of `epoch`; later epochs are forgotten.
    pub fn roll_back(&mut self, _epoch: Epoch) -> Result<(), StateError> {
        unimplemented!()
    }

    /// Applies rows of a segment, oldest segment first. Rows of key groups of other tasks are skipped.
    pub fn load(&mut self, _changes: &ChangeBatch) -> Result<(), StateError> {
        unimplemented!()
    }

    /// All segments of the manifest of `epoch` are loaded: this is what the next snapshot builds on.
    pub fn loaded(&mut self, _epoch: Epoch) -> Result<(), StateError> {
        unimplemented!()
    }

    /// Memory (or local disk) that a table takes, about.
    #[must_use]
    pub fn bytes(&self, _table: TableId) -> u64 {
        unimplemented!()
    }

    /// Entries of a table.
    #[must_use]
    pub fn rows(&self, _table: TableId) -> u64 {
        unimplemented!()
    }
}
