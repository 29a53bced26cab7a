//! What goes into the core and what comes out of it.

use std::fmt;
use std::sync::Arc;

use millstream_api::control::{Failure, WorkerCommand, WorkerReport};
use millstream_api::ids::{Epoch, Generation, Seq, WorkerId};
use millstream_api::log::{LogEntry, Manifest, Savepoint, Start, StopReason};

use super::change::ChangeCost;
use super::compatible::StateFate;
use super::rescale::{Rescale, RescaleEnd};
use super::savepoint::{SavepointEnd, SavepointRequest};

/// Milliseconds of the coordinator's clock: never falls, and near enough to the wall clock to be shown.
pub type Millis = u64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The runtime is up. First event, once.
    Begin,
    /// Time passed: `Core::deadline` has come.
    Tick,
    /// Answer to `Command::ReadLog`.
    LogRead { tail: Box<LogTail>, previous: ProcessState },
    /// Answer to `Command::ReadLog`: the log could not be read.
    LogUnreadable { problem: StoreProblem },
    /// Answer to `Command::Append`.
    Appended { seq: Seq, outcome: AppendOutcome },
    /// Answer to `Command::Delete`.
    Deleted { paths: Vec<String>, problem: Option<StoreProblem> },
    /// Answer to `Command::ListState`; empty when the listing failed, it comes again with the next term.
    StateListed { objects: Vec<StoredObject> },
    /// Answer to `Command::Probe`: the generation in which the process at that address rules; `None`: it does not answer, or
    /// rules nothing.
    LeaderProbed { rules: Option<Generation> },
    /// A worker registered. It may hold tasks of an earlier attempt.
    WorkerRegistered { worker: WorkerId, offer: WorkerOffer },
    /// A worker's connection closed.
    WorkerLost { worker: WorkerId, reason: String },
    /// A worker was asked to stop: its tasks are to move, and it waits for `Command::Release`.
    WorkerLeaving { worker: WorkerId },
    /// The ruling coordinator that a worker heard last, and how long ago.
    WorkerHeard { worker: WorkerId, generation: Generation, age_ms: Millis },
    /// The last worker is gone and none will come in its place: it lived in this process.
    NoWorkerLeft { reason: String },
    /// A worker reports.
    Worker { worker: WorkerId, report: WorkerReport },
    /// The user wants another parallelism.
    RescaleRequested { rescale: Rescale },
    /// The user wants a savepoint.
    SavepointRequested { request: SavepointRequest },
    /// Answer to `Command::CopySavepoint`: how many bytes were copied, or why it is none.
    SavepointCopied { id: String, copied: Result<u64, String> },
    /// Answer to `Command::ReadSavepoint`.
    SavepointRead { read: Result<Box<Savepoint>, StoreProblem> },
    /// Answer to `Command::ImportSavepoint`: its manifest, with the names that its objects have here.
    SavepointImported { imported: Result<Box<Manifest>, StoreProblem> },
    /// The user wants the job to end.
    StopRequested(StopMode),
}

/// What a user asks of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Stop(StopMode),
    Rescale(Rescale),
    Savepoint(SavepointRequest),
}

/// How the user wants the job to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// With a last checkpoint, from which it can go on.
    Suspend,
    /// As if all input ended here: windows and timers fire, and the job has finished.
    Drain,
}

/// What a worker brings to the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerOffer {
    /// Task indexes that it can run.
    pub slots: u32,
    /// Where it takes rows from other workers, `host:port`; `None`: it cannot.
    pub shuffle_address: Option<String>,
    /// What people know it by: host and process.
    pub name: String,
}

/// What the runtime must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Read the log's tail, and look whether the process that holds it lives. Answer: `LogRead` or `LogUnreadable`.
    ReadLog,
    /// Put the entry at its seq if there is none. The same entry may come again until its outcome is known.
    /// Answer: `Appended`.
    Append(Box<LogEntry>),
    /// Delete objects, paths relative to the store's root. Answer: `Deleted`.
    Delete(Vec<String>),
    /// List the job's state objects. Answer: `StateListed`.
    ListState,
    /// Copy a checkpoint into a savepoint. Answer: `SavepointCopied`.
    CopySavepoint { request: SavepointRequest, manifest: Arc<Manifest> },
    /// Read what a savepoint says of itself. Answer: `SavepointRead`.
    ReadSavepoint { uri: String },
    /// Copy the savepoint's objects into the job's folder, by new names. Answer: `SavepointImported`.
    ImportSavepoint { uri: String, savepoint: Arc<Savepoint>, epoch: Epoch, generation: Generation },
    /// Ask the process at this address whether it rules. Answer: `LeaderProbed`.
    Probe { address: String },
    /// Send to a worker.
    Tell { worker: WorkerId, command: WorkerCommand },
    /// A worker that is leaving may go: nothing of the job is there any more.
    Release { worker: WorkerId },
    /// Something that people want to know.
    Notice(Notice),
    /// The job is over. Last command.
    End(Outcome),
}

