//! The disk backend: rows in an LSM tree on scratch disk, for state larger than memory.
//!
//! The mechanism is the memory backend's: the first write to an entry in a version saves what it was (here in a second
//! tree, ordered by version), a snapshot reads what the layers name, a roll back puts it back. Dropping a namespace
//! goes row by row. Undo is bounded by the disk, so `undo_bytes_max` does not apply.

mod keys;
mod layers;
mod trees;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lsm_tree::Slice;

use super::changes::{ChangeOp, Changes};
use super::row::{Heap, RowMut, RowRef};
use super::table::{Moment, TableDef};
use super::versions::Version;
use super::{Change, Namespaces, StateError};
use crate::keys::KeyBatch;
use keys::{PLACE_BYTES, place};
pub(crate) use layers::DiskSnapshot;
use trees::{KEY_BYTES_MAX, Trees};

/// Rows that a batch of updates checks for expired ones.
const SWEEP_ROWS: usize = 64;
/// A stored row begins with its stamp.
const STAMP_BYTES: usize = 4;
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

    /// Removes what was loaded of these key groups.
    pub fn forget(&mut self, table: usize, groups: &Range<u16>) -> Result<(), StateError> {
        let [from, to] = [groups.start, groups.end].map(|group| place(table as u16, group, i64::MIN));
        for entry in self.trees.rows.range(&from, &to) {
            let (key, stored) = entry?;
            self.remove(table, keys::group_and_namespace(&key).1, &key, &stored)?;
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
