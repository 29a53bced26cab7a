//! Merging segments, so that a restore reads few of them and deleted or expired entries go for good.
//!
//! A task merges for its own key groups the newest segments of a table, as many as are not much larger than what was
//! merged so far: a row is rewritten a logarithmic number of times. The result takes the place and the epoch of its
//! newest input. It enters with the task's next acknowledgement; if that epoch is aborted, with the one after.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::interleave::interleave_record_batch;
use millstream_api::ids::Epoch;
use millstream_api::log::{ObjectRef, Segment, SegmentContent, TableManifest, TableSnapshot};

use super::format::{Encoded, EncodedContent, groups_of};
use super::inline::INLINE_SEGMENT_BYTES_MAX;
use super::parquet::ParquetSegment;
use super::read::{Fetched, overlaps};
use super::{SegmentWriter, Segments, SnapshotError, columns, encode_error, inline};
use crate::keys::KeyEncoder;
use crate::state::{ChangeOp, TableSpec, WRITTEN_COLUMN, change_schema};

/// Segments that a key group may have to read at a restore.
pub const SEGMENTS_PER_RANGE_MAX: usize = 16;
/// A merge begins with so many: the next few epochs add more while it runs.
const MERGE_AT: usize = 12;
/// And takes so many of them at least.
const MERGE_INPUTS_MIN: usize = 8;
/// Stored bytes that a merge holds in memory. Larger segments are left alone.
const MERGE_INPUT_BYTES_MAX: u64 = 512 << 20;
/// Stored bytes that are decoded at a time.
const CHUNK_BYTES: usize = 16 << 20;

/// Which of a range's segments are merged: the newest, from position `first` (oldest: 0) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergePlan {
    pub first: usize,
}

/// What a merge brings for the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// `None`: nothing was left.
    pub added: Option<Segment>,
    pub replaced: Vec<ObjectRef>,
    /// Inline segments of the range up to this epoch are replaced, too.
    pub replaced_inline_through: Option<Epoch>,
}

impl Merged {
    /// Puts the merge into a task's acknowledgement.
    pub fn apply(self, snapshot: &mut TableSnapshot) {
        if let Some(segment) = self.added {
            snapshot.added.insert(0, segment);
        }
        snapshot.replaced.extend(self.replaced);
        snapshot.replaced_inline_through = snapshot.replaced_inline_through.max(self.replaced_inline_through);
    }
}

/// Whether the segments of these key groups want a merge, and which of them.
#[must_use]
pub fn merge_plan(table: &TableManifest, groups: &Range<u16>) -> Option<MergePlan> {
    let segments: Vec<&Segment> = table.segments.iter().filter(|s| overlaps(s, groups)).collect();
    if segments.len() < MERGE_AT {
        return None;
    }
    let mut first = segments.len() - MERGE_INPUTS_MIN;
    let mut bytes: u64 = segments[first..].iter().map(|s| stored_bytes(s)).sum();
    while first > 0 && stored_bytes(segments[first - 1]) <= bytes && bytes < MERGE_INPUT_BYTES_MAX {
        first -= 1;
        bytes += stored_bytes(segments[first]);
    }
    // Inline segments are replaced by epoch: none may stay behind.
    let inline = segments.iter().position(|s| matches!(s.content, SegmentContent::Inline { .. }));
    Some(MergePlan { first: inline.map_or(first, |inline| inline.min(first)) })
}

fn stored_bytes(segment: &Segment) -> u64 {
    match &segment.content {
        SegmentContent::Object(object) => object.bytes,
        SegmentContent::Inline { data } => data.len() as u64,
    }
}

