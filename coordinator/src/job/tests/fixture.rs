//! A small job (source, hash edge, count and exactly-once sink), and a bench that drives its core by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{self, Failure, FailureKind, Mutation, Report, Running, WorkerReport};
use millstream_api::flinkjob::{Duration, RestartSpec, RestoreSpec};
use millstream_api::graph::{
    ChangelogMode, DatagenSource, DeliveryGuarantee, Edge, EdgeKind, Format, GRAPH_VERSION, JobGraph, JsonOptions,
    KafkaPartitioner, KafkaSink, NotNullEnforcer, Schema, SinkConnector, SinkTransform, SourceConnector,
    SourceTransform, Transform, TransformKind,
};
use millstream_api::ids::{Epoch, Seq, TaskId, TransformId, TransformUid, VertexId, WorkerId};
use millstream_api::log::{
    Address, EntryKind, LogEntry, Manifest, ObjectRef, Owner, PreparedTransaction, Segment, SegmentContent,
    SnapshotTiming, SplitState, TableManifest, TaskSnapshot,
};

use crate::job::{
    AppendOutcome, CheckpointConfig, Command, Core, Event, JobConfig, Limits, LogTail, Millis, Outcome, ProcessState,
    WorkerOffer,
};

pub const SINK: &str = "out";
pub const SOURCE: &str = "numbers";

pub fn registered(worker: u32, slots: u32) -> Event {
    let name = format!("host-{worker}");
    let offer = WorkerOffer { slots, shuffle_address: Some(format!("{name}:1")), name };
    Event::WorkerRegistered { worker: WorkerId(worker), offer }
}

pub fn transaction(epoch: u64, task: u32) -> PreparedTransaction {
    PreparedTransaction {
        epoch: Epoch(epoch),
        uid: TransformUid(SINK.to_owned()),
        task,
        transactional_id: format!("m-uid-out-{task}-{}", epoch % 3),
        producer_id: i64::from(task) * 10 + (epoch % 3) as i64,
        producer_epoch: 0,
        topic: "out".to_owned(),
    }
}

pub fn manifest(epoch: u64, transactions: Vec<PreparedTransaction>) -> Manifest {
    let graph = graph();
    let split = SplitState {
        split: "numbers/0".to_owned(),
        position: serde_json::json!({ "next": epoch }),
        watermark: None,
        idle: false,
        finished: false,
    };
    Manifest {
        epoch: Epoch(epoch),
        parallelism: 1,
        max_parallelism: 8,
        graph_hash: graph.hash(),
        graph,
        tables: vec![],
        operator_state: BTreeMap::new(),
        splits: [(TransformUid(SOURCE.to_owned()), vec![split])].into(),
        watermarks: BTreeMap::new(),
        processing_time_max_ms: 0,
        finished_tasks: BTreeSet::new(),
        transactions,
        committed_through: None,
        transactional_ids: BTreeMap::new(),
        next_transactional_ids: BTreeMap::new(),
        earlier_transactional_ids: Vec::new(),
        scale: None,
        restored_from: None,
        restored_savepoint: None,
    }
}

/// A checkpoint that names these objects, of ten bytes each; what came before it is committed.
pub fn with_objects(epoch: u64, paths: &[&str], transactions: Vec<PreparedTransaction>) -> Manifest {
    let segment = |path: &&str| Segment {
        epoch: Epoch(epoch),
        first_group: 0,
        end_group: 8,
        rows: 1,
        content: SegmentContent::Object(ObjectRef { path: (*path).to_owned(), bytes: 10, crc32c: 0 }),
    };
    let table = TableManifest {
        uid: TransformUid("count".to_owned()),
        table: "t".to_owned(),
        key: Schema::default(),
        value: Schema::default(),
        segments: paths.iter().map(segment).collect(),
    };
    let committed_through = epoch.checked_sub(1).map(Epoch);
    Manifest { tables: vec![table], committed_through, ..manifest(epoch, transactions) }
}

