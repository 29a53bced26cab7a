//! The job master as a pure machine: `Core::on_event(now, Event) -> Vec<Command>`.
//!
//! Owns: the term of one coordinator, the order of a restore, the life of epochs, restarts, the end of the job. Does not
//! own: time, I/O, tasks. The rules are those of the protocol notes; a section number in a comment means theirs.
//!
//! One entry at a time is on its way to the log ([`PendingAppend`]), and what the log says ([`LogView`]) changes only when
//! such a put is known to have won. Everything that a restart depends on is read from the view, not from memory of what
//! was asked for.

mod adopt;
mod assemble;
mod change;
mod checkpoint;
mod claim;
pub mod compatible;
mod config;
mod ending;
mod expired;
mod graphs;
mod import;
mod invariants;
mod leave;
mod left;
mod message;
mod random;
mod rescale;
mod restart;
mod restore;
pub(crate) mod retention;
mod running;
mod savepoint;
mod slots;
mod standby;
mod standstill;
mod status;
mod term;
mod timeline;
mod view;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{self, Attempt, Failure, FailureKind, Report, Running, WorkerCommand, WorkerReport};
use millstream_api::graph::{TransformKind, Vertex};
use millstream_api::ids::{Epoch, Generation, Seq, TaskId, WorkerId};
use millstream_api::log::{EntryKind, LOG_VERSION, LogEntry, PreparedTransaction, Start};

pub use assemble::AssemblyError;
pub use change::ChangeCost;
pub use checkpoint::{Checkpoint, CheckpointPhase, Purpose};
pub use config::{CheckpointConfig, ConfigError, JobConfig, Limits, PROBE_TIMEOUT_MS};
pub use invariants::{Broken, holds};
pub(crate) use message::place;
pub use message::{
    AppendOutcome, CheckpointRef, Command, Event, LogTail, Millis, Notice, Outcome, ProcessState, StopMode,
    StoreProblem, StoreProblemKind, StoredObject, Wish, WorkerOffer,
};
pub use random::Random;
pub use rescale::{Rescale, RescaleEnd, RescaleStatus};
pub use savepoint::{SavepointEnd, SavepointRequest, SavepointStatus};
pub(crate) use status::shortened;
pub use status::{
    CheckpointEnd, CheckpointRecord, CheckpointStatus, JobState, Newest, REASON_BYTES_MAX, RestartStatus, ShownGraph,
    Status, TaskCheckpoint,
};
pub use view::{LogView, Sealed, StartPoint};

use change::Changes;
use compatible::StateFate;
use ending::Ending;
use graphs::RunningGraph;
use import::Import;
use left::Left;
use rescale::Requests;
use restart::Restarts;
use restore::Fencing;
use savepoint::Savepoints;
use slots::Slots;
use standby::Watch;
use timeline::Timeline;

/// First wait before a put of unknown outcome, or a read that failed, is tried again; it doubles up to the other.
const STORE_RETRY_FIRST_MS: Millis = 100;
const STORE_RETRY_MAX_MS: Millis = 5_000;

