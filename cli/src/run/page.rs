//! What the HTTP page shows: of a run, of a coordinator, of a worker.

use std::sync::{Arc, OnceLock};

use millstream_coordinator::job::{JobState, Status};
use millstream_coordinator::transport::Refusals;
use millstream_worker::metrics::JobMetrics;
use tokio::sync::watch;

use super::http;
use super::metrics::{Shown, render};

/// Where the job's master runs. Reads the newest status and the counters at each request.
pub struct RunPage {
    job: String,
    /// Of the tasks, where they run in this process.
    metrics: Option<Arc<JobMetrics>>,
    /// Where workers come over the network.
    refusals: Option<Arc<Refusals>>,
    status: watch::Receiver<Status>,
}

impl RunPage {
    pub fn of_run(job: String, metrics: Arc<JobMetrics>, status: watch::Receiver<Status>) -> Self {
        Self { job, metrics: Some(metrics), refusals: None, status }
    }

    pub fn of_coordinator(job: String, refusals: Arc<Refusals>, status: watch::Receiver<Status>) -> Self {
        Self { job, metrics: None, refusals: Some(refusals), status }
    }
}

impl http::Page for RunPage {
    fn metrics(&self) -> String {
        let tasks = self.metrics.as_ref().map(|metrics| metrics.read()).unwrap_or_default();
        let status = self.status.borrow();
        render(&self.job, &Shown { tasks: &tasks, status: Some(&status), refusals: self.refusals.as_deref() })
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

/// A worker's page. It has nothing to show until the worker has registered.
#[derive(Default)]
pub struct WorkerPage {
    job: OnceLock<(String, Arc<JobMetrics>)>,
}

impl WorkerPage {
    /// The worker has registered. Once.
    pub fn show(&self, job: String, metrics: Arc<JobMetrics>) {
        let _ = self.job.set((job, metrics));
    }
}

impl http::Page for WorkerPage {
    fn metrics(&self) -> String {
        let Some((job, metrics)) = self.job.get() else { return render("", &Shown::default()) };
        render(job, &Shown { tasks: &metrics.read(), ..Shown::default() })
    }

    /// While the process serves, it is: a worker whose coordinator is away goes on.
    fn healthy(&self) -> bool {
        true
    }

    fn status(&self) -> serde_json::Value {
        let job = self.job.get();
        serde_json::json!({
            "job": job.map(|(name, _)| name),
            "tasks": job.map_or(0, |(_, metrics)| metrics.read().len()),
        })
    }
}
