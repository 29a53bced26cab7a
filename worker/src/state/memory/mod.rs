//! The memory backend: per table, key group and namespace one table of packed rows (`rows`), with undo layers.
//!
//! A key group's tables hang off one slot of a vector, so that a group can be handed over by moving it. Dropping a
//! namespace moves its tables into the undo layer of the current version: nothing is touched row by row.

mod index;
mod layers;
mod rows;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

pub(crate) use layers::MemorySnapshot;
use layers::TableLayer;
pub(crate) use rows::SnapshotSpan;
use rows::{RowTable, SlotShape};

use super::changes::{ChangeOp, Changes};
use super::row::{RowMut, RowRef};
use super::table::{Moment, TableDef};
use super::versions::Version;
use super::{Change, Namespaces, StateError};
use crate::keys::KeyBatch;

/// Slots that a batch of updates checks for expired rows, at least.
const SWEEP_SLOTS_MIN: usize = 64;
/// And at most.
const SWEEP_SLOTS_MAX: usize = 1024;
/// A table smaller than this is in the processor's caches anyway.
const WARM_BYTES: u64 = 512 << 10;
/// Keys whose rows are fetched together: more than the processor can wait for at a time.
const WARM_ROWS: usize = 32;
/// What a touched or dropped table costs in a layer, beside its records.
const LAYER_ENTRY_BYTES: u64 = 64;

/// A table of the memory backend.
#[derive(Debug)]
pub(crate) struct MemoryTable {
    def: Arc<TableDef>,
    shape: SlotShape,
    owned: Range<u16>,
    /// By key group, from `owned.start`.
    groups: Vec<GroupTables>,
    /// Namespaces with the number of groups that have a table there.
    namespaces: BTreeMap<i64, u32>,
    /// Oldest first; the last one is the current version's.
    layers: VecDeque<TableLayer>,
    bytes: u64,
    rows: u64,
    undo_bytes: u64,
    sweep: SweepCursor,
}

/// The tables of a key group, by namespace.
#[derive(Debug, Default)]
pub(crate) struct GroupTables {
    /// Ascending.
    tables: Vec<(i64, Box<RowTable>)>,
}

/// Where a scan goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemoryScan {
    group: usize,
    slot: usize,
}

/// Where the search for expired rows goes on.
#[derive(Clone, Copy, Debug, Default)]
struct SweepCursor {
    group: usize,
    table: usize,
    slot: usize,
}

impl GroupTables {
    #[inline]
    fn position(&self, namespace: i64) -> Result<usize, usize> {
        // Most often the only or the newest one.
        match self.tables.last() {
            Some((last, _)) if *last == namespace => Ok(self.tables.len() - 1),
            Some((last, _)) if *last < namespace => Err(self.tables.len()),
            None => Err(0),
            Some(_) => self.tables.binary_search_by_key(&namespace, |(n, _)| *n),
        }
    }

    fn get(&self, namespace: i64) -> Option<&RowTable> {
        self.position(namespace).ok().map(|at| &*self.tables[at].1)
    }

    fn get_mut(&mut self, namespace: i64) -> Option<&mut RowTable> {
        self.position(namespace).ok().map(|at| &mut *self.tables[at].1)
    }
}

