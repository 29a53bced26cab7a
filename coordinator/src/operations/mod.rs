//! The operations API: what people, tools and controllers ask of a job, and tell it.
//!
//! Owns: the status as a whole and its changes, operations with an id and their results, the check of another manifest.
//! Does not own: what is done about any of it (the job master), nor HTTP (whoever serves it wraps [`Operations`], as
//! [`server`] does for gRPC).

mod board;
pub mod client;
#[cfg(test)]
mod fixture;
mod once;
mod picture;
mod prepare;
mod publish;
mod rates;
mod refusal;
mod rescale;
mod results;
mod savepoint;
pub mod server;
mod settle;
mod stop;
#[cfg(test)]
mod tests;
mod unread;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use millstream_api::proto::operations::v1;
use millstream_store::ObjectStore;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::job::{JobState, Status, Wish};
use crate::runtime::Clock;
use crate::savepoint::Places;

pub use board::{Board, Readings};
pub use picture::JobFacts;
pub use prepare::{Compile, Prepared, TEXT_BYTES_MAX};
pub use refusal::{Refusal, RefusalKind};
pub use results::OPERATIONS_KEPT_MAX;

use once::Running;
use results::Results;
use settle::Concluded;

/// Clients that follow the status at a time. Each costs a connection and, at worst, a status that it does not take.
const WATCHERS_MAX: usize = 64;
/// Manifests that are compiled at a time: the compiler takes a core for up to a second.
const PREPARES_MAX: usize = 2;

/// What the operations of a job stand on.
pub struct OperationsConfig {
    pub facts: JobFacts,
    /// Where results are kept, below the job's path.
    pub store: Arc<dyn ObjectStore>,
    /// Where savepoints go unless somebody says where: a URI or an absolute path.
    pub savepoints_folder: String,
    pub places: Places,
    /// Of the job master; its end is the end of the coordinator.
    pub status: watch::Receiver<Status>,
    pub board: Board,
    /// What is asked of the job master.
    pub wishes: mpsc::Sender<Wish>,
    pub compile: Compile,
}

/// The operations of the job that this process coordinates.
#[derive(Clone)]
pub struct Operations {
    inner: Arc<Inner>,
}

struct Inner {
    job: String,
    results: Results,
    savepoints_folder: String,
    places: Places,
    clock: Clock,
    core: watch::Receiver<Status>,
    shown: watch::Receiver<Arc<v1::JobStatus>>,
    ask: publish::Ask,
    wishes: mpsc::Sender<Wish>,
    compile: Compile,
    watchers: Arc<Semaphore>,
    preparing: Arc<Semaphore>,
    /// Ids of operations that were accepted in this process and have not ended.
    running: Mutex<Running>,
    /// The term of which it is certain that what operations of earlier ones came to is in the store.
    settled: watch::Receiver<Option<u64>>,
    concluded: watch::Sender<Concluded>,
    unread: AtomicU64,
}

