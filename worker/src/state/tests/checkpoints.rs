//! What the harness restores from: the pieces themselves, or segments in a local store with a manifest like the
//! coordinator's.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use millstream_api::ids::{Generation, TaskId, TransformUid, VertexId, key_group_range};
use millstream_api::log::{Segment, SegmentContent, TableManifest, TableSnapshot};
use millstream_store::LocalStore;
use tokio::runtime::Runtime;

use super::harness::{Contents, key_number, specs};
use super::*;
use crate::snapshot::{Difference, MergePlan, Merged, SegmentWriter, Segments, SnapshotError, difference};

pub(super) enum Checkpoints {
    Kept(Vec<ChangeBatch>),
    Stored(Box<Stored>),
}

pub(super) struct Stored {
    _dir: tempfile::TempDir,
    runtime: Runtime,
    segments: Segments,
    tables: Vec<TableManifest>,
    /// Merges that wait for the next epoch, by task and table.
    merged: BTreeMap<(u32, usize), Merged>,
}

impl Checkpoints {
    pub fn in_store() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        let tables = specs().into_iter().map(|spec| TableManifest {
            uid: TransformUid("t".into()),
            table: spec.name,
            key: spec.key,
            value: spec.value,
            segments: Vec::new(),
        });
        let segments = Segments::new(Arc::new(store), "ns/job");
        let tables = tables.collect();
        Self::Stored(Box::new(Stored { _dir: dir, runtime, segments, tables, merged: BTreeMap::new() }))
    }

    /// An epoch is sealed.
    pub fn add(&mut self, epoch: Epoch, pieces: Vec<(usize, ChangeBatch)>, parallelism: u32) {
        match self {
            Self::Kept(kept) => kept.extend(pieces.into_iter().map(|(_, piece)| piece)),
            Self::Stored(stored) => stored.add(epoch, &pieces, parallelism),
        }
    }

    pub fn load(&self, state: &mut State, groups: Range<u16>) {
        match self {
            Self::Kept(kept) => kept.iter().for_each(|piece| state.load(piece).unwrap()),
            Self::Stored(stored) => stored.load(state, &groups, &[]),
        }
    }

    /// What a manifest has now; `None`: nothing is stored.
    pub fn tables(&self) -> Option<Vec<TableManifest>> {
        match self {
            Self::Kept(_) => None,
            Self::Stored(stored) => Some(stored.tables.clone()),
        }
    }

    /// Brings a state from what an earlier manifest had to what there is now.
    pub fn catch_up(&self, state: &mut State, groups: Range<u16>, before: &[TableManifest]) {
        if let Self::Stored(stored) = self {
            stored.load(state, &groups, before);
        }
    }

    /// The tasks are new: merges that nobody handed in are lost.
    pub fn forget_merges(&mut self) {
        if let Self::Stored(stored) = self {
            stored.merged.clear();
        }
    }

    /// The segments as they are read by whoever does not restore them, which are whole. `None`: nothing is stored.
    pub fn seen_from_outside(&self, now_ms: i64) -> Option<Contents> {
        match self {
            Self::Kept(_) => None,
            Self::Stored(stored) => Some(stored.seen_from_outside(now_ms)),
        }
    }

    pub fn merge(&mut self, first: usize, parallelism: u32, now_ms: i64) {
        if let Self::Stored(stored) = self {
            stored.merge(first, parallelism, now_ms);
        }
    }
}

fn writer(epoch: Epoch, task: u32) -> SegmentWriter {
    SegmentWriter { generation: Generation(3), epoch, task: TaskId { vertex: VertexId(1), index: task } }
}

impl Stored {
    fn add(&mut self, epoch: Epoch, pieces: &[(usize, ChangeBatch)], parallelism: u32) {
        for task in 0..parallelism {
            for (table, spec) in specs().iter().enumerate() {
                let mine = pieces.iter().filter(|(t, p)| *t == task as usize && p.table.0 as usize == table);
                let changes = mine.map(|(_, piece)| piece.batch.clone()).collect();
                // Every other epoch may be inline.
                let mut inline_bytes_left = if epoch.0.is_multiple_of(2) { 64 << 10 } else { 0 };
                let (at, uid) = (writer(epoch, task), &self.tables[table].uid);
                let write = self.segments.write(&at, uid, spec, changes, &mut inline_bytes_left);
                let mut snapshot = self.runtime.block_on(write).unwrap();
                if let Some(merged) = self.merged.remove(&(task, table)) {
                    merged.apply(&mut snapshot);
                }
                apply(&mut self.tables[table], snapshot, &key_group_range(task, parallelism, MAX_PARALLELISM));
            }
        }
        self.merged.clear();
    }

