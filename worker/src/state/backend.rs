//! The two backends behind one set of methods, dispatched once per batch.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::changes::{ChangeBuilder, Changes};
use super::disk::{DiskBackend, DiskSnapshot};
use super::memory::{MemorySnapshot, MemoryTable, SnapshotSpan};
use super::row::{RowMut, RowRef};
use super::table::{Moment, TableDef};
use super::versions::Version;
use super::{Change, Namespaces, ScanCursor, StateError};
use crate::keys::KeyBatch;

/// Where the rows live. Tables are numbered in order of declaration.
#[derive(Debug)]
pub(super) enum Backend {
    Memory { owned: Range<u16>, tables: Vec<MemoryTable> },
    Disk(Box<DiskBackend>),
}

/// Where the snapshot of a table stands, in either backend.
#[derive(Debug, Default)]
pub(super) struct SnapshotCursor {
    memory: MemorySnapshot,
    disk: DiskSnapshot,
}

impl Backend {
    pub fn memory(owned: Range<u16>) -> Self {
        Self::Memory { owned, tables: Vec::new() }
    }

    pub fn disk(dir: &Path, owned: Range<u16>) -> Result<Self, StateError> {
        Ok(Self::Disk(Box::new(DiskBackend::open(dir, owned)?)))
    }

    pub fn add_table(&mut self, def: Arc<TableDef>) {
        match self {
            Self::Memory { owned, tables } => tables.push(MemoryTable::new(def, owned.clone())),
            Self::Disk(disk) => disk.add_table(def),
        }
    }

    pub fn update<E: From<StateError>>(
        &mut self,
        table: usize,
        at: &Moment,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        visit: impl FnMut(usize, &mut RowMut<'_>) -> Result<Change, E>,
    ) -> Result<(), E> {
        match self {
            Self::Memory { tables, .. } => tables[table].update(at, namespaces, keys, visit),
            Self::Disk(disk) => disk.update(table, at, namespaces, keys, visit),
        }
    }

    pub fn get_many<E: From<StateError>>(
        &self,
        table: usize,
        now_ms: i64,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        visit: impl FnMut(usize, Option<RowRef<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Memory { tables, .. } => tables[table].get_many(now_ms, namespaces, keys, visit),
            Self::Disk(disk) => disk.get_many(table, now_ms, namespaces, keys, visit),
        }
    }

    pub fn namespaces_until(&self, table: usize, limit: i64) -> Vec<i64> {
        match self {
            Self::Memory { tables, .. } => tables[table].namespaces_until(limit),
            Self::Disk(disk) => disk.namespaces_until(table, limit),
        }
    }

    pub fn scan<E: From<StateError>>(
        &self,
        table: usize,
        now_ms: i64,
        namespace: i64,
        cursor: &mut ScanCursor,
        max_rows: usize,
        visit: impl FnMut(&[u8], RowRef<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        match self {
            Self::Memory { tables, .. } => tables[table].scan(now_ms, namespace, &mut cursor.memory, max_rows, visit),
            Self::Disk(disk) => disk.scan(table, now_ms, namespace, &mut cursor.disk, max_rows, visit),
        }
    }

    pub fn drop_namespace(&mut self, table: usize, at: &Moment, namespace: i64) -> Result<(), StateError> {
        match self {
            Self::Memory { tables, .. } => {
                tables[table].drop_namespace(at, namespace);
                Ok(())
            }
            Self::Disk(disk) => disk.drop_namespace(table, at, namespace),
        }
    }

    /// Adds a piece of a table's snapshot. True: the table has no more.
    pub fn snapshot(
        &self,
        table: usize,
        span: &SnapshotSpan,
        cursor: &mut SnapshotCursor,
        out: &mut ChangeBuilder,
    ) -> Result<bool, StateError> {
        match self {
            Self::Memory { tables, .. } => Ok(tables[table].snapshot(span, &mut cursor.memory, out)),
            Self::Disk(disk) => disk.snapshot(table, span, &mut cursor.disk, out),
        }
    }

    pub fn sealed(&mut self, version: Version) -> Result<(), StateError> {
        match self {
            Self::Memory { tables, .. } => {
                tables.iter_mut().for_each(|table| table.sealed(version));
                Ok(())
            }
            Self::Disk(disk) => disk.sealed(version),
        }
    }

    pub fn roll_back(&mut self, version: Version) -> Result<(), StateError> {
        match self {
            Self::Memory { tables, .. } => {
                tables.iter_mut().for_each(|table| table.roll_back(version));
                Ok(())
            }
            Self::Disk(disk) => disk.roll_back(version),
        }
    }

    pub fn give_up_images(&mut self) {
        if let Self::Memory { tables, .. } = self {
            tables.iter_mut().for_each(MemoryTable::give_up_images);
        }
    }

    pub fn load(&mut self, table: usize, changes: &Changes<'_>, now_ms: i64) -> Result<(), StateError> {
        match self {
            Self::Memory { tables, .. } => tables[table].load(changes, now_ms),
            Self::Disk(disk) => disk.load(table, changes, now_ms),
        }
    }

    pub fn forget(&mut self, table: usize, groups: &Range<u16>) -> Result<(), StateError> {
        match self {
            Self::Memory { tables, .. } => {
                drop(tables[table].take_groups(groups));
                Ok(())
            }
            Self::Disk(disk) => disk.forget(table, groups),
        }
    }

    pub fn bytes(&self, table: usize) -> u64 {
        match self {
            Self::Memory { tables, .. } => tables[table].bytes(),
            Self::Disk(disk) => disk.bytes(table),
        }
    }

    pub fn rows(&self, table: usize) -> u64 {
        match self {
            Self::Memory { tables, .. } => tables[table].rows(),
            Self::Disk(disk) => disk.rows(table),
        }
    }

    /// Memory of all tables, or the disk that their files take.
    pub fn total_bytes(&self) -> u64 {
        match self {
            Self::Memory { tables, .. } => tables.iter().map(MemoryTable::bytes).sum(),
            Self::Disk(disk) => disk.disk_bytes(),
        }
    }

    pub fn undo_bytes(&self) -> u64 {
        match self {
            Self::Memory { tables, .. } => tables.iter().map(MemoryTable::undo_bytes).sum(),
            Self::Disk(_) => 0,
        }
    }
}
