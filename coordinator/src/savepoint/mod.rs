//! Savepoints in a store: writing a copy of a checkpoint, and taking one over into a job's folder.
//!
//! Objects go first and `savepoint.json` last, so a folder that has it is complete. Each object is checked on its way by the
//! checksum that the manifest has of it: what is damaged is found now, and not when it is needed.
//! Owns: the copies, how much of them is in memory. Does not own: which checkpoint, and when (`job`).

mod copy;
mod delete;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use millstream_api::ids::{Epoch, Generation, TaskId, VertexId};
use millstream_api::log::{Manifest, Nonce, ObjectName, ObjectRef, SAVEPOINT_OBJECT, Savepoint, SegmentContent};
use millstream_store::{ObjectStore, PutOutcome, StoreError, StoreErrorKind, StoreOptions};
use thiserror::Error;

use crate::job::{StoreProblem, StoreProblemKind};
use crate::log::problem;

/// How the stores of savepoints are reached; they may be others than the job's own.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub options: StoreOptions,
}

/// Why a savepoint cannot be written or read.
#[derive(Debug, Error)]
pub enum SavepointFailure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{uri} is no savepoint: it has no {SAVEPOINT_OBJECT}. Name the folder that holds it")]
    None { uri: String },
    #[error("the savepoint {uri} cannot be read: {reason}")]
    Unreadable { uri: String, reason: String },
    #[error("{uri} holds another savepoint already, {id}: choose another place")]
    Taken { uri: String, id: String },
    #[error("{uri} is not deleted: {job} is the folder of a job, whose log is there. Name the folder of a savepoint")]
    OfAJob { uri: String, job: String },
    #[error("{object} is damaged: {reason}")]
    Damaged { object: String, reason: String },
}

impl SavepointFailure {
    /// As the job master sees it.
    #[must_use]
    pub fn problem(&self) -> StoreProblem {
        let kind = match self {
            Self::Store(error) => problem(error).kind,
            Self::None { .. } | Self::Taken { .. } | Self::OfAJob { .. } => StoreProblemKind::User,
            Self::Unreadable { .. } | Self::Damaged { .. } => StoreProblemKind::Corrupt,
        };
        StoreProblem { message: self.to_string(), kind }
    }
}

impl Places {
    /// A place to write into: where it is a directory that is not there, it is made.
    async fn made(&self, uri: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
        millstream_store::open(uri, &self.options).await
    }

