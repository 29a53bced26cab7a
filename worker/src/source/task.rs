//! What a task does with its reader, the same for every connector: projection, event time, the end, the cut.
//!
//! Owns: when the reader is polled, watermarks and idleness per split. Does not own: records and positions (the
//! connector's reader), nor what the chain does with the rows.

use std::collections::VecDeque;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use millstream_api::graph::{Schema, SourceTransform, Transform, WatermarkSpec};
use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::SplitState;
use millstream_api::readings::{SPLITS_READ_MAX, SourceReadings, SplitReadings};

use super::{Polled, SourceError, SourceReader, SplitRun};
use crate::element::{Barrier, Element, Mutation, WATERMARK_MAX, WATERMARK_MIN, WatermarkMs};
use crate::exchange::batch_bytes;
use crate::expr::{CompiledExpr, EvalContext, ExprError};
use crate::metrics::TaskMetrics;
use crate::task::{TaskError, WatermarkMerge};

/// Rows that one poll asks for: enough to hide the fixed costs of a batch, few enough to stay in the cache.
const POLL_ROWS_MAX: usize = 4_096;
/// A barrier waits behind the batch that the chain has no room for, so a slow chain gets smaller ones, down to this.
const POLL_ROWS_MIN: usize = 128;
/// A chain that makes the source wait longer than this after a batch gets half as many rows, one that is faster twice.
const HELD_MAX_MS: i64 = 100;
/// How often the metrics get the position of every split: as often as anybody is told of them.
const TELL_INTERVAL_MS: i64 = 1_000;

/// The head of a source's task.
pub(crate) struct SourceHead {
    uid: TransformUid,
    table: String,
    reader: Box<dyn SourceReader>,
    projection: Vec<CompiledExpr>,
    /// Names of the projected columns, for messages.
    schema: SchemaRef,
    event_time: Option<EventTime>,
    watermarks: WatermarkMerge,
    splits: Vec<Split>,
    /// When the metrics get the splits' positions next; `None`: nothing was polled since they got them.
    tell_at_ms: Option<i64>,
    told_at_ms: i64,
    phase: Phase,
    paused: bool,
    /// Processing time since when nothing may be read, paused or held back by the chain: no split grows idle of that.
    held_since_ms: Option<i64>,
    /// Follows the time that the chain makes the source wait.
    poll_rows: usize,
    /// The last poll found nothing more: the reader's waker or its timer says when to look again.
    drained: bool,
    ready: VecDeque<Element>,
    barriers: VecDeque<Barrier>,
}

/// Where a source is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Deployed: barriers pass, nothing is read.
    Waiting,
    Reading,
    /// All splits were read, or a barrier with `Mutation::Drain` said that this is all.
    Ended,
    /// A barrier with `Mutation::Stop` was emitted.
    Stopped,
}

struct EventTime {
    spec: WatermarkSpec,
    column: String,
    watermark: CompiledExpr,
}

/// What is known of a split beside its watermark.
#[derive(Clone, Debug, Default)]
struct Split {
    /// As in its state.
    name: String,
    finished: bool,
    /// Processing time of the first poll in a row that found it read to its end and brought nothing of it; moved on by
    /// the time in which nothing could be read.
    quiet_since_ms: Option<i64>,
}

