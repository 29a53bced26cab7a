//! Building tasks: connectors opened, transforms made, state restored, all in parallel on the I/O threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_api::control::Deployment;
use millstream_api::graph::{JobGraph, SinkTransform, SourceTransform, Transform, TransformKind, Vertex};
use millstream_api::ids::{Generation, TaskId, TransformId, TransformUid, key_group_range};
use millstream_api::log::{Manifest, SplitState};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::preload::Preloaded;
use super::restore::{Survived, Survivors};
use super::sinks::SinkOpener;
use super::slot_map::SlotMap;
use super::staged::{Ahead, OwnAhead};
use super::wiring::Wiring;
use super::{StateBackend, WorkerConfig, blocking};
use crate::element::{WATERMARK_MIN, WatermarkMs};
use crate::exchange::{Output, Receiver};
use crate::metrics::{JobMetrics, TaskMetrics, TaskRole};
use crate::sink::Sink;
use crate::slot::Wake;
use crate::snapshot::Segments;
use crate::source::task::SourceHead;
use crate::source::{self, SourceContext};
use crate::state::{BackendConfig, State, StateConfig, StateError};
use crate::task::{Chain, Events, Head, Inputs, Node, NotNull, Task, TaskError, TaskParts};
use crate::transform;
use crate::transform::build::{self, BuildContext};

/// Bytes of segments that all tasks together may put into one manifest (protocol section 3).
const INLINE_BYTES_PER_MANIFEST: usize = 256 * 1024;

/// Everything that the tasks of a deployment are made from.
pub(super) struct Blueprint<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) wiring: Wiring,
    pub(super) slots: &'a SlotMap,
    pub(super) config: &'a WorkerConfig,
    pub(super) segments: &'a Segments,
    pub(super) io: &'a Handle,
    pub(super) metrics: &'a JobMetrics,
    pub(super) events: Events,
    pub(super) generation: Generation,
    pub(super) wakes: Vec<Wake>,
    pub(super) ahead: Ahead,
}

impl Blueprint<'_> {
    /// Builds all tasks; on an error, the first one that failed.
    pub(super) async fn build(mut self, mut survivors: Survivors) -> Result<Vec<Task>, (TaskId, TaskError)> {
        let deployment = self.deployment;
        let vertices = deployment.graph.vertices();
        let running: BTreeSet<TaskId> = deployment.own_tasks().collect();
        let mut building = JoinSet::new();
        let state_config = state_config(self.config, deployment);
        for task in &running {
            let (outputs, inputs) = self.wiring.take(*task);
            let vertex = &vertices[task.vertex.0 as usize];
            let groups = key_group_range(task.index, deployment.parallelism, deployment.max_parallelism);
            let epoch = deployment.restore.as_ref().map(|manifest| manifest.epoch);
            let survived = vertex.transforms.iter().map(|id| &deployment.graph.transform(*id).uid).map(|uid| {
                let survived = survivors.take(*task, uid, &groups, epoch)?;
                Ok((uid.clone(), survived))
            });
            let survived: Result<_, StateError> = survived.collect();
            let builder = TaskBuilder {
                id: *task,
                vertex: vertex.clone(),
                site: self.site(*task, &state_config),
                survived: survived.map_err(|error| (*task, error.into()))?,
                outputs,
                inputs,
                metrics: self.task_metrics(*task, vertex),
            };
            building.spawn_on(builder.build(self.ahead.take(*task)), self.io);
        }
        // What has gone to other workers takes its time to be freed.
        self.io.spawn_blocking(move || drop(survivors));
        let mut tasks = Vec::with_capacity(running.len());
        while let Some(built) = building.join_next().await {
            match built {
                Ok(built) => tasks.push(built?),
                Err(panic) => return Err((first(&running), TaskError::Bug { reason: panic.to_string() })),
            }
        }
        tasks.sort_by_key(Task::id);
        Ok(tasks)
    }

    fn site(&self, task: TaskId, state_config: &StateConfig) -> Site {
        let deployment = self.deployment;
        let tasks = deployment.tasks.len().max(1);
        Site {
            job: self.config.job_name.clone().unwrap_or_else(|| deployment.job.clone()),
            graph: Arc::clone(&deployment.graph),
            parallelism: deployment.parallelism,
            max_parallelism: deployment.max_parallelism,
            manifest: deployment.restore.clone(),
            segments: self.segments.clone(),
            io: self.io.clone(),
            wake: self.wake(task.index),
            state_config: state_config.clone(),
            events: self.events.clone(),
            generation: self.generation,
            inline_bytes_max: INLINE_BYTES_PER_MANIFEST / tasks,
            opener: SinkOpener::new(deployment, self.config, self.wake(task.index), self.io),
            fetch_bytes_max: self.fetch_bytes_max(),
        }
    }

    /// Every source's task gets the same share of the worker's budget.
    fn fetch_bytes_max(&self) -> usize {
        let graph = &self.deployment.graph;
        let vertices = graph.vertices();
        let reads = |task: &TaskId| {
            let transforms = &vertices[task.vertex.0 as usize].transforms;
            transforms.iter().any(|id| matches!(graph.transform(*id).kind, TransformKind::Source(_)))
        };
        let sources = self.deployment.own_tasks().filter(reads).count().max(1) as u64;
        usize::try_from(self.config.fetch_bytes_max / sources).unwrap_or(usize::MAX)
    }

    fn wake(&self, index: u32) -> Wake {
        self.wakes[self.slots.of(index)].clone()
    }

    fn task_metrics(&self, task: TaskId, vertex: &Vertex) -> Arc<TaskMetrics> {
        let transforms = || vertex.transforms.iter().map(|id| self.deployment.graph.transform(*id));
        let name = transforms().map(|t| t.name.as_str()).collect::<Vec<_>>().join(" -> ");
        let role = TaskRole {
            has_source: transforms().any(|t| matches!(t.kind, TransformKind::Source(_))),
            has_sink: transforms().any(|t| matches!(t.kind, TransformKind::Sink(_))),
        };
        self.metrics.task(task, &name, role)
    }
}