    /// A place that is there; nothing is made.
    async fn existing(&self, uri: &str) -> Result<Arc<dyn ObjectStore>, SavepointFailure> {
        match millstream_store::open_existing(uri, &self.options).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Err(SavepointFailure::None { uri: uri.to_owned() }),
            opened => Ok(opened?),
        }
    }

    /// Sees whether a savepoint could be written there, before anything depends on it.
    ///
    /// # Errors
    /// It could not, or another one is there.
    pub async fn check_target(&self, uri: &str, id: &str) -> Result<(), SavepointFailure> {
        let target = self.made(uri).await?;
        millstream_store::probe(&*target).await?;
        check_free(&*target, uri, id).await.map(drop)
    }

    /// Copies the checkpoint `manifest` of the job below `job_path` in `from`. The bytes that its objects have. A savepoint
    /// of the same id that is complete already is left as it is.
    ///
    /// # Errors
    /// An object is missing or damaged, or one of the stores does not answer. Then there is no savepoint.
    pub async fn write(
        &self,
        from: Arc<dyn ObjectStore>,
        job_path: &str,
        manifest: &Manifest,
        (uri, id, now_ms): (&str, &str, i64),
    ) -> Result<u64, SavepointFailure> {
        let target = self.made(uri).await?;
        let savepoint = Savepoint::of(id.to_owned(), job_path.to_owned(), now_ms, manifest);
        match check_free(&*target, uri, id).await? {
            None => {}
            Some(there) if there.manifest.epoch == manifest.epoch => return Ok(manifest.object_bytes()),
            // An earlier process wrote it, and did not live to say so: nobody was told of it.
            Some(_) => target.delete(&[SAVEPOINT_OBJECT.to_owned()]).await?,
        }
        let copies = distinct(&savepoint.manifest).into_iter().map(|object| copy::Copy {
            from: format!("{job_path}/{}", object.path),
            to: object.path.clone(),
            object,
        });
        copy::all(from, Arc::clone(&target), copies.collect()).await?;
        millstream_fault::reach("before-savepoint-marker");
        let text = serde_json::to_vec(&savepoint).expect("numbers and texts");
        let put = target.put_if_absent(SAVEPOINT_OBJECT, Bytes::from(text)).await;
        if matches!(put, Ok(PutOutcome::Created)) {
            return Ok(manifest.object_bytes());
        }
        // After a lost reply it may be this very one.
        match (check_free(&*target, uri, id).await, put) {
            (Ok(Some(there)), _) if there == savepoint => Ok(manifest.object_bytes()),
            (_, Err(error)) => Err(error.into()),
            (Err(error), _) => Err(error),
            (Ok(_), Ok(_)) => {
                Err(SavepointFailure::Taken { uri: uri.to_owned(), id: "of another coordinator".to_owned() })
            }
        }
    }

    /// What a savepoint says of itself.
    ///
    /// # Errors
    /// There is none, or none that this binary can read.
    pub async fn read(&self, uri: &str) -> Result<Savepoint, SavepointFailure> {
        self.opened(uri).await.map(|(_, savepoint)| savepoint)
    }

    /// As [`Self::read`], with the store whose root is its folder.
    ///
    /// # Errors
    /// Likewise.
    pub async fn opened(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Savepoint), SavepointFailure> {
        let store = self.existing(uri).await?;
        match find(&*store, "", uri).await? {
            Some(savepoint) => Ok((store, savepoint)),
            None => Err(SavepointFailure::None { uri: uri.to_owned() }),
        }
    }

    /// Copies the objects of a savepoint into the folder of a job, by new names. Its manifest with these names.
    ///
    /// # Errors
    /// An object is missing or damaged, or one of the stores does not answer. What was copied until then nobody names.
    pub async fn import(
        &self,
        uri: &str,
        savepoint: &Savepoint,
        (to, job_path): (Arc<dyn ObjectStore>, &str),
        (generation, epoch): (Generation, Epoch),
    ) -> Result<Manifest, SavepointFailure> {
        let from = self.existing(uri).await?;
        let mut manifest = Manifest::clone(&savepoint.manifest);
        let mut names = std::collections::BTreeMap::new();
        let mut copies = Vec::new();
        for object in distinct(&manifest) {
            let task = TaskId { vertex: VertexId(0), index: 0 };
            let path = ObjectName { generation, epoch, task, nonce: nonce() }.path("parquet");
            names.insert(object.path.clone(), path.clone());
            copies.push(copy::Copy { from: object.path.clone(), to: format!("{job_path}/{path}"), object });
        }
        copy::all(from, to, copies).await?;
        for segment in manifest.tables.iter_mut().flat_map(|table| &mut table.segments) {
            if let SegmentContent::Object(object) = &mut segment.content
                && let Some(name) = names.get(&object.path)
            {
                object.path.clone_from(name);
            }
        }
        Ok(manifest)
    }
}

/// Each object once: tasks may share one.
fn distinct(manifest: &Manifest) -> Vec<ObjectRef> {
    let mut objects: Vec<ObjectRef> = manifest.objects().cloned().collect();
    objects.sort_unstable();
    objects.dedup();
    objects
}

/// What the savepoint in a folder of a store says of itself, where there is one. `folder`: without a slash at its end, empty for
/// the store's root. `uri`: the same place, for messages.
///
/// # Errors
/// There is one that this binary cannot read, or the store does not answer.
pub async fn find(store: &dyn ObjectStore, folder: &str, uri: &str) -> Result<Option<Savepoint>, SavepointFailure> {
    let path = if folder.is_empty() { SAVEPOINT_OBJECT.to_owned() } else { format!("{folder}/{SAVEPOINT_OBJECT}") };
    let bytes = match store.get(&path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let unreadable = |reason: String| SavepointFailure::Unreadable { uri: uri.to_owned(), reason };
    Savepoint::parse(&bytes).map(Some).map_err(|error| unreadable(error.to_string()))
}

/// What an earlier try under this id left complete.
async fn check_free(store: &dyn ObjectStore, uri: &str, id: &str) -> Result<Option<Savepoint>, SavepointFailure> {
    match find(store, "", uri).await? {
        Some(there) if there.id != id => Err(SavepointFailure::Taken { uri: uri.to_owned(), id: there.id }),
        there => Ok(there),
    }
}

fn nonce() -> Nonce {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the system's random source works once the process runs");
    Nonce(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
