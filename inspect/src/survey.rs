//! How many rows a table has and what they weigh, by key group.

use millstream_api::log::SegmentContent;
use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt16Type;

use crate::{InspectError, Stored, StoredTable};

/// What is in a key group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSize {
    pub rows: u64,
    /// Keys and values, one after the other: not what they take in memory or compressed.
    pub bytes: u64,
}

/// A table as it is after all of its segments.
#[derive(Clone, Debug)]
pub struct TableSurvey {
    pub table: StoredTable,
    pub segments: usize,
    /// Objects and inline segments as they are stored, each object once.
    pub stored_bytes: u64,
    pub total: GroupSize,
    /// One per key group of the job.
    pub groups: Vec<GroupSize>,
}

/// Counts the entries of a table.
///
/// # Errors
/// When it cannot be read or is damaged.
pub async fn survey(stored: &Stored, table: StoredTable) -> Result<TableSurvey, InspectError> {
    let mut groups = vec![GroupSize::default(); stored.manifest.max_parallelism as usize];
    let count = |batch: RecordBatch| add(&table, &batch, &mut groups);
    let read = stored.segments.entries(&table.manifest, &table.spec, stored.now_ms(), count).await;
    if let Err(error) = read {
        return Err(stored.explain(error).await);
    }
    let total = sum(&groups);
    let (segments, stored_bytes) = (table.manifest.segments.len(), stored_bytes(&table));
    Ok(TableSurvey { table, segments, stored_bytes, total, groups })
}

/// All of them together.
#[must_use]
pub fn sum(groups: &[GroupSize]) -> GroupSize {
    groups.iter().fold(GroupSize::default(), |sum, group| GroupSize {
        rows: sum.rows + group.rows,
        bytes: sum.bytes + group.bytes,
    })
}

fn add(table: &StoredTable, batch: &RecordBatch, groups: &mut [GroupSize]) -> Result<(), InspectError> {
    let of_row = batch.column(0).as_primitive::<UInt16Type>().values();
    for (group, bytes) in of_row.iter().zip(table.row_bytes(batch)) {
        let Some(size) = groups.get_mut(usize::from(*group)) else {
            let (table, max) = (&table.manifest.table, groups.len());
            let reason =
                format!("table {table} has a row in key group {group}, and there are {max}: run `checkpoints verify`");
            return Err(InspectError::Asked(reason));
        };
        size.rows += 1;
        size.bytes += bytes;
    }
    Ok(())
}

fn stored_bytes(table: &StoredTable) -> u64 {
    let mut inline = 0;
    let mut objects = BTreeMap::new();
    for segment in &table.manifest.segments {
        match &segment.content {
            SegmentContent::Object(object) => {
                objects.insert(&object.path, object.bytes);
            }
            SegmentContent::Inline { data } => inline += data.len() as u64,
        }
    }
    inline + objects.values().sum::<u64>()
}
