//! Large objects: uploaded in parts.
//!
//! Owns: the size of parts, how many go at once, giving up without leaving parts behind. Does not own: parts of a
//! process that was killed; a lifecycle rule of the bucket removes those (`AbortIncompleteMultipartUpload`).

use super::failure::{Failure, classify};
use super::{S3Store, client};
use crate::{StoreError, StoreErrorKind};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Larger objects go up in parts. S3 wants parts of at least 5 MiB; at this size a lost part costs little.
pub(super) const THRESHOLD_BYTES: usize = 16 * 1024 * 1024;
const PARTS_MAX: usize = 10_000;
/// Parts that are on their way at once: enough to fill a fast link.
const PARTS_AT_ONCE: usize = 4;

impl S3Store {
    pub(super) async fn put_in_parts(&self, path: &str, data: Bytes) -> Result<(), StoreError> {
        let (bucket, key) = (&self.place.bucket, self.place.key(path));
        let failed = |failure: Failure| failure.error;
        let name = self.place.name(path);
        let begin = self.client.create_multipart_upload().bucket(bucket).key(&key);
        // Some servers compute no checksum for a part unless the upload says which.
        let begun = begin.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await;
        let begun = begun.map_err(|error| failed(classify("write", &name, &self.place, &error)))?;
        let upload = begun.upload_id().ok_or_else(|| StoreError {
            kind: StoreErrorKind::Unavailable,
            verb: "write",
            object: name.clone(),
            reason: format!("{} began an upload without naming it", self.place.server),
        })?;
        let outcome = match self.upload_parts(path, upload, &data).await {
            Ok(parts) => self.complete(path, upload, parts, data.len()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &outcome {
            let abort = self.client.abort_multipart_upload().bucket(bucket).key(&key).upload_id(upload);
            if let Err(abort) = abort.send().await {
                let abort = classify("delete", &name, &self.place, &abort).error;
                tracing::warn!(object = name, %error, %abort, "parts of a failed upload stay in the bucket");
            }
        }
        outcome
    }

    async fn upload_parts(&self, path: &str, upload: &str, data: &Bytes) -> Result<Vec<CompletedPart>, StoreError> {
        let part_bytes = THRESHOLD_BYTES.max(data.len().div_ceil(PARTS_MAX));
        let permits = Arc::new(Semaphore::new(PARTS_AT_ONCE));
        let mut uploads = JoinSet::new();
        for (number, begin) in (1..).zip((0..data.len()).step_by(part_bytes)) {
            let part = data.slice(begin..data.len().min(begin + part_bytes));
            let (store, permits) = (self.clone(), Arc::clone(&permits));
            let (path, upload) = (path.to_owned(), upload.to_owned());
            uploads.spawn(async move {
                let _permit = permits.acquire().await.expect("the semaphore is never closed");
                store.upload_part(&path, &upload, number, part).await
            });
        }
        let mut parts = Vec::new();
        // The first error drops the set, which ends the other uploads.
        while let Some(part) = uploads.join_next().await {
            parts.push(part.expect("an upload neither panics nor is it cancelled")?);
        }
        parts.sort_by_key(|part: &CompletedPart| part.part_number());
        Ok(parts)
    }

    async fn upload_part(
        &self,
        path: &str,
        upload: &str,
        number: i32,
        part: Bytes,
    ) -> Result<CompletedPart, StoreError> {
        let timeouts = self.limits.timeouts(part.len());
        let call = self
            .client
            .upload_part()
            .bucket(&self.place.bucket)
            .key(self.place.key(path))
            .upload_id(upload)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(part.into());
        let sent = call.customize().config_override(client::with_timeouts(timeouts)).send().await;
        let done = sent.map_err(|error| classify("write", &self.place.name(path), &self.place, &error).error)?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(done.e_tag)
            .set_checksum_crc32(done.checksum_crc32)
            .build())
    }

    async fn complete(
        &self,
        path: &str,
        upload: &str,
        parts: Vec<CompletedPart>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        let (bucket, key) = (&self.place.bucket, self.place.key(path));
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let call = self.client.complete_multipart_upload().bucket(bucket).key(&key);
        let Err(error) = call.upload_id(upload).multipart_upload(list).send().await else { return Ok(()) };
        // A retry after a lost reply is told that there is no such upload. The name is used once, so an object of
        // the expected size under it is this one.
        let found = self.client.head_object().bucket(bucket).key(&key).send().await;
        match found.ok().and_then(|head| head.content_length()) {
            Some(length) if usize::try_from(length).is_ok_and(|length| length == bytes) => Ok(()),
            _ => Err(classify("write", &self.place.name(path), &self.place, &error).error),
        }
    }
}