/// The newest part of a job's log, as it stands in the store.
#[derive(Clone, Debug, Default)]
pub struct LogTail {
    /// A gapless run that ends with the last entry, oldest first. Empty: there is no log.
    pub entries: Vec<LogEntry>,
    /// The `start` entry of the last entry's generation; it may be older than `entries`.
    pub start: Option<Start>,
    /// Every seq that has an object, also outside of the gapless run.
    pub stored: Vec<Seq>,
}

/// Whether the process that holds the log is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    Alive,
    /// Proven: same host, no such process.
    Gone,
    /// Another host, or a system that cannot tell.
    Unknown,
}

/// A call to the store that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProblem {
    /// One line: what, where, why.
    pub message: String,
    pub kind: StoreProblemKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreProblemKind {
    /// May go away by itself.
    Transient,
    /// A person must act.
    User,
    /// An object is missing or is not what was written.
    Corrupt,
}

/// How a put to the log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The entry is in the log and is its last.
    Won,
    /// Another coordinator's entry is at this seq or after it: this one rules no longer. `stands`: the entry was
    /// written, and whoever came after it may have read it as the log's tip.
    Lost { by: Option<Box<Start>>, stands: bool },
    /// It may or may not be there, now or later.
    Unknown { reason: String },
    /// It was certainly not written by this call.
    Rejected { problem: StoreProblem },
}

/// An object of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Relative to the job's path.
    pub path: String,
    pub modified_ms: i64,
}

/// A sealed epoch and where its manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRef {
    pub epoch: Epoch,
    pub seq: Seq,
    /// Of the log entry, relative to the store's root.
    pub path: String,
}

/// How the job ended, from this coordinator's view.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All input was read, everything is committed and recorded. `already`: an earlier run did it.
    Finished { checkpoint: Option<CheckpointRef>, already: bool },
    /// Stopped by the user. `incomplete`: why the last checkpoint is not as of the stop, or not committed.
    Stopped { checkpoint: Option<CheckpointRef>, incomplete: Option<String> },
    /// Failed for good. `earlier`: the failures that restarts followed, oldest first.
    Failed { failure: Failure, earlier: Vec<String>, checkpoint: Option<CheckpointRef> },
    /// Another coordinator took the job over.
    Fenced { by: Option<Box<Start>> },
    /// It only stood by: until the job was over, or (`None`) until it was asked to stop.
    StoodBy { over: Option<StopReason> },
}