impl Segments {
    /// Merges segments of these key groups by a plan of `merge_plan` for the same table and groups. Newest wins; what is
    /// deleted or, at `now_ms`, expired goes when the oldest segment takes part.
    pub async fn merge(
        &self,
        writer: &SegmentWriter,
        table: &TableManifest,
        spec: &TableSpec,
        groups: &Range<u16>,
        plan: MergePlan,
        now_ms: i64,
        inline_bytes_left: &mut usize,
    ) -> Result<Merged, SnapshotError> {
        columns::check(table, spec)?;
        let mine = table.segments.iter().filter(|s| overlaps(s, groups));
        let segments: Vec<&Segment> = mine.skip(plan.first).collect();
        let Some(epoch) = segments.last().map(|s| s.epoch) else {
            return Ok(Merged { added: None, replaced: Vec::new(), replaced_inline_through: None });
        };
        let mut inputs = Vec::new();
        for fetch in segments.iter().map(|segment| self.start_fetch(table, segment)).collect::<Vec<_>>() {
            inputs.push(fetch.join().await?);
        }
        let job = MergeJob {
            spec: spec.clone(),
            schema: change_schema(spec),
            groups: groups.clone(),
            bottom: plan.first == 0,
            now_ms,
            inline_bytes_max: *inline_bytes_left,
        };
        let uid = &table.uid;
        let encoded = tokio::task::spawn_blocking(move || job.run(&inputs)).await;
        let encoded = match encoded.map_err(|e| encode_error(uid, spec, e))? {
            Ok(encoded) => encoded,
            Err(MergeError::Corrupt(error)) => return Err(error),
            Err(MergeError::Encode(error)) => return Err(encode_error(uid, spec, error)),
        };
        let added = match encoded {
            None => None,
            Some(encoded) => Some(self.store(writer, epoch, uid, spec, encoded, inline_bytes_left).await?),
        };
        let mut replaced = Vec::new();
        let mut replaced_inline_through = None;
        for segment in segments {
            match &segment.content {
                SegmentContent::Object(object) => replaced.push(object.clone()),
                SegmentContent::Inline { .. } => replaced_inline_through = Some(epoch),
            }
        }
        Ok(Merged { added, replaced, replaced_inline_through })
    }
}

/// Why segments could not be laid on each other.
#[derive(Debug)]
pub(super) enum MergeError {
    Corrupt(SnapshotError),
    Encode(String),
}

impl From<ArrowError> for MergeError {
    fn from(error: ArrowError) -> Self {
        Self::Encode(error.to_string())
    }
}

/// A merge, without I/O.
pub(super) struct MergeJob {
    pub spec: TableSpec,
    pub schema: SchemaRef,
    pub groups: Range<u16>,
    /// Nothing lies below the inputs: tombstones hide nothing.
    pub bottom: bool,
    pub now_ms: i64,
    pub inline_bytes_max: usize,
}

/// A row that stays: where it sorts, and where it is.
type Kept = ((u16, i64, bool), (usize, usize));

impl MergeJob {
    /// `inputs`: oldest first. A few key groups at a time, so that memory is bounded.
    fn run(&self, inputs: &[Fetched]) -> Result<Option<Encoded>, MergeError> {
        let mut out = Output::default();
        self.for_each_chunk(inputs, CHUNK_BYTES, |batch| Ok::<_, MergeError>(out.push(&self.schema, batch)?))?;
        out.finish(self.inline_bytes_max, &self.schema)
    }

    /// Shows what is left of the inputs (oldest first), sorted, a few key groups at a time.
    pub(super) fn for_each_chunk<E: From<MergeError>>(
        &self,
        inputs: &[Fetched],
        chunk_bytes: usize,
        mut on_batch: impl FnMut(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let encoder = KeyEncoder::new(&self.spec.key.fields).map_err(|e| MergeError::Encode(e.to_string()))?;
        let stored: usize = inputs.iter().map(Fetched::bytes).sum();
        let chunks = stored.div_ceil(chunk_bytes).clamp(1, self.groups.len().max(1));
        let step = self.groups.len().div_ceil(chunks).max(1);
        for start in self.groups.clone().step_by(step) {
            let chunk = start..self.groups.end.min(start.saturating_add(step as u16));
            if let Some(batch) = self.merge_chunk(inputs, &chunk, &encoder)? {
                on_batch(batch)?;
            }
        }
        Ok(())
    }

    fn merge_chunk(
        &self,
        inputs: &[Fetched],
        groups: &Range<u16>,
        encoder: &KeyEncoder,
    ) -> Result<Option<RecordBatch>, MergeError> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut kept: Vec<Kept> = Vec::new();
        let mut seen: HashSet<(u16, i64, Vec<u8>)> = HashSet::new();
        let mut dropped: HashSet<(u16, i64)> = HashSet::new();
        for input in inputs.iter().rev() {
            let first = batches.len();
            let align = |batch| {
                batches.push(self.align(batch).map_err(|reason| input.corrupt(reason))?);
                Ok(())
            };
            input.decode(groups, &mut { align }).map_err(MergeError::Corrupt)?;
            // A drop hides what older segments have, not what stands beside it.
            let mut drops_here = HashSet::new();
            for at in (first..batches.len()).rev() {
                let batch = &batches[at];
                let rows = Rows::of(batch, &self.spec);
                let keys = self.spec.key.fields.len();
                let values = batch.num_columns() - self.spec.value.fields.len();
                let (_, encoded) = encoder
                    .hash_and_encode(&batch.columns()[values - keys..values], batch.num_rows())
                    .map_err(|e| MergeError::Encode(e.to_string()))?;
                for row in (0..batch.num_rows()).rev() {
                    let place = (rows.groups[row], rows.namespaces[row]);
                    let is_drop = rows.ops[row] == ChangeOp::DropNamespace as i8;
                    let stays = if is_drop {
                        drops_here.insert(place) && !dropped.contains(&place) && !self.bottom
                    } else {
                        let newest = !dropped.contains(&place)
                            && seen.insert((place.0, place.1, encoded.row(row).data().to_vec()));
                        newest && (!self.bottom || self.is_alive(&rows, row))
                    };
                    if stays {
                        kept.push(((place.0, place.1, !is_drop), (at, row)));
                    }
                }
            }
            dropped.extend(drops_here);
        }
        if kept.is_empty() {
            return Ok(None);
        }
        kept.sort_unstable();
        let indices: Vec<(usize, usize)> = kept.into_iter().map(|(_, at)| at).collect();
        Ok(Some(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &indices)?))
    }

    fn is_alive(&self, rows: &Rows<'_>, row: usize) -> bool {
        let expired = match (self.spec.ttl_ms, rows.written_ms) {
            (Some(ttl_ms), Some(written_ms)) => {
                written_ms[row].saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX)) <= self.now_ms
            }
            _ => false,
        };
        rows.ops[row] == ChangeOp::Put as i8 && !expired
    }

    /// The batch in the table's schema of today: since it was written columns may have become wider, and the TTL switched on or
    /// off.
    fn align(&self, batch: RecordBatch) -> Result<RecordBatch, String> {
        let batch = columns::fit(batch, &self.spec)?;
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let has_written = batch.schema_ref().fields().get(3).is_some_and(|f| f.name() == WRITTEN_COLUMN);
        match (has_written, self.spec.ttl_ms.is_some()) {
            (false, true) => {
                columns.insert(3, Arc::new(Int64Array::from(vec![self.now_ms; batch.num_rows()])));
            }
            (true, false) => drop(columns.remove(3)),
            _ => {}
        }
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns).map_err(|e| e.to_string())
    }
}