impl SourceHead {
    /// `restored`: splits of the whole source. `floor`: the task's restored watermark.
    pub(crate) fn new(
        transform: &Transform,
        source: &SourceTransform,
        reader: Box<dyn SourceReader>,
        restored: &[SplitState],
        floor: WatermarkMs,
    ) -> Result<Self, TaskError> {
        let in_table = |place: &str| {
            let (table, place) = (source.table.clone(), place.to_owned());
            move |e: ExprError| TaskError::Expression { table, place, source: e }
        };
        let scan = Schema::new(source.scan.iter().map(|c| c.field.clone()).collect());
        let projection = source.projection.iter().zip(&transform.output.fields).map(|(expr, field)| {
            CompiledExpr::compile(expr, &scan).map_err(in_table(&format!("column {}", field.name)))
        });
        let projection = projection.collect::<Result<Vec<_>, _>>()?;
        let event_time = source.watermark.as_ref().map(|spec| -> Result<EventTime, TaskError> {
            let watermark = CompiledExpr::compile(&spec.expr, &transform.output).map_err(in_table("its watermark"))?;
            let column = transform.output.fields[spec.column].name.clone();
            Ok(EventTime { spec: spec.clone(), column, watermark })
        });
        let mut head = Self {
            uid: transform.uid.clone(),
            table: source.table.clone(),
            reader,
            projection,
            schema: transform.output.arrow(),
            event_time: event_time.transpose()?,
            watermarks: WatermarkMerge::new(0, floor),
            splits: Vec::new(),
            tell_at_ms: Some(0),
            told_at_ms: 0,
            phase: Phase::Waiting,
            paused: false,
            held_since_ms: None,
            poll_rows: POLL_ROWS_MAX,
            drained: false,
            ready: VecDeque::new(),
            barriers: VecDeque::new(),
        };
        head.add_new_splits(restored);
        head.announce();
        Ok(head)
    }