impl MemoryTable {
    pub fn new(def: Arc<TableDef>, owned: Range<u16>) -> Self {
        let mut groups = Vec::new();
        groups.resize_with(owned.len(), GroupTables::default);
        Self {
            shape: SlotShape::of(&def),
            def,
            owned,
            groups,
            namespaces: BTreeMap::new(),
            layers: VecDeque::new(),
            bytes: 0,
            rows: 0,
            undo_bytes: 0,
            sweep: SweepCursor::default(),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn undo_bytes(&self) -> u64 {
        self.undo_bytes
    }

    pub fn update<E: From<StateError>>(
        &mut self,
        at: &Moment,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        mut visit: impl FnMut(usize, &mut RowMut<'_>) -> Result<Change, E>,
    ) -> Result<(), E> {
        self.open_layer(at.version);
        let def = Arc::clone(&self.def);
        let warm = self.bytes > WARM_BYTES;
        for row in 0..keys.len() {
            if warm && row % WARM_ROWS == 0 {
                self.warm(namespaces, keys, row..keys.len().min(row + WARM_ROWS));
            }
            let namespace = namespaces.of(row);
            let group = self.index_of(keys.groups[row])?;
            let position = match self.groups[group].position(namespace) {
                Ok(position) => position,
                Err(position) => self.add_rows(at.version, group, position, namespace),
            };
            let rows = &mut *self.groups[group].tables[position].1;
            let layer = self.layers.back_mut().expect("opened above");
            if rows.open_layer(at.version) {
                layer.touched.push((keys.groups[row], namespace));
                layer.bytes += LAYER_ENTRY_BYTES;
                self.undo_bytes += LAYER_ENTRY_BYTES;
            }
            let before = Account::of(rows);
            let outcome = rows.visit(&def, at, keys.hashes[row], keys.key(row), |r| visit(row, r));
            let after = Account::of(rows);
            self.bytes = self.bytes + after.bytes - before.bytes;
            self.rows = self.rows + after.rows - before.rows;
            layer.bytes = layer.bytes + after.undo_bytes - before.undo_bytes;
            self.undo_bytes = self.undo_bytes + after.undo_bytes - before.undo_bytes;
            outcome?;
        }
        if def.spec.ttl_ms.is_some() {
            self.sweep(at, (keys.len() * 2).clamp(SWEEP_SLOTS_MIN, SWEEP_SLOTS_MAX));
        }
        Ok(())
    }

    /// Reads where the rows of some keys are, ahead of their visits. The reads do not depend on each other, so the
    /// processor waits for main memory once per `WARM_ROWS` keys and not several times per key.
    fn warm(&self, namespaces: Namespaces<'_>, keys: &KeyBatch, rows: Range<usize>) {
        let mut found: [Option<(&RowTable, u32)>; WARM_ROWS] = [None; WARM_ROWS];
        for (row, found) in rows.clone().zip(&mut found) {
            let group = usize::from(keys.groups[row].wrapping_sub(self.owned.start));
            let table = self.groups.get(group).and_then(|group| group.get(namespaces.of(row)));
            *found = table.and_then(|table| Some((table, table.candidate(keys.hashes[row])?)));
        }
        let mut read = 0;
        for (table, slot) in found.iter().flatten() {
            read ^= table.touch(*slot);
        }
        std::hint::black_box(read);
    }

    pub fn get_many<E: From<StateError>>(
        &self,
        now_ms: i64,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        mut visit: impl FnMut(usize, Option<RowRef<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in 0..keys.len() {
            let group = self.index_of(keys.groups[row])?;
            let rows = self.groups[group].get(namespaces.of(row));
            visit(row, rows.and_then(|rows| rows.get(&self.def, now_ms, keys.hashes[row], keys.key(row))))?;
        }
        Ok(())
    }

    pub fn namespaces_until(&self, limit: i64) -> Vec<i64> {
        let has_rows =
            |namespace: &i64| self.groups.iter().any(|g| g.get(*namespace).is_some_and(|rows| rows.live() > 0));
        self.namespaces.range(..=limit).map(|(namespace, _)| *namespace).filter(has_rows).collect()
    }

    pub fn scan<E>(
        &self,
        now_ms: i64,
        namespace: i64,
        cursor: &mut MemoryScan,
        max_rows: usize,
        mut visit: impl FnMut(&[u8], RowRef<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut left = max_rows;
        while let Some(group) = self.groups.get(cursor.group) {
            if let Some(rows) = group.get(namespace) {
                let (shown, next) = rows.scan(&self.def, now_ms, cursor.slot, left, &mut visit)?;
                if let Some(slot) = next {
                    cursor.slot = slot;
                    return Ok(false);
                }
                left -= shown;
            }
            *cursor = MemoryScan { group: cursor.group + 1, slot: 0 };
        }
        Ok(true)
    }

    /// Applies rows of a segment. There are no versions yet.
    pub fn load(&mut self, changes: &Changes<'_>, now_ms: i64) -> Result<(), StateError> {
        let def = Arc::clone(&self.def);
        for row in 0..changes.groups.len() {
            let (group, namespace) = (changes.groups[row], changes.namespaces[row]);
            let Ok(index) = self.index_of(group) else { continue };
            let key = changes.keys.row(row);
            let op = changes.op(row);
            if op == ChangeOp::DropNamespace {
                self.remove_rows(index, namespace);
                continue;
            }
            let position = match self.groups[index].position(namespace) {
                Ok(position) => position,
                Err(_) if op == ChangeOp::Delete => continue,
                Err(position) => self.add_rows(0, index, position, namespace),
            };
            let rows = &mut *self.groups[index].tables[position].1;
            let before = Account::of(rows);
            if op == ChangeOp::Delete {
                rows.unload(&def, changes.hashes[row], key.data());
            } else {
                rows.load(&def, changes.hashes[row], key.data(), |out| {
                    for (column, array) in changes.values.iter().enumerate() {
                        out.set_from(column, array.as_ref(), row);
                    }
                    out.layout.set_written_ms(out.cells, changes.written_ms.map_or(now_ms, |w| w[row]));
                })?;
            }
            let after = Account::of(rows);
            self.bytes = self.bytes + after.bytes - before.bytes;
            self.rows = self.rows + after.rows - before.rows;
        }
        Ok(())
    }

    /// Takes these key groups out. Nothing of them is in an undo layer.
    pub fn take_groups(&mut self, groups: &Range<u16>) -> Vec<GroupTables> {
        let own = |group: u16| usize::from(group - self.owned.start);
        let taken: Vec<GroupTables> =
            self.groups[own(groups.start)..own(groups.end)].iter_mut().map(std::mem::take).collect();
        for (namespace, rows) in taken.iter().flat_map(|group| &group.tables) {
            self.account_removed(*namespace, rows);
        }
        taken
    }

    /// Puts key groups in, from `first` on, of which there is nothing here.
    pub fn put_groups(&mut self, first: u16, groups: Vec<GroupTables>) -> Result<(), StateError> {
        for (group, tables) in (first..).zip(groups) {
            let index = self.index_of(group)?;
            for (namespace, rows) in &tables.tables {
                let account = Account::of(rows);
                self.bytes += account.bytes;
                self.rows += account.rows;
                *self.namespaces.entry(*namespace).or_default() += 1;
            }
            self.groups[index] = tables;
        }
        Ok(())
    }

    /// Deletes expired rows, a few slots per call.
    fn sweep(&mut self, at: &Moment, max_slots: usize) {
        let def = Arc::clone(&self.def);
        let SweepCursor { group, table, slot } = self.sweep;
        let Some(tables) = self.groups.get_mut(group).map(|g| &mut g.tables) else {
            self.sweep = SweepCursor::default();
            return;
        };
        let Some((namespace, rows)) = tables.get_mut(table) else {
            self.sweep = SweepCursor { group: group + 1, ..Default::default() };
            return;
        };
        let (namespace, rows) = (*namespace, &mut **rows);
        if !rows.has_expired(&def, at.now_ms, slot, max_slots) {
            let next = slot + max_slots;
            self.sweep = if next < rows.slots() {
                SweepCursor { group, table, slot: next }
            } else {
                SweepCursor { group, table: table + 1, slot: 0 }
            };
            return;
        }
        let layer = self.layers.back_mut().expect("an update opened it");
        if rows.open_layer(at.version) {
            layer.touched.push((self.owned.start + group as u16, namespace));
        }
        let before = Account::of(rows);
        let next = rows.sweep(&def, at, slot, max_slots);
        let after = Account::of(rows);
        self.rows = self.rows + after.rows - before.rows;
        layer.bytes = layer.bytes + after.undo_bytes - before.undo_bytes;
        self.undo_bytes = self.undo_bytes + after.undo_bytes - before.undo_bytes;
        self.sweep = match next {
            Some(slot) => SweepCursor { group, table, slot },
            None => SweepCursor { group, table: table + 1, slot: 0 },
        };
    }

    fn add_rows(&mut self, version: Version, group: usize, position: usize, namespace: i64) -> usize {
        let rows = Box::new(RowTable::new(self.shape, version));
        self.bytes += Account::of(&rows).bytes;
        self.groups[group].tables.insert(position, (namespace, rows));
        *self.namespaces.entry(namespace).or_default() += 1;
        position
    }

    fn remove_rows(&mut self, group: usize, namespace: i64) {
        let Ok(position) = self.groups[group].position(namespace) else { return };
        let rows = self.groups[group].tables.remove(position).1;
        self.account_removed(namespace, &rows);
    }

    fn account_removed(&mut self, namespace: i64, rows: &RowTable) {
        let account = Account::of(rows);
        self.bytes -= account.bytes;
        self.rows -= account.rows;
        if let Some(tables) = self.namespaces.get_mut(&namespace) {
            *tables -= 1;
            if *tables == 0 {
                self.namespaces.remove(&namespace);
            }
        }
    }

    #[inline]
    fn index_of(&self, group: u16) -> Result<usize, StateError> {
        if self.owned.contains(&group) {
            return Ok(usize::from(group - self.owned.start));
        }
        let reason = format!("key group {group} is not in {:?} of this task", self.owned);
        Err(StateError::Bug { verb: "access", reason })
    }
}

/// What a table of rows takes.
#[derive(Clone, Copy)]
struct Account {
    bytes: u64,
    rows: u64,
    undo_bytes: u64,
}

impl Account {
    #[inline]
    fn of(rows: &RowTable) -> Self {
        Self { bytes: rows.bytes() as u64, rows: rows.live() as u64, undo_bytes: rows.newest_undo_bytes() as u64 }
    }
}
