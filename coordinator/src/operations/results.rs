//! What was asked for and what became of it, in the store: the memory behind operation ids.
//!
//! ```text
//! <job>/operations/<id>/accepted   what is asked for: written before anything is done
//! <job>/operations/<id>/result     what became of it: written before it is told
//! ```
//! Both are put-if-absent and never change. Owns: these objects and how many there are. Does not own: doing what is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_api::proto::operations::v1::{Operation, OperationState};
use millstream_store::{ObjectStore, PutOutcome, StoreError, StoreErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::job::Millis;

/// Operations that are remembered: a client that asks again does so within minutes, and people ask for a few a day.
pub const OPERATIONS_KEPT_MAX: usize = 100;
/// An id is a folder's name.
const ID_BYTES_MAX: usize = 64;
/// A record is a few hundred bytes; what is larger was not written by a coordinator.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// An operation as it was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    /// `OperationKind` as text, and everything that was asked with it but the id: the same id with another one is refused.
    pub(super) request: serde_json::Value,
    pub(super) accepted_at_ms: Millis,
    /// The term in which it was accepted.
    pub(super) generation: u64,
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) accepted: Accepted,
    /// `None`: it has not ended, or whoever did it did not live to say so.
    pub(super) result: Option<Operation>,
}

/// Why an operation's memory does not answer.
#[derive(Debug, Error)]
pub(super) enum ResultsError {
    #[error("failed to reach the store of operations: {0}; ask again with the same id")]
    Store(#[from] StoreError),
    #[error("{path} is not what was written: {reason}. Use another operation id")]
    Corrupt { path: String, reason: String },
}

/// The operations of one job.
#[derive(Clone, Debug)]
pub(super) struct Results {
    store: Arc<dyn ObjectStore>,
    /// With a slash at the end.
    folder: String,
}

/// Whether a text can be an operation's id.
///
/// # Errors
/// One line: what is allowed.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.len() <= ID_BYTES_MAX && id.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("an operation id has 1 to {ID_BYTES_MAX} of the characters A-Z a-z 0-9 _ -: choose one per operation"))
}

impl Results {
    pub(super) fn new(store: Arc<dyn ObjectStore>, job_path: &str) -> Self {
        Self { store, folder: format!("{job_path}/operations/") }
    }

    /// What became of an id; `None`: it was never used, or long ago.
    pub(super) async fn find(&self, id: &str) -> Result<Option<Record>, ResultsError> {
        let Some(accepted) = self.read::<Accepted>(&self.accepted_path(id)).await? else { return Ok(None) };
        let result = self.read::<Operation>(&self.result_path(id)).await?;
        Ok(Some(Record { accepted, result }))
    }

    /// Remembers that it is asked for. If the id is there already, what is there counts, and is returned.
    pub(super) async fn accept(&self, id: &str, accepted: Accepted) -> Result<Record, ResultsError> {
        let there = match self.put(&self.accepted_path(id), &accepted).await {
            Ok(PutOutcome::Created) => None,
            // Also after a lost reply: it may be this very one.
            Ok(PutOutcome::Exists) => self.find(id).await?,
            Err(error) => match self.find(id).await {
                Ok(Some(there)) if there.accepted == accepted => Some(there),
                _ => return Err(error.into()),
            },
        };
        Ok(there.unwrap_or(Record { accepted, result: None }))
    }

    /// Remembers what became of it. The first result counts, and is returned.
    pub(super) async fn conclude(&self, operation: &Operation) -> Result<Operation, ResultsError> {
        let path = self.result_path(&operation.operation_id);
        match self.put(&path, operation).await {
            Ok(PutOutcome::Created) => Ok(operation.clone()),
            Ok(PutOutcome::Exists) => Ok(self.read(&path).await?.unwrap_or_else(|| operation.clone())),
            Err(error) => match self.read(&path).await {
                Ok(Some(there)) => Ok(there),
                _ => Err(error.into()),
            },
        }
    }