/// Every state gets the same share of the worker's budget: keys are spread evenly over tasks by their hash.
pub(super) fn state_config(config: &WorkerConfig, deployment: &Deployment) -> StateConfig {
    let (graph, vertices) = (&deployment.graph, deployment.graph.vertices());
    let keyed = |vertex: &Vertex| vertex.transforms.iter().filter(|id| has_tables(graph.transform(**id))).count();
    let states = deployment.own_tasks().map(|t| keyed(&vertices[t.vertex.0 as usize])).sum::<usize>();
    let states = states.max(1) as u64;
    let backend = match &config.backend {
        StateBackend::Memory => BackendConfig::Memory,
        StateBackend::Disk { dir } => BackendConfig::Disk { dir: dir.clone() },
    };
    StateConfig {
        owner: String::new(),
        backend,
        bytes_max: config.state_bytes_max / states,
        undo_bytes_max: config.undo_bytes_max / states,
    }
}

/// What one state is opened with: its name, and a folder of its own, for an older one of the same task may still be going.
pub(super) fn own_config(shared: &StateConfig, transform: &Transform, task: TaskId) -> StateConfig {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let mut config = shared.clone();
    config.owner = format!("{} in task {task}", transform.uid);
    if let BackendConfig::Disk { dir } = &mut config.backend {
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        dir.push(format!("{}-{}-{number}", transform.id, task.index));
    }
    config
}

/// Whether a transform keeps keyed tables.
pub(super) fn has_tables(transform: &Transform) -> bool {
    transform.kind.state_table().is_some()
}

fn first(running: &BTreeSet<TaskId>) -> TaskId {
    *running.first().expect("a task was being built")
}

/// What all tasks of a deployment share, and where one of them runs.
struct Site {
    job: String,
    graph: Arc<JobGraph>,
    parallelism: u32,
    max_parallelism: u32,
    manifest: Option<Arc<Manifest>>,
    segments: Segments,
    io: Handle,
    wake: Wake,
    state_config: StateConfig,
    events: Events,
    generation: Generation,
    inline_bytes_max: usize,
    opener: SinkOpener,
    /// Of each source's task.
    fetch_bytes_max: usize,
}

