//! Snapshots in the store: change batches to segments and back.
//!
//! Owns: the segment format (Parquet, sorted by key group; Arrow IPC inline when small), checksums, loading by key
//! group, merging. Does not own: what changed (`state`), object names (`api::log`), nor the manifest (the coordinator).
//!
//! A segment holds the changes of one table over some epochs. The segments of a table lie on each other, oldest first:
//! a later row of an entry wins, a drop of a namespace hides what older segments have of it.

mod columns;
mod difference;
mod entries;
mod format;
mod inline;
mod merge;
mod parquet;
mod read;
mod verify;

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use millstream_api::ids::{Epoch, Generation, TaskId, TransformUid};
use millstream_api::log::{Nonce, ObjectName, ObjectRef, Segment, SegmentContent, TableSnapshot};
use millstream_store::ObjectStore;
use thiserror::Error;

use crate::state::{TableSpec, change_schema};
pub use difference::{Difference, difference};
pub use entries::table_spec;
pub use inline::inline_bytes;
pub use merge::{MergePlan, Merged, SEGMENTS_PER_RANGE_MAX, merge_plan};
pub use read::{Part, ReadProgress};

/// Extension of segment objects.
const EXTENSION: &str = "parquet";

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
    /// This machine's folder for temporary files.
    #[error(
        "failed to keep a segment in a temporary file: {reason}; free space there, or set TMPDIR to another folder"
    )]
    Spool { reason: String },
    #[error("failed to encode a segment of table {table} of {uid}: {reason}")]
    Encode { uid: TransformUid, table: String, reason: String },
}

/// Segments of one job in its store.
#[derive(Clone, Debug)]
pub struct Segments {
    store: Arc<dyn ObjectStore>,
    job_path: String,
    /// Of what this and its clones read for states.
    progress: Arc<ReadProgress>,
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
        Self { store, job_path: job_path.into(), progress: Arc::default() }
    }

    /// The same, and what it and its clones read counts from 0.
    #[must_use]
    pub fn counted_apart(&self) -> Self {
        Self { progress: Arc::default(), ..self.clone() }
    }

    #[must_use]
    pub fn progress(&self) -> &Arc<ReadProgress> {
        &self.progress
    }

    /// Writes one table's changes of one epoch: at most one segment. `inline_bytes_left`: what this task may still put
    /// into the manifest itself, beside what the manifest holds already ([`inline_bytes`]); reduced by what is used.
    pub async fn write(
        &self,
        writer: &SegmentWriter,
        uid: &TransformUid,
        spec: &TableSpec,
        changes: Vec<RecordBatch>,
        inline_bytes_left: &mut usize,
    ) -> Result<TableSnapshot, SnapshotError> {
        let mut snapshot = TableSnapshot {
            uid: uid.clone(),
            table: spec.name.clone(),
            key: spec.key.clone(),
            value: spec.value.clone(),
            added: Vec::new(),
            replaced: Vec::new(),
            replaced_inline_through: None,
        };
        if changes.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(snapshot);
        }
        let (schema, budget) = (change_schema(spec), *inline_bytes_left);
        // Sorting and compressing take their time: beside the threads that do I/O.
        let encoded = tokio::task::spawn_blocking(move || format::encode(&schema, &changes, budget)).await;
        let encoded = encoded
            .map_err(|e| e.to_string())
            .and_then(|encoded| encoded.map_err(|e| e.to_string()))
            .map_err(|reason| encode_error(uid, spec, reason))?;
        let segment = self.store(writer, writer.epoch, uid, spec, encoded, inline_bytes_left).await?;
        snapshot.added.push(segment);
        Ok(snapshot)
    }

    /// Makes a segment of encoded rows: an object, or inline.
    async fn store(
        &self,
        writer: &SegmentWriter,
        epoch: Epoch,
        uid: &TransformUid,
        spec: &TableSpec,
        encoded: format::Encoded,
        inline_bytes_left: &mut usize,
    ) -> Result<Segment, SnapshotError> {
        let format::Encoded { groups, rows, content } = encoded;
        let content = match content {
            format::EncodedContent::Inline(data) => {
                *inline_bytes_left = inline_bytes_left.saturating_sub(data.len());
                SegmentContent::Inline { data }
            }
            format::EncodedContent::Object(bytes) => {
                let nonce = draw_nonce().map_err(|reason| encode_error(uid, spec, reason))?;
                let SegmentWriter { generation, epoch, task } = *writer;
                let path = ObjectName { generation, epoch, task, nonce }.path(EXTENSION);
                let bytes = Bytes::from(bytes);
                let object = ObjectRef { path, bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
                self.store.put(&self.full_path(&object.path), bytes).await?;
                SegmentContent::Object(object)
            }
        };
        Ok(Segment { epoch, first_group: groups.start, end_group: groups.end, rows, content })
    }

    /// Path in the store.
    fn full_path(&self, path: &str) -> String {
        if self.job_path.is_empty() { path.to_owned() } else { format!("{}/{path}", self.job_path) }
    }

    /// How messages name an object.
    fn describe(&self, path: &str) -> String {
        format!("{}/{}", self.store.describe().trim_end_matches('/'), self.full_path(path))
    }
}

/// 128 random bits.
fn draw_nonce() -> Result<Nonce, String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    Ok(Nonce(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn encode_error(uid: &TransformUid, spec: &TableSpec, reason: impl ToString) -> SnapshotError {
    SnapshotError::Encode { uid: uid.clone(), table: spec.name.clone(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
