//! The simulated worker: carries out what `api::control` says, with tasks that keep the protocol's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use millstream_api::control::{
    Attempt, Command, Deployment, Failure, FailureKind, FinishOutcome, Report, WorkerCommand, WorkerReport,
};
use millstream_api::graph::Schema;
use millstream_api::ids::{Epoch, TaskId, key_group_range, owner_of};
use millstream_api::log::{
    Manifest, ObjectName, ObjectRef, PreparedTransaction, Segment, SegmentContent, SnapshotTiming, TableSnapshot,
    TaskSnapshot, TransactionalIds, transactional_ids,
};
use millstream_coordinator::job::Random;
use millstream_store::{ObjectStore, StoreErrorKind};

use crate::broker::{Answer, BrokerError, BrokerRequest, Identity, State};
use crate::job::{COUNT, COUNT_UID, SINK_UID, SOURCE, SOURCE_UID, TABLE, group_of, uid};
use crate::net::{Client, Request};
use crate::plan::{Plan, Rules};
use crate::sink::{Seen, Sink};
use crate::store::SimStore;
use crate::task::{Change, CountTask, Element, Layer, Position, SourceTask, ended_inputs, owned};

/// Tries of a call to the store or the broker before a task or a command gives up.
const TRIES_MAX: u32 = 8;
/// Elements in a channel before its source waits.
const CHANNEL_MAX: usize = 20;

/// A call under way, and what it brings to the worker.
pub type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a call brought. `attempt`: which deployment it was for.
#[derive(Debug)]
pub enum Done {
    Report(Attempt, Report),
    Restored(Attempt, Box<Restored>),
    Uploaded {
        attempt: Attempt,
        index: u32,
        epoch: Epoch,
        result: Result<TableSnapshot, String>,
    },
    Sent {
        attempt: Attempt,
        index: u32,
        result: Result<(), BrokerError>,
    },
    Committed {
        attempt: Attempt,
        index: u32,
        producer: usize,
        result: Result<(), BrokerError>,
    },
    /// Nobody waits for it.
    Nothing,
}

/// What tasks start from.
#[derive(Debug)]
pub struct Restored {
    deployment: Deployment,
    positions: Vec<Position>,
    layers: BTreeMap<u32, Layer>,
    producers: BTreeMap<u32, Vec<Identity>>,
}

#[derive(Debug)]
pub struct Worker {
    client: Client,
    store: Arc<dyn ObjectStore>,
    plan: Plan,
    rules: Rules,
    random: Random,
    job_path: String,
    attempt: Attempt,
    deployment: Option<Deployment>,
    sources: BTreeMap<u32, SourceTask>,
    counts: BTreeMap<u32, CountTask>,
    running: bool,
    /// `Suspend`: state stays, nothing moves.
    suspended: bool,
    paused: bool,
    /// The manifest that the newest snapshots build on: what a merge replaces.
    base: Option<Arc<Manifest>>,
    pub reports: Vec<WorkerReport>,
    pub hits: Vec<&'static str>,
}

