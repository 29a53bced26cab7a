//! Second phase of an aggregate without a window: keyed accumulators, an updating result.
//!
//! A key's first result is +I, a later one -U (the old row) and +U (the new row) right next to each other. At most one
//! change per key leaves per batch, or per mini-batch when one is set. A change that leaves the result as it was is
//! not emitted, unless entries expire: then downstream wants to hear that the key is alive (both as in Flink's
//! `GroupAggFunction`). Owns: accumulators in state and row kinds. Does not own: combining before the edge.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, RecordBatch, UInt32Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;
use arrow_select::take::take;
use millstream_api::graph::{AggregateCall, Field, MiniBatch, RowKind, Schema, SqlType, Transform};
use millstream_api::ids::Epoch;

use super::aggregate::results::results;
use super::aggregate::state_row::Partials;
use super::aggregate::{AggregatePlan, HashAggregate};
use super::build::{BuildError, StateBuild, state_table};
use super::mini_batch::Holding;
use super::output::{Output, Pieces};
use super::{Collector, Emission, TransformContext, TransformError};
use crate::keys::KeyEncoder;
use crate::state::{Change, Namespaces, RowArrays, TableId};

/// The table's only namespace.
const NAMESPACE: i64 = 0;

/// See the module.
#[derive(Debug)]
pub struct GlobalGroupAggregate {
    output: Output,
    plan: Arc<AggregatePlan>,
    encoder: KeyEncoder,
    key_count: usize,
    /// -0.0 and 0.0 are one key, whose rows must all look alike: a -U takes back what was emitted before.
    normalises_keys: bool,
    value: Schema,
    table: TableId,
    max_parallelism: u32,
    has_ttl: bool,
    /// False when nobody downstream looks at -U.
    emit_update_before: bool,
    held: HashAggregate,
    holding: Holding,
    pieces: Pieces,
}

impl GlobalGroupAggregate {
    pub fn new(
        transform: &Transform,
        keys: &[Field],
        aggregates: &[AggregateCall],
        mini_batch: Option<MiniBatch>,
        emit_update_before: bool,
        state: StateBuild<'_>,
    ) -> Result<Self, BuildError> {
        let refuse = |reason| BuildError::new(transform, reason);
        let plan = AggregatePlan::new(aggregates).map_err(refuse)?;
        let spec = state_table(transform)?;
        let (value, has_ttl) = (spec.value.clone(), spec.ttl_ms.is_some());
        Ok(Self {
            output: Output::new(transform),
            held: HashAggregate::new(keys, &plan).map_err(|e| refuse(e.to_string()))?,
            plan,
            encoder: KeyEncoder::new(keys).map_err(|e| refuse(e.to_string()))?,
            key_count: keys.len(),
            normalises_keys: keys.iter().any(|key| matches!(key.ty, SqlType::Float | SqlType::Double)),
            value,
            table: state.state.register(spec)?,
            max_parallelism: state.max_parallelism,
            has_ttl,
            emit_update_before,
            holding: Holding::new(mini_batch),
            pieces: Pieces::default(),
        })
    }

    /// Folds everything held into the state and moves the changes to the output's pieces.
    fn let_go(&mut self, cx: &mut TransformContext<'_>) -> Result<(), TransformError> {
        self.holding.reset();
        let rows = self.held.len();
        if rows == 0 {
            return Ok(());
        }
        let (keys, partials) = self.held.drain().map_err(|e| self.output.arrow(&e))?;
        let encoded = self.encoder.encode(&keys, rows, self.max_parallelism);
        let encoded = encoded.map_err(|e| self.output.bug(e.to_string()))?;
        let merging = Partials::new(&self.plan, &partials);
        let (mut old, mut new) = (RowArrays::new(&self.value), RowArrays::new(&self.value));
        let mut existed = Vec::with_capacity(rows);
        cx.state.update(self.table, Namespaces::One(NAMESPACE), &encoded, |row, state| {
            existed.push(state.existed());
            old.push(&state.view());
            merging.merge(row, state);
            new.push(&state.view());
            Ok::<Change, TransformError>(Change::Keep)
        })?;
        let old = results(&self.plan, &old.finish()).map_err(|e| self.output.bug(e))?;
        let new = results(&self.plan, &new.finish()).map_err(|e| self.output.bug(e))?;
        let keys = match self.normalises_keys {
            true => self.encoder.decode(encoded.rows.iter().map(|row| row.data())),
            false => Ok(keys),
        };
        let keys = keys.map_err(|e| self.output.bug(e.to_string()))?;
        self.push_changes(&keys, &existed, &old, &new)
    }

