//! What a coordinator and its workers say to each other, as data. The transport (a channel, gRPC) is theirs.
//!
//! Order of a (re)start, protocol section 5: `FinishTransactions`, `FenceTransactions`, `Deploy`, `Start`. A
//! new job, and one with a source that the manifest does not know, seals an epoch between `Deploy` and `Start`: sources
//! answer its `Trigger` with the barrier and their resolved positions, before they have read anything.
//! Every message of a worker answers in the generation and attempt that it was spoken to; others are dropped by the
//! receiver. The coordinator raises the attempt with `Suspend`, `Cancel` or `Switch`, one of which is always the first of a
//! new attempt while tasks run.
//!
//! A change of parallelism or places while tasks run, protocol section 8: `Prepare` beside what runs, `Trigger` of a barrier
//! after which nothing follows, and once its manifest is in the log `Switch`, spoken in the attempt that was prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::flinkjob::{CheckpointSpec, ShuffleSpec, StateSpec};
use crate::graph::JobGraph;
use crate::ids::{Epoch, Generation, TaskId, TransformUid, WorkerId};
use crate::log::{Manifest, PreparedTransaction, TaskSnapshot, TransactionalIds};

/// One try to run the job: the coordinator's generation and its count of deployments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    pub generation: Generation,
    pub number: u32,
}

/// What a worker is told when it registers: the parts of the resource that it acts on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSettings {
    pub namespace: String,
    pub name: String,
    /// What people call the job, where that is not its name.
    pub job_name: Option<String>,
    pub checkpoint: CheckpointSpec,
    pub state: StateSpec,
    pub shuffle: ShuffleSpec,
    /// A worker that has heard no coordinator for so long stops reading: half of the shortest transaction time-out of the
    /// sinks. `None`: no sink has one.
    pub pause_after_ms: Option<u64>,
}

/// Coordinator to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerCommand {
    pub attempt: Attempt,
    pub command: Command,
}

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Describe all of them. If the broker gave up one of them, or no longer knows it, commit none and answer what each
    /// is. Otherwise commit those that are open by their stored ids (EndTxn). Idempotent. Answer: `TransactionsFinished`.
    FinishTransactions { graph: Arc<JobGraph>, transactions: Vec<PreparedTransaction> },
    /// Describe them; if none is committed, abort those that are open (protocol section 6). Answer: `TransactionsAborted`.
    AbortTransactions { graph: Arc<JobGraph>, transactions: Vec<PreparedTransaction> },
    /// Initialise every id of these ranges: fences zombies, aborts what is open. Answer: `TransactionsFenced`.
    FenceTransactions { graph: Arc<JobGraph>, ids: BTreeMap<TransformUid, TransactionalIds> },
    /// The attempt failed: tasks neither process nor report until `Deploy` or `Cancel`; live producers go, without
    /// ending their transactions. State and its undo layers stay for `Deploy`. No answer.
    Suspend,
    /// Build the tasks, restore them, connect. Replaces what runs. States that are there go back to the manifest by their
    /// undo layers; what is not there, or cannot (layer gone, task broken, other key groups), is restored from the store.
    /// The worker may not have heard `Sealed` for the manifest; then this says so too. Tasks that ended since run again.
    /// Answer: `Deployed` or `TaskFailed`.
    Deploy(Box<Deployment>),
    /// Beside what runs, make what the tasks of `attempt` will need: connections, channels, producers, and the states that no
    /// task here will hand over, as of `Deployment::restore`, the newest manifest: at `Switch` only what has changed since is
    /// missing. Replaces what was prepared. Answer: `Prepared` or `PrepareFailed`.
    Prepare { attempt: Attempt, deployment: Box<Deployment> },
    /// What was prepared is not needed.
    Discard,
    /// The manifest is in the log, and every task has handed in its share of it and stopped: the prepared tasks run from it,
    /// at once, with the states that are here. What ran ends without ending its transactions. Answer: `Deployed` or
    /// `TaskFailed`.
    Switch { manifest: Arc<Manifest> },
    /// Run what is deployed. Until then no source reads, but barriers flow.
    Start,
    /// Sources: emit this barrier.
    Trigger { epoch: Epoch, mutation: Mutation },
    /// The manifest of the epoch is in the log: commit, drop older undo layers. Answer per task with sinks: `Committed`.
    Sealed { epoch: Epoch, manifest: Arc<Manifest> },
    /// The epoch is given up for certain.
    Aborted { epoch: Epoch },
    /// Stop reading (the oldest uncovered transaction gets old), or read again.
    Pause { paused: bool },
    /// End all tasks, drop live producers. Transactions that an acknowledgement may have listed stay open.
    Cancel,
    /// A new term of the job: say what runs here. From now on no earlier attempt is heard; what runs goes on. Answer:
    /// `Inspected`.
    Inspect,
    /// What runs goes on in this attempt (protocol section 7): `sealed` is the newest manifest, `aborted` are the epochs after
    /// it that may have been triggered. What was reported before and may not have been heard is reported again: the newest
    /// `Committed` of each task, `EndOfInput`, `TaskFailed`.
    Adopt { sealed: Arc<Manifest>, aborted: Vec<Epoch> },
    /// Another coordinator owns the job. As `Cancel`, and abort what no manifest up to `sealed`, the last one of this
    /// coordinator, can name: nobody else knows of it, and it would hold readers back until its time-out.
    Abandon { sealed: Option<Epoch> },
}

