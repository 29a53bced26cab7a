//! The simulated store: objects, conditional puts, and an audit of every entry that became part of the log.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use millstream_api::ids::{Epoch, Seq};
use millstream_api::log::{EntryKind, LogEntry, Manifest, PreparedTransaction};
use millstream_coordinator::job::Millis;
use millstream_coordinator::log::seq_of;
use millstream_store::{ObjectMeta, ObjectStore, PutOutcome, StoreError, StoreErrorKind};

use crate::calls::{Client, Reply, Request};

#[derive(Clone, Debug)]
pub enum StoreRequest {
    PutIfAbsent { path: String, data: Bytes },
    Put { path: String, data: Bytes },
    Get { path: String },
    List { prefix: String, after: Option<String> },
    Delete { paths: Vec<String> },
}

#[derive(Clone, Debug)]
pub enum StoreReply {
    Put(PutOutcome),
    Object(Bytes),
    Listed(Vec<ObjectMeta>),
    Done,
    Failed(StoreErrorKind),
}

/// The objects, and what a reader who was there all the time would know of the log.
#[derive(Debug, Default)]
pub struct Objects {
    objects: BTreeMap<String, (Bytes, Millis)>,
    log: Vec<LogEntry>,
    /// Entries that coordinators have set out to put, by the place that they are for.
    offered: BTreeMap<Seq, Vec<LogEntry>>,
    /// Names of state objects that were written once: never again.
    used: BTreeSet<String>,
}

impl Objects {
    /// Carries a request out. An error is a broken promise of the job.
    ///
    /// # Errors
    /// What was promised and broken.
    pub fn execute(&mut self, now: Millis, request: &StoreRequest, if_absent: bool) -> Result<StoreReply, String> {
        Ok(match request {
            StoreRequest::PutIfAbsent { path, data } => {
                if if_absent && self.objects.contains_key(path) {
                    return Ok(StoreReply::Put(PutOutcome::Exists));
                }
                self.audit(path, data)?;
                self.objects.insert(path.clone(), (data.clone(), now));
                StoreReply::Put(PutOutcome::Created)
            }
            StoreRequest::Put { path, data } => {
                if !self.used.insert(path.clone()) && self.objects.get(path).is_some_and(|(there, _)| there != data) {
                    return Err(format!("a name is used twice: {path}"));
                }
                self.objects.insert(path.clone(), (data.clone(), now));
                StoreReply::Done
            }
            StoreRequest::Get { path } => match self.objects.get(path) {
                Some((data, _)) => StoreReply::Object(data.clone()),
                None => StoreReply::Failed(StoreErrorKind::NotFound),
            },
            StoreRequest::List { prefix, after } => {
                let listed = self.objects.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(prefix));
                let listed = listed.filter(|(path, _)| after.as_ref().is_none_or(|a| *path > a));
                let meta = |(path, (data, modified)): (&String, &(Bytes, Millis))| ObjectMeta {
                    path: path.clone(),
                    bytes: data.len() as u64,
                    modified_ms: *modified as i64,
                };
                StoreReply::Listed(listed.map(meta).collect())
            }
            StoreRequest::Delete { paths } => {
                for path in paths {
                    self.check_deletion(path)?;
                    self.objects.remove(path);
                }
                StoreReply::Done
            }
        })
    }

    /// Takes an entry into the audit, unless a stale writer put it where the real one had been pruned.
    fn audit(&mut self, path: &str, data: &Bytes) -> Result<(), String> {
        let Some(seq) = seq_of(path) else { return Ok(()) };
        let next = Seq(self.log.len() as u64);
        if seq > next {
            return Err(format!("entry {seq} leaves a gap after {next}"));
        }
        if seq == next {
            // Readers decode it. Here it is enough to know which one it is.
            let offered = self.offered.remove(&seq).unwrap_or_default();
            let written = offered.into_iter().find(|entry| holds(data, entry.nonce.0.as_bytes()));
            self.log.push(written.ok_or_else(|| format!("{path} holds what no coordinator put there"))?);
        }
        Ok(())
    }

    /// An entry that a coordinator is about to put, once or again.
    pub fn offer(&mut self, entry: LogEntry) {
        let same_place = self.offered.entry(entry.seq).or_default();
        if same_place.iter().all(|known| known.nonce != entry.nonce) {
            same_place.push(entry);
        }
    }

    fn check_deletion(&self, path: &str) -> Result<(), String> {
        let Some(seq) = seq_of(path) else { return Ok(()) };
        if Some(seq.0 + 1) == Some(self.log.len() as u64) {
            return Err("the last entry of the log is deleted".to_owned());
        }
        Ok(())
    }

    /// Every entry that ever was part of the log.
    #[must_use]
    pub fn log(&self) -> &[LogEntry] {
        &self.log
    }

    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.log.iter().filter_map(|entry| match &entry.kind {
            EntryKind::Manifest(manifest) => Some(manifest.as_ref()),
            _ => None,
        })
    }

    /// Whether the log permits the commit: sealed, and not given up.
    #[must_use]
    pub fn permits(&self, is: impl Fn(&PreparedTransaction) -> bool) -> bool {
        let mut permitted: BTreeSet<Epoch> = BTreeSet::new();
        for entry in &self.log {
            match &entry.kind {
                EntryKind::Manifest(m) if m.transactions.iter().any(&is) => {
                    permitted.insert(m.epoch);
                }
                EntryKind::Void { epoch } => {
                    permitted.remove(epoch);
                }
                _ => {}
            }
        }
        !permitted.is_empty()
    }

    #[must_use]
    pub fn state_objects(&self) -> usize {
        self.objects.keys().filter(|path| seq_of(path).is_none()).count()
    }
}

