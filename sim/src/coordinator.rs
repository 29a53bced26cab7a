//! A coordinator's shell: the real core and log code, its calls to the store, and the workers that are connected.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use millstream_api::control::WorkerReport;
use millstream_api::ids::{Epoch, Generation, TaskId, VertexId, WorkerId};
use millstream_api::log::{
    LogEntry, Manifest, Nonce, ObjectName, SAVEPOINT_OBJECT, STATE_FOLDER, Savepoint, SegmentContent,
};
use millstream_coordinator::job::{Command, Core, Event, ProcessState, SavepointRequest, StoredObject, WorkerOffer};
use millstream_coordinator::log::{Log, problem};
use millstream_store::{ObjectStore, StoreError};

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
            Command::CopySavepoint { request, manifest } => self.copy_savepoint(request, &manifest),
            Command::ReadSavepoint { uri } => self.read_savepoint(uri),
            Command::ImportSavepoint { savepoint, epoch, generation, .. } => {
                self.import_savepoint(&savepoint, epoch, generation);
            }
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

    /// Objects go by the names that they have in the job's folder, below the savepoint's.
    fn copy_savepoint(&mut self, request: SavepointRequest, manifest: &Manifest) {
        let (store, job_path) = (Arc::clone(&self.store), self.job_path.clone());
        let savepoint = Savepoint::of(request.id.clone(), job_path.clone(), 0, manifest);
        let paths: Vec<String> = savepoint.manifest.objects().map(|object| object.path.clone()).collect();
        self.calls.push(Box::pin(async move {
            let copied = async {
                for path in paths {
                    let bytes = store.get(&format!("{job_path}/{path}")).await?;
                    store.put(&format!("{}/{path}", request.target), bytes).await?;
                }
                let text = serde_json::to_vec(&savepoint).expect("numbers and texts");
                store.put(&format!("{}/{SAVEPOINT_OBJECT}", request.target), text.into()).await
            };
            Event::SavepointCopied {
                id: request.id.clone(),
                copied: copied.await.map(|()| 0).map_err(|error| error.to_string()),
            }
        }));
    }

    fn read_savepoint(&mut self, uri: String) {
        let store = Arc::clone(&self.store);
        self.calls.push(Box::pin(async move {
            let read = store.get(&format!("{uri}/{SAVEPOINT_OBJECT}")).await;
            let parse = |bytes: bytes::Bytes| Savepoint::parse(&bytes).expect("it was written here");
            Event::SavepointRead { read: read.map(|bytes| Box::new(parse(bytes))).map_err(|error| problem(&error)) }
        }));
    }

    fn import_savepoint(&mut self, savepoint: &Savepoint, epoch: Epoch, generation: Generation) {
        let (store, job_path) = (Arc::clone(&self.store), self.job_path.clone());
        let mut manifest = Manifest::clone(&savepoint.manifest);
        let folder = savepoint_folder(&savepoint.id);
        let mut copies = Vec::new();
        let segments = manifest.tables.iter_mut().flat_map(|table| &mut table.segments);
        for (number, segment) in segments.enumerate() {
            let SegmentContent::Object(object) = &mut segment.content else { continue };
            let task = TaskId { vertex: VertexId(0), index: 0 };
            let nonce = Nonce(format!("{number:04x}"));
            let path = ObjectName { generation, epoch, task, nonce }.path("parquet");
            copies.push((format!("{folder}/{}", object.path), format!("{job_path}/{path}")));
            object.path = path;
        }
        self.calls.push(Box::pin(async move {
            let imported = async {
                for (from, to) in copies {
                    let bytes = store.get(&from).await?;
                    store.put(&to, bytes).await?;
                }
                Ok::<_, StoreError>(Box::new(manifest))
            };
            Event::SavepointImported { imported: imported.await.map_err(|error| problem(&error)) }
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

/// Where a savepoint is.
#[must_use]
pub fn savepoint_folder(id: &str) -> String {
    format!("savepoints/{id}")
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
