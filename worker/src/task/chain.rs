//! The transforms and sinks of a task: a tree that elements run down by direct calls.
//!
//! Each node has an inbox. The deepest node with work goes first, so that what is made is passed on before more is
//! made, and the head takes an element only when every inbox is empty. While an outbox is full or a sink is not
//! ready, nothing that could emit rows is called. Barriers need no room.
//! Owns: the order of calls and what waits between them. Does not own: where elements come from (`inputs`, `source`).

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::{Manifest, PreparedTransaction, TransactionalIds};

use super::error::TaskError;
use super::node::{Node, Work};
use crate::element::{Barrier, Element};
use crate::exchange::batch_bytes;
use crate::metrics::TaskMetrics;
use crate::sink::SinkError;
use crate::state::State;
use crate::transform::Collected;

/// What `drain` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// All inboxes are empty: the head may take an element.
    Empty,
    /// An output has no room or a sink is not ready.
    Blocked,
}

/// What `fire_timers` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timers {
    NoneDue,
    Fired,
    /// One is due and waits for room downstream.
    NoRoom,
}

/// The tree, head first, children after their parents.
pub(crate) struct Chain {
    nodes: Vec<Node>,
    emitted: Collected,
    processing_time_ms: i64,
    /// The barrier that is somewhere between the head and the last node.
    barrier_inside: Option<Barrier>,
    end_inside: bool,
    /// The barrier that has passed every node since the last look.
    passed: Option<Barrier>,
    end_passed: bool,
    /// States of transforms outside tables, as of the barrier.
    cut: BTreeMap<TransformUid, serde_json::Value>,
}

