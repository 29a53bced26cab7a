//! The simulated worker: carries out what `api::control` says, with tasks that keep the protocol's rules.
//!
//! Owns: the conversation with coordinators, which attempt counts, what becomes of the tasks over it. Does not own: what
//! takes time, in modules of their own (`transactions`, `restore`, `snapshot`), nor rows on their way (`exchange`).

mod adopt;
mod exchange;
mod processing;
mod restore;
mod snapshot;
mod transactions;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use millstream_api::control::{
    Attempt, Command, Deployment, Failure, FailureKind, Report, WorkerCommand, WorkerReport,
};
use millstream_api::ids::{Epoch, Generation, TaskId};
use millstream_api::log::{Manifest, TableSnapshot};
use millstream_coordinator::job::{Millis, Random};
use millstream_store::ObjectStore;

use crate::broker::{BrokerError, BrokerRequest};
use crate::calls::{Client, ProcessId, Request};
use crate::job::{COUNT, SOURCE};
use crate::network::{ConnectionId, Frame, Purpose};
use crate::plan::Plan;
use crate::rules::Rules;
use crate::store::SimStore;
use crate::task::{CountTask, SourceTask};

use adopt::Record;
use exchange::Exchange;
use restore::{Ahead, Restored};

/// Tries of a call to the store or the broker before a task or a command gives up.
const TRIES_MAX: u32 = 8;

/// A call under way, and what it brings to the worker.
pub type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A set of tasks that were built together, by the number of sets in this process: what an earlier set still says is void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run(u64);

/// What a call brought, and which attempt or set of tasks it was for.
#[derive(Debug)]
pub enum Done {
    Report(Attempt, Report),
    /// For what is prepared for an attempt.
    Ahead(Attempt, Result<Ahead, Failure>),
    Restored(Run, Box<Restored>),
    Broken(Run, Report),
    Uploaded {
        run: Run,
        index: u32,
        epoch: Epoch,
        result: Result<TableSnapshot, String>,
    },
    Sent {
        run: Run,
        index: u32,
        result: Result<(), BrokerError>,
    },
    Committed {
        run: Run,
        index: u32,
        producer: usize,
        result: Result<(), BrokerError>,
    },
    /// Nobody waits for it.
    Nothing,
}

/// How far a task is in both kinds of time.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub watermark: i64,
    /// Of a task that looks at the clock.
    pub processing_time_ms: Option<i64>,
}

/// Tasks that may follow those that run.
struct Staged {
    attempt: Attempt,
    deployment: Deployment,
    /// `None`: it is being read.
    ahead: Option<Ahead>,
}

/// What a worker gives out.
#[derive(Debug, Default)]
pub struct Out {
    pub reports: Vec<WorkerReport>,
    pub frames: Vec<(ConnectionId, Frame)>,
    pub wanted: Vec<(ProcessId, Attempt)>,
    pub closed: Vec<ConnectionId>,
    /// Coordinators that are to hear that the process is about to stop.
    pub leaves: Vec<ConnectionId>,
}

pub struct Worker {
    pub id: ProcessId,
    pub slots: u32,
    client: Client,
    store: Arc<dyn ObjectStore>,
    plan: Plan,
    rules: Rules,
    random: Random,
    job_path: String,
    /// The newest that a coordinator spoke in; older commands are dropped.
    attempt: Attempt,
    /// Something was ever deployed here, or asked of it.
    spoken_to: bool,
    /// Connections to coordinators, with the generation that the other end spoke in last, when it rules.
    sessions: BTreeMap<ConnectionId, Option<Generation>>,
    /// When the coordinator of the newest generation was heard last.
    heard_at: Millis,
    /// The process was asked to stop.
    leaving: bool,
    run: Run,
    /// The attempt in which the tasks were deployed.
    deployed_in: Attempt,
    deployment: Option<Deployment>,
    sources: BTreeMap<u32, SourceTask>,
    counts: BTreeMap<u32, CountTask>,
    exchange: Exchange,
    record: Record,
    running: bool,
    /// `Suspend`: state stays, nothing moves.
    suspended: bool,
    /// What may follow what runs.
    staged: Option<Staged>,
    /// What is being deployed took over from others: nobody tells it to start.
    starts_by_itself: bool,
    paused: bool,
    /// By itself: no coordinator was heard for long.
    unheard: bool,
    /// What the wall clock of its machine says.
    pub wall_ms: i64,
    /// How often a task has moved: its times are then to be looked at.
    moves: u64,
    /// The manifest that the newest snapshots build on: what a merge replaces.
    base: Option<Arc<Manifest>>,
    pub jobs: Vec<Job>,
    pub out: Out,
    pub hits: Vec<&'static str>,
}