fn holds(data: &[u8], nonce: &[u8]) -> bool {
    data.windows(nonce.len()).any(|at| at == nonce)
}

/// The store as a process sees it.
#[derive(Clone, Debug)]
pub struct SimStore(pub Client);

impl SimStore {
    async fn call(&self, verb: &'static str, object: &str, request: StoreRequest) -> Result<StoreReply, StoreError> {
        let failed = |kind| StoreError { kind, verb, object: object.to_owned(), reason: "simulated".to_owned() };
        match self.0.ask(Request::Store(request)).await {
            Reply::Store(StoreReply::Failed(kind)) => Err(failed(kind)),
            Reply::Store(reply) => Ok(reply),
            Reply::Broker(_) => Err(failed(StoreErrorKind::Unavailable)),
        }
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_if_absent(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        match self.call("write", path, StoreRequest::PutIfAbsent { path: path.to_owned(), data }).await? {
            StoreReply::Put(outcome) => Ok(outcome),
            other => unreachable!("{other:?}"),
        }
    }

    async fn put(&self, path: &str, data: Bytes) -> Result<(), StoreError> {
        self.call("write", path, StoreRequest::Put { path: path.to_owned(), data }).await.map(drop)
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        match self.call("read", path, StoreRequest::Get { path: path.to_owned() }).await? {
            StoreReply::Object(data) => Ok(data),
            other => unreachable!("{other:?}"),
        }
    }

    async fn get_part(&self, path: &str, offset: u64, bytes_max: usize) -> Result<Bytes, StoreError> {
        let whole = self.get(path).await?;
        let first = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(first..whole.len().min(first.saturating_add(bytes_max))))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let request = StoreRequest::List { prefix: prefix.to_owned(), after: after.map(str::to_owned) };
        match self.call("list", prefix, request).await? {
            StoreReply::Listed(listed) => Ok(listed),
            other => unreachable!("{other:?}"),
        }
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StoreError> {
        self.call("delete", "objects", StoreRequest::Delete { paths: paths.to_vec() }).await.map(drop)
    }

    fn describe(&self) -> String {
        "sim://store".to_owned()
    }
}