/// The job master.
#[derive(Debug)]
pub struct Core {
    /// When `Event::Begin` came.
    began: Millis,
    config: JobConfig,
    running: RunningGraph,
    /// Of the exactly-once sinks, where there are any.
    transaction_timeout_ms: Option<Millis>,
    random: Random,
    restarts: Restarts,
    phase: Phase,
    view: LogView,
    /// Set once this coordinator's `start` entry won.
    generation: Option<Generation>,
    job_uid: String,
    /// What becomes of the state that this term restores, where it does not just stay.
    fates: Arc<Vec<StateFate>>,
    /// The checkpoint that the user named, when this term goes on from it.
    named: Option<Seq>,
    /// Whose job this was, when it is taken over.
    taken_from: Option<Box<Start>>,
    /// The term before, unless it ended the job.
    inherited: Option<Inherited>,
    /// What workers said that they run, while this term looks at it.
    inspected: BTreeMap<WorkerId, Option<Running>>,
    /// Which coordinator a worker heard last, and when, while this one stands by.
    heard: BTreeMap<WorkerId, (Generation, Millis)>,
    attempt: u32,
    /// The log is being read because a worker has heard a later coordinator.
    doubts: bool,
    /// The last event.
    awake_at: Millis,
    /// Races for the `start` entry that this coordinator lost.
    claims_lost: u32,
    append: Option<PendingAppend>,
    slots: Slots,
    /// `Slots::changes` as of the status.
    shown_slots: Option<u64>,
    /// Of the attempt: below what is wanted while slots are missing.
    parallelism: u32,
    /// As the resource says, or what was asked for since.
    wanted: u32,
    changes: Changes,
    requests: Requests,
    savepoints: Savepoints,
    /// The newest manifest in effect when this coordinator first read the log.
    found_tip: Option<Option<Seq>>,
    /// The savepoint that this term begins with.
    import: Option<Import>,
    /// What earlier tasks prepared, while others run.
    left: Option<Left>,
    /// The worker that was asked last to do what any one can do.
    serving: Option<WorkerId>,
    run: Option<Run>,
    checkpoint: Option<Checkpoint>,
    /// Transactions whose commit is not reported, by the epoch whose manifest was the first to name them.
    uncommitted: BTreeMap<Epoch, Vec<PreparedTransaction>>,
    fencing: Fencing,
    /// Tasks have run in this term, so its transactional ids may have something open.
    ran: bool,
    ending: Option<Ending>,
    /// The user wants the job to finish: whenever it runs, its input ends.
    draining: bool,
    failures: Vec<String>,
    /// Objects to delete after the entries that name them, and those whose deletion failed.
    undeleted: Vec<String>,
    timeline: Timeline,
    status: Status,
    out: Vec<Command>,
}

/// Where the job is in its life.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Idle,
    /// The log's tail is being read. `since`: the first try.
    Reading {
        since: Millis,
        tries: u32,
        retry_at: Option<Millis>,
    },
    /// Another coordinator rules.
    StandingBy(Watch),
    /// This process stood still, and ends its term; an entry of it may be on its way.
    Returning,
    /// The savepoint that the user named is being read.
    ReadingSavepoint {
        previous: ProcessState,
    },
    /// The own `start` entry is on its way.
    Claiming,
    /// The savepoint is copied into the job's folder, then its manifest is on its way.
    Importing,
    /// The workers say what runs.
    Inspecting {
        deadline: Millis,
    },
    /// `until`: then fewer slots will do, as `fewer` says from then on; `None`: the time is over, or there is no limit.
    AwaitingSlots {
        until: Option<Millis>,
        fewer: bool,
    },
    /// The workers finish what the tip left uncommitted. `accepted_loss`: of the rest, as the user set.
    Finishing {
        deadline: Millis,
        retry_at: Option<Millis>,
        accepted_loss: bool,
    },
    /// The workers abort what is left of the tip.
    GivingUp {
        deadline: Millis,
        retry_at: Option<Millis>,
        abort: Vec<PreparedTransaction>,
    },
    /// `void` is on its way.
    Voiding,
    /// `settled` is on its way.
    Settling,
    Fencing {
        deadline: Millis,
    },
    Deploying {
        deadline: Millis,
        waiting: BTreeSet<WorkerId>,
    },
    /// The first epoch of a new source is in flight; nothing is read.
    Anchoring,
    Running,
    /// The last epoch is sealed; its commits are on their way.
    Committing {
        deadline: Millis,
        finished: bool,
    },
    /// The attempt failed; the next begins when the time has come and no put is open.
    BackingOff {
        until: Millis,
    },
    /// `stopped` is on its way, or waits for another put to settle. `settled`: the tip's commits are done.
    Closing {
        outcome: Box<Outcome>,
        settled: bool,
        deadline: Option<Millis>,
    },
    Ended,
}

/// The term before this one.
#[derive(Clone, Debug)]
struct Inherited {
    generation: Generation,
    /// Its workers are processes of their own: they outlive it.
    in_a_cluster: bool,
}

/// A put whose outcome is not known.
#[derive(Clone, Debug)]
struct PendingAppend {
    entry: LogEntry,
    /// When it is sent again; `None`: its answer is awaited.
    retry_at: Option<Millis>,
    tries: u32,
    /// An earlier try may have been written, so a later rejection says nothing.
    unknown: bool,
}

