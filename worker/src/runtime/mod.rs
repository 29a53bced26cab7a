//! A worker: slots, an I/O runtime, and the conversation with the coordinator.
//!
//! Owns: threads, deployment of tasks, the way of a snapshot's rows to the store. Does not own: what a task
//! does (`task`), when a checkpoint happens or what follows from a failure (the coordinator).

mod adopt;
mod deploy;
mod links;
mod preload;
mod progress;
mod restore;
mod sinks;
mod slot_map;
mod staged;
mod transactions;
mod wiring;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::ArrowError;
use millstream_api::control::{Attempt, Command, Deployment, Report, WorkerCommand, WorkerReport};
use millstream_api::ids::{Epoch, TaskId};
use millstream_store::ObjectStore;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::element::Barrier;
use crate::exchange::remote::{LinkNews, Shuffle, ShuffleConfig};
use crate::metrics::{JobMetrics, TaskReadings};
use crate::slot::{SlotCommand, SlotHandle, Wake};
use crate::snapshot::Segments;
use crate::task::{Events, MergeAnswer, MergeRequest, Task, TaskError, TaskEvent, TaskEventKind, WriteRequest};
use adopt::Record;
use links::DeployedLinks;
use restore::Survivors;
use slot_map::SlotMap;
use staged::{Ahead, Ready, Staged};
use transactions::{Answered, Asked};
use wiring::{Wirer, Wiring};

/// Commands and reports that may wait. A few per task and epoch are under way at most.
const MESSAGES_MAX: usize = 1_024;
/// How long requests to the store or a broker may go on after the worker was closed.
const IO_SHUTDOWN: Duration = Duration::from_secs(5);

/// What a worker needs.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Threads that process rows; the tasks of one index, one of every vertex, share one.
    pub slots: u32,
    /// Where the job's objects are: `job_path` in `store`, without a slash at the end; empty: the root.
    pub store: Arc<dyn ObjectStore>,
    pub job_path: String,
    /// What the brokers' logs call the job's clients. `None`: the job as its master calls it.
    pub job_name: Option<String>,
    pub backend: StateBackend,
    /// Keyed state of all tasks together may take so much.
    pub state_bytes_max: u64,
    /// Pre-images of all tasks together, for roll back; past it a restart reads the store.
    pub undo_bytes_max: u64,
    /// What the sources of all tasks together fetch ahead.
    pub fetch_bytes_max: u64,
    /// Threads for network and store.
    pub io_threads: usize,
    pub shuffle: ShuffleConfig,
}

/// Where keyed state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateBackend {
    Memory,
    /// Scratch space of this worker alone; nothing in it outlives the process.
    Disk {
        dir: PathBuf,
    },
}

/// A running worker. It ends when `commands` is dropped, or told by `close`.
#[derive(Debug)]
pub struct Worker {
    pub commands: mpsc::Sender<WorkerCommand>,
    pub reports: mpsc::Receiver<WorkerReport>,
    pub metrics: Arc<JobMetrics>,
    /// What the tasks count, told anew each second.
    pub readings: watch::Receiver<Arc<Vec<TaskReadings>>>,
    pub thread: WorkerThread,
}

/// The thread that a worker's runtime lives on.
#[derive(Debug)]
pub struct WorkerThread(std::thread::JoinHandle<()>);

/// A worker that cannot start.
#[derive(Debug, Error)]
#[error("failed to start a worker's threads: {0}")]
pub struct SpawnError(#[from] std::io::Error);

impl Worker {
    /// Starts the threads of a worker. It runs nothing until it is told to.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn spawn(config: WorkerConfig) -> Result<Self, SpawnError> {
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.io_threads.max(1))
            .thread_name("io")
            .enable_all()
            .build()?;
        let slots = (0..config.slots.max(1)).map(SlotHandle::spawn).collect::<Result<Vec<_>, _>>()?;
        let (commands, commands_in) = mpsc::channel(MESSAGES_MAX);
        let (reports_out, reports) = mpsc::channel(MESSAGES_MAX);
        let (events_out, events) = mpsc::unbounded_channel();
        let (news_out, news) = mpsc::unbounded_channel();
        let (ready_out, ready) = mpsc::unbounded_channel();
        let (answers_out, answers) = mpsc::channel(1);
        let metrics = Arc::new(JobMetrics::default());
        let (readings_out, readings) = watch::channel(Arc::default());
        io.spawn(Arc::clone(&metrics).tell(readings_out));
        let shuffle = Shuffle::start(&config.shuffle, Arc::clone(&metrics.shuffle), io.handle())?;
        let mut runtime = Runtime {
            segments: Segments::new(Arc::clone(&config.store), config.job_path.clone()),
            config,
            io: io.handle().clone(),
            slots,
            metrics: Arc::clone(&metrics),
            reports: reports_out,
            events: events_out,
            shuffle,
            news: news_out,
            ready: ready_out,
            asked: Asked::new(io.handle().clone(), answers_out),
            links: DeployedLinks::default(),
            attempt: Attempt::default(),
            number: 0,
            numbers: 0,
            deployed: None,
            staged: None,
        };
        let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
            io.block_on(runtime.run(commands_in, events, news, ready, answers));
            drop(runtime);
            io.shutdown_timeout(IO_SHUTDOWN);
        })?;
        Ok(Self { commands, reports, metrics, readings, thread: WorkerThread(thread) })
    }

    /// Ends all tasks and waits until every thread is gone.
    pub fn close(self) {
        drop(self.commands);
        drop((self.reports, self.readings));
        self.thread.join();
    }
}

