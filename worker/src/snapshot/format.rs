//! Change batches to the bytes of a segment.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type, UInt16Type};
use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::inline;
use super::parquet::ParquetSegment;
use crate::state::ChangeOp;

/// A segment that is not stored yet.
#[derive(Debug)]
pub(super) struct Encoded {
    pub groups: Range<u16>,
    pub rows: u64,
    pub content: EncodedContent,
}

#[derive(Debug)]
pub(super) enum EncodedContent {
    Inline(String),
    Object(Vec<u8>),
}

/// Sorts the changes of one epoch (at least one row) and encodes them. Inline, if that takes at most
/// `inline_bytes_max` bytes of the manifest.
pub(super) fn encode(
    schema: &SchemaRef,
    changes: &[RecordBatch],
    inline_bytes_max: usize,
) -> Result<Encoded, ArrowError> {
    let sorted = sort(&concat_batches(schema, changes)?)?;
    let groups = group_span(&sorted);
    let rows = sorted.num_rows() as u64;
    if let Some(data) = inline::encode(&sorted, inline_bytes_max)? {
        return Ok(Encoded { groups, rows, content: EncodedContent::Inline(data) });
    }
    let mut segment = ParquetSegment::new(schema, sorted.get_array_memory_size(), sorted.num_rows())?;
    segment.push(&sorted)?;
    Ok(Encoded { groups, rows, content: EncodedContent::Object(segment.finish()?) })
}

/// By key group and namespace; a drop of the namespace before its rows, else in the order given.
fn sort(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if is_sorted(batch) {
        return Ok(batch.clone());
    }
    let (order, rows) = (Order::of(batch), batch.num_rows() as u32);
    let mut indices: Vec<u32> = (0..rows).collect();
    indices.sort_by_key(|row| order.key(*row));
    take_record_batch(batch, &UInt32Array::from(indices))
}

/// Whether the rows are in the order of a segment.
pub(super) fn is_sorted(batch: &RecordBatch) -> bool {
    let order = Order::of(batch);
    (1..batch.num_rows() as u32).all(|row| order.key(row - 1) <= order.key(row))
}

/// The columns that decide the order of a segment.
struct Order<'a> {
    groups: &'a [u16],
    namespaces: &'a [i64],
    ops: &'a [i8],
}

impl<'a> Order<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        Self {
            groups: groups_of(batch),
            namespaces: batch.column(1).as_primitive::<Int64Type>().values(),
            ops: batch.column(2).as_primitive::<Int8Type>().values(),
        }
    }

    fn key(&self, row: u32) -> (u16, i64, bool) {
        let row = row as usize;
        (self.groups[row], self.namespaces[row], self.ops[row] != ChangeOp::DropNamespace as i8)
    }
}

/// The key groups of a change batch, one per row.
pub(super) fn groups_of(batch: &RecordBatch) -> &[u16] {
    batch.column(0).as_primitive::<UInt16Type>().values()
}

/// Key groups of a sorted batch that is not empty.
fn group_span(sorted: &RecordBatch) -> Range<u16> {
    let groups = groups_of(sorted);
    groups[0]..groups[groups.len() - 1] + 1
}

/// The rows of a sorted batch that belong to these key groups.
pub(super) fn clip(sorted: &RecordBatch, groups: &Range<u16>) -> RecordBatch {
    let of_row = groups_of(sorted);
    let from = of_row.partition_point(|group| *group < groups.start);
    let to = of_row.partition_point(|group| *group < groups.end);
    sorted.slice(from, to.saturating_sub(from))
}