impl Chain {
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        Self {
            nodes,
            emitted: Collected::default(),
            processing_time_ms: i64::MIN,
            barrier_inside: None,
            end_inside: false,
            passed: None,
            end_passed: false,
            cut: BTreeMap::new(),
        }
    }

    pub(super) fn set_processing_time(&mut self, now_ms: i64) {
        self.processing_time_ms = now_ms;
        for node in &mut self.nodes {
            if let Some((_, state)) = node.state_mut() {
                state.set_processing_time(now_ms);
            }
        }
    }

    /// Puts an element into the head's inbox. Only when the chain is drained.
    pub(super) fn feed(&mut self, input: u32, element: Element) {
        match &element {
            Element::Barrier(barrier) => self.barrier_inside = Some(*barrier),
            Element::EndOfInput => self.end_inside = true,
            Element::Batch(_) | Element::Watermark(_) | Element::Idle(_) => {}
        }
        self.nodes[0].inbox.push_back((input, element));
    }

    /// Sends a barrier to the outputs past transforms and sinks: they are at their end, and that is sealed.
    pub(super) fn forward(&mut self, barrier: Barrier) -> Result<(), TaskError> {
        for output in self.nodes.iter_mut().flat_map(|n| &mut n.outputs) {
            output.control(&Element::Barrier(barrier))?;
        }
        Ok(())
    }

    /// Runs everything that waits in the chain down to the outbox, as far as there is room.
    pub(super) fn drain(&mut self, metrics: &TaskMetrics) -> Result<Drained, TaskError> {
        while let Some(at) = self.nodes.iter().rposition(Node::has_work) {
            if self.nodes[at].work_needs_room() && !self.has_room() {
                return Ok(Drained::Blocked);
            }
            let work = self.nodes[at].take_work().expect("the node has work");
            self.run(at, work, metrics)?;
        }
        self.passed = self.barrier_inside.take().or(self.passed);
        self.end_passed |= std::mem::take(&mut self.end_inside);
        Ok(Drained::Empty)
    }

    /// Calls the transforms whose processing-time timers are due. Only when the chain is drained.
    pub(super) fn fire_timers(&mut self, metrics: &TaskMetrics) -> Result<Timers, TaskError> {
        let now = self.processing_time_ms;
        let mut timers = Timers::NoneDue;
        for at in (0..self.nodes.len()).rev() {
            if self.nodes[at].next_timer_ms().is_none_or(|t| t > now) {
                continue;
            }
            if !self.has_room() {
                timers = if timers == Timers::Fired { timers } else { Timers::NoRoom };
                break;
            }
            self.run(at, Work::Timer, metrics)?;
            timers = Timers::Fired;
            if self.drain(metrics)? == Drained::Blocked {
                break;
            }
        }
        Ok(timers)
    }

    /// When the next processing-time timer is due.
    pub(super) fn next_timer_ms(&self) -> Option<i64> {
        self.nodes.iter().filter_map(Node::next_timer_ms).min()
    }

    /// Sends what waits for company: the task has nothing more to do right now.
    pub(super) fn flush(&mut self) -> Result<(), TaskError> {
        for node in &mut self.nodes {
            for output in &mut node.outputs {
                output.flush()?;
            }
            if let Some(sink) = node.sink_mut() {
                sink.sink.flush_hint();
                // Asking drives what it could not hand over before.
                let _ = sink.sink.ready();
            }
        }
        Ok(())
    }

    /// True while a barrier has passed some nodes and not others: an epoch must not be given up in between.
    pub(super) fn barrier_inside(&self) -> bool {
        self.barrier_inside.is_some()
    }

    /// The barrier that passed the whole chain, with the unkeyed states as of it.
    pub(super) fn take_passed(&mut self) -> Option<(Barrier, BTreeMap<TransformUid, serde_json::Value>)> {
        self.passed.take().map(|b| (b, std::mem::take(&mut self.cut)))
    }

    /// True once, after the end of input passed the whole chain.
    pub(super) fn take_end_passed(&mut self) -> bool {
        std::mem::take(&mut self.end_passed)
    }

    /// Keyed state by node.
    pub(super) fn states(&mut self) -> impl Iterator<Item = (&TransformUid, &mut State)> {
        self.nodes.iter_mut().filter_map(Node::state_mut)
    }

    /// The tasks' states, to be kept over a reset.
    /// What is left is fit for nothing but its end.
    pub(crate) fn take_states(&mut self) -> impl Iterator<Item = (TransformUid, State)> + '_ {
        self.nodes.iter_mut().filter_map(Node::take_state)
    }

    pub(super) fn has_sinks(&self) -> bool {
        self.nodes.iter().any(|n| n.sink_ref().is_some())
    }

    pub(super) fn sealed(&mut self, manifest: &Manifest) -> Result<(), TaskError> {
        self.states().try_for_each(|(_, s)| s.sealed(manifest.epoch))?;
        self.each_sink(|sink| {
            sink.newest_manifest(&manifest.transactions)?;
            sink.sealed(manifest.epoch)
        })
    }

    pub(super) fn aborted(&mut self, epoch: Epoch) -> Result<(), TaskError> {
        self.states().try_for_each(|(_, s)| s.aborted(epoch))?;
        self.each_sink(|sink| sink.aborted(epoch))
    }

    pub(super) fn abandon(&mut self, sealed: Option<Epoch>) {
        self.nodes.iter_mut().filter_map(Node::sink_mut).for_each(|s| s.sink.abandon(sealed));
    }

    /// The epoch's transactions, once every sink has flushed. `prepared`: what earlier calls found, by node.
    pub(super) fn poll_prepared(
        &mut self,
        epoch: Epoch,
        prepared: &mut BTreeMap<usize, Vec<PreparedTransaction>>,
    ) -> Result<bool, TaskError> {
        let mut all = true;
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let Some(sink) = node.sink_mut() else { continue };
            if prepared.contains_key(&at) {
                continue;
            }
            match sink.sink.poll_prepared(epoch).map_err(|e| sink.error(e))? {
                Some(transactions) => drop(prepared.insert(at, transactions)),
                None => all = false,
            }
        }
        Ok(all)
    }

    /// The epoch up to which all sinks have committed. Drives their I/O.
    pub(super) fn poll_committed(&mut self) -> Result<Option<Epoch>, TaskError> {
        let mut least: Option<Option<Epoch>> = None;
        for node in &mut self.nodes {
            let Some(sink) = node.sink_mut() else { continue };
            if let Some(epoch) = sink.sink.poll_committed().map_err(|e| sink.error(e))? {
                sink.committed = sink.committed.max(Some(epoch));
            }
            least = Some(least.map_or(sink.committed, |l| l.min(sink.committed)));
        }
        Ok(least.flatten())
    }

    /// True when no sink has anything in flight.
    pub(super) fn sinks_idle(&self) -> bool {
        self.nodes.iter().filter_map(Node::sink_ref).all(|s| s.sink.idle())
    }

    pub(super) fn transactional_ids(&self) -> BTreeMap<TransformUid, TransactionalIds> {
        let ids = self.nodes.iter().filter_map(|n| Some((n.uid.clone(), n.sink_ref()?.sink.transactional_ids()?)));
        ids.collect()
    }

    /// Hands the transforms' own counters and the sizes of their tables to the metrics.
    pub(super) fn report_counters(&self, metrics: &TaskMetrics) {
        for node in &self.nodes {
            let counters = node.counters();
            if !counters.is_empty() {
                metrics.set_transform(&node.uid, counters);
            }
            let tables = node.state().map(State::table_sizes).unwrap_or_default();
            if !tables.is_empty() {
                metrics.set_tables(&node.uid, tables);
            }
        }
    }

    fn each_sink(
        &mut self,
        mut call: impl FnMut(&mut dyn crate::sink::Sink) -> Result<(), SinkError>,
    ) -> Result<(), TaskError> {
        for node in &mut self.nodes {
            if let Some(sink) = node.sink_mut() {
                call(sink.sink.as_mut()).map_err(|e| sink.error(e))?;
            }
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        self.nodes.iter_mut().all(Node::has_room)
    }

    /// One call of one node, and on with what it made.
    fn run(&mut self, at: usize, work: Work, metrics: &TaskMetrics) -> Result<(), TaskError> {
        let node = &mut self.nodes[at];
        let rest = node.run(work, self.processing_time_ms, &mut self.emitted, metrics)?;
        if let Some(Element::Barrier(barrier)) = &rest {
            self.cut.extend(node.end_epoch(barrier.epoch)?);
        }
        let mut emitted = std::mem::take(&mut self.emitted.batches);
        for batch in emitted.drain(..) {
            self.pass_rows(at, batch, metrics)?;
        }
        // The vector goes back for its capacity.
        self.emitted.batches = emitted;
        if let Some(element) = rest {
            self.pass_control(at, &element)?;
        }
        Ok(())
    }

    fn pass_rows(&mut self, at: usize, batch: RecordBatch, metrics: &TaskMetrics) -> Result<(), TaskError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let node = &mut self.nodes[at];
        if !node.outputs.is_empty() {
            metrics.add_out(batch.num_rows() * node.outputs.len(), batch_bytes(&batch) * node.outputs.len());
        }
        for output in &mut node.outputs {
            output.push(batch.clone())?;
        }
        for index in 0..self.nodes[at].children.len() {
            let child = self.nodes[at].children[index];
            self.nodes[child].inbox.push_back((0, Element::Batch(batch.clone())));
        }
        Ok(())
    }

    fn pass_control(&mut self, at: usize, element: &Element) -> Result<(), TaskError> {
        for output in &mut self.nodes[at].outputs {
            output.control(element)?;
        }
        for index in 0..self.nodes[at].children.len() {
            let child = self.nodes[at].children[index];
            self.nodes[child].inbox.push_back((0, element.clone()));
        }
        Ok(())
    }
}
