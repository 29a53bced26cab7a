//! What the job master shows: the live line, metrics and the HTTP API read this.

use std::collections::VecDeque;

use serde::Serialize;

use super::message::Millis;

/// Failures kept for showing.
pub const RESTARTS_SHOWN_MAX: usize = 16;

/// A job at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    pub state: JobState,
    /// This coordinator's term; `None` until it rules.
    pub generation: Option<u64>,
    /// Of the tasks that run, or will; below the job's own while slots are missing.
    pub parallelism: u32,
    /// Of all workers together.
    pub slots: u32,
    /// Deployments in this term.
    pub attempt: u32,
    /// The epoch in flight.
    pub epoch: Option<u64>,
    pub last_checkpoint: Option<CheckpointStatus>,
    /// What this term started from.
    pub restored: Option<CheckpointStatus>,
    pub checkpoints_completed: u64,
    pub checkpoints_failed: u64,
    /// In a row, up to now.
    pub checkpoints_failed_in_row: u32,
    pub last_checkpoint_failure: Option<String>,
    pub restarts: u64,
    /// Newest last.
    pub restart_reasons: VecDeque<RestartStatus>,
    pub sources_paused: bool,
    /// Transactions that are sealed and whose commit is not reported yet.
    pub commits_open: usize,
    pub tasks: usize,
    pub tasks_ended: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestartStatus {
    pub at_ms: Millis,
    pub reason: String,
}
