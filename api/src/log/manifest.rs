//! The checkpoint manifest: what an epoch consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::graph::{DeliveryGuarantee, JobGraph, Schema, SinkConnector, Transform, TransformKind};
use crate::ids::{Epoch, Seq, TaskId, TransformUid};

/// A sealed epoch: everything that is needed to go on from it, and to finish its commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub epoch: Epoch,
    pub parallelism: u32,
    /// Frozen for the life of the state.
    pub max_parallelism: u32,
    pub graph_hash: u64,
    pub graph: Arc<JobGraph>,
    /// Keyed state by transform and table.
    pub tables: Vec<TableManifest>,
    /// State of transforms that is not keyed, by transform, in task order.
    pub operator_state: BTreeMap<TransformUid, Vec<OperatorState>>,
    /// Source positions by transform.
    pub splits: BTreeMap<TransformUid, Vec<SplitState>>,
    /// Current watermark per task, by vertex head. Restored tasks never fall below the minimum of the old ones.
    pub watermarks: BTreeMap<TransformUid, Vec<i64>>,
    /// Largest processing time that any task has read, epoch ms.
    pub processing_time_max_ms: i64,
    /// Tasks that reached the end of their input. They are not run again.
    pub finished_tasks: BTreeSet<TaskId>,
    /// Every transaction, of whatever epoch, whose commit is not yet recorded.
    pub transactions: Vec<PreparedTransaction>,
    /// Epochs up to this one are committed, recorded here.
    pub committed_through: Option<Epoch>,
    /// Transactional ids of the term that wrote this, by sink; written before first use.
    pub transactional_ids: BTreeMap<TransformUid, TransactionalIds>,
    /// Those of the tasks that follow the ones that wrote this, where it ends their run (protocol section 8).
    #[serde(default)]
    pub next_transactional_ids: BTreeMap<TransformUid, TransactionalIds>,
    /// Ids of earlier tasks under which a transaction may be open: those that the log knew when a savepoint's manifest was
    /// taken over into it. Whoever writes a later manifest has fenced them before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_transactional_ids: Vec<BTreeMap<TransformUid, TransactionalIds>>,
    /// How many tasks the job is to have.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// The checkpoint that a user named to restore, from which this line of epochs descends.
    #[serde(default)]
    pub restored_from: Option<Seq>,
    /// The savepoint that a user named to restore, as it was named, from which this line of epochs descends.
    #[serde(default)]
    pub restored_savepoint: Option<String>,
}

/// The parallelism that was asked for while the job ran. It holds for as long as the resource says what it said then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// As the resource said.
    pub spec: u32,
    pub wanted: u32,
}

impl Manifest {
    /// Tasks that are not run when this manifest is restored at `parallelism` with the graph of hash `graph_hash`. At
    /// another parallelism a task's index says nothing, so only vertices whose tasks are all finished count; in another
    /// graph a vertex's number says nothing.
    #[must_use]
    pub fn finished_at(&self, parallelism: u32, graph_hash: u64) -> BTreeSet<TaskId> {
        if graph_hash != self.graph_hash {
            return BTreeSet::new();
        }
        if parallelism == self.parallelism {
            return self.finished_tasks.clone();
        }
        let vertices = self.graph.vertices();
        let ended = vertices.iter().map(|v| v.id).filter(|vertex| {
            (0..self.parallelism).all(|index| self.finished_tasks.contains(&TaskId { vertex: *vertex, index }))
        });
        ended.flat_map(|vertex| (0..parallelism).map(move |index| TaskId { vertex, index })).collect()
    }

    /// True when every task has ended: there is nothing left to run.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished_tasks.len() == self.graph.vertices().len() * self.parallelism as usize
    }

    /// Every object that the manifest names.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.tables.iter().flat_map(|t| &t.segments).filter_map(|s| match &s.content {
            SegmentContent::Object(object) => Some(object),
            SegmentContent::Inline { .. } => None,
        })
    }

    /// What reading all of them brings: a restore, or a savepoint. An object counts as often as it is named.
    #[must_use]
    pub fn object_bytes(&self) -> u64 {
        self.objects().map(|object| object.bytes).sum()
    }
}

/// A keyed table of a transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableManifest {
    pub uid: TransformUid,
    pub table: String,
    pub key: Schema,
    pub value: Schema,
    /// Oldest first; later ones win.
    pub segments: Vec<Segment>,
}

/// An immutable set of changes of one table, sorted by key group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub epoch: Epoch,
    /// Key groups of which it holds changes: `[first, end)`. The object may hold more: when one of several tasks that
    /// share it has merged its part, the range shrinks. Readers skip rows outside of it.
    pub first_group: u16,
    pub end_group: u16,
    pub rows: u64,
    pub content: SegmentContent,
}

/// Where a segment's Parquet bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "camelCase")]
pub enum SegmentContent {
    /// An object of the store.
    Object(ObjectRef),
    /// Base64 of Arrow IPC in the manifest itself, for small changes.
    Inline { data: String },
}

/// A named, checked object below the job's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Relative to the job's path. Names are never used twice.
    pub path: String,
    pub bytes: u64,
    pub crc32c: u32,
}

