//! A coordinator's shell: the real core and log code, its calls to the store, and the workers that are connected.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use millstream_api::control::WorkerReport;
use millstream_api::ids::{Generation, WorkerId};
use millstream_api::log::{LogEntry, STATE_FOLDER};
use millstream_coordinator::job::{Command, Core, Event, ProcessState, StoredObject, WorkerOffer};
use millstream_coordinator::log::{Log, problem};
use millstream_store::ObjectStore;

use crate::calls::{Client, ProcessId};
use crate::network::{ConnectionId, Purpose};
use crate::store::SimStore;

pub type LogCall = Pin<Box<dyn Future<Output = Event> + Send>>;

pub struct Coordinator {
    pub core: Core,
    pub calls: Vec<LogCall>,
    store: Arc<dyn ObjectStore>,
    log: Log,
    job_path: String,
    /// Workers live in this process alone, and exchange rows with nobody.
    local: bool,
    sessions: BTreeMap<WorkerId, ConnectionId>,
    next_worker: WorkerId,
}

impl Coordinator {
    #[must_use]
    pub fn new(core: Core, client: Client, job_path: &str, local: bool) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(SimStore(client));
        Self {
            core,
            calls: Vec::new(),
            log: Log::new(Arc::clone(&store), job_path.to_owned()),
            store,
            job_path: job_path.to_owned(),
            local,
            sessions: BTreeMap::new(),
            next_worker: WorkerId(0),
        }
    }

    /// The number of the next worker that registers.
    pub fn next_worker(&mut self) -> WorkerId {
        let worker = self.next_worker;
        self.next_worker = worker.next();
        worker
    }

    pub fn opened(&mut self, connection: ConnectionId, purpose: Purpose, peer: ProcessId, slots: u32) -> Option<Event> {
        let Purpose::Control { worker, .. } = purpose else { return None };
        self.sessions.insert(worker, connection);
        let shuffle_address = (!self.local).then(|| address(peer));
        let name = format!("process {}", peer.0);
        Some(Event::WorkerRegistered { worker, offer: WorkerOffer { slots, shuffle_address, name } })
    }

    /// `None` when it was no worker's.
    pub fn closed(&mut self, connection: ConnectionId) -> Option<Event> {
        let worker = self.worker_of(connection)?;
        self.sessions.remove(&worker);
        Some(Event::WorkerLost { worker, reason: "simulated".to_owned() })
    }

    /// What a worker says, as the core hears it.
    #[must_use]
    pub fn reported(&self, connection: ConnectionId, report: WorkerReport) -> Option<Event> {
        self.worker_of(connection).map(|worker| Event::Worker { worker, report })
    }

    /// The term in which it rules.
    #[must_use]
    pub fn rules(&self) -> Option<Generation> {
        self.core.status().generation.map(Generation)
    }

    #[must_use]
    pub fn session_of(&self, worker: WorkerId) -> Option<ConnectionId> {
        self.sessions.get(&worker).copied()
    }

    pub fn worker_of(&self, connection: ConnectionId) -> Option<WorkerId> {
        self.sessions.iter().find(|(_, session)| **session == connection).map(|(worker, _)| *worker)
    }

    /// Begins what takes time.
    pub fn call(&mut self, command: Command) {
        match command {
            Command::ReadLog => self.read_log(),
            Command::Delete(paths) => self.delete(paths),
            Command::ListState => self.list_state(),
            Command::Append(_)
            | Command::Tell { .. }
            | Command::Probe { .. }
            | Command::Release { .. }
            | Command::Notice(_)
            | Command::End(_) => {}
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

    pub fn append(&mut self, entry: LogEntry) {
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
}

/// Where a process takes rows.
#[must_use]
pub fn address(process: ProcessId) -> String {
    format!("process:{}", process.0)
}

/// The process at an address.
#[must_use]
pub fn process_at(address: &str) -> Option<ProcessId> {
    address.strip_prefix("process:")?.parse().ok().map(ProcessId)
}
