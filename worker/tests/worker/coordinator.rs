//! A coordinator without a log: it does what a test's script says, and keeps the last manifest in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use millstream_api::control::{
    Attempt, Command, Deployment, Failure, FailureKind, Mutation, Placement, Report, WorkerCommand, WorkerReport,
};
use millstream_api::graph::JobGraph;
use millstream_api::ids::{Epoch, Generation, TaskId, TransformUid, WorkerId};
use millstream_api::log::{Manifest, OperatorState, TableManifest, TaskSnapshot};
use millstream_store::{LocalStore, ObjectStore};
use millstream_worker::exchange::remote::{Compression, ShuffleConfig};
use millstream_worker::metrics::{ShuffleReadings, TaskReadings};
use millstream_worker::runtime::{StateBackend, Worker, WorkerConfig};

/// No step of a script takes longer, also on a loaded machine.
const STEP_TIME_MAX: Duration = Duration::from_secs(60);
const MAX_PARALLELISM: u32 = 720;

/// One job on one worker, or on several.
pub struct Coordinator {
    workers: Vec<Worker>,
    /// Where the others reach each worker; none for one alone.
    pub addresses: BTreeMap<WorkerId, String>,
    compression: Compression,
    state_bytes_max: u64,
    graph: Arc<JobGraph>,
    parallelism: u32,
    attempt: Attempt,
    next_epoch: Epoch,
    pub manifest: Option<Arc<Manifest>>,
    running: BTreeSet<TaskId>,
    ended: BTreeSet<TaskId>,
    /// A worker told what became of transactions.
    pub transactions_finished: bool,
    /// Parallelism and tasks of what is prepared.
    prepared: Option<(u32, BTreeSet<TaskId>)>,
    /// For waiting with a time-out.
    clock: tokio::runtime::Runtime,
}

impl Coordinator {
    /// A worker with one slot per task index; objects go to `dir`.
    pub fn new(graph: &Arc<JobGraph>, parallelism: u32, dir: &Path, disk: bool) -> Self {
        let store = Arc::new(LocalStore::open(&dir.join("store")).unwrap());
        Self::with_store(graph, parallelism, dir, disk, store)
    }

    /// The same with another store.
    pub fn with_store(
        graph: &Arc<JobGraph>,
        parallelism: u32,
        dir: &Path,
        disk: bool,
        store: Arc<dyn ObjectStore>,
    ) -> Self {
        let mut coordinator = Self::without_workers(graph, parallelism);
        coordinator.add_worker(dir, disk, store, None);
        coordinator
    }

    /// Several workers, which have the indexes of the tasks in turn.
    pub fn with_workers(
        graph: &Arc<JobGraph>,
        parallelism: u32,
        workers: u32,
        dir: &Path,
        compression: Compression,
    ) -> Self {
        let mut coordinator = Self::without_workers(graph, parallelism);
        coordinator.compression = compression;
        coordinator.add_workers(workers, dir, false);
        coordinator
    }

    /// The same with the backend to be named.
    pub fn with_workers_of(graph: &Arc<JobGraph>, parallelism: u32, workers: u32, dir: &Path, disk: bool) -> Self {
        let mut coordinator = Self::without_workers(graph, parallelism);
        coordinator.add_workers(workers, dir, disk);
        coordinator
    }

    /// Two workers with so much room for state, in memory.
    pub fn with_room(graph: &Arc<JobGraph>, parallelism: u32, dir: &Path, state_bytes_max: u64) -> Self {
        let mut coordinator = Self::without_workers(graph, parallelism);
        coordinator.state_bytes_max = state_bytes_max;
        coordinator.add_workers(2, dir, false);
        coordinator
    }