impl Operations {
    /// Begins to put the status together, beside the job master. To be called within a runtime.
    #[must_use]
    pub fn start(config: OperationsConfig) -> Self {
        let OperationsConfig { facts, store, savepoints_folder, places, status, board, wishes, compile } = config;
        let (clock, job) = (Clock::start(), facts.job.clone());
        let results = Results::new(store, &job);
        let (shown, ask) = publish::publish(facts, status.clone(), board, clock);
        let (settled_in, settled) = watch::channel(None);
        tokio::spawn(settle::settle_earlier(results.clone(), places.clone(), status.clone(), clock, settled_in));
        let inner = Inner {
            job,
            results,
            savepoints_folder,
            places,
            clock,
            core: status,
            shown,
            ask,
            wishes,
            compile,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            preparing: Arc::new(Semaphore::new(PREPARES_MAX)),
            running: Mutex::default(),
            settled,
            concluded: watch::Sender::default(),
            unread: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// Another job is meant, or another coordinator rules.
    pub async fn status(&self, job: &str) -> Result<Arc<v1::JobStatus>, Refusal> {
        self.check_job(job)?;
        self.check_ruling()?;
        let (answer, answered) = oneshot::channel();
        // Once the job master has ended, its last word stays.
        let asked = self.inner.ask.send(answer).await.is_ok();
        let now = if asked { answered.await.ok() } else { None };
        Ok(now.unwrap_or_else(|| Arc::clone(&self.inner.shown.borrow())))
    }

    /// The job as it is now, then after each change; the newest to a reader that is slow.
    ///
    /// # Errors
    /// As for `status`, and when too many follow it already.
    pub fn watch(&self, job: &str) -> Result<ReceiverStream<Arc<v1::JobStatus>>, Refusal> {
        self.check_job(job)?;
        self.check_ruling()?;
        let place = Arc::clone(&self.inner.watchers).try_acquire_owned();
        let place = place.map_err(|_| Refusal::busy(format!("{WATCHERS_MAX} clients follow the status already")))?;
        let (changes, follower) = mpsc::channel(1);
        tokio::spawn(follow(self.inner.shown.clone(), changes, place));
        Ok(ReceiverStream::new(follower))
    }

    /// Compiles and checks a manifest against the newest checkpoint.
    ///
    /// # Errors
    /// Another job or coordinator is meant, a text is too long, or too many are compiled already.
    pub async fn prepare(&self, request: v1::PrepareRequest) -> Result<v1::PrepareResponse, Refusal> {
        self.check_job(&request.job)?;
        self.check_ruling()?;
        for (field, text) in [("manifest", &request.manifest), ("sql", &request.sql)] {
            if text.len() > TEXT_BYTES_MAX {
                let message = format!("{field} has {} bytes, {TEXT_BYTES_MAX} are allowed", text.len());
                return Err(Refusal::invalid(message));
            }
        }
        let place = self.inner.preparing.try_acquire();
        let _place = place.map_err(|_| Refusal::busy(format!("{PREPARES_MAX} manifests are compiled already")))?;
        let newest = self.inner.core.borrow().newest.clone();
        let (compile, job) = (Arc::clone(&self.inner.compile), self.inner.job.clone());
        let compiled = tokio::task::spawn_blocking(move || {
            let sql = Some(request.sql.as_str()).filter(|sql| !sql.is_empty());
            match compile(&request.manifest, sql) {
                Ok(prepared) => prepare::compare(&prepared, &job, newest.as_ref().map(|n| &*n.0)),
                Err(errors) => prepare::refused(errors),
            }
        });
        compiled.await.map_err(|_| Refusal::defect("the compiler panicked on this manifest".to_owned()))
    }

    /// Requests that could not be read, since the start.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.inner.unread.load(Ordering::Relaxed)
    }

    /// To be called by whoever serves them, for each.
    pub fn count_unread(&self) {
        self.inner.unread.fetch_add(1, Ordering::Relaxed);
    }

    fn check_job(&self, job: &str) -> Result<(), Refusal> {
        if job.is_empty() || job == self.inner.job {
            return Ok(());
        }
        Err(Refusal::other_job(format!("this coordinator's job is {}", self.inner.job)))
    }

    /// One that is about to rule answers, too.
    fn check_ruling(&self) -> Result<(), Refusal> {
        let core = self.inner.core.borrow();
        match core.state {
            JobState::Fenced | JobState::StandingBy => Err(Refusal::not_ruling(core.holder.as_deref())),
            _ => Ok(()),
        }
    }
}

/// Hands on what is shown whenever there is room for it, until one of the two ends is gone.
async fn follow(
    mut shown: watch::Receiver<Arc<v1::JobStatus>>,
    changes: mpsc::Sender<Arc<v1::JobStatus>>,
    _place: OwnedSemaphorePermit,
) {
    while let Ok(room) = changes.reserve().await {
        room.send(Arc::clone(&shown.borrow_and_update()));
        tokio::select! {
            changed = shown.changed() => if changed.is_err() { return },
            () = changes.closed() => return,
        }
    }
}
