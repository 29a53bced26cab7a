//! The job's log in the store: appending, reading the tail, the bytes of an entry (protocol section 1).
//!
//! Owns: that a put which counts is put-if-absent at last + 1, recognised by its nonce, and followed by nothing. Does not
//! own: what the entries mean, when a call is tried again (`job`).

mod entry;
mod tail;

use std::sync::Arc;

use millstream_api::ids::Seq;
use millstream_api::log::{EntryKind, LogEntry, Start};
use millstream_store::{ObjectStore, PutOutcome, StoreError, StoreErrorKind};

use crate::job::{AppendOutcome, StoreProblem, StoreProblemKind};

pub use entry::{DecodeError, decode, encode};
pub use tail::Tail;

/// Digits of a seq in its key: any u64, in order.
const SEQ_DIGITS: usize = 20;

/// The log, in the folder of its job.
const LOG_FOLDER: &str = "log/";

/// The folder of a job's log, below the store's root.
#[must_use]
pub fn folder(job_path: &str) -> String {
    format!("{job_path}/{LOG_FOLDER}")
}

/// Whether the root of this store is the folder of a job: whether there are entries of a log in it.
///
/// # Errors
/// The store does not answer.
pub async fn is_in(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    Ok(store.list(LOG_FOLDER, None).await?.iter().any(|object| seq_of(&object.path).is_some()))
}

/// The object of an entry, below the store's root.
#[must_use]
pub fn entry_path(job_path: &str, seq: Seq) -> String {
    format!("{job_path}/{LOG_FOLDER}{:0width$}", seq.0, width = SEQ_DIGITS)
}

/// The seq in an object's path, if it is an entry's.
#[must_use]
pub fn seq_of(path: &str) -> Option<Seq> {
    let name = path.rsplit('/').next()?;
    (name.len() == SEQ_DIGITS).then(|| name.parse().ok().map(Seq)).flatten()
}

/// A job's log.
#[derive(Clone, Debug)]
pub struct Log {
    store: Arc<dyn ObjectStore>,
    job_path: String,
}

impl Log {
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, job_path: String) -> Self {
        Self { store, job_path }
    }

    /// Puts the entry, or finds out what became of an earlier put of the very same one.
    pub async fn append(&self, entry: &LogEntry) -> AppendOutcome {
        let path = entry_path(&self.job_path, entry.seq);
        match self.store.put_if_absent(&path, encode(entry).into()).await {
            Ok(PutOutcome::Created) => self.confirm(entry).await,
            Ok(PutOutcome::Exists) => self.read_back(entry, &path).await,
            Err(error) => match error.kind {
                StoreErrorKind::Unknown | StoreErrorKind::Unavailable => self.read_back(entry, &path).await,
                StoreErrorKind::NotFound | StoreErrorKind::Configuration | StoreErrorKind::Corrupt => {
                    AppendOutcome::Rejected { problem: problem(&error) }
                }
            },
        }
    }

    /// Whose entry is there?
    async fn read_back(&self, entry: &LogEntry, path: &str) -> AppendOutcome {
        let bytes = match self.store.get(path).await {
            Ok(bytes) => bytes,
            // Not there yet; a put that is still on its way may arrive, so the same one must be sent again.
            Err(error) => return AppendOutcome::Unknown { reason: error.to_string() },
        };
        match decode(&bytes) {
            Ok(there) if there.nonce == entry.nonce => self.confirm(entry).await,
            Ok(there) => AppendOutcome::Lost { by: self.ruler(&there).await, stands: false },
            Err(error) => AppendOutcome::Unknown { reason: format!("{} is damaged: {error}", self.name(path)) },
        }
    }

    /// A put counts only when nothing is after it: a stale writer may have filled a key that was pruned long ago.
    async fn confirm(&self, entry: &LogEntry) -> AppendOutcome {
        let path = entry_path(&self.job_path, entry.seq);
        match self.store.list(&folder(&self.job_path), Some(&path)).await {
            Err(error) => AppendOutcome::Unknown { reason: error.to_string() },
            Ok(after) => match after.iter().filter_map(|o| seq_of(&o.path)).max() {
                None => AppendOutcome::Won,
                Some(last) => {
                    let newest = self.read(last).await.ok();
                    let by = match &newest {
                        Some(newest) => self.ruler(newest).await,
                        None => None,
                    };
                    AppendOutcome::Lost { by, stands: true }
                }
            },
        }
    }

    /// The `start` entry of the term that wrote `entry`, for messages; `None` when it cannot be read just now.
    async fn ruler(&self, entry: &LogEntry) -> Option<Box<Start>> {
        if let EntryKind::Start(start) = &entry.kind {
            return Some(Box::new(start.clone()));
        }
        match self.read(Seq(entry.generation.0)).await.ok()?.kind {
            EntryKind::Start(start) => Some(Box::new(start)),
            _ => None,
        }
    }

    /// One entry.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is not what was written.
    pub async fn read(&self, seq: Seq) -> Result<LogEntry, StoreProblem> {
        let path = entry_path(&self.job_path, seq);
        let bytes = self.store.get(&path).await.map_err(|e| problem(&e))?;
        let entry = decode(&bytes).map_err(|error| self.damaged(&path, &error.to_string()))?;
        if entry.seq != seq {
            return Err(self.damaged(&path, &format!("it holds entry {}", entry.seq)));
        }
        Ok(entry)
    }

    fn damaged(&self, path: &str, why: &str) -> StoreProblem {
        let message = format!(
            "{} is not what was written: {why}. Restore the object from a copy; the job does not go on without it",
            self.name(path)
        );
        StoreProblem { message, kind: StoreProblemKind::Corrupt }
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.store.describe())
    }
}

/// A store's error, as the job master sees it.
#[must_use]
pub fn problem(error: &StoreError) -> StoreProblem {
    let kind = match error.kind {
        StoreErrorKind::Unavailable | StoreErrorKind::Unknown => StoreProblemKind::Transient,
        StoreErrorKind::Configuration => StoreProblemKind::User,
        StoreErrorKind::NotFound | StoreErrorKind::Corrupt => StoreProblemKind::Corrupt,
    };
    StoreProblem { message: error.to_string(), kind }
}

#[cfg(test)]
mod tests;
