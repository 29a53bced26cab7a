//! First phase of an aggregate without a window: combines rows by key before the hash edge.
//!
//! Combines within a batch, or within a mini-batch when one is set. Where combining does not halve the rows it is
//! suspended for a while: rows then pass as accumulators of their own. Owns: combining. Does not own: results.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use millstream_api::graph::{AggregateCall, Field, MiniBatch, Transform};
use millstream_api::ids::Epoch;

use super::aggregate::{AggregatePlan, HashAggregate};
use super::build::BuildError;
use super::mini_batch::Holding;
use super::output::{Output, Pieces};
use super::{Collector, Emission, TransformContext, TransformError};

/// Batches that pass uncombined after combining did not pay, before it is tried again.
const BATCHES_UNCOMBINED: u32 = 15;

/// See the module.
#[derive(Debug)]
pub struct LocalGroupAggregate {
    output: Output,
    keys: Vec<usize>,
    plan: Arc<AggregatePlan>,
    held: HashAggregate,
    holding: Holding,
    pieces: Pieces,
    /// Batches still to pass uncombined.
    uncombined_left: u32,
}

impl LocalGroupAggregate {
    /// `input`: the columns of the input.
    pub fn new(
        transform: &Transform,
        keys: &[usize],
        aggregates: &[AggregateCall],
        mini_batch: Option<MiniBatch>,
        input: &[Field],
    ) -> Result<Self, BuildError> {
        let refuse = |reason| BuildError::new(transform, reason);
        let key_fields: Vec<Field> = keys.iter().map(|key| input[*key].clone()).collect();
        let plan = AggregatePlan::new(aggregates).map_err(refuse)?;
        Ok(Self {
            output: Output::new(transform),
            keys: keys.to_vec(),
            held: HashAggregate::new(&key_fields, &plan).map_err(|e| refuse(e.to_string()))?,
            plan,
            holding: Holding::new(mini_batch),
            pieces: Pieces::default(),
            uncombined_left: 0,
        })
    }

    /// Moves everything held to the output's pieces.
    fn let_go(&mut self) -> Result<(), TransformError> {
        let (rows, groups) = (self.holding.reset(), self.held.len());
        if groups == 0 {
            return Ok(());
        }
        if groups as u64 * 2 > rows {
            self.uncombined_left = BATCHES_UNCOMBINED;
        }
        let (mut columns, accumulators) = self.held.drain().map_err(|e| self.output.arrow(&e))?;
        columns.extend(accumulators);
        self.pieces.push(&self.output.batch(columns, groups)?);
        Ok(())
    }

    fn flush(&mut self, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.let_go()?;
        Ok(self.pieces.emit_one(out))
    }
}

impl super::Transform for LocalGroupAggregate {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let rows = batch.num_rows();
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let feeds = self.plan.feeds_of_rows(&batch);
        // Without key columns there is one group, and combining always pays.
        if self.uncombined_left > 0 && self.held.is_empty() && !keys.is_empty() {
            self.uncombined_left -= 1;
            let mut columns = keys;
            columns.extend(self.plan.partials_of_each(&feeds, rows));
            out.emit(self.output.batch(columns, rows)?);
            return Ok(());
        }
        self.held.update(&keys, &feeds, rows).map_err(|e| self.output.arrow(&e))?;
        if self.holding.add(rows, cx.processing_time_ms, self.held.len(), self.held.bytes()) {
            self.let_go()?;
            self.pieces.emit_all(out);
        }
        Ok(())
    }

    fn on_barrier(
        &mut self,
        _epoch: Epoch,
        _cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        self.flush(out)
    }

    fn on_end(&mut self, _cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.flush(out)
    }

    fn resume(&mut self, _cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        Ok(self.pieces.emit_one(out))
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.holding.deadline_ms()
    }

    fn on_timer(
        &mut self,
        _cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        self.flush(out)
    }
}
