//! What the job master shows: the live line, metrics and the operations API read this.
//!
//! Everything in it is bounded, or as long as the job has workers or tasks. It is compared and copied after every event, so
//! what is long is shared.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_api::graph::JobGraph;
use millstream_api::ids::{TaskId, WorkerId};
use millstream_api::log::{Address, Manifest, StopReason};

use super::change::ChangeCost;
use super::compatible::StateFate;
use super::message::{Millis, WorkerOffer};
use super::rescale::RescaleStatus;
use super::savepoint::SavepointStatus;

/// Failures kept for showing.
pub const RESTARTS_SHOWN_MAX: usize = 16;
/// Checkpoints kept for showing, failed ones too.
pub const CHECKPOINTS_SHOWN_MAX: usize = 16;
/// Tasks of one of them: the slowest are what people look for.
pub const CHECKPOINT_TASKS_SHOWN_MAX: usize = 256;
/// Bytes of a reason that is shown; what a task's error says may hold a record.
pub const REASON_BYTES_MAX: usize = 2_048;

/// A job at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub state: JobState,
    /// This coordinator's term; `None` until it rules.
    pub generation: Option<u64>,
    /// Of the tasks that run, or will; below the job's own while slots are missing.
    pub parallelism: u32,
    /// As the job's settings say.
    pub parallelism_wanted: u32,
    /// Requests for another parallelism.
    pub rescale: RescaleStatus,
    /// Requests for savepoints.
    pub savepoints: SavepointStatus,
    /// Of all workers together.
    pub slots: u32,
    /// In order of id.
    pub workers: Arc<Vec<(WorkerId, WorkerOffer)>>,
    /// The worker of each task index, where it has one.
    pub placement: Arc<Vec<Option<WorkerId>>>,
    /// Deployments in this term.
    pub attempt: u32,
    /// The epoch in flight.
    pub epoch: Option<u64>,
    /// When it was triggered.
    pub epoch_since_ms: Option<Millis>,
    pub last_checkpoint: Option<CheckpointStatus>,
    /// What this term started from.
    pub restored: Option<CheckpointStatus>,
    /// State in it that was migrated or dropped, or of which there is something to tell.
    pub restored_states: Arc<Vec<StateFate>>,
    /// The graph is the one in that checkpoint; this binary would compile another one of the same text.
    pub stored_graph: bool,
    /// What runs; `None`: that is not decided.
    pub graph: Option<ShownGraph>,
    pub checkpoints_completed: u64,
    pub checkpoints_failed: u64,
    /// In a row, up to now.
    pub checkpoints_failed_in_row: u32,
    pub last_checkpoint_failure: Option<String>,
    /// Changes of the tasks while they ran, in this term.
    pub changes_completed: u64,
    pub last_change: Option<ChangeCost>,
    /// Newest last, of this term.
    pub checkpoints: VecDeque<Arc<CheckpointRecord>>,
    /// What a restart goes on from.
    pub newest: Option<Newest>,
    pub restarts: u64,
    /// Newest last.
    pub restart_reasons: VecDeque<RestartStatus>,
    pub sources_paused: bool,
    /// Transactions that are sealed and whose commit is not reported yet.
    pub commits_open: usize,
    /// The tasks are deployed, or being deployed.
    pub tasks: usize,
    /// Those that read all their input.
    pub ended: Arc<BTreeSet<TaskId>>,
    /// Who wrote the newest term of the log, as far as this coordinator knows.
    pub holder: Option<Arc<Address>>,
    /// How the term before this one ended; `None`: it did not say.
    pub before: Option<StopReason>,
}

/// A graph, compared by identity.
#[derive(Clone, Debug)]
pub struct ShownGraph(pub Arc<JobGraph>);

impl PartialEq for ShownGraph {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The newest manifest, compared by identity.
#[derive(Clone, Debug)]
pub struct Newest(pub Arc<Manifest>);

impl PartialEq for Newest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobState {
    /// Reading the log, claiming it.
    #[default]
    Starting,
    /// Another coordinator of the job rules; this one takes over when that is gone.
    StandingBy,
    /// What runs under an earlier coordinator is looked at.
    TakingOver,
    /// For workers.
    AwaitingSlots,
    /// Finishing commits, fencing, deploying.
    Restoring,
    Running,
    /// Waiting for the next attempt.
    Restarting,
    /// The last checkpoint and its commits.
    Stopping,
    Finished,
    Stopped,
    Failed,
    /// Another coordinator rules.
    Fenced,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointStatus {
    pub epoch: u64,
    /// Of the log entry, relative to the store's root.
    pub path: String,
    pub completed_at_ms: Millis,
    /// From trigger to sealed; 0 for one that was restored.
    pub duration_ms: Millis,
    /// Written for this checkpoint.
    pub bytes: u64,
    /// All that a restore of it reads.
    pub state_bytes: u64,
}

/// A checkpoint that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    pub epoch: u64,
    pub triggered_at_ms: Millis,
    /// From trigger to sealed, or given up.
    pub duration_ms: Millis,
    pub end: CheckpointEnd,
    /// Slowest to acknowledge first, at most `CHECKPOINT_TASKS_SHOWN_MAX`.
    pub tasks: Vec<TaskCheckpoint>,
    /// All that acknowledged it.
    pub tasks_total: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointEnd {
    /// As in `CheckpointStatus`.
    Completed {
        path: String,
        bytes: u64,
        state_bytes: u64,
    },
    Aborted {
        reason: String,
    },
}

/// What a checkpoint cost one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskCheckpoint {
    pub task: TaskId,
    /// From the trigger until its share was here.
    pub acknowledged_after_ms: Millis,
    pub alignment_us: u64,
    pub stall_us: u64,
    /// Written for it.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartStatus {
    pub at_ms: Millis,
    pub reason: String,
}

// === impl Status ===

impl Status {
    pub(super) fn note_checkpoint(&mut self, record: CheckpointRecord) {
        if self.checkpoints.len() == CHECKPOINTS_SHOWN_MAX {
            self.checkpoints.pop_front();
        }
        self.checkpoints.push_back(Arc::new(record));
    }

    pub(super) fn note_failure(&mut self, at_ms: Millis, reason: &str) {
        if self.restart_reasons.len() == RESTARTS_SHOWN_MAX {
            self.restart_reasons.pop_front();
        }
        self.restart_reasons.push_back(RestartStatus { at_ms, reason: shortened(reason, REASON_BYTES_MAX) });
    }
}

/// The beginning of a text, cut between characters.
pub(crate) fn shortened(text: &str, bytes_max: usize) -> String {
    let end = (0..=text.len().min(bytes_max)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}