    /// Ids that were accepted and have no result.
    pub(super) async fn unfinished(&self) -> Result<Vec<String>, ResultsError> {
        let (mut accepted, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for object in self.store.list(&self.folder, None).await? {
            match self.parse(&object.path) {
                Some((id, "accepted")) => drop(accepted.insert(id.to_owned())),
                Some((id, "result")) => drop(ended.insert(id.to_owned())),
                _ => {}
            }
        }
        Ok(accepted.difference(&ended).cloned().collect())
    }

    /// Forgets the oldest operations beyond those that are kept, but none of `running`.
    pub(super) async fn prune(&self, running: &BTreeSet<String>) -> Result<(), ResultsError> {
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for object in self.store.list(&self.folder, None).await? {
            let Some((id, _)) = self.parse(&object.path) else { continue };
            let modified_ms = newest.entry(id.to_owned()).or_insert(object.modified_ms);
            *modified_ms = (*modified_ms).max(object.modified_ms);
            paths.entry(id.to_owned()).or_default().push(object.path.clone());
        }
        let mut by_age: Vec<(i64, String)> = newest.into_iter().map(|(id, modified_ms)| (modified_ms, id)).collect();
        by_age.sort_unstable();
        let superfluous = by_age.len().saturating_sub(OPERATIONS_KEPT_MAX);
        let old = by_age.into_iter().map(|(_, id)| id).filter(|id| !running.contains(id)).take(superfluous);
        // A result goes before the word that it was accepted, whose loss would let the id be used anew.
        let mut deleted: Vec<String> = old.flat_map(|id| paths.remove(&id).unwrap_or_default()).collect();
        deleted.sort_unstable_by_key(|path| path.ends_with("/accepted"));
        for path in deleted {
            self.store.delete(&[path]).await?;
        }
        Ok(())
    }

    /// The id and the kind of object that a path names.
    fn parse<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        path.strip_prefix(&self.folder)?.split_once('/')
    }

    fn accepted_path(&self, id: &str) -> String {
        format!("{}{id}/accepted", self.folder)
    }

    fn result_path(&self, id: &str) -> String {
        format!("{}{id}/result", self.folder)
    }

    async fn put(&self, path: &str, record: &impl Serialize) -> Result<PutOutcome, StoreError> {
        let bytes = serde_json::to_vec(record).expect("numbers and texts");
        self.store.put_if_absent(path, Bytes::from(bytes)).await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ResultsError> {
        let bytes = match self.store.get(path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let corrupt = |reason: String| ResultsError::Corrupt { path: path.to_owned(), reason };
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(corrupt(format!("it has {} bytes", bytes.len())));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| corrupt(error.to_string()))
    }
}

/// How an accepted operation looks while it goes on.
pub(super) fn running(id: &str, accepted: &Accepted) -> Operation {
    Operation {
        operation_id: id.to_owned(),
        kind: kind_of(accepted).into(),
        state: OperationState::Running.into(),
        message: "accepted, and going on".to_owned(),
        accepted_at_ms: accepted.accepted_at_ms,
        ended_at_ms: None,
        epoch: None,
        location: accepted.request["target"].as_str().map(str::to_owned),
    }
}

pub(super) fn kind_of(accepted: &Accepted) -> millstream_api::proto::operations::v1::OperationKind {
    serde_json::from_value(accepted.request["kind"].clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use millstream_store::LocalStore;

    use super::*;

    fn results() -> (tempfile::TempDir, Results) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::open(folder.path()).unwrap());
        (folder, Results::new(store, "default/job"))
    }

    fn accepted(generation: u64) -> Accepted {
        Accepted { request: serde_json::json!({ "kind": "STOP" }), accepted_at_ms: 7, generation }
    }

    #[tokio::test]
    async fn what_was_accepted_first_counts_and_so_does_the_first_result() {
        let (_folder, results) = results();
        assert_eq!(results.find("a").await.unwrap(), None);
        assert_eq!(results.accept("a", accepted(1)).await.unwrap().accepted.generation, 1);
        assert_eq!(results.accept("a", accepted(2)).await.unwrap().accepted.generation, 1);
        assert_eq!(results.unfinished().await.unwrap(), ["a"]);
        let done = |message: &str| Operation {
            state: OperationState::Done.into(),
            message: message.to_owned(),
            ..running("a", &accepted(1))
        };
        assert_eq!(results.conclude(&done("one")).await.unwrap().message, "one");
        assert_eq!(results.conclude(&done("two")).await.unwrap().message, "one");
        assert_eq!(results.find("a").await.unwrap().unwrap().result, Some(done("one")));
        assert!(results.unfinished().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_and_what_runs_is_kept() {
        let (folder, results) = results();
        for n in 0..OPERATIONS_KEPT_MAX + 3 {
            let id = format!("id-{n:03}");
            results.accept(&id, accepted(1)).await.unwrap();
            let file = folder.path().join(format!("default/job/operations/{id}/accepted"));
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
            std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        }
        results.prune(&["id-001".to_owned()].into()).await.unwrap();
        let left = results.unfinished().await.unwrap();
        assert_eq!(left.len(), OPERATIONS_KEPT_MAX);
        assert_eq!(left[..2], ["id-001", "id-004"]);
    }

    #[tokio::test]
    async fn a_record_that_was_altered_is_named() {
        let (folder, results) = results();
        results.accept("a", accepted(1)).await.unwrap();
        std::fs::write(folder.path().join("default/job/operations/a/accepted"), "{").unwrap();
        let error = results.find("a").await.unwrap_err().to_string();
        assert!(error.contains("default/job/operations/a/accepted is not what was written"), "{error}");
    }

    #[test]
    fn ids_are_short_words() {
        for id in ["a", "stop-2026_11-21", &"x".repeat(64)] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        for id in ["", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