/// One task to be built.
struct TaskBuilder {
    id: TaskId,
    vertex: Vertex,
    site: Site,
    /// What survived, by transform.
    survived: BTreeMap<TransformUid, Survived>,
    outputs: Vec<(TransformId, Output)>,
    inputs: Vec<(u32, Receiver)>,
    metrics: Arc<TaskMetrics>,
}

impl TaskBuilder {
    /// `ahead`: what was made already.
    async fn build(self, ahead: OwnAhead) -> Result<Task, (TaskId, TaskError)> {
        let id = self.id;
        self.try_build(ahead).await.map_err(|e| (id, e))
    }

    async fn try_build(mut self, mut ahead: OwnAhead) -> Result<Task, TaskError> {
        let graph = Arc::clone(&self.site.graph);
        let watermark = self.restored_watermark();
        let mut nodes: Vec<Node> = Vec::with_capacity(self.vertex.transforms.len());
        let mut source = None;
        for id in self.vertex.transforms.clone() {
            let transform = graph.transform(id);
            let node = match &transform.kind {
                TransformKind::Source(scan) => {
                    source = Some(self.open_source(transform, scan, watermark).await?);
                    Node::source(transform.uid.clone(), watermark)
                }
                TransformKind::Sink(sink) => {
                    let opened = ahead.sinks.remove(&transform.uid);
                    self.open_sink(transform, sink, opened).await?
                }
                _ => self.build_transform(transform, watermark, ahead.states.remove(&transform.uid)).await?,
            };
            nodes.push(node);
        }
        self.connect(&mut nodes);
        let groups = self.groups();
        let head = match source {
            Some(source) => Head::Source(Box::new(source)),
            None => Head::Inputs(Inputs::new(self.inputs, watermark)),
        };
        let processing_time_ms = self.site.manifest.as_ref().map_or(i64::MIN, |m| m.processing_time_max_ms);
        Ok(Task::new(TaskParts {
            id: self.id,
            head,
            chain: Chain::new(nodes),
            events: self.site.events,
            metrics: self.metrics,
            generation: self.site.generation,
            watermark,
            processing_time_ms,
            groups,
            inline_bytes_max: self.site.inline_bytes_max,
        }))
    }

    /// Children below their parents, outputs at the transform that their edge starts at.
    fn connect(&mut self, nodes: &mut [Node]) {
        let at = |id: TransformId| self.vertex.transforms.iter().position(|t| *t == id);
        for (child, id) in self.vertex.transforms.iter().enumerate().skip(1) {
            let parent = self.site.graph.inputs_of(*id).first().and_then(|edge| at(edge.from));
            nodes[parent.expect("a chained transform's input is in its vertex")].add_child(child);
        }
        for (from, output) in std::mem::take(&mut self.outputs) {
            nodes[at(from).expect("an edge starts in the vertex it is recorded for")].add_output(output);
        }
    }

    fn restored_watermark(&self) -> WatermarkMs {
        let head = &self.site.graph.transform(self.vertex.head).uid;
        let old = self.site.manifest.as_ref().and_then(|m| m.watermarks.get(head)?.iter().min().copied());
        old.unwrap_or(WATERMARK_MIN)
    }

    async fn open_source(
        &self,
        transform: &Transform,
        source: &SourceTransform,
        watermark: WatermarkMs,
    ) -> Result<SourceHead, TaskError> {
        let site = &self.site;
        let restored: Option<Arc<Vec<SplitState>>> =
            site.manifest.as_ref().and_then(|m| m.splits.get(&transform.uid)).map(|s| Arc::new(s.clone()));
        let cx = SourceContext {
            uid: transform.uid.clone(),
            job: site.job.clone(),
            index: self.id.index,
            parallelism: site.parallelism,
            restored: restored.clone(),
            fetch_bytes_max: Some(site.fetch_bytes_max),
            waker: site.wake.waker(),
            io: site.io.clone(),
        };
        let to_open = source.clone();
        let reader = blocking(&site.io, move || source::open::open(&to_open, cx)).await?;
        let reader =
            reader.map_err(|source_error| TaskError::Source { table: source.table.clone(), source: source_error })?;
        SourceHead::new(transform, source, reader, restored.as_deref().map_or(&[], Vec::as_slice), watermark)
    }

