//! Tasks: one parallel instance of a vertex, run step by step on a slot.
//!
//! A step never blocks: it drains the chain, fires due timers, takes elements from the head (`inputs`, or a source)
//! while there is room and time, and goes on with the checkpoint under way (`epoch`). Owns: the order of these, and
//! the task's state. Does not own: which task runs when (`slot`), or what a failure means for the job (the coordinator).

mod chain;
mod epoch;
mod error;
mod event;
mod inputs;
mod merges;
mod node;
mod not_null;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod watermark;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_api::ids::{Epoch, Generation, TaskId, TransformUid};
use millstream_api::log::{Manifest, SnapshotTiming, TaskSnapshot};

pub(crate) use chain::Chain;
use chain::{Drained, Timers};
use epoch::Epochs;
pub(crate) use epoch::Written;
pub use error::TaskError;
pub(crate) use event::{Events, TaskEvent, TaskEventKind, WriteRequest};
pub(crate) use inputs::Inputs;
pub(crate) use merges::{MergeAnswer, MergeRequest};
pub(crate) use node::Node;
pub(crate) use not_null::NotNull;
pub(crate) use watermark::WatermarkMerge;

use crate::element::{Barrier, Element, WatermarkMs};
use crate::exchange::batch_bytes;
use crate::metrics::TaskMetrics;
use crate::source::task::SourceHead;
use crate::state::State;

/// A step goes on taking elements for so long, then the slot's other tasks have their turn. A batch is about 4,096
/// rows, so this is a handful of batches, and a bound on what a command or a barrier waits for.
const STEP_TIME_MAX: Duration = Duration::from_millis(2);

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Worked,
    /// Nothing to do until something arrives.
    Idle,
    /// There are rows, and no room downstream.
    Blocked,
}

/// Where the elements come from.
pub(crate) enum Head {
    Source(Box<SourceHead>),
    Inputs(Inputs),
}

/// What a task is made of.
pub(crate) struct TaskParts {
    pub(crate) id: TaskId,
    pub(crate) head: Head,
    pub(crate) chain: Chain,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<TaskMetrics>,
    /// Names of its segments hold it.
    pub(crate) generation: Generation,
    /// The restored watermark; the task's own never falls below it.
    pub(crate) watermark: WatermarkMs,
    /// Largest processing time that any task of the job had read.
    pub(crate) processing_time_ms: i64,
    /// Key groups that the task owns.
    pub(crate) groups: Range<u16>,
    /// This task's share of what a manifest holds inline.
    pub(crate) inline_bytes_max: usize,
}

/// One parallel instance of a vertex.
pub(crate) struct Task {
    id: TaskId,
    head: Head,
    chain: Chain,
    epochs: Epochs,
    events: Events,
    metrics: Arc<TaskMetrics>,
    watermark: WatermarkMs,
    processing_time_ms: i64,
    phase: Phase,
    /// News about epochs that came while a barrier was inside the chain.
    deferred: VecDeque<Decision>,
    /// A barrier that came before the decision on the epoch before it.
    early: Option<(u32, Element)>,
    /// When the barrier that is inside the chain was taken in.
    barrier_since: Option<Instant>,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The end of input has passed the chain. Barriers still do.
    Ended,
    /// Reported; it does nothing more.
    Failed {
        broken: bool,
    },
}

/// What became of an epoch.
#[derive(Clone, Debug)]
enum Decision {
    Sealed(Arc<Manifest>),
    Aborted(Epoch),
}

