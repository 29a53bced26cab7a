//! The disk backend: rows in an LSM tree on scratch disk, for state larger than memory.
//!
//! The mechanism is the memory backend's: the first write to an entry in a version saves what it was (here in a second
//! tree, ordered by version), a snapshot reads what the layers name, a roll back puts it back. Dropping a namespace
//! goes row by row. Undo is bounded by the disk, so `undo_bytes_max` does not apply.

mod keys;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lsm_tree::Slice;

use super::changes::{ChangeBuilder, ChangeOp, Changes};
use super::memory::SnapshotSpan;
use super::row::{Heap, RowMut, RowRef};
use super::table::{Moment, TableDef};
use super::versions::Version;
use super::{Change, Namespaces, StateError};
use crate::keys::KeyBatch;
use keys::{PLACE_BYTES, place};
use trees::{KEY_BYTES_MAX, Trees};

/// Rows that a batch of updates checks for expired ones.
const SWEEP_ROWS: usize = 64;
/// A stored row begins with its stamp.
const STAMP_BYTES: usize = 4;
/// An undo value: there was no row.
const WAS_ABSENT: [u8; 1] = [0];
/// The first byte of an undo value that goes on with the stored row.
const WAS_ROW: u8 = 1;

/// All tables of a state on disk.
#[derive(Debug)]
pub(crate) struct DiskBackend {
    trees: Trees,
    owned: Range<u16>,
    tables: Vec<DiskTable>,
    /// Versions with undo, oldest first.
    layers: Vec<Version>,
}

#[derive(Debug)]
struct DiskTable {
    def: Arc<TableDef>,
    /// Rows by namespace, expired ones included.
    namespaces: BTreeMap<i64, u64>,
    rows: u64,
    /// Keys and values, without the trees' own overhead.
    bytes: u64,
    /// Row key after which the search for expired rows goes on.
    sweep_after: Option<Vec<u8>>,
}

/// Where a scan goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskScan {
    group: usize,
    /// The last key shown in the group.
    after: Option<Vec<u8>>,
}

/// Where the snapshot of a table stands.
#[derive(Debug, Default)]
pub(crate) struct DiskSnapshot {
    /// Namespaces dropped in the span; filled and written by the first piece.
    drops: Option<BTreeSet<(u16, i64)>>,
    /// Index into the layers of the span.
    layer: usize,
    /// The last undo key that was looked at in the layer.
    after: Option<Vec<u8>>,
}

/// A row on its way from the disk to a visitor and back.
struct Scratch {
    cells: Vec<u8>,
    heap: Heap,
    value: Vec<u8>,
    row_key: Vec<u8>,
    undo_key: Vec<u8>,
}

impl DiskBackend {
    pub fn open(dir: &Path, owned: Range<u16>) -> Result<Self, StateError> {
        Ok(Self { trees: Trees::open(dir)?, owned, tables: Vec::new(), layers: Vec::new() })
    }

    pub fn add_table(&mut self, def: Arc<TableDef>) {
        self.tables.push(DiskTable { def, namespaces: BTreeMap::new(), rows: 0, bytes: 0, sweep_after: None });
    }

    pub fn bytes(&self, table: usize) -> u64 {
        self.tables[table].bytes
    }

    pub fn rows(&self, table: usize) -> u64 {
        self.tables[table].rows
    }

    /// Files of all tables, undo included.
    pub fn disk_bytes(&self) -> u64 {
        self.trees.disk_bytes()
    }

