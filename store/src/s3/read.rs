//! Reading an object, or a part of it.
//!
//! Owns: going on where a broken connection stopped. Does not own: what the content means and its checksum there.

use super::S3Store;
use super::failure::classify;
use crate::{StoreError, StoreErrorKind};
use bytes::{Bytes, BytesMut};

/// The object ends before the first byte that was asked for.
const RANGE_NOT_SATISFIABLE: u16 = 416;

/// What was read of one object so far.
#[derive(Default)]
struct Received {
    data: BytesMut,
    /// The version that the first answer named; the rest must be of the same.
    e_tag: Option<String>,
}

impl S3Store {
    /// From `offset` on; `bytes_max`: at most so many bytes, more than none.
    pub(super) async fn read(&self, path: &str, offset: u64, bytes_max: Option<usize>) -> Result<Bytes, StoreError> {
        let mut received = Received::default();
        for attempt in 1.. {
            let broken = match self.read_on(path, offset, bytes_max, &mut received).await? {
                None => return Ok(received.data.freeze()),
                Some(broken) => broken,
            };
            let kind = if broken.contains("checksum") {
                // The bytes did not match what the server said of them: begin again.
                received = Received::default();
                StoreErrorKind::Corrupt
            } else {
                StoreErrorKind::Unavailable
            };
            if attempt >= self.limits.attempts_max {
                let reason = format!("{} broke off its answer: {broken}", self.place.server);
                return Err(StoreError { kind, verb: "read", object: self.place.name(path), reason });
            }
            tracing::debug!(
                object = self.place.name(path),
                attempt,
                broken,
                "an answer broke off and is asked for again"
            );
        }
        unreachable!("the last attempt returns")
    }

    /// Reads from where `received` ends. Returns why the answer broke off, if it did.
    async fn read_on(
        &self,
        path: &str,
        offset: u64,
        bytes_max: Option<usize>,
        received: &mut Received,
    ) -> Result<Option<String>, StoreError> {
        let begin = received.data.len();
        let first = offset + begin as u64;
        let range = match bytes_max {
            // The last byte is part of an HTTP range.
            Some(bytes_max) => Some(format!("bytes={first}-{}", offset + bytes_max as u64 - 1)),
            None => (first > 0).then(|| format!("bytes={first}-")),
        };
        let call = self.client.get_object().bucket(&self.place.bucket).key(self.place.key(path));
        let sent = call.set_range(range).set_if_match(received.e_tag.clone()).send().await;
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let failure = classify("read", &self.place.name(path), &self.place, &error);
                let past_the_end = failure.status == Some(RANGE_NOT_SATISFIABLE) && bytes_max.is_some();
                return if past_the_end { Ok(None) } else { Err(failure.error) };
            }
        };
        let expected = answer.content_length().and_then(|length| usize::try_from(length).ok());
        received.e_tag = answer.e_tag.take();
        received.data.reserve(expected.unwrap_or(0));
        loop {
            match answer.body.try_next().await {
                Ok(Some(chunk)) => received.data.extend_from_slice(&chunk),
                Ok(None) if expected.is_none_or(|expected| received.data.len() == begin + expected) => return Ok(None),
                Ok(None) => return Ok(Some("the content is shorter than announced".to_owned())),
                Err(error) => return Ok(Some(aws_sdk_s3::error::DisplayErrorContext(error).to_string())),
            }
        }
    }
}