    /// Puts the changelog of keys whose results went from `old` to `new` among the pieces.
    fn push_changes(
        &mut self,
        keys: &[ArrayRef],
        existed: &[bool],
        old: &[ArrayRef],
        new: &[ArrayRef],
    ) -> Result<(), TransformError> {
        let arrow = |e: ArrowError| self.output.arrow(&e);
        let unchanged = if self.has_ttl { None } else { Some(equal_rows(old, new, existed.len()).map_err(arrow)?) };
        let rows_max = existed.len() * 2;
        let mut kinds: Vec<i8> = Vec::with_capacity(rows_max);
        let mut of_key: Vec<u32> = Vec::with_capacity(rows_max);
        // (0: old results or 1: new ones, row)
        let mut of_result: Vec<(usize, usize)> = Vec::with_capacity(rows_max);
        let mut push = |kind: RowKind, side: usize, row: usize| {
            kinds.push(kind as i8);
            of_key.push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
            of_result.push((side, row));
        };
        for (row, existed) in existed.iter().enumerate() {
            if !existed {
                push(RowKind::Insert, 1, row);
                continue;
            }
            if unchanged.as_ref().is_some_and(|u| u.value(row)) {
                continue;
            }
            if self.emit_update_before {
                push(RowKind::UpdateBefore, 0, row);
            }
            push(RowKind::UpdateAfter, 1, row);
        }
        let rows = kinds.len();
        if rows == 0 {
            return Ok(());
        }
        let of_key = UInt32Array::from(of_key);
        let mut columns = Vec::with_capacity(keys.len() + new.len() + 1);
        for key in keys {
            columns.push(take(key, &of_key, None).map_err(arrow)?);
        }
        for (old, new) in old.iter().zip(new) {
            columns.push(interleave(&[old, new], &of_result).map_err(arrow)?);
        }
        columns.push(Arc::new(Int8Array::from(kinds.clone())));
        self.pieces.push_changelog(&self.output.batch(columns, rows)?, &kinds);
        Ok(())
    }

    fn flush(&mut self, cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.let_go(cx)?;
        Ok(self.pieces.emit_one(out))
    }
}

/// Rows whose columns are all equal, NULL being equal to NULL.
fn equal_rows(a: &[ArrayRef], b: &[ArrayRef], rows: usize) -> Result<BooleanBuffer, ArrowError> {
    let mut equal = BooleanBuffer::new_set(rows);
    for (a, b) in a.iter().zip(b) {
        equal = &equal & arrow_ord::cmp::not_distinct(a, b)?.values();
    }
    Ok(equal)
}

impl super::Transform for GlobalGroupAggregate {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let rows = batch.num_rows();
        let (keys, partials) = batch.columns().split_at(self.key_count);
        let feeds = self.plan.feeds_of_partials(partials);
        self.held.update(keys, &feeds, rows).map_err(|e| self.output.arrow(&e))?;
        if self.holding.add(rows, cx.processing_time_ms, self.held.len(), self.held.bytes()) {
            self.let_go(cx)?;
            self.pieces.emit_all(out);
        }
        Ok(())
    }

    fn on_barrier(
        &mut self,
        _epoch: Epoch,
        cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        self.flush(cx, out)
    }

    fn on_end(&mut self, cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.flush(cx, out)
    }

    fn resume(&mut self, _cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        Ok(self.pieces.emit_one(out))
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.holding.deadline_ms()
    }

    fn on_timer(&mut self, cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.flush(cx, out)
    }
}