    fn add_workers(&mut self, workers: u32, dir: &Path, disk: bool) {
        for id in 0..workers {
            let store = Arc::new(LocalStore::open(&dir.join("store")).unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            self.addresses.insert(WorkerId(id), listener.local_addr().unwrap().to_string());
            self.add_worker(&dir.join(id.to_string()), disk, store, Some(listener));
        }
    }

    fn add_worker(&mut self, dir: &Path, disk: bool, store: Arc<dyn ObjectStore>, listener: Option<TcpListener>) {
        let backend = if disk { StateBackend::Disk { dir: dir.join("scratch") } } else { StateBackend::Memory };
        let worker = Worker::spawn(WorkerConfig {
            slots: self.parallelism,
            store,
            job_path: "job".to_owned(),
            job_name: None,
            backend,
            state_bytes_max: self.state_bytes_max,
            undo_bytes_max: 256 << 20,
            fetch_bytes_max: 256 << 20,
            io_threads: 2,
            shuffle: ShuffleConfig {
                listener: listener.map(Arc::new),
                compression: self.compression,
                ..ShuffleConfig::default()
            },
        });
        self.workers.push(worker.unwrap());
    }

    fn without_workers(graph: &Arc<JobGraph>, parallelism: u32) -> Self {
        Self {
            workers: Vec::new(),
            addresses: BTreeMap::new(),
            compression: Compression::None,
            state_bytes_max: 256 << 20,
            graph: Arc::clone(graph),
            parallelism,
            attempt: Attempt { generation: Generation(1), number: 0 },
            next_epoch: Epoch(0),
            manifest: None,
            running: BTreeSet::new(),
            ended: BTreeSet::new(),
            transactions_finished: false,
            prepared: None,
            clock: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
        }
    }

    /// Deploys from the last manifest (of another process, too), seals the first epoch of a new job, and starts.
    pub fn deploy(&mut self, restore: Option<Arc<Manifest>>) {
        let vertices = self.graph.vertices();
        let finished = restore.as_ref().map(|m| m.finished_at(self.parallelism, self.graph.hash())).unwrap_or_default();
        let indexes = 0..self.parallelism;
        let all = vertices.iter().flat_map(|v| indexes.clone().map(|index| TaskId { vertex: v.id, index }));
        self.running = all.filter(|t| !finished.contains(t)).collect();
        self.next_epoch = restore.as_ref().map_or(Epoch(0), |m| m.epoch.next());
        self.manifest = restore.clone();
        self.attempt.number += 1;
        self.send_deployments(restore);
        self.wait_for_deployed();
        if self.manifest.is_none() {
            self.checkpoint();
        }
        self.send(Command::Start);
    }

    fn send_deployments(&self, restore: Option<Arc<Manifest>>) {
        for (id, worker) in (0..).map(WorkerId).zip(&self.workers) {
            self.send_to(worker, Command::Deploy(self.deployment(id, restore.clone())));
        }
    }

    fn deployment(&self, worker: WorkerId, restore: Option<Arc<Manifest>>) -> Box<Deployment> {
        let workers = u32::try_from(self.workers.len()).unwrap();
        let by_index = (0..self.parallelism).map(|index| WorkerId(index % workers)).collect();
        Box::new(Deployment {
            job: "test".to_owned(),
            graph: Arc::clone(&self.graph),
            graph_hash: self.graph.hash(),
            parallelism: self.parallelism,
            max_parallelism: MAX_PARALLELISM,
            tasks: self.running.clone(),
            worker,
            placement: Placement { by_index, addresses: self.addresses.clone() },
            restore,
            job_uid: "test".to_owned(),
            transaction_pool: 3,
        })
    }

    /// Triggers an epoch, waits for all tasks, seals it and waits for the commits.
    pub fn checkpoint(&mut self) {
        let epoch = self.trigger(false);
        let snapshots = self.wait_for_acknowledgements(epoch);
        self.seal(epoch, snapshots);
    }

    /// Triggers an epoch and gives it up, at whatever point it is.
    pub fn aborted_checkpoint(&mut self) {
        let epoch = self.trigger(false);
        self.send(Command::Aborted { epoch });
    }

    /// Triggers an epoch, waits for all tasks, and gives it up: the put failed for certain.
    pub fn acknowledged_but_aborted_checkpoint(&mut self) {
        let epoch = self.trigger(false);
        let _ = self.wait_for_acknowledgements(epoch);
        self.send(Command::Aborted { epoch });
    }

    /// Triggers an epoch that a task declines, and gives it up.
    pub fn declined_checkpoint(&mut self) -> String {
        let epoch = self.trigger(false);
        let deadline = Instant::now() + STEP_TIME_MAX;
        loop {
            let report = self.next_report(deadline);
            self.note(&report);
            if let Report::Declined { epoch: declined, failure, .. } = report
                && declined == epoch
            {
                self.send(Command::Aborted { epoch });
                return failure.message;
            }
        }
    }

    /// A last checkpoint after which sources emit nothing.
    pub fn stop(&mut self) {
        let epoch = self.trigger(true);
        let snapshots = self.wait_for_acknowledgements(epoch);
        self.seal(epoch, snapshots);
    }

    /// Back to the last manifest with the tasks that are there.
    pub fn reset(&mut self) {
        self.redeploy();
        self.wait_for_deployed();
        self.send(Command::Start);
    }

    /// The same, and it fails.
    pub fn failed_reset(&mut self) -> String {
        self.redeploy();
        self.wait_for_command_failure()
    }

    fn redeploy(&mut self) {
        self.attempt.number += 1;
        let manifest = Arc::clone(self.manifest.as_ref().unwrap());
        let finished = manifest.finished_at(self.parallelism, self.graph.hash());
        self.running.retain(|t| !finished.contains(t));
        self.ended.clear();
        self.send(Command::Suspend);
        self.send_deployments(Some(manifest));
    }

    /// Has every worker make tasks of another parallelism ready beside those that run, from the last manifest. Returns how
    /// many bytes they have read for that.
    pub fn prepare(&mut self, parallelism: u32) -> u64 {
        self.send_preparations(parallelism);
        self.wait_for_all(&Report::Prepared)
    }

    /// The same, and a worker cannot: why.
    pub fn failed_prepare(&mut self, parallelism: u32) -> Failure {
        self.send_preparations(parallelism);
        let deadline = Instant::now() + STEP_TIME_MAX;
        loop {
            let report = self.next_report(deadline);
            self.note(&report);
            if let Report::PrepareFailed { failure } = report {
                self.send(Command::Discard);
                return failure;
            }
        }
    }

    fn send_preparations(&mut self, parallelism: u32) {
        let indexes = 0..parallelism;
        let vertices = self.graph.vertices();
        let all = vertices.iter().flat_map(|v| indexes.clone().map(|index| TaskId { vertex: v.id, index }));
        let tasks: BTreeSet<TaskId> = all.collect();
        let attempt = Attempt { number: self.attempt.number + 1, ..self.attempt };
        let workers = u32::try_from(self.workers.len()).unwrap();
        for (id, worker) in (0..).map(WorkerId).zip(&self.workers) {
            let by_index = (0..parallelism).map(|index| WorkerId(index % workers)).collect();
            let placement = Placement { by_index, addresses: self.addresses.clone() };
            let deployment = *self.deployment(id, self.manifest.clone());
            let deployment = Deployment { parallelism, tasks: tasks.clone(), placement, ..deployment };
            self.send_to(worker, Command::Prepare { attempt, deployment: Box::new(deployment) });
        }
        self.prepared = Some((parallelism, tasks));
    }

    /// Stops what runs with a last checkpoint, from which the prepared tasks go on. Returns how many bytes were read for that.
    pub fn switch(&mut self) -> u64 {
        let epoch = self.trigger(true);
        let snapshots = self.wait_for_acknowledgements(epoch);
        let manifest = Arc::new(self.merged(epoch, &snapshots));
        assert!(manifest.finished_tasks.is_empty(), "the input has ended before the switch");
        (self.parallelism, self.running) = self.prepared.take().unwrap();
        self.attempt.number += 1;
        self.manifest = Some(Arc::clone(&manifest));
        self.ended.clear();
        self.send(Command::Switch { manifest });
        self.wait_for_all(&Report::Deployed)
    }

    /// Sources stand still, or read again.
    pub fn pause(&self, paused: bool) {
        self.send(Command::Pause { paused });
    }

    /// Waits until every worker has said this. Returns how many bytes they have read for it.
    fn wait_for_all(&mut self, wanted: &Report) -> u64 {
        let deadline = Instant::now() + STEP_TIME_MAX;
        let (mut missing, mut read) = (self.workers.len(), 0);
        while missing > 0 {
            let report = self.next_report(deadline);
            self.note(&report);
            match report {
                // No step of a test takes a second, so that each worker says it once.
                Report::Restoring { bytes } => read += bytes,
                Report::PrepareFailed { failure } => panic!("{}", failure.message),
                report => missing -= usize::from(report == *wanted),
            }
        }
        read
    }

    /// Waits until every task has read all its input, then seals that.
    pub fn finish(mut self) {
        let deadline = Instant::now() + STEP_TIME_MAX;
        while self.ended != self.running {
            let report = self.next_report(deadline);
            self.note(&report);
        }
        self.checkpoint();
        assert!(self.manifest.as_ref().unwrap().is_finished());
        self.workers.into_iter().for_each(Worker::close);
    }

    /// The process is gone: nothing is flushed, sealed or told.
    pub fn kill(self) -> Option<Arc<Manifest>> {
        self.workers.into_iter().for_each(Worker::close);
        self.manifest
    }

    /// Waits until the sources have read so many rows in this process, or all that there are.
    pub fn wait_for_rows(&mut self, rows: u64) {
        let deadline = Instant::now() + STEP_TIME_MAX;
        let read = |readings: &[TaskReadings]| -> u64 {
            readings.iter().filter(|r| r.role.has_source).map(|r| r.records_in).sum()
        };
        while read(&self.readings()) < rows && self.ended != self.running {
            assert!(Instant::now() < deadline, "the sources do not read: {:?}", self.readings());
            // Counters wake nobody: a report, or the next look.
            if let Some(report) = self.report_within(Duration::from_millis(1)) {
                self.note(&report);
            }
        }
    }

    /// Waits until all tasks of some vertex have ended.
    pub fn wait_for_ended_source(&mut self) {
        let deadline = Instant::now() + STEP_TIME_MAX;
        while !self
            .graph
            .vertices()
            .iter()
            .any(|v| (0..self.parallelism).all(|index| self.ended.contains(&TaskId { vertex: v.id, index })))
        {
            let report = self.next_report(deadline);
            self.note(&report);
        }
    }

    fn trigger(&mut self, stop: bool) -> Epoch {
        let epoch = self.next_epoch;
        self.next_epoch = epoch.next();
        let mutation = if stop { Mutation::Stop } else { Mutation::None };
        self.send(Command::Trigger { epoch, mutation });
        epoch
    }

    fn seal(&mut self, epoch: Epoch, snapshots: BTreeMap<TaskId, TaskSnapshot>) {
        let manifest = Arc::new(self.merged(epoch, &snapshots));
        self.manifest = Some(Arc::clone(&manifest));
        self.send(Command::Sealed { epoch, manifest });
        let vertices = self.graph.vertices();
        let has_sink = |task: &TaskId| {
            let transforms = &vertices[task.vertex.0 as usize].transforms;
            transforms.iter().any(|t| self.graph.outputs_of(*t).next().is_none())
        };
        let mut committing: BTreeSet<TaskId> = snapshots.into_keys().filter(has_sink).collect();
        let deadline = Instant::now() + STEP_TIME_MAX;
        while !committing.is_empty() {
            let report = self.next_report(deadline);
            self.note(&report);
            if let Report::Committed { task, epoch: committed } = report
                && committed >= epoch
            {
                committing.remove(&task);
            }
        }
        let finished = &self.manifest.as_ref().unwrap().finished_tasks;
        self.running.retain(|t| !finished.contains(t));
        self.ended.retain(|t| !finished.contains(t));
    }

    /// The next manifest: what the last one says of tasks that did not hand in anything, because they ended, stays.
    fn merged(&self, epoch: Epoch, snapshots: &BTreeMap<TaskId, TaskSnapshot>) -> Manifest {
        let hash = self.graph.hash();
        let base = self.manifest.as_deref();
        let mut next = base.cloned().unwrap_or_else(|| Manifest {
            epoch,
            parallelism: self.parallelism,
            max_parallelism: MAX_PARALLELISM,
            graph_hash: hash,
            graph: Arc::clone(&self.graph),
            tables: Vec::new(),
            operator_state: BTreeMap::new(),
            splits: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            processing_time_max_ms: i64::MIN,
            finished_tasks: BTreeSet::new(),
            transactions: Vec::new(),
            committed_through: None,
            transactional_ids: BTreeMap::new(),
            next_transactional_ids: BTreeMap::new(),
            earlier_transactional_ids: Vec::new(),
            scale: None,
            restored_from: None,
            restored_savepoint: None,
        });
        next.finished_tasks = base.map(|m| m.finished_at(self.parallelism, hash)).unwrap_or_default();
        let rescaled = next.parallelism != self.parallelism;
        (next.epoch, next.parallelism) = (epoch, self.parallelism);
        for snapshot in snapshots.values() {
            add_tables(&mut next.tables, snapshot);
            next.processing_time_max_ms = next.processing_time_max_ms.max(snapshot.processing_time_max_ms);
            if snapshot.finished {
                next.finished_tasks.insert(snapshot.task);
            }
        }
        for vertex in &self.graph.vertices() {
            let of_vertex: Vec<&TaskSnapshot> = snapshots.values().filter(|s| s.task.vertex == vertex.id).collect();
            if of_vertex.is_empty() {
                continue;
            }
            let head = &self.graph.transform(vertex.head).uid;
            let watermark = |index| of_vertex.iter().find(|s| s.task.index == index).map_or(i64::MAX, |s| s.watermark);
            next.watermarks.insert(head.clone(), (0..self.parallelism).map(watermark).collect());
            for uid in vertex.transforms.iter().map(|t| &self.graph.transform(*t).uid) {
                merge_unkeyed(&mut next, uid, &of_vertex, rescaled);
            }
        }
        next
    }

    fn wait_for_acknowledgements(&mut self, epoch: Epoch) -> BTreeMap<TaskId, TaskSnapshot> {
        let deadline = Instant::now() + STEP_TIME_MAX;
        let mut snapshots = BTreeMap::new();
        while snapshots.len() < self.running.len() {
            let report = self.next_report(deadline);
            self.note(&report);
            match report {
                Report::Acknowledged(snapshot) if snapshot.epoch == epoch => {
                    snapshots.insert(snapshot.task, *snapshot);
                }
                // A second task may still decline an epoch that was given up.
                Report::Declined { epoch: declined, failure, .. } if declined == epoch => {
                    panic!("epoch {epoch} was declined: {}", failure.message)
                }
                _ => {}
            }
        }
        snapshots
    }

    fn wait_for_deployed(&mut self) {
        let deadline = Instant::now() + STEP_TIME_MAX;
        let mut missing = self.workers.len();
        while missing > 0 {
            if self.next_report(deadline) == Report::Deployed {
                missing -= 1;
            }
        }
    }

    /// Waits until a worker says that it cannot go on, and why.
    pub fn wait_for_command_failure(&mut self) -> String {
        let deadline = Instant::now() + STEP_TIME_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing failed: {:#?}", self.readings());
            match self.any_report_within(left) {
                Some(Report::CommandFailed { failure }) => {
                    assert_eq!(failure.kind, FailureKind::Transient);
                    return failure.message;
                }
                Some(report) => self.note(&report),
                None => {}
            }
        }
    }

    /// Of all workers' tasks.
    pub fn readings(&self) -> Vec<TaskReadings> {
        self.workers.iter().flat_map(|worker| worker.metrics.read()).collect()
    }

    /// Of all workers' connections.
    pub fn shuffle_readings(&self) -> Vec<ShuffleReadings> {
        self.workers.iter().map(|worker| worker.metrics.shuffle.read()).collect()
    }

    fn note(&mut self, report: &Report) {
        if let Report::EndOfInput { task } = report {
            self.ended.insert(*task);
        }
        self.transactions_finished |= matches!(report, Report::TransactionsFinished { .. });
    }

    /// The next report of the present attempt.
    fn next_report(&mut self, deadline: Instant) -> Report {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no report in time: {:#?}", self.readings());
            if let Some(report) = self.report_within(left) {
                return report;
            }
        }
    }

    /// A failure ends the test.
    fn report_within(&mut self, time: Duration) -> Option<Report> {
        match self.any_report_within(time)? {
            Report::TaskFailed { task, failure } => panic!("task {task} failed: {}", failure.message),
            Report::CommandFailed { failure } => panic!("{}", failure.message),
            report => Some(report),
        }
    }

    /// A report of the present attempt.
    fn any_report_within(&mut self, time: Duration) -> Option<Report> {
        let workers = &mut self.workers;
        let next = std::future::poll_fn(|cx| {
            let polled = workers.iter_mut().map(|worker| worker.reports.poll_recv(cx));
            polled.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        let received = self.clock.block_on(async { tokio::time::timeout(time, next).await }).ok()?;
        let WorkerReport { attempt, report } = received.expect("a worker is gone");
        (attempt == self.attempt).then_some(report)
    }

    /// To all workers.
    pub fn send(&self, command: Command) {
        self.workers.iter().for_each(|worker| self.send_to(worker, command.clone()));
    }

    fn send_to(&self, worker: &Worker, command: Command) {
        worker.commands.blocking_send(WorkerCommand { attempt: self.attempt, command }).unwrap();
    }
}

/// Splits by name and states by task: newer over older.
fn merge_unkeyed(next: &mut Manifest, uid: &TransformUid, snapshots: &[&TaskSnapshot], rescaled: bool) {
    let states = next.operator_state.entry(uid.clone()).or_default();
    if rescaled {
        states.clear();
    }
    for snapshot in snapshots {
        states.retain(|s| s.index != snapshot.task.index);
        let state = snapshot.operator_state.get(uid).cloned();
        states.extend(state.map(|state| OperatorState { index: snapshot.task.index, state }));
        if let Some(new) = snapshot.splits.get(uid) {
            let splits = next.splits.entry(uid.clone()).or_default();
            splits.retain(|old| new.iter().all(|s| s.split != old.split));
            splits.extend(new.iter().cloned());
        }
    }
}

fn add_tables(tables: &mut Vec<TableManifest>, snapshot: &TaskSnapshot) {
    for changed in &snapshot.tables {
        let known = tables.iter_mut().find(|t| t.uid == changed.uid && t.table == changed.table);
        match known {
            Some(table) => table.segments.extend(changed.added.iter().cloned()),
            None => tables.push(TableManifest {
                uid: changed.uid.clone(),
                table: changed.table.clone(),
                key: changed.key.clone(),
                value: changed.value.clone(),
                segments: changed.added.clone(),
            }),
        }
    }
}
