//! Second phase of a window aggregate: merges accumulators by key and slice, and fires windows.
//!
//! State is one table whose namespace is the slice's end. A window fires when the watermark reaches its last
//! millisecond: a TUMBLE window is its slice, scanned and dropped; a HOP window merges its slices by key first, and a
//! slice is dropped with its last window. Long output and long merges go in pieces. Owns: windows and lateness. Does
//! not own: combining before the edge (`local_window`).
//!
//! A row is late when every window it belongs to has fired; it is dropped and counted, as in Flink
//! (`WindowAggOperator.numLateRecordsDropped`; rows were combined before, so a dropped row may stand for several).

mod firing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use millstream_api::graph::{AggregateCall, Field, Schema, Transform, Window, WindowColumn};
use millstream_api::readings::LATE_RECORDS;
use serde_json::{Value, json};

use super::aggregate::AggregatePlan;
use super::aggregate::results::results;
use super::aggregate::state_row::Partials;
use super::build::{BuildError, StateBuild, state_table};
use super::output::Output;
use super::window_time::{Slicing, timestamps};
use super::{Collector, Emission, TransformContext, TransformError};
use crate::element::{WATERMARK_MIN, WatermarkMs};
use crate::keys::KeyEncoder;
use crate::state::{Change, Namespaces, TableId};
use firing::Firing;

/// See the module.
#[derive(Debug)]
pub struct GlobalWindowAggregate {
    shape: Shape,
    table: TableId,
    max_parallelism: u32,
    /// Every window that ends at or before this + 1 has fired.
    fired_through: WatermarkMs,
    /// No window can fire before the watermark reaches this: spares most watermarks a look into state.
    next_due: WatermarkMs,
    firing: Option<Firing>,
    late_dropped: u64,
}

/// What does not change while the job runs.
#[derive(Debug)]
struct Shape {
    output: Output,
    slicing: Slicing,
    plan: Arc<AggregatePlan>,
    encoder: KeyEncoder,
    key_count: usize,
    value: Schema,
    window_columns: Vec<WindowColumn>,
}

impl GlobalWindowAggregate {
    pub fn new(
        transform: &Transform,
        window: &Window,
        keys: &[Field],
        aggregates: &[AggregateCall],
        window_columns: &[WindowColumn],
        state: StateBuild<'_>,
    ) -> Result<Self, BuildError> {
        let refuse = |reason| BuildError::new(transform, reason);
        let plan = AggregatePlan::new(aggregates).map_err(refuse)?;
        let spec = state_table(transform)?;
        let value = spec.value.clone();
        Ok(Self {
            shape: Shape {
                output: Output::new(transform),
                slicing: Slicing::new(window).map_err(refuse)?,
                plan,
                encoder: KeyEncoder::new(keys).map_err(|e| refuse(e.to_string()))?,
                key_count: keys.len(),
                value,
                window_columns: window_columns.to_vec(),
            },
            table: state.state.register(spec)?,
            max_parallelism: state.max_parallelism,
            fired_through: WATERMARK_MIN,
            // State may be restored after this.
            next_due: WATERMARK_MIN,
            firing: None,
            late_dropped: 0,
        })
    }

    /// The batch without its late rows.
    fn without_late(&mut self, batch: RecordBatch, watermark: WatermarkMs) -> Result<RecordBatch, TransformError> {
        let slicing = &self.shape.slicing;
        let slice_ends = batch.column(self.shape.key_count).as_primitive::<Int64Type>().values();
        // Slices repeat from row to row.
        let mut judged: Option<(i64, bool)> = None;
        let mut in_time = |end: i64| match judged {
            Some((known, answer)) if known == end => answer,
            _ => {
                let answer = !slicing.is_late(end, watermark);
                judged = Some((end, answer));
                answer
            }
        };
        if slice_ends.iter().all(|end| in_time(*end)) {
            return Ok(batch);
        }
        let keep: BooleanArray = slice_ends.iter().map(|end| Some(in_time(*end))).collect();
        let kept = filter_record_batch(&batch, &keep).map_err(|e| self.shape.output.arrow(&e))?;
        self.late_dropped += (batch.num_rows() - kept.num_rows()) as u64;
        Ok(kept)
    }