/// Something that people want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    NewJob,
    Restored {
        checkpoint: CheckpointRef,
        parallelism: u32,
        was: u32,
    },
    /// The checkpoint's own graph runs on: this binary would compile another one of the same text.
    StoredGraph {
        epoch: Epoch,
    },
    /// State that is restored otherwise than it was written, or not at all.
    State {
        fate: Box<StateFate>,
    },
    /// The savepoint that a user named does not count: another coordinator has gone on, up to this checkpoint.
    SavepointPassedOver {
        savepoint: String,
        epoch: Epoch,
    },
    CommitsFinished {
        epoch: Epoch,
        transactions: usize,
    },
    NothingLeft {
        epoch: Epoch,
    },
    CheckpointCompleted {
        checkpoint: CheckpointRef,
        duration_ms: Millis,
        bytes: u64,
    },
    CheckpointAborted {
        epoch: Epoch,
        reason: String,
    },
    SealUnknown {
        epoch: Epoch,
        reason: String,
    },
    GivenUp {
        epoch: Epoch,
        topics: Vec<String>,
    },
    Restarting {
        failure: Failure,
        delay_ms: Millis,
        number: u32,
    },
    /// Tasks run, after what took so many milliseconds each.
    Running {
        steps: Vec<(&'static str, Millis)>,
    },
    SourcesPaused {
        uncovered_ms: Millis,
    },
    SourcesResumed,
    Stopping,
    /// The job is to finish with what its sources have read until now.
    Draining,
    /// The job waits: its tasks do not all have a place.
    AwaitingSlots {
        there: u32,
        wanted: u32,
    },
    /// The wait for slots is over: it begins with the tasks that have a place.
    StartingSmaller {
        parallelism: u32,
        wanted: u32,
    },
    /// Another parallelism is wanted.
    RescaleRequested {
        parallelism: u32,
    },
    /// Beside what runs, workers get ready for what is to follow.
    Preparing {
        parallelism: u32,
        workers: usize,
    },
    RescaleEnded {
        parallelism: u32,
        end: RescaleEnd,
    },
    SavepointRequested {
        target: String,
    },
    SavepointEnded {
        target: String,
        end: SavepointEnd,
    },
    /// Tasks went to other places, and nobody had asked for another parallelism.
    Changed {
        parallelism: u32,
        cost: ChangeCost,
    },
    /// What runs goes on where it is.
    ChangeGivenUp {
        reason: String,
    },
    TookOver {
        from: Box<Start>,
    },
    /// Another coordinator rules; this one watches it.
    StandingBy {
        leader: Box<Start>,
    },
    /// This coordinator did not move for so long, while it ruled.
    StoodStill {
        still_ms: Millis,
    },
    /// What runs goes on: nothing was restored.
    Adopted {
        tasks: usize,
        epoch: Epoch,
    },
    /// A worker is to stop: its tasks move to others, or (`false`) wait for slots elsewhere.
    Moving {
        worker: String,
        room: bool,
    },
    NotCollected {
        objects: usize,
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewJob
            | Self::StoredGraph { .. }
            | Self::State { .. }
            | Self::Restored { .. }
            | Self::SavepointPassedOver { .. }
            | Self::CommitsFinished { .. }
            | Self::NothingLeft { .. } => write_begin(f, self),
            Self::CheckpointCompleted { .. } | Self::CheckpointAborted { .. } | Self::SealUnknown { .. } => {
                write_checkpoint(f, self)
            }
            Self::GivenUp { epoch, topics } => write!(
                f,
                "checkpoint {epoch} given up: the broker had aborted its transactions on {}; nothing of it was visible, \
                 its input is read again",
                topics.join(", ")
            ),
            Self::Running { steps } => write_steps(f, steps),
            Self::Restarting { failure, delay_ms, number } => {
                write!(f, "restart {number} in {delay_ms} ms: {}", failure.message)
            }
            Self::SourcesPaused { uncovered_ms } => write!(
                f,
                "sources paused: no checkpoint for {uncovered_ms} ms, half of the transaction time-out; they go on with \
                 the next completed checkpoint"
            ),
            Self::SourcesResumed => write!(f, "sources go on"),
            Self::Stopping => write!(f, "stopping with a last checkpoint"),
            Self::Draining => {
                write!(f, "draining: the input ends here, windows and timers fire, then the job has finished")
            }
            Self::AwaitingSlots { there, wanted } => {
                write!(
                    f,
                    "waiting for workers: {wanted} slots are needed, {there} are there, {} are missing",
                    wanted - there
                )
            }
            Self::StartingSmaller { parallelism, wanted } => write!(
                f,
                "{} slots are still missing: starting with parallelism {parallelism}, growing to {wanted} when they come",
                wanted - parallelism
            ),
            Self::RescaleRequested { .. }
            | Self::Preparing { .. }
            | Self::RescaleEnded { .. }
            | Self::Changed { .. }
            | Self::ChangeGivenUp { .. }
            | Self::SavepointRequested { .. }
            | Self::SavepointEnded { .. } => write_asked(f, self),
            Self::TookOver { from } => write!(f, "taken over from {} ({})", from.owner, place(from)),
            Self::StandingBy { leader } => write!(f, "standing by: the job is run by {}", place(leader)),
            Self::StoodStill { still_ms } => {
                write!(
                    f,
                    "this coordinator stood still for {still_ms} ms; it claims the job anew, and what runs goes on"
                )
            }
            Self::Adopted { tasks, epoch } => {
                write!(f, "{tasks} running tasks go on under this coordinator, after checkpoint {epoch}")
            }
            Self::Moving { worker, room } => {
                write!(f, "worker {worker} is about to stop: its tasks {}", when_they_move(*room))
            }
            Self::NotCollected { objects, reason } => {
                write!(f, "{objects} superfluous objects could not be deleted, trying again later: {reason}")
            }
        }
    }
}

