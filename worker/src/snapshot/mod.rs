//! Snapshots in the store: change batches to segments and back.
//!
//! Owns: the segment format (Parquet, sorted by key group; Arrow IPC inline when small), names, checksums, loading by
//! key group, merging. Does not own: what changed (`state`), nor the manifest (the coordinator).

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_api::ids::{Epoch, Generation, TaskId, TransformUid};
use millstream_api::log::{TableManifest, TableSnapshot};
use millstream_store::ObjectStore;
use thiserror::Error;

use crate::state::TableSpec;

/// A failed read or write of segments.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A stored object is not what was written: the job stops, it never falls back in silence.
    #[error("{object} is corrupt: {reason}")]
    Corrupt { object: String, reason: String },
    #[error(transparent)]
    Store(#[from] millstream_store::StoreError),
    /// A stored table does not fit the job's.
    #[error("failed to restore table {table} of {uid}: {reason}")]
    Mismatch { uid: TransformUid, table: String, reason: String },
    #[error("failed to encode a segment of table {table} of {uid}: {reason}")]
    Encode { uid: TransformUid, table: String, reason: String },
}

/// Segments of one job in its store.
#[derive(Clone, Debug)]
pub struct Segments {
    _store: Arc<dyn ObjectStore>,
    _job_path: String,
}

/// Who writes a segment: part of its name.
#[derive(Clone, Debug)]
pub struct SegmentWriter {
    pub generation: Generation,
    pub epoch: Epoch,
    pub task: TaskId,
}

impl Segments {
    /// `job_path`: where the job's objects are in the store, without a slash at the end; empty: the store's root.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, job_path: impl Into<String>) -> Self {
        Self { _store: store, _job_path: job_path.into() }
    }

    /// Writes one table's changes of one epoch. `inline_bytes_left`: what this task may still put into the manifest;
    /// reduced by what is used.
    pub async fn write(
        &self,
        _writer: &SegmentWriter,
        _uid: &TransformUid,
        _spec: &TableSpec,
        _changes: Vec<RecordBatch>,
        _inline_bytes_left: &mut usize,
    ) -> Result<TableSnapshot, SnapshotError> {
        unimplemented!()
    }

    /// Reads what these key groups need of a table, oldest segment first, in batches for `State::load`.
    pub async fn read(
        &self,
        _table: &TableManifest,
        _spec: &TableSpec,
        _groups: Range<u16>,
        _on_batch: impl FnMut(RecordBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        unimplemented!()
    }
}