/// The fixed columns of an aligned batch.
struct Rows<'a> {
    groups: &'a [u16],
    namespaces: &'a [i64],
    ops: &'a [i8],
    written_ms: Option<&'a [i64]>,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch, spec: &TableSpec) -> Self {
        Self {
            groups: groups_of(batch),
            namespaces: batch.column(1).as_primitive::<Int64Type>().values(),
            ops: batch.column(2).as_primitive::<Int8Type>().values(),
            written_ms: spec.ttl_ms.map(|_| &**batch.column(3).as_primitive::<Int64Type>().values()),
        }
    }
}

/// Merged rows on their way into a segment: held back while they may be small enough to be inline.
#[derive(Default)]
struct Output {
    held: Vec<RecordBatch>,
    parquet: Option<ParquetSegment>,
    rows: usize,
    groups: Option<Range<u16>>,
}

impl Output {
    /// Sorted batches of ascending key groups, none empty.
    fn push(&mut self, schema: &SchemaRef, batch: RecordBatch) -> Result<(), ArrowError> {
        let groups = groups_of(&batch);
        let start = self.groups.as_ref().map_or(groups[0], |span| span.start);
        self.groups = Some(start..groups[groups.len() - 1] + 1);
        self.rows += batch.num_rows();
        self.held.push(batch);
        // An inline row takes more than a byte.
        if self.rows > INLINE_SEGMENT_BYTES_MAX { self.write_held(schema) } else { Ok(()) }
    }

    fn write_held(&mut self, schema: &SchemaRef) -> Result<(), ArrowError> {
        for batch in std::mem::take(&mut self.held) {
            let parquet = match &mut self.parquet {
                Some(parquet) => parquet,
                none => none.insert(ParquetSegment::new(schema, batch.get_array_memory_size(), batch.num_rows())?),
            };
            parquet.push(&batch)?;
        }
        Ok(())
    }

    fn finish(mut self, inline_bytes_max: usize, schema: &SchemaRef) -> Result<Option<Encoded>, MergeError> {
        let Some(groups) = self.groups.clone() else { return Ok(None) };
        let rows = self.rows as u64;
        if self.parquet.is_none() {
            let all = arrow_select::concat::concat_batches(schema, &self.held)?;
            if let Some(data) = inline::encode(&all, inline_bytes_max)? {
                return Ok(Some(Encoded { groups, rows, content: EncodedContent::Inline(data) }));
            }
        }
        self.write_held(schema)?;
        let parquet = self.parquet.expect("there are rows");
        Ok(Some(Encoded { groups, rows, content: EncodedContent::Object(parquet.finish()?) }))
    }
}
