//! Reading a segment only to see whether it is whole.
//!
//! Owns: the checks of one segment. Does not own: which segments there are, nor what damage means for the job.

use std::ops::Range;

use arrow_array::RecordBatch;
use millstream_api::log::{Segment, TableManifest};

use super::format::is_sorted;
use super::{Segments, SnapshotError};
use crate::keys::key_groups;
use crate::state::{ChangeOp, Changes, TableDef, TableSpec};

/// Every key group that there can be.
const ALL_GROUPS: Range<u16> = 0..u16::MAX;

impl Segments {
    /// Reads a segment as a whole, also what is outside of the key groups that it counts for: length and checksum, that it
    /// decodes into the table's columns, its order, and that each key is in the key group that its hash says. Returns the
    /// rows.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`] names the object and what is wrong with it.
    pub async fn verify(
        &self,
        table: &TableManifest,
        segment: &Segment,
        spec: &TableSpec,
        max_parallelism: u32,
    ) -> Result<u64, SnapshotError> {
        let fetched = self.fetch_aside(table, segment).await?;
        let def = TableDef::new(spec.clone()).map_err(|e| fetched.corrupt(e.to_string()))?;
        let (mut rows, mut last) = (0, None);
        fetched.batches(&ALL_GROUPS, |batch| {
            rows += batch.num_rows() as u64;
            check_batch(&def, &batch, max_parallelism, &mut last).map_err(|reason| fetched.corrupt(reason))
        })?;
        if rows != segment.rows {
            return Err(fetched.corrupt(format!("it has {rows} rows, {} were written", segment.rows)));
        }
        Ok(rows)
    }
}

/// `last`: the key group of the last row before.
fn check_batch(
    table: &TableDef,
    batch: &RecordBatch,
    max_parallelism: u32,
    last: &mut Option<u16>,
) -> Result<(), String> {
    let changes = Changes::parse(table, batch).map_err(|e| e.to_string())?;
    let groups = changes.groups;
    let falls = groups.first().zip(last.as_ref()).is_some_and(|(first, last)| first < last);
    if falls || !is_sorted(batch) {
        return Err("its rows are not sorted by key group".to_owned());
    }
    *last = groups.last().copied().or(*last);
    let mut expected = Vec::with_capacity(groups.len());
    key_groups(&changes.hashes, max_parallelism, &mut expected);
    for (row, (group, expected)) in groups.iter().zip(&expected).enumerate() {
        // A dropped namespace has no key.
        let has_key = changes.op(row) != ChangeOp::DropNamespace;
        if u32::from(*group) >= max_parallelism || (has_key && group != expected) {
            return Err(format!("a row of key group {expected} stands in key group {group}"));
        }
    }
    Ok(())
}