    /// `before`: what the state was loaded from already.
    fn load(&self, state: &mut State, groups: &Range<u16>, before: &[TableManifest]) {
        for (table, spec) in specs().iter().enumerate() {
            let before = before.get(table).map_or(&[][..], |table| &table.segments);
            let Difference { stale, newer } = difference(before, &self.tables[table].segments, groups);
            stale.iter().for_each(|groups| state.forget(TableId(table as u32), groups).unwrap());
            let load = |batch| {
                state.load(&ChangeBatch { table: TableId(table as u32), batch }).unwrap();
                Ok(())
            };
            let read = self.segments.read(&self.tables[table], spec, &newer, load);
            self.runtime.block_on(read).unwrap();
        }
    }

    fn seen_from_outside(&self, now_ms: i64) -> Contents {
        let mut out = Contents::new();
        for (table, spec) in specs().iter().enumerate() {
            let manifest = &self.tables[table];
            let show = |batch: RecordBatch| {
                show(table, &batch, &mut out);
                Ok::<_, SnapshotError>(())
            };
            self.runtime.block_on(self.segments.entries(manifest, spec, now_ms, show)).unwrap();
            for segment in &manifest.segments {
                let verify = self.segments.verify(manifest, segment, spec, MAX_PARALLELISM);
                assert_eq!(self.runtime.block_on(verify).unwrap(), segment.rows);
            }
        }
        out
    }

    fn merge(&mut self, first: usize, parallelism: u32, now_ms: i64) {
        for task in 0..parallelism {
            let groups = key_group_range(task, parallelism, MAX_PARALLELISM);
            for (table, spec) in specs().iter().enumerate() {
                let manifest = &self.tables[table];
                let overlaps = |s: &&Segment| s.first_group < groups.end && s.end_group > groups.start;
                let mine: Vec<&Segment> = manifest.segments.iter().filter(overlaps).collect();
                let inline = mine.iter().position(|s| matches!(s.content, SegmentContent::Inline { .. }));
                let plan = MergePlan { first: first.min(inline.unwrap_or(usize::MAX)) };
                let epoch = mine.last().map_or(Epoch(0), |s| s.epoch);
                let mut inline_bytes_left = if first.is_multiple_of(2) { 64 << 10 } else { 0 };
                let at = writer(epoch, task);
                let merge = self.segments.merge(&at, manifest, spec, &groups, plan, now_ms, &mut inline_bytes_left);
                let merged = self.runtime.block_on(merge).unwrap();
                self.merged.insert((task, table), merged);
            }
        }
    }
}

/// Adds the entries of a batch.
fn show(table: usize, batch: &RecordBatch, out: &mut Contents) {
    let numbers = |at: usize| batch.column(at).as_primitive::<Int64Type>().values().clone();
    let (namespaces, ops) = (numbers(1), batch.column(2).as_primitive::<Int8Type>().values());
    assert!(ops.iter().all(|op| *op == ChangeOp::Put as i8));
    for row in 0..batch.num_rows() {
        let cells = batch.slice(row, 1);
        let (written, keys) = if table == 1 { (numbers(3)[row], 4..6) } else { (0, 3..4) };
        let text = (table == 1 && batch.column(7).is_valid(row)).then(|| batch.column(7).as_string::<i32>().value(row));
        let key = key_number(table, &cells.columns()[keys.clone()]);
        let shown = (numbers(keys.end)[row], text.map(str::to_owned), written);
        let old = out.insert((table, namespaces[row], key), shown);
        assert!(old.is_none(), "a row is shown once");
    }
}

/// As the coordinator does it: a replaced segment stays for the groups of other tasks; order is by epoch.
fn apply(table: &mut TableManifest, change: TableSnapshot, own: &Range<u16>) {
    let replaced = |segment: &Segment| match &segment.content {
        SegmentContent::Object(object) => change.replaced.contains(object),
        SegmentContent::Inline { .. } => change.replaced_inline_through.is_some_and(|e| segment.epoch <= e),
    };
    let mut segments = Vec::new();
    for segment in table.segments.drain(..) {
        if !replaced(&segment) {
            segments.push(segment);
            continue;
        }
        let below = segment.first_group..segment.end_group.min(own.start);
        let above = segment.first_group.max(own.end)..segment.end_group;
        for range in [below, above].into_iter().filter(|range| !range.is_empty()) {
            segments.push(Segment { first_group: range.start, end_group: range.end, ..segment.clone() });
        }
    }
    segments.extend(change.added);
    segments.sort_by_key(|segment| segment.epoch);
    table.segments = segments;
}
