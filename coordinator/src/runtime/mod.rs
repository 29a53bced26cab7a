//! The job master in a process: its core between the store, its workers, the clock and the user.
//!
//! Owns: time, running store calls beside the event loop, delivery of commands in order. Does not own: any decision, nor how
//! a worker is reached (`links`).

mod clock;
mod config;
mod links;
mod process;
mod savepoints;

use std::sync::Arc;

use millstream_api::log::{EntryKind, LogEntry, STATE_FOLDER};
use millstream_net::Security;
use millstream_store::ObjectStore;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::job::{
    AppendOutcome, Command, ConfigError, Core, Event, JobConfig, Notice, Outcome, ProcessState, Status, StopMode,
    StoredObject, Wish,
};
use crate::log::{Log, problem};
use crate::operations::Board;
use crate::savepoint::Places;

pub(crate) use clock::Clock;
pub use config::job_config;
use links::Links;
pub use links::{LinkReport, ToLink, WorkerLink};
pub use process::{own_address, state_of};

/// Answers of store calls that wait for the event loop. Few calls run at a time: one put, one read, deletions.
const ANSWERS_MAX: usize = 64;
/// Wishes that the event loop has not taken yet; a second one of a kind takes the place of the first.
pub const WISHES_MAX: usize = 16;

/// Runs the job to its end. `store` has its folder, `places` its savepoints; `workers` brings those that register, as long as there can be more; `wishes` brings
/// what users ask of the job; `status` gets every change; `board` has what the workers count;
/// `on_notice` is called for everything that people may want to read.
///
/// # Errors
/// When the settings cannot work together; everything later is an [`Outcome`].
pub async fn run(
    config: JobConfig,
    (store, places): (Arc<dyn ObjectStore>, Places),
    workers: mpsc::Receiver<WorkerLink>,
    wishes: mpsc::Receiver<Wish>,
    status: watch::Sender<Status>,
    board: Board,
    security: Security,
    on_notice: impl FnMut(&Notice),
) -> Result<Outcome, ConfigError> {
    let (answers_in, answers) = mpsc::channel(ANSWERS_MAX);
    let calls = StoreCalls {
        log: Log::new(Arc::clone(&store), config.path.clone()),
        job_path: config.path.clone(),
        store,
        places,
        answers: answers_in,
    };
    let core = Core::new(config.clone())?;
    let clock = Clock::start();
    let links = Links::new(workers, board);
    let mut runtime = Runtime { core, config, calls, clock, links, status, security, on_notice, outcome: None };
    Ok(runtime.run(answers, wishes).await)
}

struct Runtime<F> {
    core: Core,
    /// For the next core, when this one has lost the job to another coordinator and stands by.
    config: JobConfig,
    calls: StoreCalls,
    clock: Clock,
    links: Links,
    status: watch::Sender<Status>,
    /// For asking other coordinators.
    security: Security,
    on_notice: F,
    outcome: Option<Outcome>,
}

impl<F: FnMut(&Notice)> Runtime<F> {
    async fn run(&mut self, mut answers: mpsc::Receiver<Event>, mut wishes: mpsc::Receiver<Wish>) -> Outcome {
        self.take(Event::Begin);
        let mut goes_on = true;
        loop {
            if let Some(outcome) = self.outcome.take() {
                if matches!(outcome, Outcome::Fenced { .. }) && self.config.standby && goes_on {
                    self.stand_by();
                    continue;
                }
                // What is queued for the workers still reaches them: a link is drained before it closes.
                return outcome;
            }
            let deadline = self.core.deadline().map(|at| self.clock.instant(at));
            tokio::select! {
                Some(event) = answers.recv() => self.take(event),
                event = self.links.next() => self.take(event),
                Some(wish) = wishes.recv() => match wish {
                    Wish::Stop(mode) => {
                        // A drain is this term's to do: the next one's is asked for anew.
                        goes_on &= mode == StopMode::Drain;
                        self.take(Event::StopRequested(mode));
                    }
                    Wish::Savepoint(request) => {
                        goes_on &= request.then != Some(StopMode::Suspend);
                        self.take(Event::SavepointRequested { request });
                    }
                    Wish::Rescale(rescale) => self.take(Event::RescaleRequested { rescale }),
                },
                () = sleep_until(deadline) => self.take(Event::Tick),
            }
        }
    }

