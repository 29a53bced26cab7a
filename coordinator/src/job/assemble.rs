//! A manifest from the tasks' snapshots and the manifest before it.
//!
//! Owns: what is taken over, added and left out. Does not own: when an epoch is complete (`checkpoint`), nor how the
//! manifest gets into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use millstream_api::graph::{JobGraph, Vertex};
use millstream_api::ids::{Epoch, Seq, TaskId, TransformUid, VertexId, key_group_range};
use millstream_api::log::{
    Manifest, OperatorState, PreparedTransaction, Scale, Segment, SegmentContent, SplitState, TableManifest,
    TableSnapshot, TaskSnapshot, TransactionalIds,
};
use thiserror::Error;

/// What an epoch's manifest is made of, beside the snapshots.
#[derive(Clone, Debug)]
pub struct Basis<'a> {
    pub epoch: Epoch,
    pub graph: &'a Arc<JobGraph>,
    pub graph_hash: u64,
    pub vertices: &'a [Vertex],
    pub parallelism: u32,
    pub max_parallelism: u32,
    pub previous: Option<&'a Manifest>,
    /// Tasks that ended before this epoch: they hand in nothing, their share is taken over.
    pub finished: &'a BTreeSet<TaskId>,
    /// Sealed earlier, commit not reported yet.
    pub uncommitted: Vec<PreparedTransaction>,
    pub committed_through: Option<Epoch>,
    pub transactional_ids: &'a BTreeMap<TransformUid, TransactionalIds>,
    /// Where the epoch ends the run of its tasks: those of the ones that follow.
    pub next_transactional_ids: BTreeMap<TransformUid, TransactionalIds>,
    pub scale: Option<Scale>,
    pub restored_from: Option<Seq>,
    pub restored_savepoint: Option<String>,
}

/// Snapshots that cannot be one checkpoint: a defect, and never sealed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AssemblyError {
    #[error("split {split} of {uid} is in the snapshots of two tasks")]
    SplitTwice { uid: TransformUid, split: String },
    #[error("split {split} of {uid} is in the last checkpoint and in no snapshot")]
    SplitLost { uid: TransformUid, split: String },
    #[error("task {task} handed in key groups {first}..{end} of {uid}, outside of its own {own:?}")]
    ForeignGroups { task: TaskId, uid: TransformUid, first: u16, end: u16, own: Range<u16> },
}

/// Puts the epoch together.
///
/// # Errors
/// When the snapshots contradict each other or the manifest before.
pub fn assemble(basis: &Basis<'_>, snapshots: &BTreeMap<TaskId, TaskSnapshot>) -> Result<Manifest, AssemblyError> {
    let previous = basis.previous;
    let processing_time = snapshots.values().map(|s| s.processing_time_max_ms);
    let mut finished_tasks = basis.finished.clone();
    finished_tasks.extend(snapshots.values().filter(|s| s.finished).map(|s| s.task));
    let mut transactional_ids = basis.transactional_ids.clone();
    for (uid, ids) in snapshots.values().flat_map(|s| &s.transactional_ids) {
        transactional_ids.entry(uid.clone()).and_modify(|known| known.include(ids)).or_insert_with(|| ids.clone());
    }
    Ok(Manifest {
        epoch: basis.epoch,
        parallelism: basis.parallelism,
        max_parallelism: basis.max_parallelism,
        graph_hash: basis.graph_hash,
        graph: Arc::clone(basis.graph),
        tables: tables(basis, snapshots)?,
        operator_state: operator_state(basis, snapshots),
        splits: splits(basis, snapshots)?,
        watermarks: watermarks(basis, snapshots),
        processing_time_max_ms: processing_time
            .chain(previous.map(|p| p.processing_time_max_ms))
            .max()
            .unwrap_or(i64::MIN),
        finished_tasks,
        transactions: transactions(basis, snapshots),
        committed_through: basis.committed_through,
        transactional_ids,
        next_transactional_ids: basis.next_transactional_ids.clone(),
        earlier_transactional_ids: Vec::new(),
        scale: basis.scale,
        restored_from: basis.restored_from,
        restored_savepoint: basis.restored_savepoint.clone(),
    })
}

