//! The object store of a job: one small interface, a local directory and S3 behind it.
//!
//! Owns: conditional puts, retries, credentials, the start-up probe. Does not own: what the objects mean.

mod error;
mod local;
mod location;
mod object_path;
mod options;
mod probe;
mod s3;

pub use error::{StoreError, StoreErrorKind};
pub use local::LocalStore;
pub use options::{AccessKeys, Credentials, StoreOptions};
pub use probe::probe;
pub use s3::S3Store;

use async_trait::async_trait;
use bytes::Bytes;
use location::Location;
use std::sync::Arc;

/// Answer to a conditional put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object did not exist and now holds exactly what was sent.
    Created,
    /// The object existed before; nothing was changed. After a lost reply it may be the caller's own: read it back.
    Exists,
}

/// What a listing tells about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Relative to the store's root.
    pub path: String,
    pub bytes: u64,
    pub modified_ms: i64,
}

/// Durable objects by path. Paths are relative, `/`-separated, without `.` and `..`.
///
/// A put that returned is durable (fsync, or the server's answer) and visible to every later get and list.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug {
    /// Writes the object if there is none at `path`: of racing callers exactly one sees `Created`.
    ///
    /// # Errors
    /// `StoreErrorKind::Unknown` when it cannot be told whether the object was written (a lost reply after retries).
    async fn put_if_absent(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError>;

    /// Writes an object whose name is never used again. Large ones go up in parts.
    async fn put(&self, path: &str, data: Bytes) -> Result<(), StoreError>;

    /// The whole object.
    ///
    /// # Errors
    /// `StoreErrorKind::NotFound` when there is none.
    async fn get(&self, path: &str) -> Result<Bytes, StoreError>;

    /// Up to `bytes_max` bytes of the object from `offset` on: fewer where it ends before, none past its end.
    ///
    /// # Errors
    /// `StoreErrorKind::NotFound` when there is none.
    async fn get_part(&self, path: &str, offset: u64, bytes_max: usize) -> Result<Bytes, StoreError>;

    /// Objects whose path starts with `prefix` and sorts after `after`, in order of path; all of them.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Deletes the objects; one that is not there is no error.
    async fn delete(&self, paths: &[String]) -> Result<(), StoreError>;

    /// How messages name this store: `s3://bucket/prefix`, `file:///path`.
    fn describe(&self) -> String;
}

/// Opens the store that `uri` names: `s3://bucket/prefix`, `file:///path` or a plain path.
///
/// # Errors
/// `Configuration` when the URI, the options or the place is not usable.
pub async fn open(uri: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match Location::parse(uri)? {
        Location::Directory(root) => Ok(Arc::new(LocalStore::open(&root)?)),
        Location::S3 { bucket, prefix } => Ok(Arc::new(S3Store::open(bucket, prefix, options).await?)),
    }
}

/// As [`open`], for whoever only reads: nothing is made, swept or written, and a directory that is not there is an error.
///
/// # Errors
/// `NotFound` when there is no such directory; otherwise as [`open`].
pub async fn open_existing(uri: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match Location::parse(uri)? {
        Location::Directory(root) => Ok(Arc::new(LocalStore::open_existing(&root)?)),
        Location::S3 { bucket, prefix } => Ok(Arc::new(S3Store::open(bucket, prefix, options).await?)),
    }
}
