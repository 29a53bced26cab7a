//! Opening the sinks of tasks: when they are built, or beforehand, beside the tasks that they are to follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::control::Deployment;
use millstream_api::graph::{ChangelogMode, JobGraph, SinkTransform, Transform, TransformKind};
use millstream_api::ids::{TaskId, TransformUid};
use millstream_api::log::Manifest;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::WorkerConfig;
use crate::sink::{self, Sink, SinkContext};
use crate::slot::Wake;
use crate::task::TaskError;

/// Open sinks of one task, by transform.
pub(super) type Sinks = BTreeMap<TransformUid, Box<dyn Sink>>;

/// What all sinks of a task are opened with.
pub(super) struct SinkOpener {
    job: String,
    job_uid: String,
    graph: Arc<JobGraph>,
    parallelism: u32,
    transaction_pool: u32,
    manifest: Option<Arc<Manifest>>,
    wake: Wake,
    io: Handle,
}

impl SinkOpener {
    /// `wake`: of the slot that the task runs on.
    pub(super) fn new(deployment: &Deployment, config: &WorkerConfig, wake: Wake, io: &Handle) -> Self {
        Self {
            job: config.job_name.clone().unwrap_or_else(|| deployment.job.clone()),
            job_uid: deployment.job_uid.clone(),
            graph: Arc::clone(&deployment.graph),
            parallelism: deployment.parallelism,
            transaction_pool: deployment.transaction_pool,
            manifest: deployment.restore.clone(),
            wake,
            io: io.clone(),
        }
    }

    pub(super) async fn open(
        &self,
        task: TaskId,
        transform: &Transform,
        sink: &SinkTransform,
    ) -> Result<Box<dyn Sink>, TaskError> {
        let transactions = self.manifest.iter().flat_map(|m| &m.transactions);
        let cx = SinkContext {
            uid: transform.uid.clone(),
            job: self.job.clone(),
            job_uid: self.job_uid.clone(),
            index: task.index,
            parallelism: self.parallelism,
            schema: transform.output.clone(),
            changelog: self.input_changelog(transform),
            transaction_pool: self.transaction_pool,
            restored_transactions: transactions.filter(|t| t.uid == transform.uid).cloned().collect(),
            waker: self.wake.waker(),
            io: self.io.clone(),
        };
        let to_open = sink.clone();
        let opened = super::blocking(&self.io, move || sink::open::open(&to_open, cx)).await?;
        opened.map_err(|source| TaskError::Sink { table: sink.table.clone(), source })
    }

    /// What rows the sink gets: those of its input.
    fn input_changelog(&self, sink: &Transform) -> ChangelogMode {
        let input = self.graph.inputs_of(sink.id).first().map(|e| self.graph.transform(e.from).changelog.clone());
        input.unwrap_or_default()
    }

    async fn open_all(self, task: TaskId) -> Result<(TaskId, Sinks), TaskError> {
        let graph = Arc::clone(&self.graph);
        let vertices = graph.vertices();
        let mut sinks = Sinks::new();
        for transform in vertices[task.vertex.0 as usize].transforms.iter().map(|id| graph.transform(*id)) {
            if let TransformKind::Sink(sink) = &transform.kind {
                sinks.insert(transform.uid.clone(), self.open(task, transform, sink).await?);
            }
        }
        Ok((task, sinks))
    }
}

/// Opens the sinks of all tasks of a deployment that are this worker's, side by side.
pub(super) async fn open_ahead(openers: Vec<(TaskId, SinkOpener)>) -> Result<BTreeMap<TaskId, Sinks>, TaskError> {
    let mut opening = JoinSet::new();
    for (task, opener) in openers {
        let io = opener.io.clone();
        opening.spawn_on(opener.open_all(task), &io);
    }
    let mut open = BTreeMap::new();
    while let Some(opened) = opening.join_next().await {
        let (task, sinks) = opened.map_err(|panic| TaskError::Bug { reason: panic.to_string() })??;
        open.insert(task, sinks);
    }
    Ok(open)
}