/// What is deployed.
#[derive(Clone, Debug)]
struct Run {
    /// Tasks that take part in epochs: all but the finished ones.
    tasks: BTreeSet<TaskId>,
    /// Recorded as finished by the tip.
    finished: BTreeSet<TaskId>,
    /// Reported the end of their input, finished or not.
    ended: BTreeSet<TaskId>,
    /// Tasks with sinks, and up to where they committed.
    committed: BTreeMap<TaskId, Option<Epoch>>,
    /// The epoch in which a task ended: its last one to commit.
    last_epoch: BTreeMap<TaskId, Epoch>,
    /// It ran: what its tasks hold is worth keeping over a failure.
    started: bool,
    next_trigger_at: Millis,
    /// Since when there may be transactions that no manifest covers.
    uncovered_since: Millis,
    paused: bool,
    stop_tries: u32,
}

// === impl Core ===

impl Core {
    /// A job master that has done nothing yet.
    ///
    /// # Errors
    /// When the settings cannot work together.
    pub fn new(config: JobConfig) -> Result<Self, ConfigError> {
        let transaction_timeout_ms = config.validate()?;
        Ok(Self {
            began: 0,
            running: RunningGraph::of(Arc::clone(&config.graph)),
            fates: Arc::default(),
            transaction_timeout_ms,
            random: Random::new(config.seed),
            restarts: Restarts::new(config.restart.clone()),
            phase: Phase::Idle,
            view: LogView::default(),
            generation: None,
            job_uid: String::new(),
            named: None,
            taken_from: None,
            inherited: None,
            inspected: BTreeMap::new(),
            heard: BTreeMap::new(),
            doubts: false,
            awake_at: 0,
            attempt: 0,
            claims_lost: 0,
            append: None,
            slots: Slots::default(),
            shown_slots: None,
            parallelism: config.parallelism,
            wanted: config.parallelism,
            changes: Changes::default(),
            requests: Requests::default(),
            savepoints: Savepoints::default(),
            found_tip: None,
            import: None,
            left: None,
            serving: None,
            run: None,
            checkpoint: None,
            uncommitted: BTreeMap::new(),
            fencing: Fencing::default(),
            ran: false,
            ending: None,
            draining: false,
            failures: Vec::new(),
            undeleted: Vec::new(),
            timeline: Timeline::default(),
            status: Status::default(),
            out: Vec::new(),
            config,
        })
    }

    /// Takes an event in, answers with what is to be done, in order.
    pub fn on_event(&mut self, now: Millis, event: Event) -> Vec<Command> {
        self.look_at_the_time(now);
        match event {
            Event::Begin => self.begin(now),
            Event::Tick => {}
            Event::LogRead { tail, previous } => self.on_log_read(now, &tail, previous),
            Event::LogUnreadable { problem } => self.on_log_unreadable(now, problem),
            Event::Appended { seq, outcome } => self.on_appended(now, seq, outcome),
            Event::Deleted { paths, problem } => self.on_deleted(paths, problem),
            Event::StateListed { objects } => self.on_state_listed(&objects),
            Event::LeaderProbed { rules } => self.on_leader_probed(now, rules),
            Event::WorkerRegistered { worker, offer } => self.on_worker_registered(worker, offer),
            Event::WorkerLost { worker, reason } => self.on_worker_lost(now, worker, reason),
            Event::WorkerLeaving { worker } => self.on_worker_leaving(worker),
            Event::WorkerHeard { worker, generation, age_ms } => {
                self.on_worker_heard(now, worker, generation, age_ms);
            }
            Event::NoWorkerLeft { reason } => self.on_no_worker_left(now, reason),
            Event::Worker { worker, report } => self.on_report(now, worker, report),
            Event::RescaleRequested { rescale } => self.on_rescale_requested(rescale),
            Event::SavepointRequested { request } => self.on_savepoint_requested(now, request),
            Event::SavepointCopied { id, copied } => self.on_savepoint_copied(now, &id, copied),
            Event::SavepointRead { read } => self.on_savepoint_read(now, read),
            Event::SavepointImported { imported } => self.on_savepoint_imported(now, imported),
            Event::StopRequested(StopMode::Suspend) => self.on_stop_requested(now),
            Event::StopRequested(StopMode::Drain) => self.on_drain_requested(),
        }
        self.advance(now);
        self.release_idle();
        if let Some(steps) = self.timeline.note(now, &self.phase) {
            self.out.push(Command::Notice(Notice::Running { steps }));
        }
        self.show();
        #[cfg(debug_assertions)]
        if let Err(broken) = invariants::holds(self) {
            panic!("invariant broken: {broken}");
        }
        std::mem::take(&mut self.out)
    }

