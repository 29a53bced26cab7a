//! The conditional put.
//!
//! Owns: its retries, which differ from those of other calls: what an earlier try may have written must not be
//! forgotten. Does not own: finding out whose object it is; the caller reads it back.

use super::failure::{Failure, classify};
use super::{S3Store, client};
use crate::{PutOutcome, StoreError, StoreErrorKind};
use bytes::Bytes;
use std::time::Duration;

const PRECONDITION_FAILED: u16 = 412;
/// Another conditional request on the same key is under way; S3 asks for another try.
const CONFLICT: u16 = 409;

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(2);

impl S3Store {
    pub(super) async fn create(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        let bound = self.limits.call + self.limits.attempt;
        match tokio::time::timeout(bound, self.create_with_retries(path, data)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError {
                kind: StoreErrorKind::Unknown,
                verb: "write",
                object: self.place.name(path),
                reason: format!("no answer from {} within {} s", self.place.server, bound.as_secs()),
            }),
        }
    }

    async fn create_with_retries(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        // Whether some try may have written the object, or may still do so when its request arrives late.
        let mut maybe_written = false;
        let mut attempt = 1;
        loop {
            let failure = match self.create_once(path, data.clone()).await {
                Ok(()) => return Ok(PutOutcome::Created),
                Err(failure) if failure.status == Some(PRECONDITION_FAILED) => return Ok(PutOutcome::Exists),
                Err(failure) => failure,
            };
            maybe_written |= !failure.surely_without_effect;
            let transient = failure.error.kind == StoreErrorKind::Unavailable;
            if !transient || attempt >= self.limits.attempts_max {
                let mut error = failure.error;
                if maybe_written {
                    error.kind = StoreErrorKind::Unknown;
                    error.reason.push_str(" (whether an earlier try wrote it is not known)");
                }
                return Err(error);
            }
            tracing::debug!(object = self.place.name(path), attempt, error = %failure.error, "conditional put is tried again");
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn create_once(&self, path: &str, data: Bytes) -> Result<(), Failure> {
        let timeouts = self.limits.timeouts(data.len());
        let put = self.client.put_object().bucket(&self.place.bucket).key(self.place.key(path)).if_none_match("*");
        let once = client::with_timeouts_once(timeouts);
        let sent = put.body(data.into()).customize().config_override(once).send().await;
        sent.map(drop).map_err(|error| {
            let mut failure = classify("write", &self.place.name(path), &self.place, &error);
            if failure.status == Some(CONFLICT) {
                failure.error.kind = StoreErrorKind::Unavailable;
            }
            failure
        })
    }
}

/// Between half of and the whole of an exponential step, at random: racing writers part.
fn backoff(attempt: u32) -> Duration {
    let step = BACKOFF_FIRST.saturating_mul(1 << attempt.min(16)).min(BACKOFF_LAST);
    let mut random = [0_u8; 1];
    // Without randomness the wait is only less spread.
    let _ = getrandom::fill(&mut random);
    step / 2 + step / 2 * u32::from(random[0]) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        for attempt in 1..40 {
            let wait = backoff(attempt);
            assert!(wait >= BACKOFF_FIRST && wait <= BACKOFF_LAST, "{attempt}: {wait:?}");
        }
    }
}