    /// Reading may begin.
    pub(crate) fn start(&mut self) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Reading;
        }
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// A barrier to be emitted before anything more is read.
    pub(crate) fn trigger(&mut self, barrier: Barrier) {
        self.barriers.push_back(barrier);
    }

    /// The epoch was given up: its barrier need not be emitted, if it was not.
    pub(crate) fn abandon(&mut self, epoch: Epoch) {
        self.barriers.retain(|b| b.epoch > epoch);
    }

    /// Nothing is read from now until the next poll: the chain has no room.
    pub(crate) fn hold(&mut self, now_ms: i64) {
        self.held_since_ms.get_or_insert(now_ms);
    }

    /// Reading goes on: the clocks of quiet splits stood still meanwhile.
    fn release(&mut self, now_ms: i64) {
        let held_ms = self.held_since_ms.take().map_or(0, |since| now_ms.saturating_sub(since));
        let rows = if held_ms > HELD_MAX_MS { self.poll_rows / 2 } else { self.poll_rows * 2 };
        self.poll_rows = rows.clamp(POLL_ROWS_MIN, POLL_ROWS_MAX);
        if held_ms == 0 {
            return;
        }
        for quiet_since in self.splits.iter_mut().filter_map(|s| s.quiet_since_ms.as_mut()) {
            *quiet_since = quiet_since.saturating_add(held_ms);
        }
    }

    /// A new step begins: the reader may be asked again.
    pub(crate) fn begin_step(&mut self) {
        self.drained = false;
    }

    /// The next element; `None`: there is nothing right now.
    pub(crate) fn next(&mut self, now_ms: i64, metrics: &TaskMetrics) -> Result<Option<Element>, TaskError> {
        if let Some(element) = self.ready.pop_front() {
            return Ok(Some(element));
        }
        if let Some(barrier) = self.barriers.pop_front() {
            return Ok(Some(self.emit(barrier)));
        }
        if self.phase == Phase::Reading && self.paused {
            self.hold(now_ms);
        }
        if self.phase != Phase::Reading || self.paused || self.drained {
            return Ok(None);
        }
        self.release(now_ms);
        self.poll(now_ms, metrics)?;
        Ok(self.ready.pop_front())
    }

    /// What comes first where the barrier is due: it, or the end that it brings.
    fn emit(&mut self, barrier: Barrier) -> Element {
        match barrier.mutation {
            // Reading => Stopped: nothing after this barrier, and no watermark MAX, so that no window closes early.
            Mutation::Stop if self.phase != Phase::Ended => self.phase = Phase::Stopped,
            // Reading => Ended: whatever the splits still have is not for this job.
            Mutation::Drain if self.phase != Phase::Ended => {
                self.barriers.push_front(barrier);
                self.end();
                return self.ready.pop_front().expect("the end was just put there");
            }
            Mutation::None | Mutation::Stop | Mutation::Drain => {}
        }
        Element::Barrier(barrier)
    }

    /// Says that nothing more comes.
    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.ready.push_back(Element::Watermark(WATERMARK_MAX));
        self.ready.push_back(Element::EndOfInput);
    }

    /// Positions, watermarks and idleness as of the rows emitted so far.
    pub(crate) fn splits(&self) -> (TransformUid, Vec<SplitState>) {
        let mut states = self.reader.splits();
        for (at, state) in states.iter_mut().enumerate() {
            state.watermark = self.watermarks.of(at);
            state.idle = self.watermarks.is_idle(at);
        }
        (self.uid.clone(), states)
    }

    /// The manifest with these positions is in the log.
    pub(crate) fn sealed(&mut self, splits: &[SplitState]) {
        self.reader.sealed(splits);
    }

    /// True when the reader may have more although the last poll brought nothing (skipped records): do not park.
    pub(crate) fn wants_more(&self) -> bool {
        self.phase == Phase::Reading && !self.paused && !self.drained
    }

    /// When to step again even if nobody wakes the slot: the reader's pace, or a split that turns idle.
    pub(crate) fn next_timer_ms(&self) -> Option<i64> {
        if self.phase != Phase::Reading || self.paused {
            return None;
        }
        let turns_idle = self.event_time.as_ref().and_then(|e| e.spec.idle_timeout_ms).and_then(|timeout| {
            let quiet = self.splits.iter().enumerate().filter(|(at, _)| !self.watermarks.is_idle(*at));
            quiet.filter_map(|(_, s)| s.quiet_since_ms).min().map(|since| since.saturating_add(millis(timeout)))
        });
        [self.reader.next_poll_ms(), turns_idle].into_iter().flatten().min()
    }

    /// When there is something new to tell the metrics.
    pub(crate) fn next_tell_ms(&self) -> Option<i64> {
        self.tell_at_ms
    }

    /// Gives the metrics the splits' positions, once a second while there is something new.
    pub(crate) fn tell(&mut self, now_ms: i64, metrics: &TaskMetrics) {
        if self.tell_at_ms.is_none_or(|at| now_ms < at) {
            return;
        }
        self.tell_at_ms = None;
        self.told_at_ms = now_ms;
        let reading = |(at, split): (usize, &Split)| SplitReadings {
            split: split.name.clone(),
            progress: self.reader.progress(at),
            watermark: self.watermarks.of(at),
            idle: self.watermarks.is_idle(at),
            finished: split.finished,
        };
        let splits = self.splits.iter().enumerate().take(SPLITS_READ_MAX).map(reading).collect();
        let splits_total = self.splits.len();
        metrics.set_splits(SourceReadings { uid: self.uid.clone(), splits, splits_total });
    }

    fn poll(&mut self, now_ms: i64, metrics: &TaskMetrics) -> Result<(), TaskError> {
        let polled = self.reader.poll(self.poll_rows).map_err(|e| self.error(e))?;
        let Polled { batch, finished, added, drained } = polled;
        self.drained = drained;
        self.tell_at_ms.get_or_insert(self.told_at_ms.saturating_add(TELL_INTERVAL_MS));
        if !added.is_empty() {
            self.add_new_splits(&[]);
        }
        if let Some((batch, runs)) = batch.filter(|(b, _)| b.num_rows() > 0) {
            metrics.add_in(batch.num_rows(), batch_bytes(&batch));
            self.rows(batch, &runs, now_ms)?;
        } else {
            self.note_quiet(&[], now_ms);
        }
        for split in finished {
            // It holds nothing back any more, as if idle. MAX is said once, when the whole source has ended.
            self.splits[split].finished = true;
            self.watermarks.set_idle(split, true);
        }
        metrics.set_source(self.reader.lag_records(), self.reader.skipped_records());
        if self.reader.finished() {
            // Reading => Ended: the last split was read to its end.
            self.end();
        } else if self.event_time.is_some() {
            let ready = &mut self.ready;
            self.watermarks.combine(|e| ready.push_back(e));
        }
        Ok(())
    }

    fn rows(&mut self, batch: RecordBatch, runs: &[SplitRun], now_ms: i64) -> Result<(), TaskError> {
        let cx = EvalContext { processing_time_ms: now_ms };
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.projection.len());
        for (at, expr) in self.projection.iter().enumerate() {
            let column = expr.evaluate(&batch, &cx).map_err(|e| {
                let place = format!("column {}", self.schema.field(at).name());
                TaskError::Evaluation { table: self.table.clone(), place, source: e }
            })?;
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?;
        self.event_times(&batch, runs, &cx)?;
        self.note_quiet(runs, now_ms);
        self.ready.push_back(Element::Batch(batch));
        Ok(())
    }

    /// Advances each split's watermark by the largest value of the watermark expression over its rows.
    fn event_times(&mut self, batch: &RecordBatch, runs: &[SplitRun], cx: &EvalContext) -> Result<(), TaskError> {
        let Some(event_time) = &self.event_time else { return Ok(()) };
        if batch.column(event_time.spec.column).null_count() > 0 {
            let column = event_time.column.clone();
            return Err(TaskError::NullEventTime { table: self.table.clone(), column });
        }
        let times = event_time.watermark.evaluate(batch, cx).map_err(|e| TaskError::Evaluation {
            table: self.table.clone(),
            place: "its watermark".to_owned(),
            source: e,
        })?;
        let times = times.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(|| TaskError::Bug {
            reason: format!("the watermark of table {} is a {}", self.table, times.data_type()),
        })?;
        let mut start = 0;
        for run in runs {
            let slice = times.slice(start, run.rows);
            start += run.rows;
            if let Some(latest) = max_of(&slice) {
                self.watermarks.advance(run.split, latest);
            }
        }
        Ok(())
    }

    /// Splits that have nothing to read get quiet, and idle after the time-out; those with rows are active, and so are
    /// those whose rows only wait behind others'. Were they idle, the watermark would make their rows late.
    fn note_quiet(&mut self, runs: &[SplitRun], now_ms: i64) {
        let Some(timeout) = self.event_time.as_ref().and_then(|e| e.spec.idle_timeout_ms) else { return };
        for (at, split) in self.splits.iter_mut().enumerate() {
            if runs.iter().any(|r| r.split == at && r.rows > 0) {
                split.quiet_since_ms = None;
                self.watermarks.set_idle(at, false);
                continue;
            }
            if split.finished {
                // It holds nothing back any more.
                continue;
            }
            match self.reader.backlog(at) {
                Some(false) => {
                    let since = *split.quiet_since_ms.get_or_insert(now_ms);
                    if now_ms.saturating_sub(since) >= millis(timeout) {
                        self.watermarks.set_idle(at, true);
                    }
                }
                Some(true) => {
                    split.quiet_since_ms = None;
                    self.watermarks.set_idle(at, false);
                }
                // Not known yet: neither quiet nor active.
                None => split.quiet_since_ms = None,
            }
        }
    }

    /// Takes in splits that the reader has and this head does not know yet.
    fn add_new_splits(&mut self, restored: &[SplitState]) {
        for (at, state) in self.reader.splits().into_iter().enumerate().skip(self.splits.len()) {
            self.watermarks.add();
            self.tell_at_ms = Some(0);
            self.splits.push(Split { name: state.split.clone(), finished: state.finished, quiet_since_ms: None });
            if let Some(known) = restored.iter().find(|r| r.split == state.split) {
                self.watermarks.advance(at, known.watermark.unwrap_or(WATERMARK_MIN));
                self.watermarks.set_idle(at, known.idle);
            }
            if state.finished {
                self.watermarks.set_idle(at, true);
            }
        }
    }

    /// Every channel hears the restored watermark and idleness before any row. Only the end itself says MAX.
    fn announce(&mut self) {
        if self.event_time.is_none() {
            return;
        }
        let ready = &mut self.ready;
        self.watermarks.announce(|e| ready.push_back(e));
        ready.retain(|e| !matches!(e, Element::Watermark(WATERMARK_MAX)));
    }

    fn error(&self, source: SourceError) -> TaskError {
        TaskError::Source { table: self.table.clone(), source }
    }
}

fn max_of(times: &arrow_array::PrimitiveArray<TimestampMillisecondType>) -> Option<i64> {
    if times.null_count() == 0 { times.values().iter().copied().max() } else { times.iter().flatten().max() }
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
