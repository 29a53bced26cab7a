//! What the HTTP page shows: of a run, of a coordinator, of a worker.

use std::sync::{Arc, OnceLock};

use millstream_coordinator::job::{JobState, Status};
use millstream_coordinator::operations::Operations;
use millstream_coordinator::transport::Refusals;
use millstream_net::Security;
use millstream_worker::metrics::JobMetrics;
use tokio::sync::watch;

use super::metrics::{Shown, render};
use crate::http;

/// Where the job's master runs. Reads the newest status and the counters at each request.
pub struct RunPage {
    job: String,
    /// Of the tasks, where they run in this process.
    metrics: Option<Arc<JobMetrics>>,
    /// Where workers come over the network.
    refusals: Option<Arc<Refusals>>,
    security: Security,
    operations: Operations,
    status: watch::Receiver<Status>,
}

impl RunPage {
    pub fn of_run(
        job: String,
        metrics: Arc<JobMetrics>,
        operations: Operations,
        status: watch::Receiver<Status>,
    ) -> Self {
        Self { job, metrics: Some(metrics), refusals: None, security: Security::plain(), operations, status }
    }

    pub fn of_coordinator(
        job: String,
        refusals: Arc<Refusals>,
        security: Security,
        operations: Operations,
        status: watch::Receiver<Status>,
    ) -> Self {
        Self { job, metrics: None, refusals: Some(refusals), security, operations, status }
    }
}

impl http::Page for RunPage {
    fn metrics(&self) -> String {
        let tasks = self.metrics.as_ref().map(|metrics| metrics.read()).unwrap_or_default();
        let status = self.status.borrow();
        let shown = Shown {
            tasks: &tasks,
            status: Some(&status),
            refusals: self.refusals.as_deref(),
            unread_requests: Some(self.operations.unread()),
            // What runs in one process has no connections.
            connections: self.refusals.is_some().then(|| self.security.refused()),
            shuffle: self.metrics.as_ref().map(|metrics| metrics.shuffle.read()),
        };
        render(&self.job, &shown)
    }

    fn healthy(&self) -> bool {
        !matches!(self.status.borrow().state, JobState::Failed | JobState::Fenced)
    }
}

/// A worker's page. It has nothing to show until the worker has registered.
pub struct WorkerPage {
    security: Security,
    job: OnceLock<(String, Arc<JobMetrics>)>,
}

impl WorkerPage {
    pub fn new(security: Security) -> Self {
        Self { security, job: OnceLock::new() }
    }

    /// The worker has registered. Once.
    pub fn show(&self, job: String, metrics: Arc<JobMetrics>) {
        let _ = self.job.set((job, metrics));
    }
}

impl http::Page for WorkerPage {
    fn metrics(&self) -> String {
        let connections = Some(self.security.refused());
        let Some((job, metrics)) = self.job.get() else {
            return render("", &Shown { connections, ..Shown::default() });
        };
        let shuffle = Some(metrics.shuffle.read());
        render(job, &Shown { tasks: &metrics.read(), connections, shuffle, ..Shown::default() })
    }

    /// While the process serves, it is: a worker whose coordinator is away goes on.
    fn healthy(&self) -> bool {
        true
    }
}