/// A reconfiguration that happens exactly at a barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    #[default]
    None,
    /// Sources emit nothing after this barrier; the job ends when its commits are recorded. No watermark MAX.
    Stop,
    /// All input ends here: sources emit watermark MAX and the end of input before this barrier, and nothing after it. So
    /// the epoch holds whatever windows and timers had left to say, and its manifest is that of a finished job.
    Drain,
}

/// Tasks to run and what they start from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub job: String,
    pub graph: Arc<JobGraph>,
    /// What the coordinator takes the graph's hash to be. A worker that reads another graph out of this refuses.
    pub graph_hash: u64,
    pub parallelism: u32,
    pub max_parallelism: u32,
    /// All tasks that run, on whatever worker: without those that the restored manifest has as finished
    /// (`Manifest::finished_at`).
    pub tasks: BTreeSet<TaskId>,
    /// The worker that this is for.
    pub worker: WorkerId,
    pub placement: Placement,
    /// The manifest to restore; `None`: from nothing.
    pub restore: Option<Arc<Manifest>>,
    /// Namespace of transactional ids: unique to the job's log, the coordinator's term and the tasks deployed together.
    pub job_uid: String,
    /// Transactional pool per sink task: 3, plus one for each tolerable failed checkpoint (bounded).
    pub transaction_pool: u32,
}

impl Deployment {
    /// Tasks that run on the worker that this is for.
    pub fn own_tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks.iter().copied().filter(|task| self.placement.worker_of(*task) == self.worker)
    }
}

/// What a worker runs, as it tells a coordinator that did not deploy it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The attempt that deployed it, or adopted it last.
    pub attempt: Attempt,
    /// As deployed; the ids of workers are those of the term that did it.
    pub graph_hash: u64,
    pub parallelism: u32,
    pub tasks: BTreeSet<TaskId>,
    pub worker: WorkerId,
    pub placement: Placement,
    pub job_uid: String,
    /// The newest manifest that its tasks know of: restored, sealed or adopted.
    pub decided: Option<Epoch>,
    /// The newest epoch that all its tasks acknowledged in this attempt.
    pub acknowledged: Option<Epoch>,
    /// The newest epoch that was triggered here.
    pub epoch_max: Option<Epoch>,
    /// Its tasks run and may go on: started, not suspended, not told to stop, and none has failed.
    pub sound: bool,
}

