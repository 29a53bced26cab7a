//! The channels of a deployment: one per edge and pair of tasks.
//!
//! All workers number all channels alike; each makes those that have an end with it. A channel between two workers is
//! part of their connection (`exchange::remote`).

use std::collections::BTreeMap;

use arrow_schema::{ArrowError, SchemaRef};
use millstream_api::control::Deployment;
use millstream_api::graph::{EdgeKind, Vertex, VertexInput};
use millstream_api::ids::{TaskId, TransformId, WorkerId};

use crate::exchange::remote::{ChannelId, LinkEnds};
use crate::exchange::{Output, Receiver, Routing, Sender, channel};
use crate::slot::Wake;
use crate::transform;

/// Ends of channels, waiting for their tasks to be built.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    /// By sending task: the transform that the edge starts at, and the edge.
    outputs: BTreeMap<TaskId, Vec<(TransformId, Output)>>,
    /// By receiving task: the head's input number and the channel.
    inputs: BTreeMap<TaskId, Vec<(u32, Receiver)>>,
    /// Connections to other workers, with their channels.
    links: BTreeMap<WorkerId, LinkEnds>,
}

/// What all channels of a deployment are made with.
pub(super) struct Wirer<'a, W, L> {
    pub(super) deployment: &'a Deployment,
    /// Wakes the slot of an index of this worker.
    pub(super) wake: W,
    /// A connection without channels.
    pub(super) link: L,
}

impl<W: Fn(u32) -> Wake, L: Fn() -> LinkEnds> Wirer<'_, W, L> {
    /// Connects the tasks that run. A task that ended in the restored manifest has no channel: its share of the input
    /// is at its end.
    pub(super) fn wire(&self, vertices: &[Vertex]) -> Result<Wiring, ArrowError> {
        let Deployment { tasks, parallelism, graph, max_parallelism, .. } = self.deployment;
        let mut wiring = Wiring::default();
        let mut next = 0;
        for vertex in vertices {
            for input in &vertex.inputs {
                let schema = transform::output::Output::new(graph.transform(input.from)).schema().clone();
                for from in (0..*parallelism).map(|index| TaskId { vertex: input.from_vertex, index }) {
                    if !tasks.contains(&from) {
                        continue;
                    }
                    let mut senders: Vec<Sender> = Vec::new();
                    for index in targets(&input.kind, from.index, *parallelism) {
                        let to = TaskId { vertex: vertex.id, index };
                        senders.extend(self.channel(&mut wiring, ChannelId(next), from, (to, input.input), &schema)?);
                        next += 1;
                    }
                    if self.is_here(from) {
                        let output = Output::new(senders, routing(input, from.index, *max_parallelism));
                        wiring.outputs.entry(from).or_default().push((input.from, output));
                    }
                }
            }
        }
        Ok(wiring)
    }

    /// Makes this worker's ends of a channel; its receiver goes to the wiring.
    fn channel(
        &self,
        wiring: &mut Wiring,
        id: ChannelId,
        from: TaskId,
        (to, input): (TaskId, u32),
        schema: &SchemaRef,
    ) -> Result<Option<Sender>, ArrowError> {
        let wake = &self.wake;
        let worker_of = |task| self.deployment.placement.worker_of(task);
        let (sender, receiver) = match (self.is_here(from), self.is_here(to)) {
            (true, true) => {
                let (sender, receiver) = channel(wake(from.index), wake(to.index));
                (Some(sender), Some(receiver))
            }
            (true, false) => {
                let link = wiring.links.entry(worker_of(to)).or_insert_with(&self.link);
                (Some(link.sender(id, schema, wake(from.index))?), None)
            }
            (false, true) => {
                let link = wiring.links.entry(worker_of(from)).or_insert_with(&self.link);
                (None, Some(link.receiver(id, schema.clone(), wake(to.index))))
            }
            (false, false) => (None, None),
        };
        if let Some(receiver) = receiver {
            wiring.inputs.entry(to).or_default().push((input, receiver));
        }
        Ok(sender)
    }

    fn is_here(&self, task: TaskId) -> bool {
        self.deployment.placement.worker_of(task) == self.deployment.worker
    }
}

impl Wiring {
    /// The ends that belong to a task.
    pub(super) fn take(&mut self, task: TaskId) -> (Vec<(TransformId, Output)>, Vec<(u32, Receiver)>) {
        (self.outputs.remove(&task).unwrap_or_default(), self.inputs.remove(&task).unwrap_or_default())
    }

    /// The connections that the channels need.
    pub(super) fn take_links(&mut self) -> BTreeMap<WorkerId, LinkEnds> {
        std::mem::take(&mut self.links)
    }
}

fn targets(kind: &EdgeKind, from: u32, parallelism: u32) -> std::ops::Range<u32> {
    match kind {
        EdgeKind::Forward => from..from + 1,
        EdgeKind::Hash { .. } | EdgeKind::Rebalance | EdgeKind::Broadcast => 0..parallelism,
    }
}

fn routing(input: &VertexInput, from: u32, max_parallelism: u32) -> Routing {
    match &input.kind {
        EdgeKind::Forward => Routing::Single,
        EdgeKind::Hash { keys } => Routing::Hash { keys: keys.clone(), max_parallelism },
        EdgeKind::Rebalance => Routing::Rebalance { next: from as usize },
        EdgeKind::Broadcast => Routing::Broadcast,
    }
}