    /// When `Event::Tick` is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let of_phase = match &self.phase {
            Phase::Reading { retry_at, .. } => *retry_at,
            Phase::AwaitingSlots { until, .. } => *until,
            Phase::StandingBy(watch) => watch.probe_at(),
            Phase::Inspecting { deadline } => Some(*deadline),
            Phase::Fencing { deadline } | Phase::Deploying { deadline, .. } | Phase::Committing { deadline, .. } => {
                Some(*deadline)
            }
            Phase::Finishing { deadline, retry_at, .. } | Phase::GivingUp { deadline, retry_at, .. } => {
                Some(retry_at.map_or(*deadline, |at| at.min(*deadline)))
            }
            // While a put is open its own time counts.
            Phase::BackingOff { until } if self.append.is_none() => Some(*until),
            Phase::Closing { deadline, .. } => deadline.filter(|_| !self.savepoints.copying()),
            Phase::Running => self.running_deadline(),
            _ => None,
        };
        let of_checkpoint =
            self.checkpoint.as_ref().filter(|c| c.phase == CheckpointPhase::Triggered).map(|c| c.deadline);
        let of_append = self.append.as_ref().and_then(|a| a.retry_at);
        let closing = matches!(self.phase, Phase::Closing { .. } | Phase::Ended);
        let of_ending = self.ending.as_ref().filter(|_| !closing).and_then(|e| e.deadline);
        let of_left = self.left.as_ref().map(Left::deadline);
        let of_change = self.changes.deadline().filter(|_| self.phase == Phase::Running);
        let all = [of_phase, of_checkpoint, of_append, of_ending, of_change, of_left, self.look_again_at()];
        all.into_iter().flatten().min()
    }

    /// A seed for the next core of this process, when another coordinator has taken the job.
    pub fn next_seed(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// What the job is doing.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What the log says, as far as this coordinator knows.
    #[must_use]
    pub fn view(&self) -> &LogView {
        &self.view
    }

    /// The epoch in flight.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// What time makes due, in whatever phase.
    fn advance(&mut self, now: Millis) {
        self.retry_append(now);
        self.advance_ending(now);
        self.advance_left(now);
        self.advance_savepoints();
        match self.phase.clone() {
            Phase::Reading { retry_at: Some(at), since, tries } if at <= now => {
                self.phase = Phase::Reading { since, tries, retry_at: None };
                self.out.push(Command::ReadLog);
            }
            Phase::StandingBy(_) => self.advance_standby(now),
            Phase::Returning => self.advance_return(now),
            Phase::Inspecting { .. } => self.advance_inspection(now),
            Phase::AwaitingSlots { .. } | Phase::Finishing { .. } | Phase::GivingUp { .. } => {
                self.advance_restore(now);
            }
            Phase::Fencing { deadline } if deadline <= now && self.ending.is_some() => self.close_ending(now, true),
            Phase::Fencing { deadline } if deadline <= now => {
                self.fail(now, transient("the broker did not fence the transactional ids in time".to_owned()));
            }
            Phase::Deploying { deadline, .. } if deadline <= now => {
                self.fail(now, transient("the tasks were not deployed in time".to_owned()));
            }
            Phase::Anchoring | Phase::Running => self.advance_running(now),
            Phase::Committing { deadline, finished } => self.advance_commits(now, deadline, finished),
            Phase::BackingOff { until } if until <= now && self.append.is_none() => self.begin_attempt(now),
            _ => {}
        }
    }

    fn on_report(&mut self, now: Millis, worker: WorkerId, report: WorkerReport) {
        // Of an earlier attempt: what it tells about is over.
        if report.attempt != self.attempt() || !self.slots.contains(worker) {
            return;
        }
        if task_of(&report.report).is_some_and(|task| !self.slots.runs_index(worker, task.index)) {
            return;
        }
        match report.report {
            Report::TransactionsFinished { outcome } => self.on_finished(now, &outcome),
            Report::TransactionsAborted { outcome } => self.on_aborted(now, &outcome),
            Report::TransactionsFenced => self.on_fenced(now),
            Report::Inspected { running } => self.on_inspected(now, worker, running.map(|running| *running)),
            Report::Deployed => self.on_deployed(now, worker),
            Report::Restoring { bytes } => self.on_restoring(now, worker, bytes),
            Report::Prepared => self.on_prepared(now, worker),
            Report::PrepareFailed { failure } => self.on_prepare_failed(now, worker, &failure),
            Report::Acknowledged(snapshot) => self.on_acknowledged(now, *snapshot),
            Report::Declined { task, epoch, failure } => self.on_declined(now, task, epoch, &failure),
            Report::Committed { task, epoch } => self.on_committed(task, epoch),
            Report::EndOfInput { task } => self.on_end_of_input(now, task),
            // The tasks are not this coordinator's yet, and what they run into goes into what they answer.
            Report::TaskFailed { .. } | Report::CommandFailed { .. }
                if matches!(self.phase, Phase::Inspecting { .. }) => {}
            // The job ends, and no task runs any more.
            Report::TaskFailed { .. } if self.ending.is_some() && matches!(self.phase, Phase::Fencing { .. }) => {}
            Report::TaskFailed { task, failure } => {
                let message = format!("task {}: {}", self.task_name(task), failure.message);
                let failure = self.as_of_the_graph(Failure { kind: failure.kind, message });
                self.fail(now, failure);
            }
            Report::CommandFailed { failure } => self.fail(now, failure),
        }
    }

    /// It may run what an earlier attempt deployed, and lost its coordinator, or only the connection. Whatever it is told
    /// next, its tasks would take for meant for them, and answer in this attempt; so they stop first, and keep their states.
    fn on_worker_registered(&mut self, worker: WorkerId, offer: WorkerOffer) {
        self.slots.register(worker, offer);
        match self.phase {
            Phase::Inspecting { .. } => self.tell(worker, control::Command::Inspect),
            Phase::Ended => {}
            _ if self.generation.is_some() => self.tell(worker, control::Command::Suspend),
            _ => {}
        }
    }

    fn on_worker_lost(&mut self, now: Millis, worker: WorkerId, reason: String) {
        let (name, runs) = (self.slots.name(worker), self.slots.runs(worker));
        if !self.slots.remove(worker) {
            return;
        }
        self.inspected.remove(&worker);
        self.heard.remove(&worker);
        self.replan_without(worker);
        self.ask_another_for_left(now);
        // What the others hold of the tasks stays: only what was on this worker is read from the store.
        let served = self.serving.take_if(|w| *w == worker).is_some();
        let concerned = match self.phase {
            Phase::Finishing { .. } | Phase::GivingUp { .. } | Phase::Fencing { .. } => served,
            Phase::Deploying { .. } | Phase::Anchoring | Phase::Running | Phase::Committing { .. } => runs,
            _ => false,
        };
        if concerned {
            self.fail(now, transient(format!("lost worker {name}: {reason}")));
        }
    }

    /// Nobody is left to run the job, and nobody will come: no restart helps.
    fn on_no_worker_left(&mut self, now: Millis, reason: String) {
        self.slots.clear();
        self.run = None;
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended) {
            return;
        }
        let failure = Failure { kind: FailureKind::Bug, message: format!("the worker is gone: {reason}") };
        if self.generation.is_none() {
            return self.end_failed(failure);
        }
        self.checkpoint = None;
        self.close_failed(now, failure);
    }

    /// What was prepared may have taken the numbers that follow.
    fn raise_attempt(&mut self) {
        self.attempt = self.attempt.max(self.changes.reserved) + 1;
    }

    fn attempt(&self) -> Attempt {
        Attempt { generation: self.generation.unwrap_or_default(), number: self.attempt }
    }

    fn tell(&mut self, worker: WorkerId, command: control::Command) {
        let command = WorkerCommand { attempt: self.attempt(), command };
        self.out.push(Command::Tell { worker, command });
    }

    fn tell_all(&mut self, command: &control::Command) {
        let workers: Vec<WorkerId> = self.slots.workers().collect();
        for worker in workers {
            self.tell(worker, command.clone());
        }
    }

    /// Tells some worker, whichever, to do what any one can do. Without one, the attempt fails.
    fn tell_any(&mut self, now: Millis, command: control::Command) {
        match self.slots.any() {
            Some(worker) => {
                self.serving = Some(worker);
                self.tell(worker, command);
            }
            None => self.fail(now, transient("no worker is left".to_owned())),
        }
    }

    /// Sends an entry on its way. No other one is.
    fn append(&mut self, now: Millis, kind: EntryKind) {
        assert!(self.append.is_none(), "one entry at a time");
        let last = self.view.last().cloned();
        let seq = last.as_ref().map_or(Seq(0), |(seq, _)| seq.next());
        let entry = LogEntry {
            version: LOG_VERSION,
            seq,
            generation: self.generation.unwrap_or(Generation(seq.0)),
            nonce: self.random.nonce(),
            previous: last.map(|(_, nonce)| nonce),
            written_at_ms: i64::try_from(now).unwrap_or(i64::MAX),
            kind,
        };
        self.out.push(Command::Append(Box::new(entry.clone())));
        self.append = Some(PendingAppend { entry, retry_at: None, tries: 0, unknown: false });
    }

    fn retry_append(&mut self, now: Millis) {
        let Some(pending) = &mut self.append else { return };
        if pending.retry_at.is_some_and(|at| at <= now) {
            pending.retry_at = None;
            self.out.push(Command::Append(Box::new(pending.entry.clone())));
        }
    }

    fn on_appended(&mut self, now: Millis, seq: Seq, outcome: AppendOutcome) {
        let awaited = |p: &mut PendingAppend| p.entry.seq == seq && p.retry_at.is_none();
        let Some(mut pending) = self.append.take_if(awaited) else { return };
        match outcome {
            AppendOutcome::Won => {
                self.view.apply(&pending.entry);
                self.on_won(now, pending.entry);
            }
            AppendOutcome::Lost { by, stands } => self.on_lost(now, &pending.entry, by, stands),
            AppendOutcome::Rejected { problem } if !pending.unknown => self.on_rejected(now, pending.entry, problem),
            AppendOutcome::Unknown { reason }
            | AppendOutcome::Rejected { problem: StoreProblem { message: reason, .. } } => {
                if let EntryKind::Manifest(manifest) = &pending.entry.kind {
                    self.status.last_checkpoint_failure =
                        Some(shortened(&format!("checkpoint {}: {reason}", manifest.epoch), REASON_BYTES_MAX));
                }
                if let (EntryKind::Manifest(manifest), false) = (&pending.entry.kind, pending.unknown) {
                    self.out.push(Command::Notice(Notice::SealUnknown { epoch: manifest.epoch, reason }));
                }
                pending.unknown = true;
                pending.retry_at = Some(now + retry_delay(pending.tries));
                pending.tries += 1;
                self.append = Some(pending);
            }
        }
    }

    fn on_won(&mut self, now: Millis, entry: LogEntry) {
        match entry.kind {
            EntryKind::Start(start) => self.on_term_won(now, entry.seq, start),
            EntryKind::Manifest(_) => self.on_sealed(now),
            EntryKind::Void { epoch } => self.on_voided(now, epoch),
            EntryKind::Settled(_) => self.on_settled(now),
            EntryKind::Stopped { .. } => self.on_closed(),
        }
    }

    fn on_rejected(&mut self, now: Millis, entry: LogEntry, problem: StoreProblem) {
        match entry.kind {
            EntryKind::Manifest(manifest) => self.on_seal_rejected(now, manifest.epoch, problem),
            EntryKind::Stopped { .. } => self.give_up_closing(&problem.message),
            EntryKind::Start(_) => self.end_failed(failure_of(problem)),
            EntryKind::Void { .. } | EntryKind::Settled(_) => self.fail(now, failure_of(problem)),
        }
    }

    /// `2/0 (orders)`: number and the name of its first transform.
    fn task_name(&self, task: TaskId) -> String {
        let head = self.running.vertices.get(task.vertex.0 as usize).map(|v| self.running.graph.transform(v.head));
        head.map_or_else(|| task.to_string(), |head| format!("{task} ({})", head.name))
    }

    /// Tasks whose chain ends in a sink: they report commits.
    fn sink_tasks(&self) -> BTreeSet<TaskId> {
        let has_sink = |v: &&Vertex| {
            let mut kinds = v.transforms.iter().map(|t| &self.running.graph.transform(*t).kind);
            kinds.any(|kind| matches!(kind, TransformKind::Sink(_)))
        };
        let vertices = self.running.vertices.iter().filter(has_sink);
        vertices.flat_map(|v| (0..self.parallelism).map(|index| TaskId { vertex: v.id, index })).collect()
    }

    fn checkpoint_ref(&self, sealed: &Sealed) -> CheckpointRef {
        let path = crate::log::entry_path(&self.config.path, sealed.seq);
        CheckpointRef { epoch: sealed.manifest.epoch, seq: sealed.seq, path }
    }

    fn tip_ref(&self) -> Option<CheckpointRef> {
        self.view.tip().map(|tip| self.checkpoint_ref(tip))
    }

    /// Brings the status up to date.
    fn show(&mut self) {
        self.status.state = match &self.phase {
            Phase::Idle | Phase::Reading { .. } | Phase::ReadingSavepoint { .. } | Phase::Claiming => {
                JobState::Starting
            }
            Phase::StandingBy(_) => JobState::StandingBy,
            Phase::AwaitingSlots { .. } if self.ending.is_none() => JobState::AwaitingSlots,
            Phase::Ended => self.status.state,
            _ if self.ending.is_some() => JobState::Stopping,
            Phase::Inspecting { .. } | Phase::Returning => JobState::TakingOver,
            Phase::Running if self.draining => JobState::Stopping,
            Phase::Running | Phase::Anchoring => JobState::Running,
            Phase::Committing { .. } | Phase::Closing { .. } => JobState::Stopping,
            Phase::BackingOff { .. } => JobState::Restarting,
            _ => JobState::Restoring,
        };
        self.status.parallelism = self.parallelism;
        self.status.parallelism_wanted = self.wanted;
        self.status.rescale = self.rescale_status();
        self.status.savepoints = self.savepoints.status();
        self.show_places();
        self.status.slots = self.slots.total();
        self.status.generation = self.generation.map(|g| g.0);
        self.status.attempt = self.attempt;
        self.status.epoch = self.checkpoint.as_ref().map(|c| c.epoch.0);
        self.status.epoch_since_ms = self.checkpoint.as_ref().map(|c| c.triggered_at);
        self.status.newest = self.view.tip().map(|tip| Newest(Arc::clone(&tip.manifest)));
        self.status.commits_open = self.uncommitted.values().map(Vec::len).sum();
        self.status.sources_paused = self.run.as_ref().is_some_and(|r| r.paused);
        self.status.tasks = self.run.as_ref().map_or(0, |r| r.tasks.len() + r.finished.len());
        // Tasks end, and only a new run takes that back.
        let ended = self.run.as_ref().map_or(0, |run| run.ended.len());
        if self.status.ended.len() != ended {
            self.status.ended = self.run.as_ref().map(|run| Arc::new(run.ended.clone())).unwrap_or_default();
        }
    }

    /// Copied only when it changed: it is as long as the job has workers and tasks.
    fn show_places(&mut self) {
        if self.shown_slots == Some(self.slots.changes()) {
            return;
        }
        self.shown_slots = Some(self.slots.changes());
        self.status.workers = Arc::new(self.slots.offers().map(|(id, offer)| (id, offer.clone())).collect());
        self.status.placement = Arc::new(self.slots.by_index().to_vec());
    }
}

