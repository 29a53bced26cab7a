//! A stored table as it is: its segments laid on each other, for whoever looks at a checkpoint from outside.
//!
//! Owns: which entries are there, in bounded memory. Does not own: what is made of them. A restore does not come through
//! here: it applies segments one after another to the state (`State::load`).

use std::ops::Range;

use arrow_array::RecordBatch;
use millstream_api::graph::TransformKind;
use millstream_api::log::{Manifest, Segment, TableManifest};

use super::merge::{MergeError, MergeJob};
use super::read::overlaps;
use super::{Segments, SnapshotError, encode_error};
use crate::state::{TableSpec, change_schema};

/// Stored bytes that are decoded at a time, about: whoever looks has no memory set aside for it.
const CHUNK_BYTES: usize = 4 << 20;

/// The table as the transform that wrote it had declared it.
#[must_use]
pub fn table_spec(manifest: &Manifest, table: &TableManifest) -> TableSpec {
    let transform = manifest.graph.transforms.iter().find(|t| t.uid == table.uid);
    let ttl_ms = transform.and_then(|transform| match &transform.kind {
        TransformKind::GlobalGroupAggregate { state_ttl_ms, .. } => *state_ttl_ms,
        _ => None,
    });
    TableSpec { name: table.table.clone(), key: table.key.clone(), value: table.value.clone(), ttl_ms }
}

impl Segments {
    /// Shows every entry that a restore at `now_ms` would bring (nothing deleted, nothing expired), sorted by key group and
    /// namespace, as change batches ([`change_schema`]) in which each row is a put. Memory: some key groups at a time, and
    /// small segments; large ones are in temporary files while their key groups are shown.
    ///
    /// # Errors
    /// When a segment cannot be read or is not what was written; and whatever `on_batch` returns, which ends the reading.
    pub async fn entries<E: From<SnapshotError>>(
        &self,
        table: &TableManifest,
        spec: &TableSpec,
        now_ms: i64,
        mut on_batch: impl FnMut(RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        for groups in independent_ranges(&table.segments) {
            let mut inputs = Vec::new();
            for segment in table.segments.iter().filter(|segment| overlaps(segment, &groups)) {
                inputs.push(self.fetch_aside(table, segment).await?);
            }
            let (spec, schema) = (spec.clone(), change_schema(spec));
            let job = MergeJob { spec, schema, groups, bottom: true, now_ms, inline_bytes_max: 0 };
            let shown = job.for_each_chunk(&inputs, CHUNK_BYTES, |batch| on_batch(batch).map_err(Ended::ByCaller));
            shown.map_err(|ended| match ended {
                Ended::ByCaller(error) => error,
                Ended::Merge(MergeError::Corrupt(error)) => error.into(),
                Ended::Merge(MergeError::Encode(reason)) => encode_error(&table.uid, &job.spec, reason).into(),
            })?;
        }
        Ok(())
    }
}

/// Why no more is shown.
enum Ended<E> {
    Merge(MergeError),
    ByCaller(E),
}

impl<E> From<MergeError> for Ended<E> {
    fn from(error: MergeError) -> Self {
        Self::Merge(error)
    }
}

/// Ranges of key groups, ascending, such that each segment counts for one of them only.
fn independent_ranges(segments: &[Segment]) -> Vec<Range<u16>> {
    let mut spans: Vec<Range<u16>> = segments.iter().map(|s| s.first_group..s.end_group).collect();
    spans.retain(|span| !span.is_empty());
    spans.sort_by_key(|span| span.start);
    let mut ranges: Vec<Range<u16>> = Vec::new();
    for span in spans {
        match ranges.last_mut().filter(|range| span.start < range.end) {
            Some(range) => range.end = range.end.max(span.end),
            None => ranges.push(span),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use millstream_api::ids::Epoch;
    use millstream_api::log::SegmentContent;

    use super::*;

    #[test]
    fn ranges_are_as_small_as_the_segments_allow() {
        let segment = |groups: Range<u16>| Segment {
            epoch: Epoch(0),
            first_group: groups.start,
            end_group: groups.end,
            rows: 1,
            content: SegmentContent::Inline { data: String::new() },
        };
        let of = |spans: &[Range<u16>]| independent_ranges(&spans.iter().cloned().map(segment).collect::<Vec<_>>());
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[8..16, 0..8, 2..4]), [0..8, 8..16]);
        assert_eq!(of(&[0..8, 8..16, 6..10, 20..20, 30..31]), [0..16, 30..31]);
    }
}
