//! Telling the coordinator that reading states goes on, so that it gives up only what stands still.
//!
//! Owns: how often that is told. Does not own: what is counted (`snapshot`), how long a coordinator waits.

use std::sync::Arc;
use std::time::Duration;

use millstream_api::control::{Report, WorkerReport};
use tokio::task::JoinHandle;

use super::Runtime;
use crate::snapshot::Segments;

/// Between two reports. A coordinator waits for minutes.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Ends when it is dropped.
pub(super) struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Runtime {
    /// Tells from now on, in the present attempt, how far these segments are read, where that changes.
    pub(super) fn tell_progress(&self, segments: &Segments) -> Telling {
        let (reports, attempt) = (self.reports.clone(), self.attempt);
        let progress = Arc::clone(segments.progress());
        Telling(self.io.spawn(async move {
            let mut told = progress.steps();
            loop {
                tokio::time::sleep(TELL_INTERVAL).await;
                let steps = progress.steps();
                if steps == told {
                    continue;
                }
                told = steps;
                let report = Report::Restoring { bytes: progress.bytes() };
                if reports.send(WorkerReport { attempt, report }).await.is_err() {
                    return;
                }
            }
        }))
    }
}
