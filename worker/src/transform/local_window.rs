//! First phase of a window aggregate: combines rows by key and slice, before the hash edge.
//!
//! Slices stay open across batches, so a hot key crosses the edge once per slice, not once per batch. What is combined
//! leaves when the watermark passes the slice's end, when the input goes idle, at a barrier and at the end, or when it
//! grows past [`GROUPS_MAX`] or [`BYTES_MAX`]; nothing of it is state. Owns: slice assignment and combining. Does not
//! own: late rows; only the second phase knows the watermark of all inputs, so they pass through like others.

use std::collections::VecDeque;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take;
use millstream_api::graph::{AggregateCall, Field, Transform, Window};
use millstream_api::ids::Epoch;

use super::aggregate::{AggregatePlan, Feed, HashAggregate, take_feeds};
use super::build::BuildError;
use super::output::{Output, Pieces};
use super::window_time::{SliceRun, Slicing, event_times, slice_runs};
use super::{Collector, Emission, TransformContext, TransformError};
use crate::element::WatermarkMs;

/// Groups of all open slices together. A table of this size stays in a core's cache, and a flush stays a small burst.
const GROUPS_MAX: usize = 65_536;
/// Memory of all open slices together, where keys or values are long.
const BYTES_MAX: usize = 16 << 20;
/// Open slices. Input this much out of order is not combined well anyway.
const SLICES_MAX: usize = 64;
/// Shorter runs of equal slices than this on average are gathered by slice first.
const RUN_ROWS_MIN: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct LocalWindowAggregate {
    output: Output,
    slicing: Slicing,
    time_column: usize,
    keys: Vec<usize>,
    key_fields: Vec<Field>,
    plan: std::sync::Arc<AggregatePlan>,
    /// The most recently used slice is last.
    open: Vec<OpenSlice>,
    /// Emptied aggregations, kept for their allocations.
    spare: Vec<HashAggregate>,
    /// Closed slices, ascending.
    closed: VecDeque<OpenSlice>,
    pieces: Pieces,
    runs: Vec<SliceRun>,
}

#[derive(Debug)]
struct OpenSlice {
    end: i64,
    aggregate: HashAggregate,
}

