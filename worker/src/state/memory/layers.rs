//! Versions of a table: what changed in which, snapshots, roll back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::changes::ChangeBuilder;
use super::super::table::Moment;
use super::super::versions::Version;
use super::rows::{RowCursor, RowTable, SnapshotSpan};
use super::{Account, LAYER_ENTRY_BYTES, MemoryTable};

/// Which tables of row changed in a version, and those that were dropped in it.
#[derive(Debug)]
pub(super) struct TableLayer {
    version: Version,
    pub(super) touched: Vec<(u16, i64)>,
    dropped: BTreeMap<(u16, i64), Dropped>,
    pub(super) bytes: u64,
}

/// A dropped table of rows.
#[derive(Debug)]
pub(super) struct Dropped {
    created: Version,
    /// `None`: pre-images were given up.
    rows: Option<Box<RowTable>>,
}

/// Where the snapshot of a table stands.
#[derive(Debug, Default)]
pub(crate) struct MemorySnapshot {
    /// What changed, in order; made by the first piece.
    work: Option<Vec<(u16, i64)>>,
    next: usize,
    /// The drop of the namespace is in the output.
    drop_done: bool,
    rows: RowCursor,
}

impl TableLayer {
    fn new(version: Version) -> Self {
        Self { version, touched: Vec::new(), dropped: BTreeMap::new(), bytes: 0 }
    }
}

impl MemoryTable {
    pub fn drop_namespace(&mut self, at: &Moment, namespace: i64) {
        if self.namespaces.remove(&namespace).is_none() {
            return;
        }
        self.open_layer(at.version);
        for (index, group) in self.groups.iter_mut().enumerate() {
            let Ok(position) = group.position(namespace) else {
                continue;
            };
            let rows = group.tables.remove(position).1;
            let account = Account::of(&rows);
            self.bytes -= account.bytes;
            self.rows -= account.rows;
            // What began in this version is part of no epoch: no trace of it.
            if rows.created == at.version {
                continue;
            }
            let layer = self.layers.back_mut().expect("opened above");
            let bytes = LAYER_ENTRY_BYTES + if at.keep_images { account.bytes } else { 0 };
            layer.bytes += bytes;
            self.undo_bytes += bytes;
            let dropped = Dropped { created: rows.created, rows: at.keep_images.then_some(rows) };
            layer.dropped.insert((self.owned.start + index as u16, namespace), dropped);
        }
    }

    /// Adds a piece of the snapshot. True: the table has no more.
    pub fn snapshot(&self, span: &SnapshotSpan, cursor: &mut MemorySnapshot, out: &mut ChangeBuilder) -> bool {
        let in_span = |layer: &&TableLayer| layer.version > span.sealed && layer.version <= span.version;
        if cursor.work.is_none() {
            let mut work: Vec<(u16, i64)> = Vec::new();
            for layer in self.layers.iter().filter(in_span) {
                work.extend(&layer.touched);
                work.extend(layer.dropped.keys());
            }
            work.sort_unstable();
            work.dedup();
            cursor.work = Some(work);
        }
        while let Some(place) = cursor.work.as_ref().and_then(|work| work.get(cursor.next)).copied() {
            if out.len() >= span.max_rows {
                return false;
            }
            if !cursor.drop_done {
                cursor.drop_done = true;
                let was_dropped = |layer: &TableLayer| {
                    layer.dropped.get(&place).is_some_and(|dropped| dropped.created <= span.sealed)
                };
                if self.layers.iter().filter(in_span).any(was_dropped) {
                    out.drop_namespace(&self.def, place.0, place.1);
                }
            }
            if let Some(rows) = self.rows_at(span.version, place)
                && !rows.snapshot(&self.def, span, place, &mut cursor.rows, out)
            {
                return false;
            }
            *cursor = MemorySnapshot { work: cursor.work.take(), next: cursor.next + 1, ..Default::default() };
        }
        true
    }