/// What is sealed and not known to be committed, then what the tasks prepared, each once.
fn transactions(basis: &Basis<'_>, snapshots: &BTreeMap<TaskId, TaskSnapshot>) -> Vec<PreparedTransaction> {
    let prepared = snapshots.values().flat_map(|s| s.transactions.iter().cloned());
    let all: BTreeSet<_> = basis.uncommitted.iter().cloned().chain(prepared).collect();
    all.into_iter().collect()
}

fn tables(basis: &Basis<'_>, snapshots: &BTreeMap<TaskId, TaskSnapshot>) -> Result<Vec<TableManifest>, AssemblyError> {
    let known: BTreeSet<&TransformUid> = basis.graph.transforms.iter().map(|t| &t.uid).collect();
    let kept = basis.previous.into_iter().flat_map(|p| &p.tables).filter(|t| known.contains(&t.uid));
    let mut tables: BTreeMap<(TransformUid, String), TableManifest> =
        kept.map(|t| ((t.uid.clone(), t.table.clone()), t.clone())).collect();
    for (task, snapshot) in snapshots {
        let own = key_group_range(task.index, basis.parallelism, basis.max_parallelism);
        for change in &snapshot.tables {
            if let Some(s) = change.added.iter().find(|s| s.first_group < own.start || s.end_group > own.end) {
                let (uid, first, end) = (change.uid.clone(), s.first_group, s.end_group);
                return Err(AssemblyError::ForeignGroups { task: *task, uid, first, end, own });
            }
            let table = tables.entry((change.uid.clone(), change.table.clone())).or_insert_with(|| TableManifest {
                uid: change.uid.clone(),
                table: change.table.clone(),
                key: change.key.clone(),
                value: change.value.clone(),
                segments: Vec::new(),
            });
            // The rows of older segments are read into the columns that the table has now.
            table.key.clone_from(&change.key);
            table.value.clone_from(&change.value);
            apply_change(table, change, &own);
        }
    }
    Ok(tables.into_values().collect())
}

/// Removes what was merged from the task's key groups, adds what is new, oldest first.
fn apply_change(table: &mut TableManifest, change: &TableSnapshot, own: &Range<u16>) {
    let replaced: BTreeSet<&str> = change.replaced.iter().map(|o| o.path.as_str()).collect();
    let is_replaced = |segment: &Segment| match &segment.content {
        SegmentContent::Object(object) => replaced.contains(object.path.as_str()),
        SegmentContent::Inline { .. } => change.replaced_inline_through.is_some_and(|through| segment.epoch <= through),
    };
    let mut segments: Vec<Segment> = Vec::with_capacity(table.segments.len() + change.added.len());
    for segment in table.segments.drain(..) {
        if is_replaced(&segment) {
            segments.extend(outside(&segment, own));
        } else {
            segments.push(segment);
        }
    }
    segments.extend(change.added.iter().cloned());
    // A merged segment carries the newest epoch that it merged, so it lands before what is newer. The sort is stable.
    segments.sort_by_key(|s| s.epoch);
    table.segments = segments;
}

/// The segment without the groups `own`: after a change of parallelism several tasks share one, and each merges alone.
fn outside(segment: &Segment, own: &Range<u16>) -> impl Iterator<Item = Segment> + use<> {
    let below = segment.first_group..segment.end_group.min(own.start);
    let above = segment.first_group.max(own.end)..segment.end_group;
    let segment = segment.clone();
    [below, above].into_iter().filter(|range| !range.is_empty()).map(move |range| Segment {
        first_group: range.start,
        end_group: range.end,
        ..segment.clone()
    })
}