impl LocalWindowAggregate {
    /// `input`: the columns of the input.
    pub fn new(
        transform: &Transform,
        window: &Window,
        keys: &[usize],
        aggregates: &[AggregateCall],
        input: &[Field],
    ) -> Result<Self, BuildError> {
        let refuse = |reason| BuildError::new(transform, reason);
        let key_fields: Vec<Field> = keys.iter().map(|key| input[*key].clone()).collect();
        let plan = AggregatePlan::new(aggregates).map_err(refuse)?;
        // Fails here, when the job starts, rather than at the first row.
        HashAggregate::new(&key_fields, &plan).map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            output: Output::new(transform),
            slicing: Slicing::new(window).map_err(refuse)?,
            time_column: window.time_column,
            keys: keys.to_vec(),
            key_fields,
            plan,
            open: Vec::new(),
            spare: Vec::new(),
            closed: VecDeque::new(),
            pieces: Pieces::default(),
            runs: Vec::new(),
        })
    }

    fn combine(&mut self, batch: &RecordBatch, runs: &[SliceRun]) -> Result<(), TransformError> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let feeds = self.plan.feeds_of_rows(batch);
        let folded = match runs {
            [run] => self.fold(run.slice_end, &keys, &feeds, run.len),
            _ if batch.num_rows() < runs.len() * RUN_ROWS_MIN => self.fold_gathered(runs, &keys, &feeds),
            _ => runs.iter().try_for_each(|run| {
                let keys: Vec<ArrayRef> = keys.iter().map(|key| key.slice(run.start, run.len)).collect();
                let feeds: Vec<Feed> = feeds.iter().map(|feed| feed.slice(run.start, run.len)).collect();
                self.fold(run.slice_end, &keys, &feeds, run.len)
            }),
        };
        folded.map_err(|e| self.output.arrow(&e))
    }

    /// Rows that jump between slices: first all of one slice, then all of the next.
    fn fold_gathered(&mut self, runs: &[SliceRun], keys: &[ArrayRef], feeds: &[Feed]) -> Result<(), ArrowError> {
        let mut by_slice: Vec<(i64, Vec<u32>)> = Vec::new();
        for run in runs {
            let at = by_slice.iter().position(|(end, _)| *end == run.slice_end).unwrap_or_else(|| {
                by_slice.push((run.slice_end, Vec::new()));
                by_slice.len() - 1
            });
            by_slice[at].1.extend((run.start..run.start + run.len).map(|row| row as u32));
        }
        for (slice_end, rows) in by_slice {
            let rows = UInt32Array::from(rows);
            let keys = keys.iter().map(|key| take(key, &rows, None)).collect::<Result<Vec<_>, _>>()?;
            self.fold(slice_end, &keys, &take_feeds(feeds, &rows)?, rows.len())?;
        }
        Ok(())
    }

    fn fold(&mut self, end: i64, keys: &[ArrayRef], feeds: &[Feed], rows: usize) -> Result<(), ArrowError> {
        // In a gap between windows: no result needs the row.
        if self.slicing.last_window_end(end).is_none() {
            return Ok(());
        }
        match self.open.iter().rposition(|slice| slice.end == end) {
            Some(at) => {
                let last = self.open.len() - 1;
                self.open.swap(at, last);
            }
            None => {
                let aggregate = match self.spare.pop() {
                    Some(aggregate) => aggregate,
                    None => HashAggregate::new(&self.key_fields, &self.plan)?,
                };
                self.open.push(OpenSlice { end, aggregate });
            }
        }
        let slice = self.open.last_mut().expect("just found or pushed");
        slice.aggregate.update(keys, feeds, rows)
    }

    fn is_full(&self) -> bool {
        let groups: usize = self.open.iter().map(|s| s.aggregate.len()).sum();
        groups >= GROUPS_MAX
            || self.open.len() > SLICES_MAX
            || self.open.iter().map(|s| s.aggregate.bytes()).sum::<usize>() >= BYTES_MAX
    }

    /// Closes the slices that end at or before `end`.
    fn close_until(&mut self, end: i64) {
        if self.open.iter().all(|slice| slice.end > end) {
            return;
        }
        let (closed, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open).into_iter().partition(|s| s.end <= end);
        self.open = open;
        self.closed.extend(closed);
        self.closed.make_contiguous().sort_by_key(|slice| slice.end);
    }

    /// Emits a piece of the closed slices.
    fn emit_piece(&mut self, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        if let Some(slice) = self.closed.pop_front() {
            let batch = self.partials(slice)?;
            self.pieces.push(&batch);
        }
        match self.pieces.emit_one(out) {
            Emission::Done if !self.closed.is_empty() => Ok(Emission::More),
            emission => Ok(emission),
        }
    }

    /// The output of a slice.
    fn partials(&mut self, mut slice: OpenSlice) -> Result<RecordBatch, TransformError> {
        let rows = slice.aggregate.len();
        let (mut columns, accumulators) = slice.aggregate.drain().map_err(|e| self.output.arrow(&e))?;
        columns.push(std::sync::Arc::new(Int64Array::from(vec![slice.end; rows])));
        columns.extend(accumulators);
        if self.spare.len() < 2 {
            self.spare.push(slice.aggregate);
        }
        self.output.batch(columns, rows)
    }

    fn flush(&mut self, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.close_until(i64::MAX);
        self.emit_piece(out)
    }
}

impl super::Transform for LocalWindowAggregate {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        _cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let times = event_times(&batch, self.time_column).map_err(|e| self.output.user_data(e))?;
        let mut runs = std::mem::take(&mut self.runs);
        slice_runs(&self.slicing, &times, &mut runs);
        self.combine(&batch, &runs)?;
        self.runs = runs;
        if self.is_full() {
            while self.flush(out)? == Emission::More {}
        }
        Ok(())
    }

    fn on_watermark(
        &mut self,
        watermark: WatermarkMs,
        _cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        self.close_until(watermark.saturating_add(1));
        self.emit_piece(out)
    }

    fn on_idle(&mut self, _cx: &mut TransformContext<'_>, out: &mut dyn Collector) -> Result<Emission, TransformError> {
        self.flush(out)
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
        self.emit_piece(out)
    }
}