impl WorkerThread {
    /// Waits until the worker has ended. Its `commands` must have been dropped before.
    pub fn join(self) {
        // A panic there was already printed by the panic hook; there is nothing more to say about it.
        let _ = self.0.join();
    }
}

/// The state behind the conversation.
struct Runtime {
    config: WorkerConfig,
    segments: Segments,
    io: Handle,
    slots: Vec<SlotHandle>,
    metrics: Arc<JobMetrics>,
    reports: mpsc::Sender<WorkerReport>,
    events: mpsc::UnboundedSender<TaskEvent>,
    shuffle: Shuffle,
    news: links::NewsSender,
    /// Two messages for each preparation.
    ready: mpsc::UnboundedSender<Ready>,
    /// Of brokers, about earlier transactions.
    asked: Asked,
    /// Of what is deployed.
    links: DeployedLinks,
    /// The newest that the coordinator spoke in; older commands are dropped.
    attempt: Attempt,
    /// Of the set of tasks that is deployed, so that what an earlier set still says is recognised.
    number: u64,
    /// The newest number that was used.
    numbers: u64,
    deployed: Option<Deployed>,
    /// What may follow it.
    staged: Option<Staged>,
}

/// What runs, or is suspended.
struct Deployed {
    deployment: Deployment,
    slots: SlotMap,
    /// States of suspended tasks.
    survivors: Survivors,
    record: Record,
}

