//! One step of a chain: a transform with its state, a sink, or the place where a source's rows come in.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use millstream_api::ids::{Epoch, TransformUid};

use super::error::TaskError;
use super::not_null::NotNull;
use crate::element::{Element, WatermarkMs};
use crate::exchange::{Output, batch_bytes};
use crate::metrics::TaskMetrics;
use crate::sink::{Sink, SinkError};
use crate::state::State;
use crate::transform::{Collected, Emission, Transform, TransformContext};

/// A node of the tree.
pub(crate) struct Node {
    pub(super) uid: TransformUid,
    kind: Kind,
    /// Nodes that read this one's rows.
    pub(super) children: Vec<usize>,
    /// Edges to other tasks.
    pub(super) outputs: Vec<Output>,
    pub(super) inbox: VecDeque<(u32, Element)>,
    /// The transform has more to say before this element goes on (`None` inside: a timer, nothing goes on).
    resuming: Option<Option<Element>>,
    /// As this node knows it: a row that the parent made before a watermark is seen before it.
    watermark: WatermarkMs,
}

enum Kind {
    /// A source's rows pass.
    Source,
    Transform(Box<TransformNode>),
    Sink(SinkNode),
}

/// A transform in a chain.
struct TransformNode {
    transform: Box<dyn Transform>,
    state: State,
}

/// A sink in a chain.
pub(super) struct SinkNode {
    pub(super) sink: Box<dyn Sink>,
    table: String,
    not_null: NotNull,
    pub(super) committed: Option<Epoch>,
}

/// What a node is to do next.
#[derive(Debug)]
pub(super) enum Work {
    Element(u32, Element),
    /// Go on with the output that `Emission::More` announced; then pass this on.
    Resume(Option<Element>),
    /// A processing-time timer is due.
    Timer,
}

impl Node {
    pub(crate) fn source(uid: TransformUid, watermark: WatermarkMs) -> Self {
        Self::new(uid, Kind::Source, watermark)
    }

    pub(crate) fn transform(
        uid: TransformUid,
        transform: Box<dyn Transform>,
        state: State,
        watermark: WatermarkMs,
    ) -> Self {
        Self::new(uid, Kind::Transform(Box::new(TransformNode { transform, state })), watermark)
    }

    pub(crate) fn sink(uid: TransformUid, table: String, sink: Box<dyn Sink>, not_null: NotNull) -> Self {
        let sink = SinkNode { sink, table, not_null, committed: None };
        Self::new(uid, Kind::Sink(sink), WatermarkMs::MIN)
    }

    fn new(uid: TransformUid, kind: Kind, watermark: WatermarkMs) -> Self {
        let (children, outputs, inbox) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { uid, kind, children, outputs, inbox, resuming: None, watermark }
    }

    pub(crate) fn add_child(&mut self, child: usize) {
        self.children.push(child);
    }

    pub(crate) fn add_output(&mut self, output: Output) {
        self.outputs.push(output);
    }

    pub(super) fn has_work(&self) -> bool {
        self.resuming.is_some() || !self.inbox.is_empty()
    }

    /// Whether the next work may emit rows without bound, and so waits for room. What a barrier flushes is bounded by
    /// the transform's own buffer; a barrier that waited for room would wait behind the very data it must not.
    pub(super) fn work_needs_room(&self) -> bool {
        let element = match &self.resuming {
            Some(Some(element)) => element,
            Some(None) => return true,
            None => match self.inbox.front() {
                Some((_, element)) => element,
                None => return false,
            },
        };
        match element {
            Element::Batch(_) => true,
            Element::Watermark(_) | Element::EndOfInput => matches!(self.kind, Kind::Transform(_)),
            Element::Barrier(_) | Element::Idle(_) => false,
        }
    }

    pub(super) fn take_work(&mut self) -> Option<Work> {
        match self.resuming.take() {
            Some(then) => Some(Work::Resume(then)),
            None => self.inbox.pop_front().map(|(input, element)| Work::Element(input, element)),
        }
    }

    pub(super) fn has_room(&mut self) -> bool {
        let sink_ready = match &mut self.kind {
            Kind::Sink(sink) => sink.sink.ready(),
            _ => true,
        };
        sink_ready && self.outputs.iter().all(Output::has_room)
    }