impl Task {
    pub(crate) fn new(parts: TaskParts) -> Self {
        let TaskParts { id, head, chain, events, metrics, watermark, processing_time_ms, .. } = parts;
        Self {
            id,
            head,
            chain,
            epochs: Epochs::new(id, parts.generation, parts.groups, parts.inline_bytes_max),
            events,
            metrics,
            watermark,
            processing_time_ms,
            phase: Phase::Running,
            deferred: VecDeque::new(),
            early: None,
            barrier_since: None,
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn metrics(&self) -> &TaskMetrics {
        &self.metrics
    }

    /// One turn on the slot. `now_ms`: the clock, read once.
    pub(crate) fn step(&mut self, now_ms: i64) -> Progress {
        if matches!(self.phase, Phase::Failed { .. }) {
            return Progress::Idle;
        }
        match self.try_step(now_ms) {
            Ok(progress) => progress,
            Err(error) => {
                self.fail(&error);
                Progress::Idle
            }
        }
    }

    /// The step panicked: a defect. The task's state may be half changed.
    pub(crate) fn panicked(&mut self, message: &str) {
        let error = TaskError::Bug { reason: format!("task {} panicked: {message}", self.id) };
        self.phase = Phase::Failed { broken: true };
        self.events.send(self.id, TaskEventKind::Failed { failure: error.failure() });
    }

    pub(crate) fn start(&mut self) {
        if let Head::Source(source) = &mut self.head {
            source.start();
        }
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        if let Head::Source(source) = &mut self.head {
            source.set_paused(paused);
        }
    }

    pub(crate) fn trigger(&mut self, barrier: Barrier) {
        match &mut self.head {
            Head::Source(source) => source.trigger(barrier),
            Head::Inputs(inputs) => inputs.trigger(barrier),
        }
    }

    pub(crate) fn sealed(&mut self, manifest: Arc<Manifest>) {
        self.deferred.push_back(Decision::Sealed(manifest));
        self.decide();
    }

    pub(crate) fn aborted(&mut self, epoch: Epoch) {
        match &mut self.head {
            Head::Source(source) => source.abandon(epoch),
            Head::Inputs(inputs) => inputs.abandon(epoch),
        }
        self.early.take_if(|(_, element)| matches!(element, Element::Barrier(b) if b.epoch <= epoch));
        self.deferred.push_back(Decision::Aborted(epoch));
        self.decide();
    }

    /// The writer's answer for a segment of `epoch`, unless it was asked by a task that this one replaced.
    pub(crate) fn written(&mut self, deployment: u64, epoch: Epoch, written: Written) {
        if self.events.deployment() != deployment || matches!(self.phase, Phase::Failed { .. }) {
            return;
        }
        if let Err(error) = self.epochs.written(epoch, written, &self.events) {
            self.fail(&error);
        }
    }

    /// A merge's answer, unless it was asked by a task that this one replaced.
    pub(crate) fn merged(&mut self, deployment: u64, answer: MergeAnswer) {
        if self.events.deployment() == deployment
            && !matches!(self.phase, Phase::Failed { .. })
            && let Err(error) = self.epochs.merged(answer)
        {
            self.fail(&error);
        }
    }

    /// When the task wants its next step even if nothing arrives, epoch ms.
    pub(crate) fn next_timer_ms(&self) -> Option<i64> {
        if matches!(self.phase, Phase::Failed { .. }) {
            return None;
        }
        let source = match &self.head {
            Head::Source(source) => [source.next_timer_ms(), source.next_tell_ms()],
            Head::Inputs(_) => [None, None],
        };
        source.into_iter().chain([self.chain.next_timer_ms()]).flatten().min()
    }

    /// The job is another process's now; the task is dropped next.
    pub(crate) fn abandon(&mut self, sealed: Option<Epoch>) {
        self.chain.abandon(sealed);
    }

    /// Takes the keyed states of a task that is not run again, unless they may be half changed.
    pub(crate) fn take_states(&mut self) -> Vec<(TransformUid, State)> {
        if self.phase == (Phase::Failed { broken: true }) {
            return Vec::new();
        }
        self.chain.take_states().collect()
    }

    fn try_step(&mut self, now_ms: i64) -> Result<Progress, TaskError> {
        self.processing_time_ms = self.processing_time_ms.max(now_ms);
        self.chain.set_processing_time(self.processing_time_ms);
        let began = Instant::now();
        if let Head::Source(source) = &mut self.head {
            source.begin_step();
        }
        let mut progress = Progress::Idle;
        loop {
            if self.drain()? == Drained::Blocked {
                self.chain.flush()?;
                self.hold();
                progress = if progress == Progress::Worked { progress } else { Progress::Blocked };
                break;
            }
            let timers = self.chain.fire_timers(&self.metrics)?;
            if timers == Timers::Fired {
                progress = Progress::Worked;
                continue;
            }
            if began.elapsed() >= STEP_TIME_MAX {
                progress = Progress::Worked;
                break;
            }
            let Some((input, element)) = self.next_in_order()? else {
                self.chain.flush()?;
                if timers == Timers::NoRoom && progress == Progress::Idle {
                    progress = Progress::Blocked;
                }
                break;
            };
            self.take(input, element)?;
            progress = Progress::Worked;
        }
        if let Head::Source(source) = &mut self.head {
            source.tell(self.processing_time_ms, &self.metrics);
        }
        if self.epochs.advance(&mut self.chain, &self.events, &self.metrics)? || self.wants_more(progress) {
            progress = Progress::Worked;
        }
        Ok(progress)
    }

    /// The chain has no room: nothing is read until it has.
    fn hold(&mut self) {
        if let Head::Source(source) = &mut self.head {
            source.hold(self.processing_time_ms);
        }
    }

    fn wants_more(&self, progress: Progress) -> bool {
        progress == Progress::Idle && matches!(&self.head, Head::Source(source) if source.wants_more())
    }

    /// The next element, but for a barrier that overtook the decision on the epoch before it: the coordinator decides an
    /// epoch before it triggers the next, but the barrier comes over another slot. It waits for the command.
    fn next_in_order(&mut self) -> Result<Option<(u32, Element)>, TaskError> {
        let next = match self.early.take() {
            Some(early) => Some(early),
            None => self.next_element()?,
        };
        if matches!(next, Some((_, Element::Barrier(_)))) && self.epochs.awaits_decision() {
            self.early = next;
            return Ok(None);
        }
        Ok(next)
    }

    fn next_element(&mut self) -> Result<Option<(u32, Element)>, TaskError> {
        match &mut self.head {
            Head::Source(source) => Ok(source.next(self.processing_time_ms, &self.metrics)?.map(|e| (0, e))),
            Head::Inputs(inputs) => {
                let next = inputs.next();
                if let Some((_, Element::Batch(batch))) = &next {
                    self.metrics.add_in(batch.num_rows(), batch_bytes(batch));
                }
                Ok(next)
            }
        }
    }

    fn take(&mut self, input: u32, element: Element) -> Result<(), TaskError> {
        match &element {
            Element::Watermark(watermark) => {
                self.watermark = self.watermark.max(*watermark);
                self.metrics.set_watermark(self.watermark);
            }
            Element::Barrier(barrier) if self.epochs.retired() => return self.chain.forward(*barrier),
            Element::Barrier(_) => {
                self.barrier_since = Some(Instant::now());
                millstream_fault::reach("before-barrier");
            }
            Element::Batch(_) | Element::Idle(_) | Element::EndOfInput => {}
        }
        self.chain.feed(input, element);
        Ok(())
    }

    /// Runs down what is in the chain, and sees to what has passed it whole.
    fn drain(&mut self) -> Result<Drained, TaskError> {
        let drained = self.chain.drain(&self.metrics)?;
        if drained == Drained::Empty {
            if self.chain.take_end_passed() && self.phase == Phase::Running {
                // Running => Ended: the end of input has left the last node.
                self.phase = Phase::Ended;
                self.chain.report_counters(&self.metrics);
                self.events.send(self.id, TaskEventKind::EndOfInput);
            }
            if let Some((barrier, operator_state)) = self.chain.take_passed() {
                millstream_fault::reach("after-barrier");
                let snapshot = self.cut(barrier, operator_state);
                self.epochs.begin(snapshot);
                self.decide_now()?;
            }
        }
        Ok(drained)
    }

    /// What the task hands in for the epoch, but for tables and transactions.
    fn cut(&mut self, barrier: Barrier, operator_state: BTreeMap<TransformUid, serde_json::Value>) -> TaskSnapshot {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (splits, alignment_us) = match &self.head {
            Head::Source(source) => ([source.splits()].into_iter().collect(), 0),
            Head::Inputs(inputs) => (BTreeMap::new(), micros(inputs.last_alignment())),
        };
        self.metrics.set_alignment_us(alignment_us);
        let stall_us = self.barrier_since.take().map_or(0, |since| micros(since.elapsed()));
        TaskSnapshot {
            task: self.id,
            epoch: barrier.epoch,
            finished: self.phase == Phase::Ended,
            watermark: self.watermark,
            processing_time_max_ms: self.processing_time_ms,
            tables: Vec::new(),
            operator_state,
            splits,
            transactions: Vec::new(),
            transactional_ids: BTreeMap::new(),
            timing: SnapshotTiming { alignment_us, stall_us },
        }
    }

    fn decide(&mut self) {
        if !matches!(self.phase, Phase::Failed { .. })
            && !self.chain.barrier_inside()
            && let Err(error) = self.decide_now()
        {
            self.fail(&error);
        }
    }

    fn decide_now(&mut self) -> Result<(), TaskError> {
        while let Some(decision) = self.deferred.pop_front() {
            match decision {
                Decision::Sealed(manifest) => {
                    let now_ms = self.processing_time_ms;
                    let splits = self.epochs.sealed(&manifest, &mut self.chain, &self.events, now_ms)?;
                    if let (Some(splits), Head::Source(source)) = (splits, &mut self.head) {
                        source.sealed(&splits);
                    }
                }
                Decision::Aborted(epoch) => self.epochs.aborted(epoch, &mut self.chain)?,
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &TaskError) {
        tracing::warn!(task = %self.id, %error, "task failed");
        self.phase = Phase::Failed { broken: false };
        self.events.send(self.id, TaskEventKind::Failed { failure: error.failure() });
    }
}