/// Source -> hash edge -> count and exactly-once sink: two vertices.
pub fn graph() -> Arc<JobGraph> {
    let transform = |id, name: &str, kind| Transform {
        id: TransformId(id),
        uid: TransformUid(name.to_owned()),
        name: name.to_owned(),
        kind,
        output: Schema::default(),
        changelog: ChangelogMode::Append,
    };
    let source = TransformKind::Source(SourceTransform {
        table: SOURCE.to_owned(),
        connector: SourceConnector::Datagen(DatagenSource {
            rows_per_second: 1,
            number_of_rows: None,
            fields: BTreeMap::new(),
        }),
        scan: Vec::new(),
        projection: Vec::new(),
        watermark: None,
    });
    let count =
        TransformKind::GlobalGroupAggregate { keys: vec![], aggregates: vec![], mini_batch: None, state_ttl_ms: None };
    let sink = TransformKind::Sink(SinkTransform {
        table: SINK.to_owned(),
        connector: SinkConnector::Kafka(KafkaSink {
            topic: "out".to_owned(),
            properties: [("transaction.timeout.ms".to_owned(), "60000".to_owned())].into(),
            value_format: Format::Json(JsonOptions::default()),
            key: None,
            value_includes_key: true,
            partitioner: KafkaPartitioner::Default,
            guarantee: DeliveryGuarantee::ExactlyOnce,
            transactional_id_prefix: Some("m".to_owned()),
        }),
        primary_key: Vec::new(),
        not_null_enforcer: NotNullEnforcer::Error,
    });
    let edge = |from, to, kind| Edge { from: TransformId(from), to: TransformId(to), input: 0, kind };
    Arc::new(JobGraph {
        version: GRAPH_VERSION,
        transforms: vec![transform(0, SOURCE, source), transform(1, "count", count), transform(2, SINK, sink)],
        edges: vec![edge(0, 1, EdgeKind::Hash { keys: vec![0] }), edge(1, 2, EdgeKind::Forward)],
        compiled_from: None,
    })
}

pub fn config() -> JobConfig {
    JobConfig {
        path: "default/job".to_owned(),
        graph: graph(),
        parallelism: 1,
        max_parallelism: 8,
        min_parallelism: 1,
        slot_timeout_ms: 30_000,
        standby: false,
        owner: Owner("me".to_owned()),
        address: Address { host: "here".to_owned(), listen: None, process_id: 7, process_start: 1 },
        checkpoint: CheckpointConfig {
            interval_ms: 1_000,
            timeout_ms: 5_000,
            min_pause_ms: 0,
            tolerable_failures: 1,
            retained: 1,
        },
        restart: RestartSpec {
            initial_backoff: Duration::from_millis(100),
            jitter_factor: 0.0,
            ..RestartSpec::default()
        },
        restore: RestoreSpec::default(),
        limits: Limits::default(),
        seed: 1,
    }
}

/// The source's and the count's only task.
pub const SOURCE_TASK: TaskId = TaskId { vertex: VertexId(0), index: 0 };
pub const COUNT_TASK: TaskId = TaskId { vertex: VertexId(1), index: 0 };

/// What the workers of a job that `before` runs say of it.
pub fn running_tasks(before: &Bench) -> Running {
    let (attempt, deployment) = before.deployed.clone().expect("it has deployed");
    let tip = before.core.view().tip().map(|tip| tip.manifest.epoch);
    Running {
        attempt,
        graph_hash: deployment.graph.hash(),
        parallelism: deployment.parallelism,
        tasks: deployment.tasks.clone(),
        worker: deployment.worker,
        placement: deployment.placement.clone(),
        job_uid: deployment.job_uid.clone(),
        decided: tip,
        acknowledged: None,
        epoch_max: tip,
        sound: true,
    }
}

/// A core with the log that its wins make.
pub struct Bench {
    pub core: Core,
    pub now: Millis,
    pub log: Vec<LogEntry>,
    pub put: Option<LogEntry>,
    attempt: control::Attempt,
    /// The newest deployment, and the attempt that it was told in.
    pub deployed: Option<(control::Attempt, control::Deployment)>,
    pub outcome: Option<Outcome>,
}

impl Bench {
    pub fn new(config: JobConfig) -> Self {
        let core = Core::new(config).unwrap();
        Self { core, now: 0, log: Vec::new(), put: None, attempt: Default::default(), deployed: None, outcome: None }
    }

