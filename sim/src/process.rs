//! A process of the job: the real core and log code, the simulated worker, and what is on its way inside.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use millstream_api::control::{self, WorkerCommand};
use millstream_api::ids::WorkerId;
use millstream_api::log::{EntryKind, LogEntry, STATE_FOLDER};
use millstream_coordinator::job::{Command, Core, Event, Millis, Notice, Outcome, ProcessState, StoredObject};
use millstream_coordinator::log::{Log, problem};
use millstream_store::ObjectStore;

use crate::net::{Client, ProcessId, Reply};
use crate::store::SimStore;
use crate::worker::{Done, Job, Worker};

/// Something that a process takes in.
#[derive(Debug)]
pub enum Input {
    Core(Event),
    Worker(WorkerCommand),
    Done(Done),
    Answer {
        call: u64,
        reply: Reply,
    },
    /// A little processing.
    Step,
}

impl Input {
    /// What stands still with the worker's threads.
    #[must_use]
    pub fn is_workers(&self) -> bool {
        matches!(self, Self::Worker(_) | Self::Done(_) | Self::Step)
    }
}

/// What a process gives out after an input; the world decides when it arrives.
#[derive(Debug, Default)]
pub struct Output {
    /// In order.
    pub inputs: Vec<Input>,
    pub notices: Vec<Notice>,
    pub puts: Vec<(u64, &'static str)>,
    pub outcome: Option<Outcome>,
}

type LogCall = Pin<Box<dyn Future<Output = Event> + Send>>;

/// One process.
pub struct Process {
    pub id: ProcessId,
    pub core: Core,
    pub worker: Worker,
    pub client: Client,
    store: Arc<dyn ObjectStore>,
    log: Log,
    job_path: String,
    calls: Vec<LogCall>,
    jobs: Vec<Job>,
    pub paused: bool,
    pub worker_paused: bool,
    /// What arrived while it stood still.
    pub held: Vec<Input>,
    pub tick_at: Option<Millis>,
    /// Commands and reports keep their order.
    pub last_arrival: Millis,
}

impl Process {
    #[must_use]
    pub fn new(id: ProcessId, core: Core, worker: Worker, client: Client, job_path: &str) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(SimStore(client.clone()));
        Self {
            id,
            core,
            worker,
            log: Log::new(Arc::clone(&store), job_path.to_owned()),
            store,
            client,
            job_path: job_path.to_owned(),
            calls: Vec::new(),
            jobs: Vec::new(),
            paused: false,
            worker_paused: false,
            held: Vec::new(),
            tick_at: None,
            last_arrival: 0,
        }
    }

    /// Takes an input and goes on until nothing moves.
    pub fn take(&mut self, now: Millis, input: Input) -> Output {
        let mut output = Output::default();
        match input {
            Input::Core(event) => {
                let commands = self.core.on_event(now, event);
                self.carry_out(commands, &mut output);
            }
            Input::Worker(command) => {
                let jobs = self.worker.command(command);
                self.jobs.extend(jobs);
            }
            Input::Done(done) => {
                let jobs = self.worker.done(done);
                self.jobs.extend(jobs);
            }
            Input::Answer { call, reply } => self.client.answer(call, reply),
            Input::Step => {
                let jobs = self.worker.step();
                self.jobs.extend(jobs);
            }
        }
        self.poll(&mut output);
        let reports = std::mem::take(&mut self.worker.reports);
        let event = |report| Input::Core(Event::Worker { worker: WorkerId(0), report });
        output.inputs.extend(reports.into_iter().map(event));
        output
    }

    fn carry_out(&mut self, commands: Vec<Command>, output: &mut Output) {
        for command in commands {
            match command {
                Command::ReadLog => self.read_log(),
                Command::Append(entry) => {
                    output.puts.push((entry.seq.0, kind_name(&entry)));
                    self.append(*entry);
                }
                Command::Delete(paths) => self.delete(paths),
                Command::ListState => self.list_state(),
                // The last thing that a process does before it ends.
                Command::Tell { command, .. } if matches!(command.command, control::Command::Abandon { .. }) => {
                    let jobs = self.worker.command(command);
                    self.jobs.extend(jobs);
                }
                Command::Tell { command, .. } => output.inputs.push(Input::Worker(command)),
                // The simulated worker never asks to leave.
                Command::Release { .. } => {}
                Command::Notice(notice) => output.notices.push(notice),
                Command::End(outcome) => output.outcome = Some(outcome),
            }
        }
    }

    fn read_log(&mut self) {
        let log = self.log.clone();
        self.calls.push(Box::pin(async move {
            match log.read_tail().await {
                // The world knows which processes live, and says so on the way.
                Ok(tail) => Event::LogRead { tail: Box::new(tail), previous: ProcessState::Unknown },
                Err(problem) => Event::LogUnreadable { problem },
            }
        }));
    }

    fn append(&mut self, entry: LogEntry) {
        let log = self.log.clone();
        self.calls.push(Box::pin(async move {
            let outcome = log.append(&entry).await;
            Event::Appended { seq: entry.seq, outcome }
        }));
    }

    fn delete(&mut self, paths: Vec<String>) {
        let store = Arc::clone(&self.store);
        self.calls.push(Box::pin(async move {
            let problem = store.delete(&paths).await.err().map(|e| problem(&e));
            Event::Deleted { paths, problem }
        }));
    }

    fn list_state(&mut self) {
        let (store, job_path) = (Arc::clone(&self.store), self.job_path.clone());
        self.calls.push(Box::pin(async move {
            let listed = store.list(&format!("{job_path}/{STATE_FOLDER}"), None).await.unwrap_or_default();
            let object = |o: millstream_store::ObjectMeta| {
                let path = o.path.strip_prefix(&job_path)?.strip_prefix('/')?.to_owned();
                Some(StoredObject { path, modified_ms: o.modified_ms })
            };
            Event::StateListed { objects: listed.into_iter().filter_map(object).collect() }
        }));
    }

    /// Polls every call: the world answers one at a time, so few are ready.
    fn poll(&mut self, output: &mut Output) {
        let mut context = Context::from_waker(Waker::noop());
        let mut at = 0;
        while at < self.calls.len() {
            match self.calls[at].as_mut().poll(&mut context) {
                Poll::Ready(event) => {
                    drop(self.calls.remove(at));
                    output.inputs.push(Input::Core(event));
                }
                Poll::Pending => at += 1,
            }
        }
        at = 0;
        while at < self.jobs.len() {
            match self.jobs[at].as_mut().poll(&mut context) {
                Poll::Ready(done) => {
                    drop(self.jobs.remove(at));
                    output.inputs.push(Input::Done(done));
                }
                Poll::Pending => at += 1,
            }
        }
    }
}

/// The kind of an entry in a word.
#[must_use]
pub fn kind_name(entry: &LogEntry) -> &'static str {
    match entry.kind {
        EntryKind::Start(_) => "start",
        EntryKind::Manifest(_) => "manifest",
        EntryKind::Void { .. } => "void",
        EntryKind::Settled(_) => "settled",
        EntryKind::Stopped { .. } => "stopped",
    }
}