/// How a checkpoint went.
fn write_checkpoint(f: &mut fmt::Formatter<'_>, notice: &Notice) -> fmt::Result {
    match notice {
        Notice::CheckpointCompleted { checkpoint, duration_ms, bytes } => {
            write!(f, "checkpoint {} completed in {duration_ms} ms, {bytes} bytes", checkpoint.epoch)
        }
        Notice::CheckpointAborted { epoch, reason } => write!(f, "checkpoint {epoch} aborted: {reason}"),
        Notice::SealUnknown { epoch, reason } => {
            write!(f, "checkpoint {epoch}: not known yet whether its manifest was written, trying again: {reason}")
        }
        _ => Ok(()),
    }
}

/// What a term goes on from.
fn write_begin(f: &mut fmt::Formatter<'_>, notice: &Notice) -> fmt::Result {
    match notice {
        Notice::NewJob => write!(f, "new job: no checkpoint found"),
        Notice::StoredGraph { epoch } => f.write_str(&super::graphs::told(*epoch)),
        Notice::State { fate } => write!(f, "{fate}"),
        Notice::Restored { checkpoint, parallelism, was } if parallelism == was => {
            write!(f, "going on from checkpoint {} ({})", checkpoint.epoch, checkpoint.path)
        }
        Notice::Restored { checkpoint, parallelism, was } => write!(
            f,
            "going on from checkpoint {} ({}), parallelism {was} -> {parallelism}",
            checkpoint.epoch, checkpoint.path
        ),
        Notice::SavepointPassedOver { savepoint, epoch } => write!(
            f,
            "spec.restore.savepoint: {savepoint} is not gone on from: another coordinator has brought the job to checkpoint \
             {epoch} since this one started. To go back to the savepoint, stop the job and start it again"
        ),
        Notice::CommitsFinished { epoch, transactions } => {
            write!(f, "finished {transactions} commits that checkpoint {epoch} left open")
        }
        Notice::NothingLeft { epoch } => {
            write!(f, "the input had ended by checkpoint {epoch}: only its commits are finished")
        }
        _ => Ok(()),
    }
}

/// What users ask of a running job, and what becomes of it.
fn write_asked(f: &mut fmt::Formatter<'_>, notice: &Notice) -> fmt::Result {
    match notice {
        Notice::RescaleRequested { parallelism } => write!(f, "a parallelism of {parallelism} is wanted"),
        Notice::Preparing { parallelism, workers } => {
            write!(f, "{workers} workers get ready for {parallelism} tasks of each kind; what runs goes on meanwhile")
        }
        Notice::RescaleEnded { parallelism, end } => write_end(f, *parallelism, end),
        Notice::Changed { parallelism, cost } => {
            write!(f, "tasks have gone to other places {cost}; the parallelism is {parallelism}")
        }
        Notice::ChangeGivenUp { reason } => write!(f, "tasks stay where they are: {reason}"),
        Notice::SavepointRequested { target } => write!(f, "a savepoint is wanted in {target}"),
        Notice::SavepointEnded { target, end: SavepointEnd::Taken { epoch, bytes } } => {
            write!(f, "savepoint {target} is complete: checkpoint {epoch}, {bytes} bytes")
        }
        Notice::SavepointEnded { target, end: SavepointEnd::Failed { reason } } => {
            write!(f, "savepoint {target} is not taken: {reason}")
        }
        _ => Ok(()),
    }
}

/// `room`: there are slots elsewhere.
fn when_they_move(room: bool) -> &'static str {
    match room {
        true => "move to others",
        false => "stay until there are slots for them elsewhere, or until it is gone",
    }
}

/// A coordinator's process in words.
pub(crate) fn place(start: &Start) -> String {
    format!("process {} on {}", start.address.process_id, start.address.host)
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[(&'static str, Millis)]) -> fmt::Result {
    let total: Millis = steps.iter().map(|(_, time)| time).sum();
    let parts: Vec<String> = steps.iter().map(|(name, time)| format!("{name} {time}")).collect();
    write!(f, "tasks run after {total} ms ({})", parts.join(", "))
}

fn write_end(f: &mut fmt::Formatter<'_>, parallelism: u32, end: &RescaleEnd) -> fmt::Result {
    match end {
        RescaleEnd::Done { cost: Some(cost) } => {
            write!(f, "the parallelism is {parallelism}: workers went over {cost}")
        }
        RescaleEnd::Done { cost: None } => write!(f, "the parallelism is {parallelism}"),
        RescaleEnd::Already => write!(f, "the parallelism is {parallelism} already"),
        RescaleEnd::Replaced => write!(f, "a later request replaces the one for a parallelism of {parallelism}"),
        RescaleEnd::Failed { reason } => {
            write!(f, "the parallelism does not become {parallelism}, and nothing has changed: {reason}")
        }
    }
}