    /// A core that begins on this log. The commands up to the claim.
    pub fn on_log(config: JobConfig, log: Vec<LogEntry>, previous: ProcessState) -> (Self, Vec<String>) {
        let mut bench = Self::new(config);
        bench.log = log;
        bench.event(Event::Begin);
        let commands = bench.read_log(previous);
        (bench, commands)
    }

    /// Answers a question for the log.
    pub fn read_log(&mut self, previous: ProcessState) -> Vec<String> {
        let start = self.log.iter().rev().find_map(|e| match &e.kind {
            EntryKind::Start(start) => Some(start.clone()),
            _ => None,
        });
        let stored = self.log.iter().map(|e| e.seq).collect();
        let tail = Box::new(LogTail { entries: self.log.clone(), start, stored });
        self.event(Event::LogRead { tail, previous })
    }

    /// A new job up to `Running`, with one worker.
    pub fn running() -> Self {
        Self::running_with(config())
    }

    pub fn running_with(config: JobConfig) -> Self {
        let (mut bench, _) = Self::on_log(config, Vec::new(), ProcessState::Gone);
        bench.event(registered(0, 1));
        bench.won();
        bench.report(Report::Deployed);
        bench.acknowledge(0, vec![]);
        bench.won();
        bench
    }

    pub fn event(&mut self, event: Event) -> Vec<String> {
        let commands = self.core.on_event(self.now, event);
        let mut said = Vec::new();
        for command in commands {
            said.extend(self.describe(command));
        }
        said
    }

    fn describe(&mut self, command: Command) -> Option<String> {
        Some(match command {
            Command::ReadLog => "read log".to_owned(),
            Command::Append(entry) => {
                let kind = match &entry.kind {
                    EntryKind::Start(start) => format!("start, restores {:?}", start.restores.map(|s| s.0)),
                    EntryKind::Manifest(m) => format!(
                        "manifest {}, transactions of {:?}, committed {:?}",
                        m.epoch,
                        m.transactions.iter().map(|t| t.epoch.0).collect::<Vec<_>>(),
                        m.committed_through.map(|e| e.0)
                    ),
                    EntryKind::Void { epoch } => format!("void {epoch}"),
                    EntryKind::Settled(settled) => format!("settled {:?}", settled.epoch.map(|e| e.0)),
                    EntryKind::Stopped { reason, committed_through, .. } => {
                        format!("stopped {reason:?}, committed {:?}", committed_through.map(|e| e.0))
                    }
                };
                let said = format!("put {}: {kind}", entry.seq);
                self.put = Some(*entry);
                said
            }
            Command::Delete(paths) => format!("delete {}", paths.join(" ")),
            Command::ListState => return None,
            Command::CopySavepoint { request, manifest } => format!("copy {} to {}", manifest.epoch, request.target),
            Command::ReadSavepoint { uri } => format!("read savepoint {uri}"),
            Command::ImportSavepoint { uri, epoch, .. } => format!("import {uri} as {epoch}"),
            Command::Probe { address } => format!("probe {address}"),
            Command::Release { worker } => format!("release {worker}"),
            Command::Tell { command, .. } => {
                self.attempt = command.attempt;
                if let control::Command::Deploy(deployment) = &command.command {
                    self.deployed = Some((command.attempt, deployment.as_ref().clone()));
                }
                describe_told(&command.command)
            }
            Command::Notice(_) => return None,
            Command::End(outcome) => {
                self.outcome = Some(outcome.clone());
                let kind = match outcome {
                    Outcome::Finished { .. } => "finished",
                    Outcome::Stopped { .. } => "stopped",
                    Outcome::Failed { .. } => "failed",
                    Outcome::Fenced { .. } => "fenced",
                    Outcome::StoodBy { .. } => "stood by",
                };
                format!("end: {kind}")
            }
        })
    }

    /// The put that is open wins.
    pub fn won(&mut self) -> Vec<String> {
        let entry = self.put.take().expect("a put is open");
        let seq = entry.seq;
        self.log.push(entry);
        self.event(Event::Appended { seq, outcome: AppendOutcome::Won })
    }

    pub fn put_ends(&mut self, outcome: AppendOutcome) -> Vec<String> {
        let seq = self.put.as_ref().expect("a put is open").seq;
        self.event(Event::Appended { seq, outcome })
    }