impl Worker {
    #[must_use]
    pub fn new(client: Client, plan: Plan, rules: Rules, seed: u64, job_path: String) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(SimStore(client.clone()));
        Self {
            client,
            store,
            plan,
            rules,
            random: Random::new(seed),
            job_path,
            attempt: Attempt::default(),
            deployment: None,
            sources: BTreeMap::new(),
            counts: BTreeMap::new(),
            running: false,
            suspended: false,
            paused: false,
            base: None,
            reports: Vec::new(),
            hits: Vec::new(),
        }
    }

    fn report(&mut self, report: Report) {
        self.reports.push(WorkerReport { attempt: self.attempt, report });
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.next_u64().is_multiple_of(one_in)
    }

    /// Carries a command out; what takes time comes back as jobs.
    pub fn command(&mut self, command: WorkerCommand) -> Vec<Job> {
        self.attempt = command.attempt;
        match command.command {
            Command::Inspect | Command::Adopt { .. } => Vec::new(),
            Command::FinishTransactions { transactions, .. } => vec![self.finish(transactions)],
            Command::AbortTransactions { transactions, .. } => vec![self.abort(transactions)],
            Command::FenceTransactions { ids, .. } => vec![self.fence(ids.into_values().collect())],
            Command::Suspend => {
                self.suspended = true;
                self.running = false;
                Vec::new()
            }
            Command::Deploy(deployment) => {
                self.hits.push("deploy");
                vec![self.deploy(*deployment)]
            }
            Command::Start => {
                self.running = true;
                self.paused = false;
                self.pump()
            }
            Command::Trigger { epoch, stop } => self.trigger(epoch, stop),
            Command::Sealed { epoch, manifest } => self.sealed(epoch, &manifest),
            Command::Aborted { epoch } => {
                for count in self.counts.values_mut() {
                    count.aborted(epoch, self.rules.merge_aborted);
                }
                for source in self.sources.values_mut() {
                    source.layers.remove(&epoch);
                }
                self.pump()
            }
            Command::Pause { paused } => {
                self.paused = paused;
                Vec::new()
            }
            Command::Cancel => {
                self.drop_tasks();
                Vec::new()
            }
            Command::Abandon { sealed } => {
                self.abandon(sealed);
                Vec::new()
            }
        }
    }

    /// Asks, and waits for no answer: the process ends. Now and then it is killed before.
    fn abandon(&mut self, sealed: Option<Epoch>) {
        if self.chance(4) {
            return self.drop_tasks();
        }
        let live = self.counts.values().filter(|_| !self.suspended);
        for who in live.flat_map(|count| count.sink.unknown_to(sealed)) {
            self.hits.push("a fenced process aborted what it had open");
            drop(self.client.ask(Request::Broker(BrokerRequest::End { who, commit: false })));
        }
        self.drop_tasks();
    }

    fn drop_tasks(&mut self) {
        self.sources.clear();
        self.counts.clear();
        self.deployment = None;
        self.running = false;
        self.suspended = false;
        self.base = None;
    }

    // --- what any worker can do -------------------------------------------------------------------------------------

    fn finish(&mut self, transactions: Vec<PreparedTransaction>) -> Job {
        let (client, attempt, finish) = (self.client.clone(), self.attempt, self.rules.finish);
        Box::pin(async move {
            let mut outcome = Vec::new();
            for transaction in transactions {
                let is = if finish { describe(&client, &transaction).await } else { FinishOutcome::Committed };
                outcome.push((transaction, is));
            }
            let given_up = |o: &FinishOutcome| !matches!(o, FinishOutcome::Open | FinishOutcome::Committed);
            if !outcome.iter().any(|(_, o)| given_up(o)) {
                for (transaction, is) in &mut outcome {
                    if *is == FinishOutcome::Open {
                        *is = end(&client, transaction, true).await;
                    }
                }
            }
            Done::Report(attempt, Report::TransactionsFinished { outcome })
        })
    }

    fn abort(&mut self, transactions: Vec<PreparedTransaction>) -> Job {
        let (client, attempt) = (self.client.clone(), self.attempt);
        Box::pin(async move {
            let mut outcome = Vec::new();
            for transaction in transactions {
                let is = match describe(&client, &transaction).await {
                    FinishOutcome::Open => end(&client, &transaction, false).await,
                    other => other,
                };
                outcome.push((transaction, is));
            }
            Done::Report(attempt, Report::TransactionsAborted { outcome })
        })
    }

    fn fence(&mut self, ids: Vec<TransactionalIds>) -> Job {
        let (client, attempt, fence) = (self.client.clone(), self.attempt, self.rules.fence);
        Box::pin(async move {
            if !fence {
                return Done::Report(attempt, Report::TransactionsFenced);
            }
            for ids in ids {
                for (index, k) in (0..ids.indexes).flat_map(|i| (0..ids.pool).map(move |k| (i, k))) {
                    if let Err(failure) = initialise(&client, ids.id(index, k)).await {
                        return Done::Report(attempt, Report::CommandFailed { failure });
                    }
                }
            }
            Done::Report(attempt, Report::TransactionsFenced)
        })
    }

    // --- deployment -------------------------------------------------------------------------------------------------

    /// Builds what tasks start from. `kept`: layers of survivors; `positions`: theirs.
    fn restore(&mut self, deployment: Deployment, kept: BTreeMap<u32, Layer>, positions: Option<Vec<Position>>) -> Job {
        let (client, attempt, store) = (self.client.clone(), self.attempt, Arc::clone(&self.store));
        // Where the topic stands now: another answer each time, until one is sealed.
        let start = self.random.next_u64() % 4;
        let fresh = (0..self.plan.splits).map(|split| Position {
            split,
            next: start,
            end: start + self.plan.records_per_split,
        });
        let fresh: Vec<_> = fresh.collect();
        let job_path = self.job_path.clone();
        Box::pin(async move {
            let failed = |task, failure| Done::Report(attempt, Report::TaskFailed { task, failure });
            let of_manifest = deployment.restore.as_ref().and_then(|m| m.splits.get(&uid(SOURCE_UID)));
            let positions = match (positions, of_manifest) {
                (Some(kept), _) => kept,
                (None, Some(splits)) => splits.iter().map(Position::of).collect(),
                (None, None) => fresh,
            };
            let mut layers = kept;
            let mut producers = BTreeMap::new();
            let (p, max) = (deployment.parallelism, deployment.max_parallelism);
            let ids = transactional_ids(&deployment.graph, &deployment.job_uid, p, deployment.transaction_pool);
            for task in deployment.tasks.iter().filter(|t| t.vertex == COUNT) {
                if let (false, Some(manifest)) = (layers.contains_key(&task.index), &deployment.restore) {
                    match load(store.as_ref(), &job_path, manifest, key_group_range(task.index, p, max), max).await {
                        Ok(counts) => {
                            let watermarks = manifest.watermarks.get(&uid(COUNT_UID));
                            let watermark = watermarks.and_then(|w| w.iter().min()).copied().unwrap_or(i64::MIN);
                            layers.insert(task.index, Layer { counts, watermark, ended: false });
                        }
                        Err(failure) => return failed(*task, failure),
                    }
                }
                let ids = &ids[&uid(SINK_UID)];
                let mut own = Vec::new();
                for k in 0..ids.pool {
                    match initialise(&client, ids.id(task.index, k)).await {
                        Ok(who) => own.push(who),
                        Err(failure) => return failed(*task, failure),
                    }
                }
                producers.insert(task.index, own);
            }
            Done::Restored(attempt, Box::new(Restored { deployment, positions, layers, producers }))
        })
    }

    fn deploy(&mut self, deployment: Deployment) -> Job {
        let same = self.deployment.as_ref().is_some_and(|was| was.parallelism == deployment.parallelism);
        let epoch = deployment.restore.as_ref().map(|m| m.epoch);
        let mut kept = BTreeMap::new();
        for (index, count) in self.counts.iter_mut().filter(|_| same) {
            match epoch.and_then(|epoch| count.layers.remove(&epoch)) {
                // Now and then the layer is over its bound and gone.
                Some(layer) if !self.random.next_u64().is_multiple_of(6) => {
                    self.hits.push("reset by undo layer");
                    kept.insert(*index, layer);
                }
                _ => self.hits.push("reset from the store"),
            }
        }
        self.drop_tasks();
        self.restore(deployment, kept, None)
    }

    fn restored(&mut self, restored: Restored) {
        let Restored { deployment, positions, mut layers, mut producers } = restored;
        let (p, max) = (deployment.parallelism, deployment.max_parallelism);
        let of_vertex = |vertex| deployment.tasks.iter().filter(move |t: &&TaskId| t.vertex == vertex).map(|t| t.index);
        let running: BTreeSet<u32> = of_vertex(SOURCE).collect();
        let finished: BTreeSet<u32> = (0..p).filter(|i| !running.contains(i)).collect();
        self.sources = running.iter().map(|i| (*i, SourceTask::new(owned(&positions, *i, p)))).collect();
        let inputs = ended_inputs(&finished, p);
        self.counts = of_vertex(COUNT)
            .map(|index| {
                let sink = Sink::new(uid(SINK_UID), index, producers.remove(&index).unwrap_or_default(), self.rules);
                let layer = layers.remove(&index).unwrap_or(Layer { watermark: i64::MIN, ..Layer::default() });
                (index, CountTask::new(key_group_range(index, p, max), layer, &inputs, sink))
            })
            .collect();
        self.base.clone_from(&deployment.restore);
        // Segments start after what is restored, so a change of the first epoch counts as newer.
        let through = deployment.restore.as_ref().map(|m| m.epoch);
        for count in self.counts.values_mut() {
            count.done_through = through;
        }
        self.deployment = Some(deployment);
        self.report(Report::Deployed);
    }

    // --- epochs -----------------------------------------------------------------------------------------------------

    fn trigger(&mut self, epoch: Epoch, stop: bool) -> Vec<Job> {
        let mut snapshots = Vec::new();
        for (index, source) in &mut self.sources {
            if !source.ended {
                for count in self.counts.values_mut() {
                    count.channels[*index as usize].queue.push_back(Element::Barrier(epoch));
                }
            }
            source.stopped |= stop;
            source.layers.insert(epoch, source.positions.clone());
            snapshots.push(TaskSnapshot {
                task: TaskId { vertex: SOURCE, index: *index },
                epoch,
                finished: source.ended,
                watermark: source.watermark(),
                processing_time_max_ms: 0,
                tables: Vec::new(),
                operator_state: BTreeMap::new(),
                splits: [(uid(SOURCE_UID), source.positions.iter().map(Position::stored).collect())].into(),
                transactions: Vec::new(),
                transactional_ids: BTreeMap::new(),
                timing: SnapshotTiming::default(),
            });
        }
        for snapshot in snapshots {
            self.report(Report::Acknowledged(Box::new(snapshot)));
        }
        for count in self.counts.values_mut() {
            count.triggered = Some(epoch);
        }
        if self.chance(40) && !self.counts.is_empty() && self.running {
            self.hits.push("declined");
            let task = TaskId { vertex: COUNT, index: 0 };
            self.report(Report::Declined { task, epoch, failure: transient("simulated") });
        }
        self.pump()
    }

    fn sealed(&mut self, epoch: Epoch, manifest: &Arc<Manifest>) -> Vec<Job> {
        self.base = Some(Arc::clone(manifest));
        self.sources.retain(|index, _| !manifest.finished_tasks.contains(&TaskId { vertex: SOURCE, index: *index }));
        for source in self.sources.values_mut() {
            source.layers.retain(|e, _| *e >= epoch);
        }
        let mut jobs = Vec::new();
        for (index, count) in &mut self.counts {
            count.sealed(epoch);
            for (producer, who) in count.sink.sealed(manifest) {
                jobs.push(commit(self.client.clone(), self.attempt, *index, producer, who));
            }
        }
        jobs.extend(self.pump());
        jobs
    }

    /// Takes what a call brought. Of an earlier attempt nothing counts any more.
    pub fn done(&mut self, done: Done) -> Vec<Job> {
        match done {
            Done::Report(attempt, report) if attempt == self.attempt => self.report(report),
            Done::Restored(attempt, restored) if attempt == self.attempt => self.restored(*restored),
            Done::Uploaded { attempt, index, epoch, result } if attempt == self.attempt => match result {
                Ok(table) => self.uploaded(index, epoch, table),
                Err(reason) => {
                    let task = TaskId { vertex: COUNT, index };
                    self.report(Report::Declined { task, epoch, failure: transient(&reason) });
                }
            },
            Done::Sent { attempt, index, result } if attempt == self.attempt => match result {
                Ok(()) => {
                    if let Some(count) = self.counts.get_mut(&index) {
                        count.sink.sent();
                    }
                }
                Err(error) => self.producer_failed(index, error),
            },
            Done::Committed { attempt, index, producer, result } if attempt == self.attempt => match result {
                Ok(()) => {
                    if let Some(count) = self.counts.get_mut(&index) {
                        count.sink.committed(producer);
                    }
                }
                Err(error) => self.producer_failed(index, error),
            },
            _ => {}
        }
        self.pump()
    }

    /// A task fails out of the blue.
    pub fn break_task(&mut self) -> Option<WorkerReport> {
        let index = *self.counts.keys().next()?;
        let report = Report::TaskFailed { task: TaskId { vertex: COUNT, index }, failure: transient("simulated") };
        Some(WorkerReport { attempt: self.attempt, report })
    }

    fn producer_failed(&mut self, index: u32, error: BrokerError) {
        if error == BrokerError::Fenced {
            self.hits.push("live producer fenced");
        }
        let failure = transient(&format!("producer: {error:?}"));
        self.report(Report::TaskFailed { task: TaskId { vertex: COUNT, index }, failure });
    }

    /// The state of the epoch is in the store. Kept until the sink has flushed as well.
    fn uploaded(&mut self, index: u32, epoch: Epoch, table: TableSnapshot) {
        let Some(count) = self.counts.get_mut(&index) else { return };
        if let Some(change) = count.uploading.get_mut(&epoch) {
            change.uploaded = Some(table);
        }
    }

    /// The acknowledgement of a task whose state is in the store and whose sink has flushed.
    fn acknowledgement(&mut self, index: u32) -> Option<Report> {
        let deployment = self.deployment.as_ref()?;
        let (p, pool) = (deployment.parallelism, deployment.transaction_pool);
        let count = self.counts.get_mut(&index)?;
        let epoch = *count.uploading.iter().find(|(_, change)| change.uploaded.is_some())?.0;
        let transactions = count.sink.prepared(epoch)?;
        let change = count.uploading.remove(&epoch)?;
        let table = change.uploaded?;
        Some(Report::Acknowledged(Box::new(TaskSnapshot {
            task: TaskId { vertex: COUNT, index },
            epoch,
            finished: change.ended,
            watermark: change.watermark,
            processing_time_max_ms: 0,
            tables: if table.added.is_empty() { Vec::new() } else { vec![table] },
            operator_state: BTreeMap::new(),
            splits: BTreeMap::new(),
            transactions,
            transactional_ids: transactional_ids(&deployment.graph, &deployment.job_uid, p, pool),
            timing: SnapshotTiming::default(),
        })))
    }

    // --- processing -------------------------------------------------------------------------------------------------

    /// A little work of one task.
    pub fn step(&mut self) -> Vec<Job> {
        let Some(deployment) = self.deployment.as_ref().filter(|_| !self.suspended) else {
            return self.pump();
        };
        let (p, max) = (deployment.parallelism, deployment.max_parallelism);
        let index = (self.random.next_u64() % u64::from(p)) as u32;
        // Barriers flow before `Start`; only sources wait for it.
        if self.random.next_u64().is_multiple_of(3) {
            if !self.running || self.paused {
                return self.pump();
            }
            let full = self.counts.values().any(|c| c.channels[index as usize].queue.len() >= CHANNEL_MAX);
            if let (Some(source), false) = (self.sources.get_mut(&index), full) {
                let was_ended = source.ended;
                let owner = |group| owner_of(group, p, max) as usize;
                let elements = source.step(&mut self.random, self.plan.keys, max, owner, p as usize);
                let ends = source.ended && !was_ended;
                for (to, element) in elements {
                    if let Some(count) = self.counts.get_mut(&(to as u32)) {
                        count.channels[index as usize].queue.push_back(element);
                    }
                }
                if ends {
                    self.report(Report::EndOfInput { task: TaskId { vertex: SOURCE, index } });
                }
            }
        } else if let Some(count) = self.counts.get_mut(&index) {
            let was_ended = count.ended;
            let epoch = count.epoch_now();
            count.step(&mut self.random, epoch);
            if count.ended && !was_ended {
                self.report(Report::EndOfInput { task: TaskId { vertex: COUNT, index } });
            }
        }
        self.pump()
    }

    /// Whatever is ready to go on its way: batches, snapshots, reports of commits.
    fn pump(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        if self.suspended {
            return jobs;
        }
        let mut reports = Vec::new();
        let mut snapshots = Vec::new();
        for (index, count) in &mut self.counts {
            // A barrier waits behind records, so it is seen in a step; a task without inputs left takes it at once.
            if let Some(epoch) = count.aligned() {
                snapshots.push((*index, count.snapshot(epoch)));
            }
            count.sink.flush();
            if let Some(batch) = count.sink.next_batch() {
                jobs.push(send(self.client.clone(), self.attempt, *index, batch));
            }
            if !self.rules.commit_after_seal {
                for who in count.sink.commit_early() {
                    jobs.push(commit_early(self.client.clone(), who));
                }
            }
            if let Some(epoch) = count.sink.report() {
                reports.push(Report::Committed { task: TaskId { vertex: COUNT, index: *index }, epoch });
            }
            for seen in count.sink.seen.drain(..) {
                self.hits.push(match seen {
                    Seen::Reopened => "aborted epoch goes on in its transaction",
                    Seen::ListedUncovered => "aborted epoch's transaction listed again",
                    Seen::Refused => "no producer free",
                });
            }
        }
        for report in reports {
            self.report(report);
        }
        for (index, change) in snapshots {
            jobs.push(self.upload(index, change));
        }
        for index in self.counts.keys().copied().collect::<Vec<_>>() {
            if let Some(report) = self.acknowledgement(index) {
                self.report(report);
            }
        }
        jobs
    }

    /// Writes what changed since the last sealed epoch, or everything, as a merge.
    fn upload(&mut self, index: u32, change: Change) -> Job {
        let count = &self.counts[&index];
        let (own, epoch) = (count.groups.clone(), change.epoch);
        let merge = self.random.next_u64().is_multiple_of(4);
        let segments: Vec<Segment> = self
            .base
            .iter()
            .flat_map(|m| &m.tables)
            .flat_map(|t| &t.segments)
            .filter(|s| s.first_group < own.end && s.end_group > own.start)
            .cloned()
            .collect();
        let counts = if merge { count.layers[&epoch].counts.clone() } else { change.counts };
        let mut table = TableSnapshot {
            uid: uid(COUNT_UID),
            table: TABLE.to_owned(),
            key: Schema::default(),
            value: Schema::default(),
            added: Vec::new(),
            replaced: Vec::new(),
            replaced_inline_through: None,
        };
        if merge && !counts.is_empty() {
            self.hits.push("merge");
            table.replaced_inline_through = segments.iter().map(|s| s.epoch).max();
            table.replaced = segments
                .into_iter()
                .filter_map(|s| match s.content {
                    SegmentContent::Object(object) => Some(object),
                    SegmentContent::Inline { .. } => None,
                })
                .collect();
        }
        let data = serde_json::to_string(&counts.iter().collect::<Vec<_>>()).expect("plain data");
        let inline = self.random.next_u64().is_multiple_of(3);
        let name = ObjectName {
            generation: self.attempt.generation,
            epoch,
            task: TaskId { vertex: COUNT, index },
            nonce: self.random.nonce(),
        };
        let (store, attempt, job_path) = (Arc::clone(&self.store), self.attempt, self.job_path.clone());
        Box::pin(async move {
            if !counts.is_empty() {
                let content = if inline {
                    SegmentContent::Inline { data }
                } else {
                    let object = ObjectRef { path: name.path("json"), bytes: data.len() as u64, crc32c: 0 };
                    let path = format!("{job_path}/{}", object.path);
                    if let Err(reason) = put(store.as_ref(), &path, data).await {
                        return Done::Uploaded { attempt, index, epoch, result: Err(reason) };
                    }
                    SegmentContent::Object(object)
                };
                let rows = counts.len() as u64;
                table.added.push(Segment { epoch, first_group: own.start, end_group: own.end, rows, content });
            }
            Done::Uploaded { attempt, index, epoch, result: Ok(table) }
        })
    }
}

