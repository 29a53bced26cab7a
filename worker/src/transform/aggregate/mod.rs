//! Hash aggregation: the core that the window and group aggregates share.
//!
//! `groups` maps key columns to dense group numbers, `accumulator` folds columns by group number, `results` turns
//! accumulators into what the query asked for, `state_row` folds accumulators into rows of keyed state. Owns: the
//! meaning of COUNT, SUM, AVG, MIN and MAX. Does not own: windows, row kinds, and when something is emitted.

pub mod accumulator;
pub mod columns;
pub mod groups;
pub mod results;
pub mod state_row;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;
use arrow_select::take::take;
use millstream_api::graph::{AggregateCall, AggregateFunction, Field};

pub use accumulator::{Accumulator, Feed, Fold};
use columns::Kind;
pub use groups::GroupTable;

/// The accumulator columns of a list of aggregate calls, in the order of [`AggregateCall::accumulator`].
#[derive(Debug)]
pub struct AggregatePlan {
    calls: Vec<AggregateCall>,
    columns: Vec<AccumulatorColumn>,
}

/// One column of accumulators.
#[derive(Clone, Debug)]
pub struct AccumulatorColumn {
    pub field: Field,
    pub fold: Fold,
    pub kind: Kind,
    /// Input column of the local phase.
    arg: Option<usize>,
    filter: Option<usize>,
}

impl AggregatePlan {
    /// Plans the accumulators. The error names the call whose type cannot be aggregated.
    pub fn new(calls: &[AggregateCall]) -> Result<Arc<Self>, String> {
        let mut columns = Vec::new();
        for call in calls {
            let folds: &[Fold] = match call.function {
                AggregateFunction::Count => &[Fold::Count],
                AggregateFunction::Sum => &[Fold::Sum],
                AggregateFunction::Avg => &[Fold::Sum, Fold::Count],
                AggregateFunction::Min => &[Fold::Min],
                AggregateFunction::Max => &[Fold::Max],
            };
            for (field, fold) in call.accumulator().into_iter().zip(folds) {
                let kind = Kind::of(&field.ty.arrow())
                    .ok_or_else(|| format!("{} has no accumulator of type {}", call.output.name, field.ty))?;
                columns.push(AccumulatorColumn { field, fold: *fold, kind, arg: call.arg, filter: call.filter });
            }
        }
        Ok(Arc::new(Self { calls: calls.to_vec(), columns }))
    }

    /// The accumulator columns.
    #[must_use]
    pub fn columns(&self) -> &[AccumulatorColumn] {
        &self.columns
    }

    /// Fields of the accumulator columns.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        self.columns.iter().map(|c| c.field.clone()).collect()
    }

    /// The aggregate calls.
    #[must_use]
    pub fn calls(&self) -> &[AggregateCall] {
        &self.calls
    }

    /// What the rows of an input batch of the local phase feed to each accumulator.
    #[must_use]
    pub fn feeds_of_rows(&self, batch: &RecordBatch) -> Vec<Feed> {
        self.columns
            .iter()
            .map(|column| {
                let values = column.arg.map(|arg| batch.column(arg).clone());
                let filter = column.filter.map(|filter| true_bits(batch.column(filter)));
                let mask = and(filter, values.as_ref().and_then(valid_bits));
                Feed { values: values.filter(|_| column.fold != Fold::Count), mask }
            })
            .collect()
    }

    /// What accumulator columns of an earlier phase feed to each accumulator.
    #[must_use]
    pub fn feeds_of_partials(&self, partials: &[ArrayRef]) -> Vec<Feed> {
        partials.iter().map(|values| Feed { values: Some(values.clone()), mask: valid_bits(values) }).collect()
    }

    /// Empty accumulators, one per column.
    #[must_use]
    pub fn accumulators(&self) -> Vec<Accumulator> {
        self.columns.iter().map(|c| Accumulator::new(c.fold, c.field.ty.arrow(), c.kind)).collect()
    }

    /// Each row as accumulators of its own: for rows that are not worth combining.
    #[must_use]
    pub fn partials_of_each(&self, feeds: &[Feed], rows: usize) -> Vec<ArrayRef> {
        let groups: Vec<u32> = (0..u32::try_from(rows).expect("a batch has fewer than 2^32 rows")).collect();
        let mut accumulators = self.accumulators();
        accumulators
            .iter_mut()
            .zip(feeds)
            .map(|(accumulator, feed)| {
                accumulator.update(&groups, rows, feed);
                accumulator.drain()
            })
            .collect()
    }
}

/// `feeds` at the rows `indices`.
pub fn take_feeds(feeds: &[Feed], indices: &UInt32Array) -> Result<Vec<Feed>, ArrowError> {
    feeds
        .iter()
        .map(|feed| {
            let values = feed.values.as_ref().map(|values| take(values, indices, None)).transpose()?;
            let mask = feed.mask.as_ref();
            let mask =
                mask.map(|mask| BooleanBuffer::from_iter(indices.values().iter().map(|i| mask.value(*i as usize))));
            Ok(Feed { values, mask })
        })
        .collect()
}

fn valid_bits(array: &ArrayRef) -> Option<BooleanBuffer> {
    // An array of the type of a bare NULL has no buffer that says so.
    array.logical_nulls().filter(|n| n.null_count() > 0).map(|n| n.inner().clone())
}

/// Rows where a BOOLEAN is TRUE: neither FALSE nor NULL.
pub(crate) fn true_bits(array: &ArrayRef) -> BooleanBuffer {
    let array = array.as_boolean();
    match array.nulls() {
        Some(nulls) => array.values() & nulls.inner(),
        None => array.values().clone(),
    }
}

fn and(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a & &b),
        (a, b) => a.or(b),
    }
}

/// Groups and their accumulators.
#[derive(Debug)]
pub struct HashAggregate {
    groups: GroupTable,
    accumulators: Vec<Accumulator>,
    /// Group of each row of the batch at hand, kept for its allocation.
    row_groups: Vec<u32>,
}

impl HashAggregate {
    /// An empty aggregation by `keys`.
    pub fn new(keys: &[Field], plan: &AggregatePlan) -> Result<Self, ArrowError> {
        Ok(Self { groups: GroupTable::new(keys)?, accumulators: plan.accumulators(), row_groups: Vec::new() })
    }

    /// Folds `rows` rows in. `feeds`: one per accumulator column.
    pub fn update(&mut self, keys: &[ArrayRef], feeds: &[Feed], rows: usize) -> Result<(), ArrowError> {
        self.groups.assign(keys, rows, &mut self.row_groups)?;
        let group_count = self.groups.len();
        for (accumulator, feed) in self.accumulators.iter_mut().zip(feeds) {
            accumulator.update(&self.row_groups, group_count, feed);
        }
        Ok(())
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.groups.bytes() + self.accumulators.iter().map(Accumulator::bytes).sum::<usize>()
    }

    /// Key columns and accumulator columns, a row per group in order of first appearance. Empty afterwards.
    pub fn drain(&mut self) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), ArrowError> {
        let keys = self.groups.drain()?;
        Ok((keys, self.accumulators.iter_mut().map(Accumulator::drain).collect()))
    }
}