/// One task's share of a transform's unkeyed state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorState {
    pub index: u32,
    pub state: serde_json::Value,
}

/// Position of one split, with what its watermark needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitState {
    /// Stable name of the split: `topic/partition`, a file's path, a generator's number.
    pub split: String,
    /// Connector's own position (offsets, end, topic id).
    pub position: serde_json::Value,
    /// Largest watermark of the split so far, epoch ms.
    pub watermark: Option<i64>,
    pub idle: bool,
    pub finished: bool,
}

/// A transaction that is flushed and waits for its commit: Flink's `KafkaCommittable`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PreparedTransaction {
    pub epoch: Epoch,
    pub uid: TransformUid,
    pub task: u32,
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// For messages to people.
    pub topic: String,
}

/// Range of transactional ids of a sink: `<prefix>-<job uid>-<generation>-<sink uid>-<index>-<k>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionalIds {
    /// `<prefix>-<job uid>-<generation>-<sink uid>`
    pub prefix: String,
    /// Task indexes below this one were used.
    pub indexes: u32,
    /// Pool positions below this one were used.
    pub pool: u32,
}

impl TransactionalIds {
    /// The ids of the sink `uid` in the namespace `job_uid` of one term. `prefix`: the table's, if it names one.
    #[must_use]
    pub fn new(prefix: Option<&str>, job_uid: &str, uid: &TransformUid, indexes: u32, pool: u32) -> Self {
        let prefix = prefix.unwrap_or(TRANSACTIONAL_ID_PREFIX_DEFAULT);
        Self { prefix: format!("{prefix}-{job_uid}-{uid}"), indexes, pool }
    }

    /// The id of pool position `k` of sink task `index`.
    #[must_use]
    pub fn id(&self, index: u32, k: u32) -> String {
        format!("{}-{index}-{k}", self.prefix)
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        let numbers = id.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-')?.split_once('-'));
        let below = |text: &str, bound: u32| text.parse::<u32>().is_ok_and(|number| number < bound);
        numbers.is_some_and(|(index, k)| below(index, self.indexes) && below(k, self.pool))
    }

    /// Covers what either covers.
    pub fn include(&mut self, other: &Self) {
        self.indexes = self.indexes.max(other.indexes);
        self.pool = self.pool.max(other.pool);
    }
}

/// Prefix of a sink's ids when the table names none.
const TRANSACTIONAL_ID_PREFIX_DEFAULT: &str = "millstream";

/// The ids that the exactly-once sinks of `graph` use when `parallelism` tasks have `pool` producers each, in the
/// namespace `job_uid` of one deployment.
#[must_use]
pub fn transactional_ids(
    graph: &JobGraph,
    job_uid: &str,
    parallelism: u32,
    pool: u32,
) -> BTreeMap<TransformUid, TransactionalIds> {
    let of_transform = |transform: &Transform| {
        let TransformKind::Sink(sink) = &transform.kind else { return None };
        let (guarantee, prefix) = match &sink.connector {
            SinkConnector::Kafka(kafka) => (kafka.guarantee, &kafka.transactional_id_prefix),
            SinkConnector::UpsertKafka(kafka) => (kafka.guarantee, &kafka.transactional_id_prefix),
            SinkConnector::Print(_) | SinkConnector::Blackhole => return None,
        };
        if guarantee != DeliveryGuarantee::ExactlyOnce {
            return None;
        }
        let ids = TransactionalIds::new(prefix.as_deref(), job_uid, &transform.uid, parallelism, pool);
        Some((transform.uid.clone(), ids))
    };
    graph.transforms.iter().filter_map(of_transform).collect()
}

/// What one task hands in for an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    pub task: TaskId,
    pub epoch: Epoch,
    /// All input was read; the task is not run again after this epoch.
    pub finished: bool,
    pub watermark: i64,
    pub processing_time_max_ms: i64,
    pub tables: Vec<TableSnapshot>,
    pub operator_state: BTreeMap<TransformUid, serde_json::Value>,
    pub splits: BTreeMap<TransformUid, Vec<SplitState>>,
    /// Every prepared transaction that no manifest covers yet, also of aborted epochs.
    pub transactions: Vec<PreparedTransaction>,
    pub transactional_ids: BTreeMap<TransformUid, TransactionalIds>,
    /// What the checkpoint cost the task; for people.
    #[serde(default)]
    pub timing: SnapshotTiming,
}

/// What a checkpoint cost a task, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTiming {
    /// From the first to the last barrier of its inputs.
    pub alignment_us: u64,
    /// Processing stood still between taking the barrier in and handing the snapshot to the background.
    pub stall_us: u64,
}

/// Changes of one table since the last sealed epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSnapshot {
    pub uid: TransformUid,
    pub table: String,
    pub key: Schema,
    pub value: Schema,
    pub added: Vec<Segment>,
    /// Objects that a merge made superfluous for this task's key groups: their content stands in `added`.
    pub replaced: Vec<ObjectRef>,
    /// Inline segments of these epochs and before were merged as well, likewise for this task's key groups.
    #[serde(default)]
    pub replaced_inline_through: Option<Epoch>,
}