    /// The table of rows that was at `place` when `version` ended.
    fn rows_at(&self, version: Version, place: (u16, i64)) -> Option<&RowTable> {
        let later = self.layers.iter().filter(|layer| layer.version > version);
        for dropped in later.filter_map(|layer| layer.dropped.get(&place)) {
            if dropped.created <= version {
                return dropped.rows.as_deref();
            }
        }
        let index = self.index_of(place.0).ok()?;
        self.groups[index].get(place.1).filter(|rows| rows.created <= version)
    }

    /// A manifest covers everything up to `version`.
    pub fn sealed(&mut self, version: Version) {
        let mut touched = Vec::new();
        while self.layers.front().is_some_and(|layer| layer.version <= version) {
            let layer = self.layers.pop_front().expect("checked");
            self.undo_bytes -= layer.bytes;
            touched.extend(layer.touched);
        }
        for rows in self.layers.iter_mut().flat_map(|l| l.dropped.values_mut()).filter_map(|d| d.rows.as_mut()) {
            rows.prune(&self.def, version);
        }
        touched.sort_unstable();
        touched.dedup();
        for (group, namespace) in touched {
            let Ok(index) = self.index_of(group) else { continue };
            let Some(rows) = self.groups[index].get_mut(namespace) else { continue };
            let before = Account::of(rows);
            rows.prune(&self.def, version);
            self.bytes = self.bytes + Account::of(rows).bytes - before.bytes;
            if rows.is_forgotten() {
                self.remove_rows(index, namespace);
            }
        }
    }

    /// Keeps which entries changed, not what they were. Every pending snapshot has been taken.
    pub fn give_up_images(&mut self) {
        for layer in &mut self.layers {
            layer.bytes = 0;
            for dropped in layer.dropped.values_mut() {
                dropped.rows = None;
                layer.bytes += LAYER_ENTRY_BYTES;
            }
        }
        for layer in &mut self.layers {
            for (group, namespace) in &layer.touched {
                // A group that is not owned was never touched.
                let Some(group) = self.groups.get_mut(usize::from(group - self.owned.start)) else { continue };
                let kept = group.get_mut(*namespace).map_or(0, |rows| rows.give_up_images(layer.version));
                layer.bytes += LAYER_ENTRY_BYTES + kept as u64;
            }
        }
        self.undo_bytes = self.layers.iter().map(|layer| layer.bytes).sum();
    }

    /// Undoes everything after `version`.
    pub fn roll_back(&mut self, version: Version) {
        let def = Arc::clone(&self.def);
        let mut dropped = Vec::new();
        while self.layers.back().is_some_and(|layer| layer.version > version) {
            let layer = self.layers.pop_back().expect("checked");
            self.undo_bytes -= layer.bytes;
            for (group, namespace) in layer.touched {
                let Ok(index) = self.index_of(group) else { continue };
                let Some(rows) = self.groups[index].get_mut(namespace) else { continue };
                if rows.created > version {
                    self.remove_rows(index, namespace);
                    continue;
                }
                let before = Account::of(rows);
                rows.roll_back(&def, version);
                let after = Account::of(rows);
                self.bytes = self.bytes + after.bytes - before.bytes;
                self.rows = self.rows + after.rows - before.rows;
            }
            dropped.extend(layer.dropped);
        }
        for ((group, namespace), dropped) in dropped {
            let Some(mut rows) = dropped.rows.filter(|rows| rows.created <= version) else { continue };
            let Ok(index) = self.index_of(group) else { continue };
            rows.roll_back(&def, version);
            let account = Account::of(&rows);
            self.bytes += account.bytes;
            self.rows += account.rows;
            match self.groups[index].position(namespace) {
                Ok(_) => unreachable!("a table that came after a drop was removed above"),
                Err(position) => self.groups[index].tables.insert(position, (namespace, rows)),
            }
            *self.namespaces.entry(namespace).or_default() += 1;
        }
    }

    pub(super) fn open_layer(&mut self, version: Version) {
        if self.layers.back().is_none_or(|layer| layer.version != version) {
            self.layers.push_back(TableLayer::new(version));
        }
    }
}
