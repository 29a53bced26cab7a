//! Deleting a savepoint, or what is left of one that was not completed.
//!
//! The marker goes first: what is half deleted is no savepoint any more. A job keeps its state under the same names as a
//! savepoint, so a folder with a log is never touched, nor one of the folders that a job makes beside its log.
//! Owns: what may go, in which order. Does not own: whether anybody still needs the savepoint.

use millstream_api::log::{ObjectName, SAVEPOINT_OBJECT, STATE_FOLDER};
use millstream_store::{ObjectStore, StoreErrorKind};

use super::{Places, SavepointFailure};
use crate::log;

/// Objects that are deleted with one call: S3 takes no more.
const DELETED_AT_ONCE: usize = 1_000;
/// Folders of a job in which no savepoint can lie: those that it writes into by itself, but for its savepoints.
const OWN_FOLDERS: [&str; 3] = ["log", "state", "operations"];

impl Places {
    /// Deletes a savepoint, and says how many objects it had. `incomplete`: also what has no marker.
    ///
    /// # Errors
    /// There is none, or the folder is a job's: then nothing was deleted. Or the store does not answer.
    pub async fn delete(&self, uri: &str, incomplete: bool) -> Result<usize, SavepointFailure> {
        let store = self.existing(uri).await?;
        let complete = match store.get(SAVEPOINT_OBJECT).await {
            Ok(_) => true,
            Err(error) if error.kind == StoreErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if !complete && !incomplete {
            return Err(SavepointFailure::None { uri: uri.to_owned() });
        }
        if let Some(job) = self.job_at(&*store, complete).await? {
            return Err(SavepointFailure::OfAJob { uri: uri.to_owned(), job });
        }
        if complete {
            store.delete(&[SAVEPOINT_OBJECT.to_owned()]).await?;
        }
        let listed = store.list(STATE_FOLDER, None).await?.into_iter().map(|object| object.path);
        // A job may be called `state`: what is not named like a piece of state is somebody else's.
        let paths: Vec<String> = listed.filter(|path| ObjectName::generation_of(path).is_some()).collect();
        for some in paths.chunks(DELETED_AT_ONCE) {
            store.delete(some).await?;
        }
        Ok(paths.len())
    }

    /// The folder of the job that has this place: the place itself, or where it lies in a folder of the job's own. What is
    /// marked as a savepoint is one, wherever it lies.
    async fn job_at(&self, store: &dyn ObjectStore, marked: bool) -> Result<Option<String>, SavepointFailure> {
        let place = store.describe();
        if log::is_in(store).await? {
            return Ok(Some(place));
        }
        for folder in around(&place).into_iter().filter(|_| !marked) {
            let outer = match self.existing(folder).await {
                Err(SavepointFailure::None { .. }) => continue,
                opened => opened?,
            };
            if log::is_in(&*outer).await? {
                return Ok(Some(folder.to_owned()));
            }
        }
        Ok(None)
    }
}

/// Folders that would be a job's, if the place lay in a folder of its own. The root of a store is no job's.
fn around(place: &str) -> Vec<&str> {
    let root = place.find("://").map_or(0, |scheme| {
        let rest = scheme + "://".len();
        place[rest..].find('/').map_or(place.len(), |slash| rest + slash)
    });
    let own = |at: &usize| OWN_FOLDERS.contains(&place[at + 1..].split('/').next().unwrap_or_default());
    let slashes = place.match_indices('/').map(|(at, _)| at);
    slashes.filter(|at| *at > root).filter(own).map(|at| &place[..at]).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use millstream_api::ids::Seq;
    use millstream_store::LocalStore;

    use super::*;

    const OBJECT: &str = "state/ab/1-2-0.0-ab.parquet";

    #[test]
    fn a_job_is_looked_for_where_its_own_folders_would_be() {
        for (place, folders) in [
            ("s3://bucket/ckpt/default/job/state/ab", &["s3://bucket/ckpt/default/job"][..]),
            ("file:///ckpt/default/job/operations/x", &["file:///ckpt/default/job"]),
            ("/a/state/b/log", &["/a", "/a/state/b"]),
            ("s3://bucket/ckpt/default/job/savepoints/savepoint-1", &[]),
            ("s3://bucket/log/savepoint-1", &[]),
            ("s3://bucket", &[]),
            ("/log", &[]),
        ] {
            assert_eq!(around(place), folders, "{place}");
        }
    }

    async fn store(root: &Path, objects: &[&str]) -> Arc<LocalStore> {
        let store = Arc::new(LocalStore::open(root).unwrap());
        for path in objects {
            store.put(path, "x".into()).await.unwrap();
        }
        store
    }

    async fn paths(store: &dyn ObjectStore) -> Vec<String> {
        store.list("", None).await.unwrap().into_iter().map(|object| object.path).collect()
    }

    #[tokio::test]
    async fn what_a_job_has_stays() {
        let folder = tempfile::tempdir().unwrap();
        let entry = log::entry_path("default/job", Seq(3));
        let job = ["default/job/state/ab/1-2-0.0-ab.parquet", "default/job/savepoints/one/state/ab/1-2-0.0-ab.parquet"];
        // Jobs may be called like the folder of a savepoint's objects.
        let called = [log::entry_path("default/state", Seq(0)), "default/state/state/ab/1-2-0.0-ab.parquet".to_owned()];
        let objects = [&entry, job[0], job[1], &called[0], &called[1]];
        let store = store(folder.path(), &objects).await;
        let all = paths(&*store).await;
        let delete = async |place: &str| {
            let uri = folder.path().join(place).to_string_lossy().into_owned();
            Places::default().delete(&uri, true).await
        };
        for place in ["default/job", "default/job/state", "default/job/state/ab", "default/job/log"] {
            let refused = delete(place).await.unwrap_err();
            let named = folder.path().join("default/job");
            let is_named = |job: &str| job == format!("file://{}", named.display());
            assert!(matches!(&refused, SavepointFailure::OfAJob { job, .. } if is_named(job)), "{place}: {refused}");
        }
        assert_eq!(delete("default").await.unwrap(), 0);
        assert_eq!(paths(&*store).await, all);
        assert_eq!(delete("default/job/savepoints/one").await.unwrap(), 1);
        assert_eq!(paths(&*store).await.len(), all.len() - 1);
    }

    #[tokio::test]
    async fn a_savepoint_goes_with_its_objects_and_what_lies_beside_them_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), &[SAVEPOINT_OBJECT, OBJECT, "state/notes.txt", "readme"]).await;
        let uri = folder.path().to_string_lossy().into_owned();
        assert_eq!(Places::default().delete(&uri, false).await.unwrap(), 1);
        assert_eq!(paths(&*store).await, ["readme", "state/notes.txt"]);
        let again = Places::default().delete(&uri, false).await;
        assert!(matches!(again, Err(SavepointFailure::None { .. })));
        let nowhere = folder.path().join("nowhere");
        let missing = Places::default().delete(&nowhere.to_string_lossy(), true).await;
        assert!(matches!(missing, Err(SavepointFailure::None { .. })) && !nowhere.exists());
    }
}