fn operator_state(
    basis: &Basis<'_>,
    snapshots: &BTreeMap<TaskId, TaskSnapshot>,
) -> BTreeMap<TransformUid, Vec<OperatorState>> {
    let mut states: BTreeMap<TransformUid, Vec<OperatorState>> = BTreeMap::new();
    for (task, snapshot) in snapshots {
        for (uid, state) in &snapshot.operator_state {
            let state = OperatorState { index: task.index, state: state.clone() };
            states.entry(uid.clone()).or_default().push(state);
        }
    }
    let Some(previous) = basis.previous else { return states };
    for vertex in basis.vertices {
        let vertex_ended = (0..basis.parallelism).all(|i| basis.finished.contains(&task_of(vertex, i)));
        for uid in vertex.transforms.iter().map(|t| &basis.graph.transform(*t).uid) {
            // Of a vertex that ended as a whole everything stays, at whatever parallelism it was written.
            let stays = |s: &&OperatorState| {
                vertex_ended
                    || (previous.parallelism == basis.parallelism && basis.finished.contains(&task_of(vertex, s.index)))
            };
            let kept: Vec<_> = previous.operator_state.get(uid).into_iter().flatten().filter(stays).cloned().collect();
            if !kept.is_empty() {
                let all = states.entry(uid.clone()).or_default();
                all.extend(kept);
                all.sort_by_key(|s| s.index);
            }
        }
    }
    states
}

fn task_of(vertex: &Vertex, index: u32) -> TaskId {
    TaskId { vertex: vertex.id, index }
}

fn splits(
    basis: &Basis<'_>,
    snapshots: &BTreeMap<TaskId, TaskSnapshot>,
) -> Result<BTreeMap<TransformUid, Vec<SplitState>>, AssemblyError> {
    let mut splits: BTreeMap<TransformUid, BTreeMap<String, SplitState>> = BTreeMap::new();
    for (uid, split) in
        snapshots.values().flat_map(|s| s.splits.iter()).flat_map(|(u, list)| list.iter().map(move |s| (u, s)))
    {
        let of_uid = splits.entry(uid.clone()).or_default();
        if of_uid.insert(split.split.clone(), split.clone()).is_some() {
            return Err(AssemblyError::SplitTwice { uid: uid.clone(), split: split.split.clone() });
        }
    }
    let known: BTreeSet<&TransformUid> = basis.graph.transforms.iter().map(|t| &t.uid).collect();
    for (uid, list) in basis.previous.into_iter().flat_map(|p| &p.splits).filter(|(uid, _)| known.contains(uid)) {
        let of_uid = splits.entry(uid.clone()).or_default();
        for split in list {
            if of_uid.contains_key(&split.split) {
                continue;
            }
            // A task that ended hands in nothing more; its splits ended with it.
            if !split.finished {
                return Err(AssemblyError::SplitLost { uid: uid.clone(), split: split.split.clone() });
            }
            of_uid.insert(split.split.clone(), split.clone());
        }
    }
    // A source without splits has an entry all the same: it says that its positions are resolved.
    let sources = basis.graph.transforms.iter().filter(|t| basis.graph.inputs_of(t.id).is_empty());
    for source in sources {
        splits.entry(source.uid.clone()).or_default();
    }
    Ok(splits.into_iter().map(|(uid, by_name)| (uid, by_name.into_values().collect())).collect())
}

fn watermarks(basis: &Basis<'_>, snapshots: &BTreeMap<TaskId, TaskSnapshot>) -> BTreeMap<TransformUid, Vec<i64>> {
    let of = |vertex: VertexId, index: u32| match snapshots.get(&TaskId { vertex, index }) {
        Some(snapshot) => snapshot.watermark,
        // Only a task that ended hands in nothing. After the end of input nothing is late.
        None => i64::MAX,
    };
    let per_vertex = |vertex: &Vertex| {
        let uid = basis.graph.transform(vertex.head).uid.clone();
        (uid, (0..basis.parallelism).map(|index| of(vertex.id, index)).collect())
    };
    basis.vertices.iter().map(per_vertex).collect()
}
