//! What the HTTP page shows of this run.

use std::sync::Arc;

use millstream_coordinator::job::{JobState, Status};
use millstream_worker::metrics::JobMetrics;
use tokio::sync::watch;

use super::{http, metrics};

/// Reads the newest status and the counters at each request.
pub struct RunPage {
    job: String,
    metrics: Arc<JobMetrics>,
    status: watch::Receiver<Status>,
}

impl RunPage {
    pub fn new(job: String, metrics: Arc<JobMetrics>, status: watch::Receiver<Status>) -> Self {
        Self { job, metrics, status }
    }
}

impl http::Page for RunPage {
    fn metrics(&self) -> String {
        metrics::render(&self.job, &self.metrics.read(), &self.status.borrow())
    }

    fn healthy(&self) -> bool {
        !matches!(self.status.borrow().state, JobState::Failed | JobState::Fenced)
    }

    fn status(&self) -> serde_json::Value {
        let mut status = serde_json::to_value(&*self.status.borrow()).unwrap_or_default();
        if let Some(fields) = status.as_object_mut() {
            fields.insert("name".to_owned(), self.job.clone().into());
        }
        status
    }
}