    pub fn report(&mut self, report: Report) -> Vec<String> {
        self.report_of(0, report)
    }

    pub fn report_of(&mut self, worker: u32, report: Report) -> Vec<String> {
        let report = WorkerReport { attempt: self.attempt, report };
        self.event(Event::Worker { worker: WorkerId(worker), report })
    }

    pub fn tick(&mut self, at: Millis) -> Vec<String> {
        self.now = at;
        self.event(Event::Tick)
    }

    /// Both tasks acknowledge the epoch.
    pub fn acknowledge(&mut self, epoch: u64, transactions: Vec<PreparedTransaction>) -> Vec<String> {
        let source = TaskSnapshot { splits: manifest(epoch, vec![]).splits, ..snapshot(SOURCE_TASK, epoch) };
        self.report(Report::Acknowledged(Box::new(source)));
        let count = TaskSnapshot { transactions, ..snapshot(COUNT_TASK, epoch) };
        self.report(Report::Acknowledged(Box::new(count)))
    }

    pub fn task_fails(&mut self, kind: FailureKind) -> Vec<String> {
        let failure = Failure { kind, message: "broken".to_owned() };
        self.report(Report::TaskFailed { task: COUNT_TASK, failure })
    }
}

pub fn snapshot(task: TaskId, epoch: u64) -> TaskSnapshot {
    TaskSnapshot {
        task,
        epoch: Epoch(epoch),
        finished: false,
        watermark: 0,
        processing_time_max_ms: 0,
        tables: vec![],
        operator_state: BTreeMap::new(),
        splits: BTreeMap::new(),
        transactions: vec![],
        transactional_ids: BTreeMap::new(),
        timing: SnapshotTiming::default(),
    }
}

fn describe_told(command: &control::Command) -> String {
    use control::Command as C;
    match command {
        C::FinishTransactions { transactions, .. } => format!("finish {}", transactions.len()),
        C::AbortTransactions { transactions, .. } => format!("abort {}", transactions.len()),
        C::FenceTransactions { ids, .. } => {
            let ids: Vec<String> = ids.values().map(|i| format!("{} {}x{}", i.prefix, i.indexes, i.pool)).collect();
            // The middle of the prefix is drawn; what follows it is the term.
            let ids: Vec<&str> = ids.iter().map(|i| &i[2 + 16..]).collect();
            format!("fence {}", ids.join(" "))
        }
        C::Suspend => "suspend".to_owned(),
        C::Deploy(d) => format!("deploy {} tasks from {:?}", d.tasks.len(), d.restore.as_ref().map(|m| m.epoch.0)),
        C::Prepare { attempt, deployment } => {
            format!("prepare {} tasks for attempt {}", deployment.tasks.len(), attempt.number)
        }
        C::Discard => "discard".to_owned(),
        C::Switch { manifest } => format!("switch to {}", manifest.epoch),
        C::Start => "start".to_owned(),
        C::Trigger { epoch, mutation } => {
            let then = match mutation {
                Mutation::None => "",
                Mutation::Stop => " and stop",
                Mutation::Drain => " and drain",
            };
            format!("trigger {epoch}{then}")
        }
        C::Sealed { epoch, .. } => format!("sealed {epoch}"),
        C::Aborted { epoch } => format!("aborted {epoch}"),
        C::Pause { paused } => format!("pause {paused}"),
        C::Cancel => "cancel".to_owned(),
        C::Inspect => "inspect".to_owned(),
        C::Adopt { sealed, aborted } => {
            let aborted: Vec<String> = aborted.iter().map(ToString::to_string).collect();
            format!("adopt {} without {}", sealed.epoch, aborted.join(" "))
        }
        C::Abandon { sealed } => format!("abandon all after {sealed:?}"),
    }
}

/// An entry that is at the end of `log`.
pub fn entry_after(log: &[LogEntry], kind: EntryKind) -> LogEntry {
    let seq = Seq(log.len() as u64);
    LogEntry {
        version: 1,
        seq,
        generation: log.last().map_or(millstream_api::ids::Generation(seq.0), |e| e.generation),
        nonce: millstream_api::log::Nonce(format!("{:032x}", seq.0)),
        previous: log.last().map(|e| e.nonce.clone()),
        written_at_ms: 0,
        kind,
    }
}
