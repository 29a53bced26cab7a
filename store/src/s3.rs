//! S3 and what speaks its protocol, as a store.
//!
//! Owns: keys, conditional puts and what is known after a lost reply, multipart uploads, listings, batch deletes. Does
//! not own: signing, connections and the retries of plain calls, which are the SDK's.

mod client;
mod create;
mod failure;
mod multipart;
mod read;

use crate::{ObjectMeta, ObjectStore, PutOutcome, StoreError, StoreErrorKind, StoreOptions, object_path};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use failure::classify;
use std::time::Duration;

/// What S3 takes in one batch.
const DELETES_MAX: usize = 1000;
/// The slowest connection that still gets large objects through: their time-outs are longer by their size over this.
const SLOWEST_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Objects below a prefix of one bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    place: Place,
    limits: Limits,
}

/// Where the objects lie, for keys and for messages.
#[derive(Clone, Debug)]
struct Place {
    bucket: String,
    /// Empty, or without a slash at its ends.
    prefix: String,
    /// `http://host:port`, or `AWS` with the region.
    server: String,
}

/// Bounds on calls.
#[derive(Clone, Debug)]
struct Limits {
    connect: Duration,
    attempt: Duration,
    call: Duration,
    attempts_max: u32,
}

impl Place {
    fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    /// The path of `key`, `None` when it lies elsewhere.
    fn path<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }

    /// The full name of an object, for messages.
    fn name(&self, path: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(path))
    }

    fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_owned()
    }
}

impl Limits {
    /// Time-outs of a call that carries `bytes`.
    fn timeouts(&self, bytes: usize) -> TimeoutConfig {
        let extra = Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND);
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.attempt + extra)
            .operation_timeout(self.call + extra * self.attempts_max)
            .build()
    }
}

impl S3Store {
    /// Reads credentials and certificates; asks the server nothing yet.
    ///
    /// # Errors
    /// `Configuration` when a file or a variable that the options name is not usable.
    pub async fn open(bucket: String, prefix: String, options: &StoreOptions) -> Result<Self, StoreError> {
        client::open(bucket, prefix, options).await
    }

    fn check(&self, verb: &'static str, path: &str) -> Result<(), StoreError> {
        object_path::check(path).map_err(|reason| StoreError {
            kind: StoreErrorKind::Configuration,
            verb,
            object: self.place.name(path),
            reason,
        })
    }

    fn objects_of(&self, page: &ListObjectsV2Output) -> Vec<ObjectMeta> {
        let object = |object: &aws_sdk_s3::types::Object| {
            Some(ObjectMeta {
                path: self.place.path(object.key()?)?.to_owned(),
                bytes: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                modified_ms: object.last_modified().and_then(|time| time.to_millis().ok()).unwrap_or(0),
            })
        };
        page.contents().iter().filter_map(object).collect()
    }

    async fn delete_batch(&self, paths: &[String]) -> Result<(), StoreError> {
        let identifier = |path: &String| {
            ObjectIdentifier::builder().key(self.place.key(path)).build().expect("the key, all it needs, is set")
        };
        let batch = Delete::builder().set_objects(Some(paths.iter().map(identifier).collect())).quiet(true).build();
        let batch = batch.expect("the objects, all it needs, are set");
        let sent = self.client.delete_objects().bucket(&self.place.bucket).delete(batch).send().await;
        let answer =
            sent.map_err(|error| classify("delete", &self.place.name(&paths[0]), &self.place, &error).error)?;
        match answer.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            None => Ok(()),
            Some(refused) => {
                let name = format!("s3://{}/{}", self.place.bucket, refused.key().unwrap_or("?"));
                let (code, message) = (refused.code().unwrap_or(""), refused.message().unwrap_or(""));
                Err(failure::from_code("delete", &name, &self.place, code, message))
            }
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_if_absent(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        self.check("write", path)?;
        self.create(path, data).await
    }

    async fn put(&self, path: &str, data: Bytes) -> Result<(), StoreError> {
        self.check("write", path)?;
        if data.len() > multipart::THRESHOLD_BYTES {
            return self.put_in_parts(path, data).await;
        }
        let timeouts = self.limits.timeouts(data.len());
        let put = self.client.put_object().bucket(&self.place.bucket).key(self.place.key(path)).body(data.into());
        let sent = put.customize().config_override(client::with_timeouts(timeouts)).send().await;
        sent.map(drop).map_err(|error| classify("write", &self.place.name(path), &self.place, &error).error)
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.check("read", path)?;
        self.read(path, 0, None).await
    }

    async fn get_part(&self, path: &str, offset: u64, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.check("read", path)?;
        if bytes_max == 0 {
            return Ok(Bytes::new());
        }
        self.read(path, offset, Some(bytes_max)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.place.bucket)
            .prefix(self.place.key(prefix))
            .set_start_after(after.map(|after| self.place.key(after)))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify("list", &self.place.name(prefix), &self.place, &error).error)?;
            found.extend(self.objects_of(&page));
        }
        // Servers over a file system may list in another order.
        found.retain(|object| after.is_none_or(|after| object.path.as_str() > after));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StoreError> {
        paths.iter().try_for_each(|path| self.check("delete", path))?;
        for batch in paths.chunks(DELETES_MAX) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.place.describe()
    }
}