fn transient(message: &str) -> Failure {
    Failure { kind: FailureKind::Transient, message: message.to_owned() }
}

async fn put(store: &dyn ObjectStore, path: &str, data: String) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES_MAX {
        match store.put(path, data.clone().into()).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

async fn load(
    store: &dyn ObjectStore,
    job_path: &str,
    manifest: &Manifest,
    own: std::ops::Range<u16>,
    max_parallelism: u32,
) -> Result<BTreeMap<u32, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for segment in manifest.tables.iter().flat_map(|t| &t.segments) {
        let groups = segment.first_group.max(own.start)..segment.end_group.min(own.end);
        if groups.is_empty() {
            continue;
        }
        let data = match &segment.content {
            SegmentContent::Inline { data } => data.clone().into_bytes(),
            SegmentContent::Object(object) => get(store, &format!("{job_path}/{}", object.path)).await?,
        };
        let rows: Vec<(u32, u64)> = serde_json::from_slice(&data)
            .map_err(|e| Failure { kind: FailureKind::Corrupt, message: e.to_string() })?;
        counts.extend(rows.into_iter().filter(|(key, _)| groups.contains(&group_of(*key, max_parallelism))));
    }
    Ok(counts)
}

async fn get(store: &dyn ObjectStore, path: &str) -> Result<Vec<u8>, Failure> {
    let mut last = transient("not tried");
    for _ in 0..TRIES_MAX {
        match store.get(path).await {
            Ok(data) => return Ok(data.to_vec()),
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                return Err(Failure { kind: FailureKind::Corrupt, message: error.to_string() });
            }
            Err(error) => last = transient(&error.to_string()),
        }
    }
    Err(last)
}

