//! The rows of one key group and namespace: packed slots, an index over them, and their undo layers.
//!
//! A slot is one run of bytes: 32 bits of the key's hash, the stamp (the version of the last write), the key, the
//! cells. A key of fixed width stands in the slot, another in the heap. A deleted row leaves its slot behind, marked
//! dead, until no undo layer refers to it: so a slot's number identifies an entry in every version.

mod undo;

use std::collections::VecDeque;

use super::super::StateError;
use super::super::row::{HEAP_BYTES_MAX, Heap, RowMut, RowRef, move_reference, set_reference};
use super::super::table::{Moment, TableDef};
use super::super::versions::Version;
use super::super::{Change, row};
use super::index::Index;
pub(super) use undo::RowCursor;
pub(crate) use undo::SnapshotSpan;
use undo::UndoLayer;

/// Marks the stamp of a deleted row.
const DEAD: u32 = 1 << 31;
/// The stamp of a slot that nobody uses; in a record: there was no entry.
const FREE: u32 = u32::MAX;
const ABSENT: u32 = FREE;

/// Hash (u32) and stamp (u32).
const HEADER_BYTES: usize = 8;
/// Offset and length of a key in the heap.
const KEY_REFERENCE_BYTES: usize = 8;
/// A table starts with room for so many rows.
const FIRST_SLOTS: usize = 4;

/// How the slots of a table are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotShape {
    key_len: Option<usize>,
    cells_at: usize,
    stride: usize,
}

impl SlotShape {
    pub fn of(table: &TableDef) -> Self {
        let key_len = table.encoder.fixed_len();
        let cells_at = HEADER_BYTES + key_len.unwrap_or(KEY_REFERENCE_BYTES);
        Self { key_len, cells_at, stride: cells_at + table.layout.len() }
    }
}

/// Rows of one key group and namespace.
#[derive(Debug)]
pub(super) struct RowTable {
    shape: SlotShape,
    /// Slots, `shape.stride` bytes each.
    slab: Vec<u8>,
    index: Index,
    free: Vec<u32>,
    heap: Heap,
    live: usize,
    /// Pre-images by version, oldest first.
    undo: VecDeque<UndoLayer>,
    /// The version in which this table came to be.
    pub created: Version,
}

/// What became of the slot that a visit found.
enum Found {
    /// There was no slot: this one is new.
    New,
    /// A slot without a row: deleted or expired.
    Gone {
        expired: bool,
    },
    Alive,
}

impl RowTable {
    pub fn new(shape: SlotShape, created: Version) -> Self {
        Self {
            shape,
            slab: Vec::new(),
            index: Index::default(),
            free: Vec::new(),
            heap: Heap::default(),
            live: 0,
            undo: VecDeque::new(),
            created,
        }
    }

    /// Rows, expired ones included.
    #[inline]
    pub fn live(&self) -> usize {
        self.live
    }

