//! Transforms: the steps of a chain, each with one method per kind of element.

pub mod aggregate;
pub mod build;
pub mod calc;
pub mod global_group;
pub mod global_window;
#[cfg(test)]
mod harness;
pub mod local_group;
pub mod local_window;
pub mod mini_batch;
pub mod output;
#[cfg(test)]
mod tests;
pub mod union;
pub mod window_assign;
pub mod window_time;

use arrow_array::RecordBatch;
use millstream_api::ids::Epoch;
use thiserror::Error;

use crate::element::{Element, WatermarkMs};
use crate::state::State;

/// What a transform may use beside its input.
pub struct TransformContext<'a> {
    /// Keyed state of this transform in this task.
    pub state: &'a mut State,
    /// Read once per step; never falls, also over a restore.
    pub processing_time_ms: i64,
    /// Current combined watermark of the task.
    pub watermark: WatermarkMs,
}

/// Where a transform puts its output. Accepts everything: the task does not call a transform while the chain's
/// outbox is blocked, and long output is made in pieces (`Emission::More`).
pub trait Collector {
    fn emit(&mut self, batch: RecordBatch);
}

/// Whether a transform has said all that an element made it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emission {
    Done,
    /// There is more output: call `resume` once the outbox has room. Until then the element does not go on downstream.
    More,
}

/// A step of a chain, in one task.
///
/// The task calls, for each element: `on_batch`, or `on_watermark` and then forwards the watermark, or `on_barrier` and
/// then takes the snapshot of the state and forwards the barrier. A transform never sees a barrier before all inputs
/// are aligned.
pub trait Transform: Send {
    /// Processes rows of input `input` (0 unless the transform is the head of a vertex with several inputs).
    fn on_batch(
        &mut self,
        input: u32,
        batch: RecordBatch,
        cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError>;

    /// Event time advanced to `watermark`.
    fn on_watermark(
        &mut self,
        _watermark: WatermarkMs,
        _cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }

    /// The input went idle (`Element::Idle(true)`): the watermark downstream may pass what is buffered here, so emit it.
    fn on_idle(
        &mut self,
        _cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }

    /// An epoch ends: whatever is buffered outside `cx.state` and `snapshot` must be emitted now.
    fn on_barrier(
        &mut self,
        _epoch: Epoch,
        _cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }

    /// All input has ended (after watermark MAX): emit what is buffered.
    fn on_end(&mut self, _cx: &mut TransformContext<'_>, _out: &mut dyn Collector) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }

    /// Goes on with the output of the last call that returned `Emission::More`.
    fn resume(&mut self, _cx: &mut TransformContext<'_>, _out: &mut dyn Collector) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }

    /// When processing time itself should wake this transform (mini-batch, TTL), epoch ms.
    fn next_timer_ms(&self) -> Option<i64> {
        None
    }

    /// The time of `next_timer_ms` has come.
    fn on_timer(
        &mut self,
        _cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }

    /// State outside keyed tables, for the checkpoint; `None`: there is none.
    fn snapshot(&self) -> Option<serde_json::Value> {
        None
    }

    /// The states that tasks of this transform handed in, of the whole job, at whatever parallelism.
    fn restore(&mut self, _states: &[serde_json::Value]) -> Result<(), TransformError> {
        Ok(())
    }

    /// Counters for the metrics, by Flink-like name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// A failed transform.
#[derive(Debug, Error)]
pub enum TransformError {
    /// The same input fails again the same way: cast, overflow, NULL in a NOT NULL column. Not retried.
    #[error("{transform}: {reason}")]
    UserData { transform: String, reason: String },
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    #[error("{transform}: {reason} (a defect of Millstream)")]
    Bug { transform: String, reason: String },
}

/// A collector that keeps what it is given, for chains of one and for tests of transforms.
#[derive(Debug, Default)]
pub struct Collected {
    pub batches: Vec<RecordBatch>,
}

impl Collector for Collected {
    fn emit(&mut self, batch: RecordBatch) {
        self.batches.push(batch);
    }
}

/// Elements carry no more than a transform emits.
impl From<RecordBatch> for Element {
    fn from(batch: RecordBatch) -> Self {
        Element::Batch(batch)
    }
}