    pub fn update<E: From<StateError>>(
        &mut self,
        table: usize,
        at: &Moment,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        mut visit: impl FnMut(usize, &mut RowMut<'_>) -> Result<Change, E>,
    ) -> Result<(), E> {
        self.open_layer(at.version);
        let def = Arc::clone(&self.tables[table].def);
        let mut scratch = Scratch::new(&def);
        for row in 0..keys.len() {
            let namespace = namespaces.of(row);
            self.check_owned(keys.groups[row])?;
            scratch.row_key(table, keys.groups[row], namespace, keys.key(row))?;
            let stored = self.trees.rows.get(&scratch.row_key)?;
            let packed = stored.as_deref().map(|value| &value[STAMP_BYTES..]);
            let alive = packed.filter(|packed| !def.expired(&packed[..def.layout.len()], at.now_ms));
            scratch.heap = Heap::default();
            scratch.cells.copy_from_slice(&def.layout.blank);
            if let Some(packed) = alive {
                scratch.cells.copy_from_slice(&packed[..def.layout.len()]);
                scratch.heap.bytes.extend_from_slice(&packed[def.layout.len()..]);
            }
            let Scratch { cells, heap, .. } = &mut scratch;
            let existed = alive.is_some();
            let change = visit(row, &mut RowMut { layout: &def.layout, cells, heap, existed })?;
            match (change, &stored) {
                (Change::Keep, _) => {
                    def.layout.set_written_ms(&mut scratch.cells, at.now_ms);
                    self.save(at.version, &mut scratch, stored.as_ref())?;
                    scratch.pack(&def, at.version);
                    self.put(table, namespace, &scratch.row_key, &scratch.value, stored.as_ref())?;
                }
                (Change::Unchanged, _) if existed => {}
                (Change::Delete | Change::Unchanged, Some(stored)) => {
                    self.save(at.version, &mut scratch, Some(stored))?;
                    self.remove(table, namespace, &scratch.row_key, stored)?;
                }
                (Change::Delete | Change::Unchanged, None) => {}
            }
        }
        if def.spec.ttl_ms.is_some() {
            self.sweep(table, at, &mut scratch)?;
        }
        Ok(())
    }

    pub fn get_many<E: From<StateError>>(
        &self,
        table: usize,
        now_ms: i64,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        mut visit: impl FnMut(usize, Option<RowRef<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let def = &self.tables[table].def;
        let mut scratch = Scratch::new(def);
        for row in 0..keys.len() {
            self.check_owned(keys.groups[row])?;
            scratch.row_key(table, keys.groups[row], namespaces.of(row), keys.key(row))?;
            let stored = self.trees.rows.get(&scratch.row_key)?;
            visit(row, stored.as_ref().and_then(|stored| alive(def, stored, now_ms)))?;
        }
        Ok(())
    }

    pub fn namespaces_until(&self, table: usize, limit: i64) -> Vec<i64> {
        self.tables[table].namespaces.range(..=limit).map(|(namespace, _)| *namespace).collect()
    }

    pub fn scan<E: From<StateError>>(
        &self,
        table: usize,
        now_ms: i64,
        namespace: i64,
        cursor: &mut DiskScan,
        max_rows: usize,
        mut visit: impl FnMut(&[u8], RowRef<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let def = &self.tables[table].def;
        let mut left = max_rows;
        while cursor.group < self.owned.len() {
            let prefix = place(table as u16, self.owned.start + cursor.group as u16, namespace);
            let from = cursor.after.as_deref().map_or_else(|| prefix.to_vec(), just_after);
            for entry in self.trees.rows.range(&from, &keys::after(&prefix)) {
                let (key, stored) = entry?;
                let Some(row) = alive(def, &stored, now_ms) else { continue };
                if left == 0 {
                    return Ok(false);
                }
                visit(&key[PLACE_BYTES..], row)?;
                left -= 1;
                cursor.after = Some(key.to_vec());
            }
            *cursor = DiskScan { group: cursor.group + 1, after: None };
        }
        Ok(true)
    }

    pub fn drop_namespace(&mut self, table: usize, at: &Moment, namespace: i64) -> Result<(), StateError> {
        if !self.tables[table].namespaces.contains_key(&namespace) {
            return Ok(());
        }
        self.open_layer(at.version);
        let mut scratch = Scratch::new(&self.tables[table].def);
        for group in self.owned.clone() {
            let prefix = place(table as u16, group, namespace);
            let mut was_there = false;
            for entry in self.trees.rows.range(&prefix, &keys::after(&prefix)) {
                let (key, stored) = entry?;
                scratch.row_key.clear();
                scratch.row_key.extend_from_slice(&key);
                was_there |= self.save(at.version, &mut scratch, Some(&stored))?;
                self.remove(table, namespace, &key, &stored)?;
            }
            // What began in this version is part of no epoch: no trace of it.
            if was_there {
                keys::undo_drop(at.version, &prefix, &mut scratch.undo_key);
                self.trees.put_undo(&scratch.undo_key, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a piece of the snapshot. True: the table has no more.
    pub fn snapshot(
        &self,
        table: usize,
        span: &SnapshotSpan,
        cursor: &mut DiskSnapshot,
        out: &mut ChangeBuilder,
    ) -> Result<bool, StateError> {
        let def = &self.tables[table].def;
        let inside: Vec<Version> =
            self.layers.iter().copied().filter(|v| *v > span.sealed && *v <= span.version).collect();
        let after: Vec<Version> = self.layers.iter().copied().filter(|v| *v > span.version).collect();
        if cursor.drops.is_none() {
            let drops = self.dropped_in(table, &inside)?;
            for (group, namespace) in &drops {
                out.drop_namespace(def, *group, *namespace);
            }
            cursor.drops = Some(drops);
        }
        while let Some(layer) = inside.get(cursor.layer) {
            let (first, end) = keys::undo_entries(*layer, table as u16);
            let from = cursor.after.as_deref().map_or(first, just_after);
            for entry in self.trees.undo.range(&from, &end) {
                let (undo_key, _) = entry?;
                if out.len() >= span.max_rows {
                    return Ok(false);
                }
                let row_key = keys::row_key_of(&undo_key);
                cursor.after = Some(undo_key.to_vec());
                // A later layer of the span names it too: there it is written.
                if self.first_undo(&inside[cursor.layer + 1..], &row_key)?.is_some() {
                    continue;
                }
                let drops = cursor.drops.as_ref().expect("filled above");
                self.snapshot_entry(def, span, &inside, &after, &row_key, drops, out)?;
            }
            cursor.layer += 1;
            cursor.after = None;
        }
        Ok(true)
    }

    fn snapshot_entry(
        &self,
        def: &TableDef,
        span: &SnapshotSpan,
        inside: &[Version],
        after: &[Version],
        row_key: &[u8],
        drops: &BTreeSet<(u16, i64)>,
        out: &mut ChangeBuilder,
    ) -> Result<(), StateError> {
        let stored = match self.first_undo(after, row_key)? {
            Some(before) => stored_row(&before).map(Slice::from),
            None => self.trees.rows.get(row_key)?,
        };
        let (group, namespace) = keys::group_and_namespace(row_key);
        let key = &row_key[PLACE_BYTES..];
        if let Some(row) = stored.as_ref().and_then(|stored| alive(def, stored, span.now_ms)) {
            out.put(group, namespace, key, &row);
            return Ok(());
        }
        // What came and went inside the span is in no segment, and a dropped namespace needs no deletes.
        let was_row = self.first_undo(inside, row_key)?.is_some_and(|before| stored_row(&before).is_some());
        if was_row && !drops.contains(&(group, namespace)) {
            out.delete(group, namespace, key);
        }
        Ok(())
    }

    fn dropped_in(&self, table: usize, layers: &[Version]) -> Result<BTreeSet<(u16, i64)>, StateError> {
        let mut drops = BTreeSet::new();
        for layer in layers {
            let (from, to) = keys::undo_drops(*layer, table as u16);
            for entry in self.trees.undo.range(&from, &to) {
                drops.insert(keys::group_and_namespace(&keys::row_key_of(&entry?.0)));
            }
        }
        Ok(drops)
    }

    /// What the first of these layers says that the row was; `None`: none of them changed it.
    fn first_undo(&self, layers: &[Version], row_key: &[u8]) -> Result<Option<Slice>, StateError> {
        let mut undo_key = Vec::new();
        for layer in layers {
            keys::undo_entry(*layer, row_key, &mut undo_key);
            if let Some(before) = self.trees.undo.get(&undo_key)? {
                return Ok(Some(before));
            }
        }
        Ok(None)
    }

    /// A manifest covers everything up to `version`.
    pub fn sealed(&mut self, version: Version) -> Result<(), StateError> {
        self.layers.retain(|layer| *layer > version);
        self.trees.discard_undo_below(version + 1)
    }

    /// Undoes everything after `version`.
    pub fn roll_back(&mut self, version: Version) -> Result<(), StateError> {
        while let Some(layer) = self.layers.pop_if(|layer| *layer > version) {
            for table in 0..self.tables.len() {
                let (from, to) = keys::undo_entries(layer, table as u16);
                for entry in self.trees.undo.range(&from, &to) {
                    let (undo_key, before) = entry?;
                    let row_key = keys::row_key_of(&undo_key);
                    let namespace = keys::group_and_namespace(&row_key).1;
                    let now = self.trees.rows.get(&row_key)?;
                    match (stored_row(&before), now) {
                        (Some(before), now) => self.put(table, namespace, &row_key, before, now.as_ref())?,
                        (None, Some(now)) => self.remove(table, namespace, &row_key, &now)?,
                        (None, None) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Applies rows of a segment. There are no versions yet.
    pub fn load(&mut self, table: usize, changes: &Changes<'_>, now_ms: i64) -> Result<(), StateError> {
        let def = Arc::clone(&self.tables[table].def);
        let mut scratch = Scratch::new(&def);
        for row in 0..changes.groups.len() {
            let (group, namespace) = (changes.groups[row], changes.namespaces[row]);
            if !self.owned.contains(&group) {
                continue;
            }
            scratch.row_key(table, group, namespace, changes.keys.row(row).data())?;
            match changes.op(row) {
                ChangeOp::DropNamespace => self.load_drop(table, group, namespace)?,
                ChangeOp::Delete => {
                    if let Some(stored) = self.trees.rows.get(&scratch.row_key)? {
                        self.remove(table, namespace, &scratch.row_key, &stored)?;
                    }
                }
                ChangeOp::Put => {
                    scratch.heap = Heap::default();
                    scratch.cells.copy_from_slice(&def.layout.blank);
                    let Scratch { cells, heap, .. } = &mut scratch;
                    let mut out = RowMut { layout: &def.layout, cells, heap, existed: false };
                    for (column, array) in changes.values.iter().enumerate() {
                        out.set_from(column, array.as_ref(), row);
                    }
                    def.layout.set_written_ms(&mut scratch.cells, changes.written_ms.map_or(now_ms, |w| w[row]));
                    scratch.pack(&def, 0);
                    let stored = self.trees.rows.get(&scratch.row_key)?;
                    self.put(table, namespace, &scratch.row_key, &scratch.value, stored.as_ref())?;
                }
            }
        }
        Ok(())
    }

    fn load_drop(&mut self, table: usize, group: u16, namespace: i64) -> Result<(), StateError> {
        let prefix = place(table as u16, group, namespace);
        for entry in self.trees.rows.range(&prefix, &keys::after(&prefix)) {
            let (key, stored) = entry?;
            self.remove(table, namespace, &key, &stored)?;
        }
        Ok(())
    }

    /// Deletes expired rows, a few per call.
    fn sweep(&mut self, table: usize, at: &Moment, scratch: &mut Scratch) -> Result<(), StateError> {
        let def = Arc::clone(&self.tables[table].def);
        let first = place(table as u16, 0, i64::MIN);
        let from = self.tables[table].sweep_after.as_deref().map_or_else(|| first.to_vec(), just_after);
        let end = (table as u16 + 1).to_be_bytes();
        let mut last = None;
        for entry in self.trees.rows.range(&from, &end).take(SWEEP_ROWS) {
            let (key, stored) = entry?;
            if alive(&def, &stored, at.now_ms).is_none() {
                scratch.row_key.clear();
                scratch.row_key.extend_from_slice(&key);
                self.save(at.version, scratch, Some(&stored))?;
                self.remove(table, keys::group_and_namespace(&key).1, &key, &stored)?;
            }
            last = Some(key.to_vec());
        }
        self.tables[table].sweep_after = last;
        Ok(())
    }

    /// Saves what the row `scratch.row_key` was before its first write in the version. True: it was there then.
    fn save(&self, version: Version, scratch: &mut Scratch, stored: Option<&Slice>) -> Result<bool, StateError> {
        if stored.is_some_and(|stored| stamp(stored) == version) {
            keys::undo_entry(version, &scratch.row_key, &mut scratch.undo_key);
            let before = self.trees.undo.get(&scratch.undo_key)?;
            return Ok(before.is_some_and(|before| stored_row(&before).is_some()));
        }
        keys::undo_entry(version, &scratch.row_key, &mut scratch.undo_key);
        match stored {
            Some(stored) => {
                let mut before = Vec::with_capacity(1 + stored.len());
                before.push(WAS_ROW);
                before.extend_from_slice(stored);
                self.trees.put_undo(&scratch.undo_key, &before)?;
                Ok(true)
            }
            // It may have been deleted in this version: then what it was is saved.
            None if self.trees.undo.contains(&scratch.undo_key)? => Ok(false),
            None => {
                self.trees.put_undo(&scratch.undo_key, &WAS_ABSENT)?;
                Ok(false)
            }
        }
    }

    fn put(
        &mut self,
        table: usize,
        namespace: i64,
        key: &[u8],
        value: &[u8],
        old: Option<&Slice>,
    ) -> Result<(), StateError> {
        self.trees.put_row(key, value)?;
        let table = &mut self.tables[table];
        table.bytes += value.len() as u64;
        match old {
            Some(old) => table.bytes -= old.len() as u64,
            None => {
                table.bytes += key.len() as u64;
                table.rows += 1;
                *table.namespaces.entry(namespace).or_default() += 1;
            }
        }
        Ok(())
    }

    fn remove(&mut self, table: usize, namespace: i64, key: &[u8], old: &Slice) -> Result<(), StateError> {
        self.trees.remove_row(key)?;
        let table = &mut self.tables[table];
        table.bytes -= (key.len() + old.len()) as u64;
        table.rows -= 1;
        if let Some(rows) = table.namespaces.get_mut(&namespace) {
            *rows -= 1;
            if *rows == 0 {
                table.namespaces.remove(&namespace);
            }
        }
        Ok(())
    }

    fn open_layer(&mut self, version: Version) {
        if self.layers.last() != Some(&version) {
            self.layers.push(version);
        }
    }

    fn check_owned(&self, group: u16) -> Result<(), StateError> {
        if self.owned.contains(&group) {
            return Ok(());
        }
        let reason = format!("key group {group} is not in {:?} of this task", self.owned);
        Err(StateError::Bug { verb: "access", reason })
    }
}

impl Scratch {
    fn new(def: &TableDef) -> Self {
        Self {
            cells: def.layout.blank.clone(),
            heap: Heap::default(),
            value: Vec::new(),
            row_key: Vec::new(),
            undo_key: Vec::new(),
        }
    }

    fn row_key(&mut self, table: usize, group: u16, namespace: i64, key: &[u8]) -> Result<(), StateError> {
        // An undo key is longer by its version and kind.
        if key.len() + PLACE_BYTES + 8 > KEY_BYTES_MAX {
            let detail = "a key is too long for the disk backend; use the memory backend".to_owned();
            return Err(StateError::Limit { bytes: key.len() as u64, limit: KEY_BYTES_MAX as u64, detail });
        }
        self.row_key.clear();
        self.row_key.extend_from_slice(&place(table as u16, group, namespace));
        self.row_key.extend_from_slice(key);
        Ok(())
    }

    fn pack(&mut self, def: &TableDef, stamp: Version) {
        self.value.clear();
        self.value.extend_from_slice(&stamp.to_le_bytes());
        def.layout.pack(&self.cells, &self.heap.bytes, &mut self.value);
    }
}

fn stamp(stored: &[u8]) -> Version {
    Version::from_le_bytes(stored[..STAMP_BYTES].try_into().expect("4 bytes"))
}

/// The stored row of an undo value, if there was one.
fn stored_row(undo: &[u8]) -> Option<&[u8]> {
    (undo[0] == WAS_ROW).then(|| &undo[1..])
}

fn alive<'a>(def: &'a TableDef, stored: &'a [u8], now_ms: i64) -> Option<RowRef<'a>> {
    let row = def.layout.packed(&stored[STAMP_BYTES..]);
    (!def.expired(row.cells, now_ms)).then_some(row)
}

/// The smallest key after `key`.
fn just_after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