impl Runtime {
    async fn run(
        &mut self,
        mut commands: mpsc::Receiver<WorkerCommand>,
        mut events: mpsc::UnboundedReceiver<TaskEvent>,
        mut news: mpsc::UnboundedReceiver<(u64, LinkNews)>,
        mut ready: mpsc::UnboundedReceiver<Ready>,
        mut answers: mpsc::Receiver<Answered>,
    ) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => break,
                },
                Some(event) = events.recv() => self.on_event(event).await,
                Some((number, news)) = news.recv() => self.on_news(number, news).await,
                Some(made) = ready.recv() => self.on_ready(made).await,
                Some((attempt, answer)) = answers.recv() => {
                    self.asked.answered();
                    self.report_in(attempt, answer).await;
                }
            }
        }
        self.discard();
        self.cancel().await;
        let _ = tokio::task::spawn_blocking(|| millstream_kafka::finish_aborts(IO_SHUTDOWN)).await;
    }

    async fn on_command(&mut self, WorkerCommand { attempt, command }: WorkerCommand) {
        if attempt < self.attempt {
            tracing::debug!(?attempt, current = ?self.attempt, "dropped a command of an earlier attempt");
            return;
        }
        self.attempt = attempt;
        match command {
            Command::FinishTransactions { graph, transactions } => {
                self.asked.ask(attempt, transactions::finish(graph, transactions, self.io.clone()));
            }
            Command::AbortTransactions { graph, transactions } => {
                self.asked.ask(attempt, transactions::abort(graph, transactions, self.io.clone()));
            }
            Command::FenceTransactions { graph, ids } => {
                self.asked.ask(attempt, transactions::fence(graph, ids, self.io.clone()));
            }
            Command::Suspend => {
                self.discard();
                self.suspend().await;
            }
            Command::Deploy(deployment) => self.deploy(*deployment).await,
            Command::Prepare { attempt, deployment } => self.prepare(attempt, *deployment).await,
            Command::Discard => self.discard(),
            Command::Switch { manifest } => self.switch(manifest).await,
            Command::Start => {
                self.note(Record::note_started);
                self.broadcast(|| SlotCommand::Start);
            }
            Command::Trigger { epoch, mutation } => {
                self.note(|record| record.note_triggered(epoch, mutation));
                self.broadcast(|| SlotCommand::Trigger(Barrier { epoch, mutation }));
            }
            Command::Sealed { epoch: _, manifest } => {
                self.note(|record| record.note_sealed(&manifest));
                self.broadcast(|| SlotCommand::Sealed(Arc::clone(&manifest)));
            }
            Command::Aborted { epoch } => self.broadcast(|| SlotCommand::Aborted(epoch)),
            Command::Pause { paused } => self.broadcast(|| SlotCommand::Pause(paused)),
            Command::Inspect => {
                // By a coordinator that is no more.
                self.discard();
                self.report(self.inspect()).await;
            }
            Command::Adopt { sealed, aborted } => self.adopt(sealed, aborted).await,
            Command::Cancel => {
                self.discard();
                self.cancel().await;
            }
            Command::Abandon { sealed } => {
                self.discard();
                self.abandon(sealed).await;
            }
        }
    }

    async fn on_event(&mut self, event: TaskEvent) {
        let TaskEvent { deployment, task, kind } = event;
        if deployment != self.number {
            return;
        }
        self.note(|record| record.note_event(task, &kind));
        let report = match kind {
            TaskEventKind::Acknowledged(snapshot) => Report::Acknowledged(snapshot),
            TaskEventKind::Declined { epoch, failure } => Report::Declined { task, epoch, failure },
            TaskEventKind::Committed(epoch) => Report::Committed { task, epoch },
            TaskEventKind::EndOfInput => Report::EndOfInput { task },
            TaskEventKind::Failed { failure } => Report::TaskFailed { task, failure },
            TaskEventKind::Write(request) => return self.write(task, request),
            TaskEventKind::Merge(request) => return self.merge(task, *request),
        };
        self.report_deployed(report).await;
    }

    /// In the attempt of what is deployed: a newer one may be looking at it already.
    async fn report_deployed(&self, report: Report) {
        let attempt = self.deployed.as_ref().map_or(self.attempt, |deployed| deployed.record.attempt);
        self.report_in(attempt, report).await;
    }

    fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(deployed) = &mut self.deployed {
            note(&mut deployed.record);
        }
    }

    async fn on_news(&mut self, number: u64, news: LinkNews) {
        if self.staged.as_ref().is_some_and(|staged| staged.number == number) {
            return self.on_staged_news(news).await;
        }
        if number == self.number
            && let Some(report) = self.links.on_news(news)
        {
            if matches!(report, Report::CommandFailed { .. }) {
                self.note(Record::note_disconnected);
            }
            self.report_deployed(report).await;
        }
    }

    /// Writes a segment beside everything else, and tells the task.
    fn write(&self, task: TaskId, request: WriteRequest) {
        let (segments, deployment) = (self.segments.clone(), self.number);
        let reply = self.slots[self.slot_of(task)].replies();
        self.io.spawn(async move {
            let WriteRequest { writer, uid, spec, changes, mut inline_bytes_left } = request;
            let changes = changes.into_iter().map(|c| c.batch).collect();
            let written = segments.write(&writer, &uid, &spec, changes, &mut inline_bytes_left).await;
            let written = written.map(|table| (table, inline_bytes_left));
            reply.send(SlotCommand::Written { deployment, task, epoch: writer.epoch, written });
        });
    }

    /// Merges segments, the same way.
    fn merge(&self, task: TaskId, request: MergeRequest) {
        let (segments, deployment) = (self.segments.clone(), self.number);
        let reply = self.slots[self.slot_of(task)].replies();
        self.io.spawn(async move {
            let MergeRequest { writer, table, spec, groups, plan, now_ms, mut inline_bytes_left } = request;
            let merged = segments.merge(&writer, &table, &spec, &groups, plan, now_ms, &mut inline_bytes_left).await;
            let answer = MergeAnswer { uid: table.uid, table: spec.name, merged };
            reply.send(SlotCommand::Merged { deployment, task, answer });
        });
    }

    async fn deploy(&mut self, deployment: Deployment) {
        self.suspend().await;
        let restored = deployment.restore.as_ref().map(|manifest| manifest.epoch);
        let attempt = self.attempt;
        let before = self.deployed.take().filter(|deployed| deployed.record.shares_epochs(attempt, restored));
        let survivors = before.map(|deployed| deployed.survivors).unwrap_or_default();
        if let Err(failure) = Self::check_graph(&deployment) {
            return self.report(Report::CommandFailed { failure }).await;
        }
        let slots = SlotMap::new(&deployment, self.slots.len());
        match self.wire(&deployment, &slots) {
            Ok(mut wiring) => {
                let news = (self.number, &self.news);
                self.links = DeployedLinks::begin(&self.shuffle, &deployment, self.attempt, &mut wiring, news);
                self.build(deployment, slots, wiring, survivors, Ahead::default()).await;
            }
            Err(error) => {
                let failure = TaskError::from(error).failure();
                self.report(Report::CommandFailed { failure }).await;
            }
        }
    }

    /// Makes this worker's ends of all channels of a deployment.
    fn wire(&self, deployment: &Deployment, slots: &SlotMap) -> Result<Wiring, ArrowError> {
        let wake = |index| self.slots[slots.of(index)].wake().clone();
        Wirer { deployment, wake, link: || self.shuffle.ends() }.wire(&deployment.graph.vertices())
    }

    /// Builds this worker's tasks from the manifest and what survived, and puts them on their slots.
    async fn build(
        &mut self,
        deployment: Deployment,
        slots: SlotMap,
        wiring: Wiring,
        survivors: Survivors,
        ahead: Ahead,
    ) {
        let segments = self.segments.counted_apart();
        let telling = self.tell_progress(&segments);
        let record = Record::new(self.attempt, &deployment);
        let deployed = self.deployed.insert(Deployed { slots, record, deployment, survivors: Survivors::default() });
        let wakes: Vec<Wake> = self.slots.iter().map(|s| s.wake().clone()).collect();
        let blueprint = deploy::Blueprint {
            deployment: &deployed.deployment,
            wiring,
            slots: &deployed.slots,
            config: &self.config,
            segments: &segments,
            io: &self.io,
            metrics: &self.metrics,
            events: Events::new(self.number, self.events.clone()),
            generation: self.attempt.generation,
            wakes,
            ahead,
        };
        let built = blueprint.build(survivors).await;
        drop(telling);
        match built {
            Ok(tasks) => {
                self.metrics.retain(&deployed.deployment.own_tasks().collect::<Vec<_>>());
                self.install(tasks);
                self.report(Report::Restoring { bytes: segments.progress().bytes() }).await;
                if let Some(report) = self.links.built() {
                    self.report(report).await;
                }
            }
            Err((task, error)) => {
                let failure = error.failure();
                self.note(|record| record.note_failed(task, failure.clone()));
                self.report(Report::TaskFailed { task, failure }).await;
            }
        }
    }

    fn install(&self, tasks: Vec<Task>) {
        let mut by_slot: Vec<Vec<Task>> = self.slots.iter().map(|_| Vec::new()).collect();
        for task in tasks {
            by_slot[self.slot_of(task.id())].push(task);
        }
        for (slot, tasks) in self.slots.iter().zip(by_slot) {
            slot.send(SlotCommand::Install(tasks));
        }
    }

    /// Takes the tasks from their slots, keeps their states, and lets go of everything else.
    async fn suspend(&mut self) {
        self.note(Record::note_suspended);
        let tasks = self.take_tasks().await;
        let states = restore::dismantle(tasks, &self.io);
        if let Some(deployed) = &mut self.deployed {
            deployed.survivors.extend(states);
        }
    }

    async fn cancel(&mut self) {
        let tasks = self.take_tasks().await;
        let deployed = self.deployed.take();
        // Clients of brokers say goodbye here, which takes its time.
        let _ = tokio::task::spawn_blocking(move || drop((tasks, deployed))).await;
    }

    /// As `cancel`, and the sinks end what the next owner of the job cannot know of.
    async fn abandon(&mut self, sealed: Option<Epoch>) {
        let mut tasks = self.take_tasks().await;
        self.deployed = None;
        let abandon = move || tasks.iter_mut().for_each(|task| task.abandon(sealed));
        let _ = tokio::task::spawn_blocking(abandon).await;
    }

    async fn take_tasks(&mut self) -> Vec<Task> {
        // From here on, what these tasks said and nobody has heard yet is void.
        self.number = self.next_number();
        self.links.close();
        let mut tasks = Vec::new();
        for slot in &self.slots {
            tasks.extend(slot.take_all().await);
        }
        tasks
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    async fn report(&self, report: Report) {
        self.report_in(self.attempt, report).await;
    }

    /// Once the coordinator is gone, nobody hears it; the commands end then, too.
    async fn report_in(&self, attempt: Attempt, report: Report) {
        let _ = self.reports.send(WorkerReport { attempt, report }).await;
    }

    fn broadcast(&self, command: impl Fn() -> SlotCommand) {
        self.slots.iter().for_each(|slot| slot.send(command()));
    }

    fn slot_of(&self, task: TaskId) -> usize {
        self.deployed.as_ref().map_or(0, |deployed| deployed.slots.of(task.index))
    }
}

async fn blocking<T: Send + 'static>(io: &Handle, call: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskError> {
    io.spawn_blocking(call).await.map_err(|panic| TaskError::Bug { reason: panic.to_string() })
}
