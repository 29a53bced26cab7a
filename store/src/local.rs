//! A local directory as a store.
//!
//! Owns: durable, atomic files: written aside, synced, then published by a hard link (put-if-absent) or a rename, the
//! folder synced after it. Does not own: other hosts' views of the directory; a network file system must keep
//! POSIX's promises for `link` and `rename`.

mod failure;
mod files;

use crate::{ObjectMeta, ObjectStore, PutOutcome, StoreError, StoreErrorKind, object_path};
use async_trait::async_trait;
use bytes::Bytes;
use failure::classify;
use files::Directory;
use std::path::Path;

/// Objects are files below one directory; a path's folders are folders.
#[derive(Clone, Debug)]
pub struct LocalStore {
    directory: Directory,
}

impl LocalStore {
    /// Makes the directory where it does not exist and removes what killed writers left unfinished in it.
    ///
    /// # Errors
    /// `Configuration` when the directory cannot be made or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |error: &std::io::Error| classify("open", &format!("store {}", uri_of(root)), root, error);
        let root = std::path::absolute(root).map_err(|error| failed(&error))?;
        let directory = Directory::open(root.clone()).map_err(|error| failed(&error))?;
        Ok(Self { directory })
    }

    /// A directory that is there, for reading: nothing is made, nothing swept.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory.
    pub fn open_existing(root: &Path) -> Result<Self, StoreError> {
        let failed = |error: &std::io::Error| classify("open", &format!("store {}", uri_of(root)), root, error);
        let root = std::path::absolute(root).map_err(|error| failed(&error))?;
        if !root.is_dir() {
            return Err(StoreError {
                kind: StoreErrorKind::NotFound,
                verb: "open",
                object: format!("store {}", uri_of(&root)),
                reason: "there is no such directory".to_owned(),
            });
        }
        Ok(Self { directory: Directory::existing(root) })
    }

    /// Runs `work` where blocking is allowed, and names the object in its error.
    async fn blocking<T: Send + 'static>(
        &self,
        verb: &'static str,
        path: &str,
        work: impl FnOnce(&Directory, &str) -> Result<T, files::FileError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let directory = self.directory.clone();
        let path = path.to_owned();
        let outcome = tokio::task::spawn_blocking(move || {
            work(&directory, &path).map_err(|failed| {
                let mut error = classify(verb, &uri_of(&directory.file(&path)), directory.root(), &failed.error);
                if failed.published {
                    error.kind = StoreErrorKind::Unknown;
                }
                error
            })
        });
        outcome.await.expect("file work neither panics nor is it cancelled")
    }

    fn check(&self, verb: &'static str, path: &str) -> Result<(), StoreError> {
        object_path::check(path).map_err(|reason| StoreError {
            kind: StoreErrorKind::Configuration,
            verb,
            object: format!("{}/{path}", self.describe()),
            reason,
        })
    }
}

fn uri_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_if_absent(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        self.check("write", path)?;
        self.blocking("write", path, move |directory, path| directory.create(path, &data)).await
    }

    async fn put(&self, path: &str, data: Bytes) -> Result<(), StoreError> {
        self.check("write", path)?;
        self.blocking("write", path, move |directory, path| directory.replace(path, &data)).await
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.check("read", path)?;
        self.blocking("read", path, |directory, path| Ok(std::fs::read(directory.file(path)).map(Bytes::from)?)).await
    }

    async fn get_part(&self, path: &str, offset: u64, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.check("read", path)?;
        self.blocking("read", path, move |directory, path| Ok(directory.read_part(path, offset, bytes_max)?)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let after = after.map(str::to_owned);
        self.blocking("list", "", {
            let prefix = prefix.to_owned();
            move |directory, _| Ok(directory.list(&prefix, after.as_deref())?)
        })
        .await
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StoreError> {
        for path in paths {
            self.check("delete", path)?;
            self.blocking("delete", path, |directory, path| Ok(directory.remove(path)?)).await?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        uri_of(self.directory.root())
    }
}

#[cfg(test)]
mod tests;