/// The task that a report is about: its worker alone speaks for it.
fn task_of(report: &Report) -> Option<TaskId> {
    match report {
        Report::Acknowledged(snapshot) => Some(snapshot.task),
        Report::Declined { task, .. }
        | Report::Committed { task, .. }
        | Report::EndOfInput { task }
        | Report::TaskFailed { task, .. } => Some(*task),
        Report::TransactionsFinished { .. }
        | Report::TransactionsAborted { .. }
        | Report::TransactionsFenced
        | Report::Inspected { .. }
        | Report::Deployed
        | Report::Restoring { .. }
        | Report::Prepared
        | Report::PrepareFailed { .. }
        | Report::CommandFailed { .. } => None,
    }
}

fn retry_delay(tries: u32) -> Millis {
    STORE_RETRY_FIRST_MS.saturating_mul(1 << tries.min(16)).min(STORE_RETRY_MAX_MS)
}

fn transient(message: String) -> Failure {
    Failure { kind: FailureKind::Transient, message }
}

fn failure_of(problem: StoreProblem) -> Failure {
    let kind = match problem.kind {
        StoreProblemKind::Transient => FailureKind::Transient,
        StoreProblemKind::User => FailureKind::User,
        StoreProblemKind::Corrupt => FailureKind::Corrupt,
    };
    Failure { kind, message: problem.message }
}
