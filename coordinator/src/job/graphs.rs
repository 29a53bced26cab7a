//! Which graph a term runs: the one that this binary compiled, or the one that the checkpoint has stored.
//!
//! Owns: taking it, with all that follows from it. Does not own: the choice ([`compatible::graph_for`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::control::{Failure, FailureKind};
use millstream_api::flinkjob::RestoreSpec;
use millstream_api::graph::{JobGraph, Vertex};
use millstream_api::ids::{Epoch, TransformUid, VertexId};
use millstream_api::log::Manifest;

use super::compatible::StateFate;
use super::message::{Command, Notice};
use super::{Core, Phase, ShownGraph, compatible};

/// A graph with what follows from it.
#[derive(Debug)]
pub(super) struct RunningGraph {
    pub(super) graph: Arc<JobGraph>,
    pub(super) hash: u64,
    pub(super) vertices: Vec<Vertex>,
    /// The vertex whose tasks run a transform.
    pub(super) vertex_of: BTreeMap<TransformUid, VertexId>,
}

impl RunningGraph {
    pub(super) fn of(graph: Arc<JobGraph>) -> Self {
        let vertices = graph.vertices();
        let uid_of = |id| graph.transform(id).uid.clone();
        let vertex_of = vertices.iter().flat_map(|v| v.transforms.iter().map(move |t| (uid_of(*t), v.id))).collect();
        Self { hash: graph.hash(), vertices, vertex_of, graph }
    }
}

/// That the graph of the checkpoint `epoch` runs, for people.
pub(super) fn told(epoch: Epoch) -> String {
    format!(
        "the SQL is unchanged, so the graph of checkpoint {epoch} runs on, though this version compiles it to another one \
         (spec.restore.recompile: true takes that)"
    )
}

impl Core {
    /// Takes the graph that goes on from `manifest`, before anything of the term depends on one.
    pub(super) fn take_graph(&mut self, manifest: Option<&Manifest>) {
        let graph = compatible::graph_for(manifest, &self.config.graph, self.config.restore.recompile);
        if !Arc::ptr_eq(&graph, &self.running.graph) {
            self.running = RunningGraph::of(graph);
        }
    }

    /// Whether it is not the one that this binary compiled.
    pub(super) fn runs_stored_graph(&self) -> bool {
        !Arc::ptr_eq(&self.running.graph, &self.config.graph)
    }

    /// Checks that the state has a home in that graph, and keeps what becomes of it.
    ///
    /// # Errors
    /// One message for people.
    pub(super) fn check_state(&mut self, manifest: &Manifest) -> Result<(), String> {
        let RestoreSpec { allow_non_restored_state, .. } = self.config.restore;
        let max_parallelism = self.config.max_parallelism;
        let fates = compatible::check(manifest, &self.running.graph, max_parallelism, allow_non_restored_state)?;
        self.fates = Arc::new(fates.into_iter().filter(StateFate::is_notable).collect());
        Ok(())
    }

    /// Says what is restored otherwise than it was written, and by which graph.
    pub(super) fn tell_of_state(&mut self, epoch: Epoch) {
        if self.runs_stored_graph() {
            self.out.push(Command::Notice(Notice::StoredGraph { epoch }));
        }
        for fate in self.fates.iter() {
            self.out.push(Command::Notice(Notice::State { fate: Box::new(fate.clone()) }));
        }
        self.status.restored_states = Arc::clone(&self.fates);
        self.status.stored_graph = self.runs_stored_graph();
        self.status.graph = Some(ShownGraph(self.graph()));
    }

    /// A task that cannot be built from a graph that another version compiled: says how to go on. Trying again does not help.
    pub(super) fn as_of_the_graph(&self, failure: Failure) -> Failure {
        let unfit = matches!(failure.kind, FailureKind::User | FailureKind::Bug);
        if !unfit || !self.runs_stored_graph() || !matches!(self.phase, Phase::Deploying { .. }) {
            return failure;
        }
        let message = format!(
            "{}. The job runs the graph of its checkpoint, which another version compiled: run that version, or set \
             spec.restore.recompile: true to go on with a plan of this one",
            failure.message
        );
        Failure { kind: FailureKind::State, message }
    }

    pub(super) fn graph(&self) -> Arc<JobGraph> {
        Arc::clone(&self.running.graph)
    }
}