fn identity(transaction: &PreparedTransaction) -> Identity {
    Identity {
        id: transaction.transactional_id.clone(),
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
    }
}

async fn describe(client: &Client, transaction: &PreparedTransaction) -> FinishOutcome {
    let request = BrokerRequest::Describe { id: transaction.transactional_id.clone() };
    let detail = || "simulated".to_owned();
    match client.broker(request).await {
        Ok(Answer::Described { producer_id, producer_epoch, state }) => {
            let same = producer_id == transaction.producer_id && producer_epoch == transaction.producer_epoch;
            match state {
                State::Ongoing if same => FinishOutcome::Open,
                State::Committed if same => FinishOutcome::Committed,
                State::Aborted if same => FinishOutcome::Aborted,
                _ => FinishOutcome::Expired { detail: detail() },
            }
        }
        Ok(_) => FinishOutcome::Unknown { detail: detail() },
        Err(_) => FinishOutcome::Unavailable { detail: detail() },
    }
}

async fn end(client: &Client, transaction: &PreparedTransaction, commit: bool) -> FinishOutcome {
    let detail = || "simulated".to_owned();
    match client.broker(BrokerRequest::End { who: identity(transaction), commit }).await {
        Ok(_) if commit => FinishOutcome::Committed,
        Ok(_) => FinishOutcome::Aborted,
        Err(BrokerError::Fenced) => FinishOutcome::Expired { detail: detail() },
        Err(BrokerError::InvalidState) if commit => FinishOutcome::Aborted,
        Err(BrokerError::InvalidState) => FinishOutcome::Committed,
        Err(BrokerError::Unavailable) => FinishOutcome::Unavailable { detail: detail() },
    }
}