    /// Another coordinator has the job now. Workers stay attached, for the case that it is gone one day.
    fn stand_by(&mut self) {
        // Two terms of one process draw different nonces.
        self.config.seed = self.core.next_seed();
        // A user names whom to take over from once.
        self.config.restore.take_over = None;
        self.core = Core::new(self.config.clone()).expect("the first core took the same settings");
        self.take(Event::Begin);
        for (worker, offer) in self.links.offers() {
            self.take(Event::WorkerRegistered { worker, offer });
        }
    }

    /// Asks another coordinator beside everything else.
    fn probe(&self, address: String) {
        let (job, security) = (self.config.path.clone(), self.security.clone());
        self.calls.answer(async move {
            let rules = crate::transport::probe(&address, &job, &security).await.unwrap_or_else(|error| {
                tracing::debug!("{error}");
                None
            });
            Event::LeaderProbed { rules }
        });
    }

    fn take(&mut self, event: Event) {
        let now = self.clock.now();
        for command in self.core.on_event(now, event) {
            match command {
                Command::ReadLog => self.calls.read_log(),
                Command::Append(entry) => self.calls.append(*entry),
                Command::Delete(paths) => self.calls.delete(paths),
                Command::ListState => self.calls.list_state(),
                Command::CopySavepoint { request, manifest } => {
                    self.calls.copy_savepoint(self.clock, request, manifest);
                }
                Command::ReadSavepoint { uri } => self.calls.read_savepoint(uri),
                Command::ImportSavepoint { uri, savepoint, epoch, generation } => {
                    self.calls.import_savepoint(uri, savepoint, epoch, generation);
                }
                Command::Probe { address } => self.probe(address),
                Command::Tell { worker, command } => self.links.tell(worker, ToLink::Command(command)),
                Command::Release { worker } => self.links.tell(worker, ToLink::Released),
                Command::Notice(notice) => (self.on_notice)(&notice),
                Command::End(outcome) => self.outcome = Some(outcome),
            }
        }
        let status = self.core.status();
        self.status.send_if_modified(|shown| {
            let changed = shown != status;
            if changed {
                shown.clone_from(status);
            }
            changed
        });
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Store calls, each a task of its own that answers with an event.
struct StoreCalls {
    store: Arc<dyn ObjectStore>,
    places: Places,
    log: Log,
    job_path: String,
    answers: mpsc::Sender<Event>,
}

impl StoreCalls {
    fn answer(&self, call: impl Future<Output = Event> + Send + 'static) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            // The loop is gone only when the job is over.
            let _ = answers.send(call.await).await;
        });
    }

    fn read_log(&self) {
        let log = self.log.clone();
        self.answer(async move {
            match log.read_tail().await {
                Err(problem) => Event::LogUnreadable { problem },
                Ok(tail) => {
                    let previous = tail.start.as_ref().map_or(ProcessState::Gone, |s| state_of(&s.address));
                    Event::LogRead { tail: Box::new(tail), previous }
                }
            }
        });
    }

    fn append(&self, entry: LogEntry) {
        let log = self.log.clone();
        self.answer(async move {
            let is_manifest = matches!(entry.kind, EntryKind::Manifest(_));
            if is_manifest {
                millstream_fault::reach("before-manifest");
            }
            let outcome = log.append(&entry).await;
            if is_manifest && outcome == AppendOutcome::Won {
                millstream_fault::reach("after-manifest");
            }
            Event::Appended { seq: entry.seq, outcome }
        });
    }

    fn delete(&self, paths: Vec<String>) {
        let store = Arc::clone(&self.store);
        self.answer(async move {
            let problem = store.delete(&paths).await.err().map(|error| problem(&error));
            Event::Deleted { paths, problem }
        });
    }

    fn list_state(&self) {
        let (store, job_path) = (Arc::clone(&self.store), self.job_path.clone());
        self.answer(async move {
            let listed = store.list(&format!("{job_path}/{STATE_FOLDER}"), None).await.unwrap_or_else(|error| {
                tracing::warn!("orphaned objects are not looked for: {error}");
                Vec::new()
            });
            let below_job = |path: &str| path.strip_prefix(&job_path)?.strip_prefix('/').map(str::to_owned);
            let objects = listed.iter().filter_map(|object| {
                Some(StoredObject { path: below_job(&object.path)?, modified_ms: object.modified_ms })
            });
            Event::StateListed { objects: objects.collect() }
        });
    }
}