/// Where tasks run. Task `i` of every vertex is on the same worker, so forward edges never leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The worker of each task index.
    pub by_index: Vec<WorkerId>,
    /// Where each of these workers takes rows from the others: `host:port`.
    pub addresses: BTreeMap<WorkerId, String>,
}

impl Placement {
    /// Everything on one worker, which needs no address.
    #[must_use]
    pub fn on_one(worker: WorkerId, parallelism: u32) -> Self {
        Self { by_index: vec![worker; parallelism as usize], addresses: BTreeMap::new() }
    }

    /// The worker that runs a task. The task's index is below the parallelism.
    #[must_use]
    pub fn worker_of(&self, task: TaskId) -> WorkerId {
        self.by_index[task.index as usize]
    }

    /// Every worker that runs something.
    #[must_use]
    pub fn workers(&self) -> BTreeSet<WorkerId> {
        self.by_index.iter().copied().collect()
    }
}

/// Worker to coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    pub attempt: Attempt,
    pub report: Report,
}

/// What happened on a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    TransactionsFinished {
        outcome: Vec<(PreparedTransaction, FinishOutcome)>,
    },
    TransactionsAborted {
        outcome: Vec<(PreparedTransaction, FinishOutcome)>,
    },
    TransactionsFenced,
    /// What runs; `None`: nothing is deployed.
    Inspected {
        running: Option<Box<Running>>,
    },
    /// All tasks of the deployment are ready: restored, connected, positions resolved. Nothing has been read.
    Deployed,
    /// So many bytes of segments were read for what is being deployed or prepared, in all: about once a second for as long as
    /// that goes on, and before `Prepared` or `Deployed`.
    Restoring {
        bytes: u64,
    },
    /// What was to be prepared is ready.
    Prepared,
    /// It could not be made ready; what runs goes on.
    PrepareFailed {
        failure: Failure,
    },
    /// A command could not be carried out, and no single task is to blame: the broker does not answer, say.
    CommandFailed {
        failure: Failure,
    },
    /// A task's share of an epoch is durable in the store.
    Acknowledged(Box<TaskSnapshot>),
    /// A task cannot take part in the epoch; it goes on. The kind says what follows when no more epochs may fail.
    Declined {
        task: TaskId,
        epoch: Epoch,
        failure: Failure,
    },
    /// All sinks of the task committed everything up to `epoch`.
    Committed {
        task: TaskId,
        epoch: Epoch,
    },
    /// The task read all its input and emitted everything; it takes part in one more epoch.
    EndOfInput {
        task: TaskId,
    },
    TaskFailed {
        task: TaskId,
        failure: Failure,
    },
}

/// How a stored transaction ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishOutcome {
    /// Committed, now or before.
    Committed,
    /// Prepared and not committed, because another one of the list was given up.
    Open,
    Aborted,
    /// The broker gave it up (timed out or fenced) before the commit.
    Expired {
        detail: String,
    },
    /// The broker no longer knows the id, so nothing tells whether it was committed.
    Unknown {
        detail: String,
    },
    /// The broker did not answer in time; try again.
    Unavailable {
        detail: String,
    },
}

/// Why a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// One line for people: what, where, what to do.
    pub message: String,
}

/// What the coordinator must do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The same data fails again: stop, no restarts.
    UserData,
    /// A person must act first: stop, no restarts.
    User,
    /// A service does not let the job do what it needs: credentials, rights. A job that has run restarts by the strategy, for
    /// what was taken away may be given back; one that has not stops, for a person must act.
    Refused,
    /// Restart by the strategy.
    Transient,
    /// The stored state does not fit what is to run (another graph, another owner, a topic made again): stop.
    State,
    /// A stored object is not what was written: stop, never fall back in silence.
    Corrupt,
    /// A defect: restart by the strategy, loudly.
    Bug,
}

impl FailureKind {
    /// The same would happen again: no restarts.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::UserData | Self::User | Self::State | Self::Corrupt)
    }
}