    /// The earliest watermark at which a window that holds the slice fires.
    fn due(&self, slice_end: i64) -> WatermarkMs {
        let unfired = self.fired_through.saturating_add(2).max(slice_end);
        self.shape.slicing.window_end_from(unfired).map_or(WatermarkMs::MAX, |end| end - 1)
    }

    fn fire(&mut self, cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        let Some(firing) = &mut self.firing else { return Ok(Emission::Done) };
        let emission = firing.step(&self.shape, self.table, cx.state, out)?;
        if emission == Emission::Done {
            self.fired_through = firing.target();
            self.firing = None;
            let present = cx.state.namespaces_until(self.table, i64::MAX)?;
            self.next_due = present.first().map_or(WatermarkMs::MAX, |slice_end| self.due(*slice_end));
        }
        Ok(emission)
    }
}

impl Shape {
    /// The output rows of the window that ends at `window_end`.
    fn window_rows(
        &self,
        keys: Vec<ArrayRef>,
        accumulators: &[ArrayRef],
        rows: usize,
        window_end: i64,
    ) -> Result<RecordBatch, TransformError> {
        let mut columns = keys;
        columns.extend(results(&self.plan, accumulators).map_err(|e| self.output.bug(e))?);
        for column in &self.window_columns {
            let millis = match column {
                WindowColumn::Start => window_end - self.slicing.size_ms(),
                WindowColumn::End => window_end,
                WindowColumn::Time => window_end - 1,
            };
            let schema = self.output.schema();
            let ty = schema.fields().get(columns.len()).map(|f| f.data_type().clone());
            let ty = ty.ok_or_else(|| self.output.bug("more window columns than the output has"))?;
            columns.push(timestamps(&ty, vec![millis; rows]).map_err(|e| self.output.bug(e))?);
        }
        self.output.batch(columns, rows)
    }
}

impl super::Transform for GlobalWindowAggregate {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let batch = self.without_late(batch, cx.watermark.max(self.fired_through))?;
        let rows = batch.num_rows();
        let (keys, rest) = batch.columns().split_at(self.shape.key_count);
        let slice_ends: &[i64] = rest[0].as_primitive::<Int64Type>().values();
        let Some(first_slice) = slice_ends.iter().min() else { return Ok(()) };
        self.next_due = self.next_due.min(self.due(*first_slice));
        let keys = self.shape.encoder.encode(keys, rows, self.max_parallelism);
        let keys = keys.map_err(|e| self.shape.output.bug(e.to_string()))?;
        let partials = Partials::new(&self.shape.plan, &rest[1..]);
        cx.state.update(self.table, Namespaces::Each(slice_ends), &keys, |row, state| {
            partials.merge(row, state);
            Ok(Change::Keep)
        })
    }

    fn on_watermark(
        &mut self,
        watermark: WatermarkMs,
        cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        if watermark <= self.fired_through {
            return Ok(Emission::Done);
        }
        if watermark < self.next_due {
            self.fired_through = watermark;
            return Ok(Emission::Done);
        }
        let slices = cx.state.namespaces_until(self.table, watermark.saturating_add(1))?;
        self.firing = Some(Firing::new(slices, self.fired_through, watermark));
        self.fire(cx, out)
    }

    fn resume(&mut self, cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.fire(cx, out)
    }

    fn snapshot(&self) -> Option<Value> {
        // A TUMBLE window that fired is gone from the state; of a HOP window that fired, slices may still be there.
        let needed = !self.shape.slicing.is_tumble() && self.fired_through != WATERMARK_MIN;
        needed.then(|| json!({ "firedThroughMs": self.fired_through }))
    }

    fn restore(&mut self, states: &[Value]) -> Result<(), TransformError> {
        // Watermarks reach all tasks alike, so at a barrier they agree; a task that had no state yet says nothing.
        for state in states {
            let fired = state.get("firedThroughMs").and_then(Value::as_i64);
            let fired = fired.ok_or_else(|| self.shape.output.bug(format!("cannot restore from {state}")))?;
            self.fired_through = self.fired_through.max(fired);
        }
        self.next_due = WATERMARK_MIN;
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![(LATE_RECORDS, self.late_dropped)]
    }
}
