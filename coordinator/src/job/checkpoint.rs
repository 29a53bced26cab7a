//! One epoch in flight: `Triggered -> Acknowledged -> Sealed`, or `Aborted`.
//!
//! Owns: who has handed in what, and the times. Does not own: the manifest (`assemble`), the put (`Core`).

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::ids::{Epoch, TaskId};
use millstream_api::log::TaskSnapshot;

use super::message::Millis;

/// Why this checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Positions of sources that no manifest knows yet, before anything is read.
    Anchor,
    /// The interval passed, or a task ended.
    Periodic,
    /// The last one, after which sources emit nothing.
    Stop,
}

/// An epoch in flight.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub epoch: Epoch,
    pub purpose: Purpose,
    pub triggered_at: Millis,
    pub deadline: Millis,
    pub phase: CheckpointPhase,
    pub waiting: BTreeSet<TaskId>,
    pub snapshots: BTreeMap<TaskId, TaskSnapshot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointPhase {
    /// Barriers are on their way.
    Triggered,
    /// All tasks have acknowledged; the manifest is being written. From here on it is not aborted before the log says
    /// what became of the put.
    Acknowledged,
}

impl Checkpoint {
    /// Takes a task's share. True when it was the last one that was missing.
    pub fn acknowledge(&mut self, snapshot: TaskSnapshot) -> bool {
        if self.phase != CheckpointPhase::Triggered || !self.waiting.remove(&snapshot.task) {
            return false;
        }
        self.snapshots.insert(snapshot.task, snapshot);
        if !self.waiting.is_empty() {
            return false;
        }
        // Triggered => Acknowledged: the last task handed in its snapshot.
        self.phase = CheckpointPhase::Acknowledged;
        true
    }
}