async fn initialise(client: &Client, id: String) -> Result<Identity, Failure> {
    for _ in 0..TRIES_MAX {
        if let Ok(Answer::Producer(who)) = client.broker(BrokerRequest::Init { id: id.clone() }).await {
            return Ok(who);
        }
    }
    Err(transient("the broker does not initialise producers"))
}

fn send(client: Client, attempt: Attempt, index: u32, batch: crate::sink::Batch) -> Job {
    Box::pin(async move {
        let mut result = Err(BrokerError::Unavailable);
        for _ in 0..TRIES_MAX * 4 {
            let (who, sequence, records) = (batch.who.clone(), batch.sequence, batch.records.clone());
            result = client.broker(BrokerRequest::Produce { who, sequence, records }).await.map(drop);
            if result != Err(BrokerError::Unavailable) {
                break;
            }
        }
        Done::Sent { attempt, index, result }
    })
}

fn commit(client: Client, attempt: Attempt, index: u32, producer: usize, who: Identity) -> Job {
    Box::pin(async move {
        let mut result = Err(BrokerError::Unavailable);
        for _ in 0..TRIES_MAX * 4 {
            result = client.broker(BrokerRequest::End { who: who.clone(), commit: true }).await.map(drop);
            if result != Err(BrokerError::Unavailable) {
                break;
            }
        }
        Done::Committed { attempt, index, producer, result }
    })
}

fn commit_early(client: Client, who: Identity) -> Job {
    Box::pin(async move {
        let _ = client.broker(BrokerRequest::End { who, commit: true }).await;
        Done::Nothing
    })
}