    /// `opened`: beforehand.
    async fn open_sink(
        &self,
        transform: &Transform,
        sink: &SinkTransform,
        opened: Option<Box<dyn Sink>>,
    ) -> Result<Node, TaskError> {
        let opened = match opened {
            Some(opened) => opened,
            None => self.site.opener.open(self.id, transform, sink).await?,
        };
        let not_null = NotNull::new(&transform.output, sink.not_null_enforcer);
        Ok(Node::sink(transform.uid.clone(), sink.table.clone(), opened, not_null))
    }

    /// `preloaded`: what was read beforehand.
    async fn build_transform(
        &mut self,
        transform: &Transform,
        watermark: WatermarkMs,
        preloaded: Option<Preloaded>,
    ) -> Result<Node, TaskError> {
        let graph = Arc::clone(&self.site.graph);
        let cx = BuildContext { graph: &graph, max_parallelism: self.site.max_parallelism };
        let (state, mut built) = match self.survivor(transform, &cx)? {
            Some(survived) => survived,
            None if !has_tables(transform) => {
                let mut state = State::default();
                let built = build::build(transform, &cx, &mut state)?;
                (state, built)
            }
            None => self.assemble(transform, &cx, preloaded).await?,
        };
        if let Some(states) = self.site.manifest.as_ref().and_then(|m| m.operator_state.get(&transform.uid)) {
            let states: Vec<serde_json::Value> = states.iter().map(|s| s.state.clone()).collect();
            built.restore(&states)?;
        }
        Ok(Node::transform(transform.uid.clone(), built, state, watermark))
    }

    /// State of this task that is still in the process, rolled back. The transform itself is made anew: declared in the
    /// same order, its tables have the same numbers.
    fn survivor(&mut self, transform: &Transform, cx: &BuildContext<'_>) -> Result<Option<Built>, TaskError> {
        let Some(mut state) = self.survived.get_mut(&transform.uid).and_then(|survived| survived.whole.take()) else {
            return Ok(None);
        };
        let Some(manifest) = &self.site.manifest else { return Ok(None) };
        let mut declared = State::default();
        let built = build::build(transform, cx, &mut declared)?;
        if !state.tables().eq(declared.tables()) {
            return Ok(None);
        }
        state.roll_back(manifest.epoch)?;
        state.set_bounds(&self.site.state_config);
        Ok(Some((state, built)))
    }

    /// State that is put together from what survived, what was read beforehand, and the store.
    async fn assemble(
        &mut self,
        transform: &Transform,
        cx: &BuildContext<'_>,
        preloaded: Option<Preloaded>,
    ) -> Result<Built, TaskError> {
        let uid = &transform.uid;
        let Some(manifest) = &self.site.manifest else { return self.open_state(transform, cx) };
        let preloaded = preloaded.filter(|preloaded| preloaded.read.leads_to(manifest));
        let ((mut state, built), read) = match preloaded {
            Some(Preloaded { state, transform, read }) => ((state, transform), Some(read)),
            None => (self.open_state(transform, cx)?, None),
        };
        let survived = self.survived.remove(uid).unwrap_or_default();
        survived.assemble(&mut state, read, uid, manifest, &self.site.segments).await?;
        Ok((state, built))
    }

    fn open_state(&self, transform: &Transform, cx: &BuildContext<'_>) -> Result<Built, TaskError> {
        let config = own_config(&self.site.state_config, transform, self.id);
        let mut state = State::open(&config, self.groups())?;
        let built = build::build(transform, cx, &mut state)?;
        Ok((state, built))
    }

    fn groups(&self) -> Range<u16> {
        key_group_range(self.id.index, self.site.parallelism, self.site.max_parallelism)
    }
}

/// A transform and its state.
type Built = (State, Box<dyn transform::Transform>);