    /// Memory of the rows and their index.
    #[inline]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.slab.capacity()
            + self.heap.bytes.capacity()
            + self.index.bytes()
            + self.free.capacity() * 4
    }

    /// Memory of the newest undo layer.
    #[inline]
    pub fn newest_undo_bytes(&self) -> usize {
        self.undo.back().map_or(0, UndoLayer::bytes)
    }

    /// Begins the undo layer of a version. True if it is new.
    #[inline]
    pub fn open_layer(&mut self, version: Version) -> bool {
        if self.undo.back().is_some_and(|layer| layer.version == version) {
            return false;
        }
        self.undo.push_back(UndoLayer::new(version));
        true
    }

    /// Visits the row of a key, made if there is none. The undo layer of `at.version` is open.
    pub fn visit<E: From<StateError>>(
        &mut self,
        table: &TableDef,
        at: &Moment,
        hash: u64,
        key: &[u8],
        visit: impl FnOnce(&mut RowMut<'_>) -> Result<Change, E>,
    ) -> Result<(), E> {
        let short = short_hash(hash);
        let (slot, found, saved) = match self.find(short, key) {
            None => (self.insert(table, short, key)?, Found::New, true),
            Some(slot) => {
                let stamp = self.stamp(slot);
                let found = if stamp & DEAD != 0 {
                    Found::Gone { expired: false }
                } else if table.expired(self.cells(slot), at.now_ms) {
                    Found::Gone { expired: true }
                } else {
                    Found::Alive
                };
                let saved = stamp & !DEAD != at.version;
                if saved {
                    self.save(table, at, slot, stamp);
                }
                if let Found::Gone { expired: true } = found {
                    let cells = self.shape.cells_at + slot * self.shape.stride;
                    table.layout.reset(&mut self.slab[cells..cells + table.layout.len()], &mut self.heap);
                }
                (slot, found, saved)
            }
        };
        if matches!(found, Found::New) {
            self.record(slot, ABSENT, 0);
        }
        let start = slot * self.shape.stride + self.shape.cells_at;
        let mut row = RowMut {
            layout: &table.layout,
            cells: &mut self.slab[start..start + table.layout.len()],
            heap: &mut self.heap,
            existed: matches!(found, Found::Alive),
        };
        let change = visit(&mut row)?;
        if change == Change::Keep {
            table.layout.set_written_ms(row.cells, at.now_ms);
        }
        self.settle(table, at, slot, &found, saved, change);
        self.check_heap(table)?;
        Ok(())
    }

    /// Applies what the visitor decided.
    fn settle(&mut self, table: &TableDef, at: &Moment, slot: usize, found: &Found, saved: bool, change: Change) {
        match (change, found) {
            (Change::Keep, Found::Alive) => self.set_stamp(slot, at.version),
            (Change::Keep, Found::New | Found::Gone { expired: false }) => {
                self.set_stamp(slot, at.version);
                self.live += 1;
            }
            (Change::Keep, Found::Gone { expired: true }) => self.set_stamp(slot, at.version),
            // The slot was made by this visit: nothing of it stays.
            (Change::Delete | Change::Unchanged, Found::New) => {
                self.forget_record();
                self.release(table, slot);
            }
            (Change::Delete, Found::Alive) | (Change::Delete | Change::Unchanged, Found::Gone { expired: true }) => {
                self.kill(table, at.version, slot);
            }
            // No row before, no row now; or a row as it was.
            (Change::Delete | Change::Unchanged, Found::Gone { expired: false }) => {
                let start = slot * self.shape.stride + self.shape.cells_at;
                table.layout.reset(&mut self.slab[start..start + table.layout.len()], &mut self.heap);
                if saved {
                    self.unsave(slot);
                }
            }
            (Change::Unchanged, Found::Alive) => {
                if saved {
                    self.unsave(slot);
                }
            }
        }
    }

    /// The row of a key, unless it expired.
    pub fn get<'a>(&'a self, table: &'a TableDef, now_ms: i64, hash: u64, key: &[u8]) -> Option<RowRef<'a>> {
        let slot = self.find(short_hash(hash), key)?;
        self.row_if_alive(table, now_ms, slot)
    }

    /// Shows rows from slot `from` on, at most `max`; returns the slot to go on from, or `None` at the end.
    pub fn scan<E>(
        &self,
        table: &TableDef,
        now_ms: i64,
        from: usize,
        max: usize,
        visit: &mut impl FnMut(&[u8], RowRef<'_>) -> Result<(), E>,
    ) -> Result<(usize, Option<usize>), E> {
        let mut shown = 0;
        for slot in from..self.slots() {
            if shown == max {
                return Ok((shown, Some(slot)));
            }
            if self.stamp(slot) != FREE
                && let Some(row) = self.row_if_alive(table, now_ms, slot)
            {
                visit(self.key(slot), row)?;
                shown += 1;
            }
        }
        Ok((shown, None))
    }

    /// Deletes up to `max` slots' worth of expired rows from slot `from` on; returns the slot to go on from.
    pub fn sweep(&mut self, table: &TableDef, at: &Moment, from: usize, max: usize) -> Option<usize> {
        let end = self.slots().min(from + max);
        for slot in from..end {
            let stamp = self.stamp(slot);
            if stamp & DEAD == 0 && table.expired(self.cells(slot), at.now_ms) {
                if stamp != at.version {
                    self.save(table, at, slot, stamp);
                }
                self.kill(table, at.version, slot);
            }
        }
        (end < self.slots()).then_some(end)
    }

    /// Whether a slot from `from` on, within `max`, holds an expired row.
    pub fn has_expired(&self, table: &TableDef, now_ms: i64, from: usize, max: usize) -> bool {
        (from..self.slots().min(from + max))
            .any(|slot| self.stamp(slot) & DEAD == 0 && table.expired(self.cells(slot), now_ms))
    }

    /// Puts a row of a restore: no version, no undo.
    pub fn load(
        &mut self,
        table: &TableDef,
        hash: u64,
        key: &[u8],
        fill: impl FnOnce(&mut RowMut<'_>),
    ) -> Result<(), StateError> {
        let short = short_hash(hash);
        let (slot, existed) = match self.find(short, key) {
            Some(slot) => (slot, true),
            None => (self.insert(table, short, key)?, false),
        };
        let start = slot * self.shape.stride + self.shape.cells_at;
        let cells = &mut self.slab[start..start + table.layout.len()];
        fill(&mut RowMut { layout: &table.layout, cells, heap: &mut self.heap, existed });
        self.set_stamp(slot, 0);
        self.live += usize::from(!existed);
        self.check_heap(table)
    }

    /// Removes a row of a restore.
    pub fn unload(&mut self, table: &TableDef, hash: u64, key: &[u8]) {
        if let Some(slot) = self.find(short_hash(hash), key) {
            self.live -= 1;
            self.release(table, slot);
        }
    }

    #[inline]
    fn find(&self, short: u32, key: &[u8]) -> Option<usize> {
        let is_key = |slot: u32| self.key_at(slot as usize * self.shape.stride) == key;
        self.index.find(short, is_key).map(|slot| slot as usize)
    }

    /// The slot where the key of this hash most likely is. Reads the index, not the slot.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        self.index.candidate(short_hash(hash))
    }

    /// Reads a slot's first bytes, so that they are near when they are needed.
    #[inline]
    pub fn touch(&self, slot: u32) -> u8 {
        let start = slot as usize * self.shape.stride;
        // A slot may lie across two cache lines.
        self.slab[start] ^ self.slab[start + self.shape.stride - 1]
    }

    /// A new slot with a blank row.
    fn insert(&mut self, table: &TableDef, short: u32, key: &[u8]) -> Result<usize, StateError> {
        let shape = self.shape;
        if self.slots() >= FREE as usize - 1 || self.heap.bytes.len() + key.len() > HEAP_BYTES_MAX {
            return Err(too_large(table, self.bytes()));
        }
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None => {
                let len = self.slab.len();
                if len + shape.stride > self.slab.capacity() {
                    // Half as much again: doubling wastes a quarter of the memory on average.
                    self.slab.reserve_exact((len / 2).max(FIRST_SLOTS * shape.stride));
                }
                self.slab.resize(len + shape.stride, 0);
                len / shape.stride
            }
        };
        let start = slot * shape.stride;
        self.slab[start..start + 4].copy_from_slice(&short.to_le_bytes());
        match shape.key_len {
            Some(len) => self.slab[start + HEADER_BYTES..start + HEADER_BYTES + len].copy_from_slice(key),
            None => {
                let at = self.heap.append(key);
                set_reference(&mut self.slab[start..], HEADER_BYTES, at, key.len());
            }
        }
        let cells = start + shape.cells_at;
        self.slab[cells..cells + table.layout.len()].copy_from_slice(&table.layout.blank);
        self.index.insert(short, slot as u32);
        self.set_stamp(slot, DEAD);
        Ok(slot)
    }

    /// Gives a slot back.
    fn release(&mut self, table: &TableDef, slot: usize) {
        let start = slot * self.shape.stride;
        let short = word(&self.slab, start);
        self.index.remove(short, slot as u32);
        let cells = start + self.shape.cells_at;
        table.layout.reset(&mut self.slab[cells..cells + table.layout.len()], &mut self.heap);
        if self.shape.key_len.is_none() {
            self.heap.release(&mut self.slab[start..], HEADER_BYTES);
        }
        self.set_stamp(slot, FREE);
        self.free.push(slot as u32);
    }

    /// Marks a live row deleted.
    fn kill(&mut self, table: &TableDef, version: Version, slot: usize) {
        let start = slot * self.shape.stride + self.shape.cells_at;
        table.layout.reset(&mut self.slab[start..start + table.layout.len()], &mut self.heap);
        self.set_stamp(slot, version | DEAD);
        self.live -= 1;
    }

    fn check_heap(&mut self, table: &TableDef) -> Result<(), StateError> {
        if self.heap.wants_compaction() {
            self.compact(table);
        }
        if self.heap.overflowed { Err(too_large(table, self.bytes())) } else { Ok(()) }
    }

    /// Copies what is still referred to into a new heap.
    fn compact(&mut self, table: &TableDef) {
        let from = std::mem::take(&mut self.heap.bytes);
        let mut to = Vec::with_capacity(from.len() - self.heap.garbage);
        for slot in 0..self.slots() {
            if self.stamp(slot) == FREE {
                continue;
            }
            let start = slot * self.shape.stride;
            let bytes = &mut self.slab[start..start + self.shape.stride];
            if self.shape.key_len.is_none() {
                move_reference(bytes, HEADER_BYTES, &from, &mut to);
            }
            for &at in &table.layout.variable {
                move_reference(bytes, self.shape.cells_at + at, &from, &mut to);
            }
        }
        self.heap.bytes = to;
        self.heap.garbage = 0;
    }

    pub fn slots(&self) -> usize {
        self.slab.len() / self.shape.stride
    }

    #[inline]
    fn stamp(&self, slot: usize) -> u32 {
        word(&self.slab, slot * self.shape.stride + 4)
    }

    #[inline]
    fn set_stamp(&mut self, slot: usize, stamp: u32) {
        let at = slot * self.shape.stride + 4;
        self.slab[at..at + 4].copy_from_slice(&stamp.to_le_bytes());
    }

    fn key(&self, slot: usize) -> &[u8] {
        self.key_at(slot * self.shape.stride)
    }

    #[inline]
    fn key_at(&self, start: usize) -> &[u8] {
        match self.shape.key_len {
            Some(len) => &self.slab[start + HEADER_BYTES..start + HEADER_BYTES + len],
            None => row::bytes_at(&self.slab[start..], &self.heap.bytes, HEADER_BYTES),
        }
    }

    #[inline]
    fn cells(&self, slot: usize) -> &[u8] {
        let start = slot * self.shape.stride;
        &self.slab[start + self.shape.cells_at..start + self.shape.stride]
    }

    fn row<'a>(&'a self, table: &'a TableDef, slot: usize) -> RowRef<'a> {
        RowRef { layout: &table.layout, cells: self.cells(slot), heap: &self.heap.bytes }
    }

    fn row_if_alive<'a>(&'a self, table: &'a TableDef, now_ms: i64, slot: usize) -> Option<RowRef<'a>> {
        let alive = self.stamp(slot) & DEAD == 0 && !table.expired(self.cells(slot), now_ms);
        alive.then(|| self.row(table, slot))
    }
}

/// 32 bits of the key's hash that are independent of its group (the hash modulo the number of groups).
#[inline]
fn short_hash(hash: u64) -> u32 {
    (hash.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32) as u32
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn too_large(table: &TableDef, bytes: usize) -> StateError {
    StateError::Limit {
        bytes: bytes as u64,
        limit: HEAP_BYTES_MAX as u64,
        detail: format!("one key group of table {}; raise maxParallelism for a new job", table.spec.name),
    }
}
