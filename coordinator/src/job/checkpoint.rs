//! One epoch in flight: `Triggered -> Acknowledged -> Sealed`, or `Aborted`.
//!
//! Owns: who has handed in what, and the times. Does not own: the manifest (`assemble`), the put (`Core`).

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::ids::{Epoch, TaskId};
use millstream_api::log::{SegmentContent, TaskSnapshot};

use super::message::Millis;
use super::status::{CHECKPOINT_TASKS_SHOWN_MAX, CheckpointEnd, CheckpointRecord, TaskCheckpoint};

/// Why this checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Positions of sources that no manifest knows yet, before anything is read.
    Anchor,
    /// The interval passed, or a task ended.
    Periodic,
    /// The last one, after which sources emit nothing.
    Stop,
    /// The last one of these tasks: others that are prepared go on from it.
    Change,
    /// The last one, which ends the input and holds all that follows from that.
    Drain,
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
    /// When each of them came.
    pub acknowledged_at: BTreeMap<TaskId, Millis>,
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
    pub fn acknowledge(&mut self, now: Millis, snapshot: TaskSnapshot) -> bool {
        if self.phase != CheckpointPhase::Triggered || !self.waiting.remove(&snapshot.task) {
            return false;
        }
        self.acknowledged_at.insert(snapshot.task, now);
        self.snapshots.insert(snapshot.task, snapshot);
        if !self.waiting.is_empty() {
            return false;
        }
        // Triggered => Acknowledged: the last task handed in its snapshot.
        self.phase = CheckpointPhase::Acknowledged;
        true
    }

    /// What people may want to know of it once it is over.
    #[must_use]
    pub fn record(&self, now: Millis, end: CheckpointEnd) -> CheckpointRecord {
        let of_task = |(task, snapshot): (&TaskId, &TaskSnapshot)| TaskCheckpoint {
            task: *task,
            acknowledged_after_ms: self.acknowledged_at.get(task).map_or(0, |at| at.saturating_sub(self.triggered_at)),
            alignment_us: snapshot.timing.alignment_us,
            stall_us: snapshot.timing.stall_us,
            bytes: bytes_added(snapshot),
        };
        let mut tasks: Vec<TaskCheckpoint> = self.snapshots.iter().map(of_task).collect();
        let tasks_total = tasks.len();
        tasks.sort_by_key(|t| std::cmp::Reverse(t.acknowledged_after_ms));
        tasks.truncate(CHECKPOINT_TASKS_SHOWN_MAX);
        CheckpointRecord {
            epoch: self.epoch.0,
            triggered_at_ms: self.triggered_at,
            duration_ms: now.saturating_sub(self.triggered_at),
            end,
            tasks,
            tasks_total,
        }
    }
}

/// What a task wrote for the checkpoint.
pub(super) fn bytes_added(snapshot: &TaskSnapshot) -> u64 {
    let added = snapshot.tables.iter().flat_map(|table| &table.added);
    let bytes = added.map(|segment| match &segment.content {
        SegmentContent::Object(object) => object.bytes,
        SegmentContent::Inline { data } => data.len() as u64,
    });
    bytes.sum()
}
