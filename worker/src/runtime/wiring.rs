//! The channels of a deployment: one per edge and pair of tasks.

use std::collections::BTreeMap;

use millstream_api::control::Deployment;
use millstream_api::graph::{EdgeKind, Vertex, VertexInput};
use millstream_api::ids::{TaskId, TransformId};

use crate::exchange::{Output, Receiver, Routing, Sender, channel};
use crate::slot::Wake;

/// Ends of channels, waiting for their tasks to be built.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    /// By sending task: the transform that the edge starts at, and the edge.
    outputs: BTreeMap<TaskId, Vec<(TransformId, Output)>>,
    /// By receiving task: the head's input number and the channel.
    inputs: BTreeMap<TaskId, Vec<(u32, Receiver)>>,
}

impl Wiring {
    /// Connects the tasks that run. A task that ended in the restored manifest has no channel: its share of the input
    /// is at its end.
    pub(super) fn new(vertices: &[Vertex], deployment: &Deployment, wake: impl Fn(u32) -> Wake) -> Self {
        let (running, parallelism) = (&deployment.tasks, deployment.parallelism);
        let mut wiring = Self::default();
        for vertex in vertices {
            for input in &vertex.inputs {
                for from in (0..parallelism).map(|index| TaskId { vertex: input.from_vertex, index }) {
                    if !running.contains(&from) {
                        continue;
                    }
                    let senders = targets(&input.kind, from.index, parallelism).map(|index| {
                        let to = TaskId { vertex: vertex.id, index };
                        let (sender, receiver) = channel(wake(from.index), wake(index));
                        wiring.inputs.entry(to).or_default().push((input.input, receiver));
                        sender
                    });
                    let senders: Vec<Sender> = senders.collect();
                    let output = Output::new(senders, routing(input, from.index, deployment.max_parallelism));
                    wiring.outputs.entry(from).or_default().push((input.from, output));
                }
            }
        }
        wiring
    }

    /// The ends that belong to a task.
    pub(super) fn take(&mut self, task: TaskId) -> (Vec<(TransformId, Output)>, Vec<(u32, Receiver)>) {
        (self.outputs.remove(&task).unwrap_or_default(), self.inputs.remove(&task).unwrap_or_default())
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