impl Worker {
    #[must_use]
    pub fn new(id: ProcessId, slots: u32, client: Client, plan: Plan, rules: Rules, seed: u64, job_path: &str) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(SimStore(client.clone()));
        Self {
            id,
            slots,
            client,
            store,
            plan,
            rules,
            random: Random::new(seed),
            job_path: job_path.to_owned(),
            attempt: Attempt::default(),
            spoken_to: false,
            sessions: BTreeMap::new(),
            heard_at: 0,
            leaving: false,
            run: Run::default(),
            deployed_in: Attempt::default(),
            deployment: None,
            sources: BTreeMap::new(),
            counts: BTreeMap::new(),
            exchange: Exchange::default(),
            record: Record::default(),
            running: false,
            suspended: false,
            staged: None,
            starts_by_itself: false,
            paused: false,
            unheard: false,
            wall_ms: i64::MIN,
            moves: 0,
            base: None,
            jobs: Vec::new(),
            out: Out::default(),
            hits: Vec::new(),
        }
    }

    // --- connections ------------------------------------------------------------------------------------------------

    pub fn opened(&mut self, connection: ConnectionId, purpose: Purpose, peer: ProcessId) {
        match purpose {
            Purpose::Control { generation, .. } => {
                self.sessions.insert(connection, generation);
                if self.deployment.is_some() {
                    self.hits.push("a worker registers with tasks");
                }
                if self.leaving {
                    self.out.leaves.push(connection);
                }
            }
            Purpose::Shuffle { of } => self.linked(connection, of, peer),
        }
    }

    /// Of a coordinator nobody hears reports any more, and the tasks go on; without another worker they cannot.
    pub fn closed(&mut self, connection: ConnectionId) {
        self.sessions.remove(&connection);
        self.unlinked(connection);
    }

    /// Where reports of a generation go.
    #[must_use]
    pub fn session_of(&self, generation: Generation) -> Option<ConnectionId> {
        self.sessions.iter().find(|(_, of)| **of == Some(generation)).map(|(session, _)| *session)
    }

    /// The coordinator that rules what is here, as far as this worker knows.
    #[must_use]
    pub fn ruler(&self) -> Option<ConnectionId> {
        self.session_of(self.attempt.generation).filter(|_| self.spoken_to)
    }

    /// The ruling coordinator that was heard last, and how long ago.
    #[must_use]
    pub fn heard(&self, now: Millis) -> Option<(Generation, Millis)> {
        self.spoken_to.then(|| (self.attempt.generation, now.saturating_sub(self.heard_at)))
    }

    pub fn sessions(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.sessions.keys().copied()
    }

    /// A heartbeat of the coordinator that rules.
    pub fn hear(&mut self, now: Millis) {
        self.heard_at = now;
        self.unheard = false;
    }

    /// Stops reading when transactions get old and no coordinator is there to seal what they hold.
    pub fn look(&mut self, now: Millis) {
        let limit = self.plan.transaction_timeout_ms / 2;
        if self.spoken_to && self.running && !self.unheard && now.saturating_sub(self.heard_at) >= limit {
            self.hits.push("sources paused: no coordinator was heard");
            self.unheard = true;
        }
    }

    /// The process was asked to stop. True: it may at once.
    pub fn leave(&mut self) -> bool {
        self.leaving = true;
        self.out.leaves.extend(self.sessions.keys().copied());
        !self.spoken_to
    }

    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn report(&mut self, report: Report) {
        self.out.reports.push(WorkerReport { attempt: self.attempt, report });
    }

    /// What a task says: in the attempt of what is deployed. A newer one may be looking at it already.
    fn report_deployed(&mut self, report: Report) {
        self.record.note(&report);
        self.out.reports.push(WorkerReport { attempt: self.record.attempt, report });
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.next_u64().is_multiple_of(one_in)
    }

    // --- commands ---------------------------------------------------------------------------------------------------

    /// Carries a command out; what takes time comes back as jobs.
    pub fn command(&mut self, session: ConnectionId, command: WorkerCommand) -> Vec<Job> {
        let Some(generation) = self.sessions.get_mut(&session) else { return Vec::new() };
        if self.spoken_to && command.attempt < self.attempt {
            self.hits.push("command of an earlier attempt dropped");
            return Vec::new();
        }
        *generation = Some(command.attempt.generation);
        self.attempt = command.attempt;
        self.spoken_to = true;
        self.unheard = false;
        match command.command {
            Command::Inspect => {
                // By a coordinator that is no more.
                self.staged = None;
                self.inspect();
                Vec::new()
            }
            Command::Adopt { sealed, aborted } => self.adopt(&sealed, &aborted),
            Command::FinishTransactions { transactions, .. } => vec![self.finish(transactions)],
            Command::AbortTransactions { transactions, .. } => vec![self.abort(transactions)],
            Command::FenceTransactions { ids, .. } => vec![self.fence(ids.into_values().collect())],
            Command::Suspend => {
                self.suspend();
                Vec::new()
            }
            Command::Deploy(deployment) => {
                self.hits.push("deploy");
                vec![self.deploy(*deployment, Ahead::default())]
            }
            Command::Prepare { attempt, deployment } => {
                let job = self.read_ahead(attempt, &deployment);
                self.staged = Some(Staged { attempt, deployment: *deployment, ahead: None });
                vec![job]
            }
            Command::Discard => {
                self.staged = None;
                Vec::new()
            }
            Command::Switch { manifest } => self.switch(manifest),
            Command::Start => {
                self.start();
                self.pump()
            }
            Command::Trigger { epoch, mutation } => self.trigger(epoch, mutation),
            Command::Sealed { manifest, .. } => self.sealed(&manifest),
            Command::Aborted { epoch } => {
                self.aborted(epoch);
                self.pump()
            }
            Command::Pause { paused } => {
                self.paused = paused;
                Vec::new()
            }
            Command::Cancel => {
                self.drop_tasks();
                Vec::new()
            }
            Command::Abandon { sealed } => {
                self.abandon(sealed);
                Vec::new()
            }
        }
    }

    /// Asks, and waits for no answer: the process may end. Now and then it is killed before.
    fn abandon(&mut self, sealed: Option<Epoch>) {
        if self.chance(4) {
            return self.drop_tasks();
        }
        let live = self.counts.values().filter(|_| !self.suspended);
        for who in live.flat_map(|count| count.sink.unknown_to(sealed)) {
            self.hits.push("a fenced process aborted what it had open");
            drop(self.client.ask(Request::Broker(BrokerRequest::End { who, commit: false })));
        }
        self.drop_tasks();
    }

    /// The prepared tasks go on from the manifest, at once.
    fn switch(&mut self, manifest: Arc<Manifest>) -> Vec<Job> {
        let staged = self.staged.take().filter(|staged| staged.attempt == self.attempt);
        let Some(Staged { mut deployment, ahead: Some(ahead), .. }) = staged else {
            self.report(Report::CommandFailed { failure: transient("nothing is prepared") });
            return Vec::new();
        };
        self.hits.push("switch");
        deployment.restore = Some(manifest);
        self.suspend();
        let job = self.deploy(deployment, ahead);
        self.starts_by_itself = true;
        vec![job]
    }

    /// What is to be prepared has been read, unless nobody wants it any more.
    fn prepared(&mut self, attempt: Attempt, ahead: Result<Ahead, Failure>) {
        let Some(staged) = self.staged.as_mut().filter(|staged| staged.attempt == attempt) else {
            self.hits.push("read for tasks that nobody wants any more");
            return;
        };
        match ahead {
            Ok(ahead) => {
                staged.ahead = Some(ahead);
                self.report(Report::Prepared);
            }
            Err(failure) => {
                self.hits.push("what runs goes on where others cannot be prepared");
                self.staged = None;
                self.report(Report::PrepareFailed { failure });
            }
        }
    }

    fn start(&mut self) {
        self.running = true;
        self.paused = false;
        self.record.started = true;
    }

    /// Every task is here and connected.
    fn is_deployed(&mut self) {
        self.report_deployed(Report::Deployed);
        if std::mem::take(&mut self.starts_by_itself) {
            self.start();
        }
    }

    fn suspend(&mut self) {
        self.staged = None;
        self.take_tasks();
        self.suspended = true;
    }

    /// From here on, what the tasks said and nobody has heard yet is void. Their states stay.
    fn take_tasks(&mut self) {
        self.run.0 += 1;
        self.running = false;
        self.starts_by_itself = false;
        self.out.closed.extend(std::mem::take(&mut self.exchange).connections());
    }

    fn drop_tasks(&mut self) {
        self.take_tasks();
        self.sources.clear();
        self.counts.clear();
        self.deployment = None;
        self.suspended = false;
        self.base = None;
    }

    /// Takes what a call brought.
    pub fn done(&mut self, done: Done) -> Vec<Job> {
        match done {
            Done::Report(attempt, report) if attempt == self.attempt => self.report(report),
            Done::Ahead(attempt, ahead) => self.prepared(attempt, ahead),
            Done::Broken(run, report) if run == self.run => self.report_deployed(report),
            Done::Restored(run, restored) if run == self.run => self.restored(*restored),
            Done::Uploaded { run, index, epoch, result } if run == self.run => match result {
                Ok(table) => self.uploaded(index, epoch, table),
                Err(reason) => {
                    let task = TaskId { vertex: COUNT, index };
                    self.report_deployed(Report::Declined { task, epoch, failure: transient(&reason) });
                }
            },
            Done::Sent { run, index, result } if run == self.run => match result {
                Ok(()) => {
                    if let Some(count) = self.counts.get_mut(&index) {
                        count.sink.sent();
                    }
                }
                Err(error) => self.producer_failed(index, error),
            },
            Done::Committed { run, index, producer, result } if run == self.run => match result {
                Ok(()) => {
                    if let Some(count) = self.counts.get_mut(&index) {
                        count.sink.committed(producer);
                    }
                }
                Err(error) => self.producer_failed(index, error),
            },
            _ => {}
        }
        self.pump()
    }

    /// A task fails out of the blue.
    pub fn break_task(&mut self) {
        let Some(index) = self.counts.keys().next().copied().filter(|_| !self.suspended) else { return };
        self.task_failed(TaskId { vertex: COUNT, index }, transient("simulated"));
    }

    fn producer_failed(&mut self, index: u32, error: BrokerError) {
        if error == BrokerError::Fenced {
            self.hits.push("live producer fenced");
        }
        self.task_failed(TaskId { vertex: COUNT, index }, transient(&format!("producer: {error:?}")));
    }

    /// It stands still from now on.
    fn task_failed(&mut self, task: TaskId, failure: Failure) {
        if !self.record.failed.contains_key(&task) {
            self.report_deployed(Report::TaskFailed { task, failure });
        }
    }

    // --- what others may see ----------------------------------------------------------------------------------------

    /// The attempt in which what runs here was deployed.
    #[must_use]
    pub fn deployed_in(&self) -> Option<Attempt> {
        self.deployment.as_ref().filter(|_| !self.suspended).map(|_| self.deployed_in)
    }

    #[must_use]
    pub fn deployment(&self) -> Option<&Deployment> {
        self.deployment.as_ref().filter(|_| !self.suspended)
    }

    #[must_use]
    pub fn sources(&self) -> &BTreeMap<u32, SourceTask> {
        &self.sources
    }

    #[must_use]
    pub fn counts(&self) -> &BTreeMap<u32, CountTask> {
        &self.counts
    }

    /// The highest processing time in what was restored.
    #[must_use]
    pub fn restored_time(&self) -> i64 {
        let manifest = self.deployment.as_ref().and_then(|deployment| deployment.restore.as_ref());
        manifest.map_or(i64::MIN, |manifest| manifest.processing_time_max_ms)
    }

    /// Changes with the times of the tasks.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// The times of each task.
    pub fn times(&self) -> impl Iterator<Item = (TaskId, Times)> {
        let of_source = |(index, source): (&u32, &SourceTask)| {
            let times = Times { watermark: source.watermark(), processing_time_ms: None };
            (TaskId { vertex: SOURCE, index: *index }, times)
        };
        let of_count = |(index, count): (&u32, &CountTask)| {
            let times = Times { watermark: count.watermark, processing_time_ms: Some(count.processing_time_ms) };
            (TaskId { vertex: COUNT, index: *index }, times)
        };
        self.sources.iter().map(of_source).chain(self.counts.iter().map(of_count))
    }
}

fn transient(message: &str) -> Failure {
    Failure { kind: FailureKind::Transient, message: message.to_owned() }
}