    /// Does the work. Rows go to `emitted`; returns the control element that goes on now.
    pub(super) fn run(
        &mut self,
        work: Work,
        processing_time_ms: i64,
        emitted: &mut Collected,
        metrics: &TaskMetrics,
    ) -> Result<Option<Element>, TaskError> {
        if let Work::Element(_, Element::Watermark(watermark)) = &work {
            self.watermark = self.watermark.max(*watermark);
        }
        match &mut self.kind {
            Kind::Source => match work {
                Work::Element(_, Element::Batch(batch)) => {
                    emitted.batches.push(batch);
                    Ok(None)
                }
                Work::Element(_, element) => Ok(Some(element)),
                Work::Resume(_) | Work::Timer => Ok(None),
            },
            Kind::Transform(node) => {
                let TransformNode { transform, state } = node.as_mut();
                let mut cx = TransformContext { state, processing_time_ms, watermark: self.watermark };
                let (emission, then) = run_transform(transform.as_mut(), work, &mut cx, emitted)?;
                match emission {
                    Emission::Done => Ok(then),
                    Emission::More => {
                        self.resuming = Some(then);
                        Ok(None)
                    }
                }
            }
            Kind::Sink(sink) => {
                if let Work::Element(_, element) = work {
                    sink.take(element, metrics)?;
                }
                Ok(None)
            }
        }
    }

    /// The barrier has been through this node: its state's epoch ends. Returns the state outside tables.
    pub(super) fn end_epoch(&mut self, epoch: Epoch) -> Result<Option<(TransformUid, serde_json::Value)>, TaskError> {
        let Kind::Transform(node) = &mut self.kind else { return Ok(None) };
        node.state.end_epoch(epoch)?;
        Ok(node.transform.snapshot().map(|s| (self.uid.clone(), s)))
    }

    pub(super) fn next_timer_ms(&self) -> Option<i64> {
        match &self.kind {
            Kind::Transform(node) => node.transform.next_timer_ms(),
            _ => None,
        }
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        match &self.kind {
            Kind::Transform(node) => node.transform.counters(),
            Kind::Sink(sink) => sink.not_null.counters(),
            Kind::Source => Vec::new(),
        }
    }

    pub(super) fn state(&self) -> Option<&State> {
        match &self.kind {
            Kind::Transform(node) => Some(&node.state),
            _ => None,
        }
    }

    pub(super) fn state_mut(&mut self) -> Option<(&TransformUid, &mut State)> {
        match &mut self.kind {
            Kind::Transform(node) => Some((&self.uid, &mut node.state)),
            _ => None,
        }
    }

    pub(super) fn take_state(&mut self) -> Option<(TransformUid, State)> {
        match &mut self.kind {
            Kind::Transform(node) => Some((self.uid.clone(), std::mem::take(&mut node.state))),
            _ => None,
        }
    }

    pub(super) fn sink_mut(&mut self) -> Option<&mut SinkNode> {
        match &mut self.kind {
            Kind::Sink(sink) => Some(sink),
            _ => None,
        }
    }

    pub(super) fn sink_ref(&self) -> Option<&SinkNode> {
        match &self.kind {
            Kind::Sink(sink) => Some(sink),
            _ => None,
        }
    }
}

fn run_transform(
    transform: &mut dyn Transform,
    work: Work,
    cx: &mut TransformContext<'_>,
    emitted: &mut Collected,
) -> Result<(Emission, Option<Element>), TaskError> {
    Ok(match work {
        Work::Element(input, Element::Batch(batch)) => {
            transform.on_batch(input, batch, cx, emitted)?;
            (Emission::Done, None)
        }
        Work::Element(_, Element::Watermark(w)) => {
            (transform.on_watermark(w, cx, emitted)?, Some(Element::Watermark(w)))
        }
        Work::Element(_, Element::Barrier(b)) => {
            (transform.on_barrier(b.epoch, cx, emitted)?, Some(Element::Barrier(b)))
        }
        Work::Element(_, Element::EndOfInput) => (transform.on_end(cx, emitted)?, Some(Element::EndOfInput)),
        Work::Element(_, Element::Idle(true)) => (transform.on_idle(cx, emitted)?, Some(Element::Idle(true))),
        Work::Element(_, Element::Idle(false)) => (Emission::Done, Some(Element::Idle(false))),
        Work::Resume(then) => (transform.resume(cx, emitted)?, then),
        Work::Timer => (transform.on_timer(cx, emitted)?, None),
    })
}

impl SinkNode {
    fn take(&mut self, element: Element, metrics: &TaskMetrics) -> Result<(), TaskError> {
        match element {
            Element::Batch(batch) => {
                let Some(batch) = self.not_null.check(batch, &self.table)? else { return Ok(()) };
                self.write(batch, metrics)
            }
            Element::Barrier(barrier) => self.sink.prepare(barrier.epoch).map_err(|e| self.error(e)),
            Element::Watermark(_) | Element::Idle(_) | Element::EndOfInput => Ok(()),
        }
    }

    fn write(&mut self, batch: RecordBatch, metrics: &TaskMetrics) -> Result<(), TaskError> {
        let (rows, bytes) = (batch.num_rows(), batch_bytes(&batch));
        self.sink.write(batch).map_err(|e| self.error(e))?;
        metrics.add_out(rows, bytes);
        metrics.add_sink(rows);
        Ok(())
    }

    pub(super) fn error(&self, source: SinkError) -> TaskError {
        TaskError::Sink { table: self.table.clone(), source }
    }
}
