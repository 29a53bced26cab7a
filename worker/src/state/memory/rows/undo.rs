//! Undo layers of a table of rows: saving what rows were, snapshots from them, roll back.

use super::super::super::changes::ChangeBuilder;
use super::super::super::table::{Moment, TableDef};
use super::super::super::versions::Version;
use super::{ABSENT, DEAD, FREE, RowTable};

/// What the rows written in one version were before it.
#[derive(Debug)]
pub(super) struct UndoLayer {
    pub(super) version: Version,
    records: Vec<UndoRecord>,
    /// Packed rows.
    images: Vec<u8>,
}

/// The first write to an entry in a version.
#[derive(Clone, Copy, Debug)]
struct UndoRecord {
    slot: u32,
    /// The slot's stamp before; `ABSENT`: the entry is new.
    prior: u32,
    /// Where its image starts, if it was alive.
    image_at: u64,
}

/// Where the snapshot of a table stands.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct RowCursor {
    version: Version,
    record: usize,
}

impl UndoLayer {
    pub(super) fn new(version: Version) -> Self {
        Self { version, records: Vec::new(), images: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.records.len() * size_of::<UndoRecord>() + self.images.len()
    }
}

impl RowTable {
    /// Adds what changed in versions `(sealed, version]`, as of the end of `version`, about `max` rows of it. True: that
    /// was all. A row that changes between two calls may come twice, with the same content.
    pub fn snapshot(
        &self,
        table: &TableDef,
        span: &SnapshotSpan,
        place: (u16, i64),
        cursor: &mut RowCursor,
        out: &mut ChangeBuilder,
    ) -> bool {
        for layer in self.undo.iter().filter(|layer| layer.version > span.sealed) {
            if layer.version < cursor.version {
                continue;
            }
            if layer.version > cursor.version {
                *cursor = RowCursor { version: layer.version, record: 0 };
            }
            while let Some(record) = layer.records.get(cursor.record) {
                if out.len() >= span.max_rows {
                    return false;
                }
                cursor.record += 1;
                self.snapshot_record(table, span, place, layer, record, out);
            }
        }
        true
    }

    fn snapshot_record(
        &self,
        table: &TableDef,
        span: &SnapshotSpan,
        (group, namespace): (u16, i64),
        layer: &UndoLayer,
        record: &UndoRecord,
        out: &mut ChangeBuilder,
    ) {
        let slot = record.slot as usize;
        let (stamp, row) = if layer.version <= span.version {
            // Not written later, in or after the span: the row itself is what the snapshot wants.
            let stamp = self.stamp(slot);
            if stamp & !DEAD != layer.version {
                return;
            }
            (stamp, self.row(table, slot))
        } else {
            // Written after the span for the first time, and in the span before that: the pre-image is wanted.
            let prior = record.prior & !DEAD;
            if record.prior == ABSENT || prior <= span.sealed || prior > span.version {
                return;
            }
            if record.prior & DEAD != 0 {
                (record.prior, self.row(table, slot))
            } else {
                (record.prior, table.layout.packed(image(layer, record, table)))
            }
        };
        let key = self.key(slot);
        if stamp & DEAD == 0 && !table.expired(row.cells, span.now_ms) {
            out.put(group, namespace, key, &row);
        } else if record.prior != ABSENT && self.created <= span.sealed {
            // What came and went inside the span is in no segment: no trace of it.
            out.delete(group, namespace, key);
        }
    }

    /// Undoes everything after `version`.
    pub fn roll_back(&mut self, table: &TableDef, version: Version) {
        while self.undo.back().is_some_and(|layer| layer.version > version) {
            let layer = self.undo.pop_back().expect("checked");
            for record in layer.records.iter().rev() {
                let slot = record.slot as usize;
                let was_live = self.stamp(slot) & DEAD == 0;
                self.live -= usize::from(was_live);
                if record.prior == ABSENT {
                    self.release(table, slot);
                    continue;
                }
                let start = slot * self.shape.stride + self.shape.cells_at;
                let cells = &mut self.slab[start..start + table.layout.len()];
                if record.prior & DEAD == 0 {
                    table.layout.unpack(image(&layer, record, table), cells, &mut self.heap);
                    self.live += 1;
                } else {
                    table.layout.reset(cells, &mut self.heap);
                }
                self.set_stamp(slot, record.prior);
            }
        }
        if self.heap.wants_compaction() {
            self.compact(table);
        }
    }

    /// Versions up to `version` are sealed: their pre-images go, and the slots of rows deleted then.
    pub fn prune(&mut self, table: &TableDef, version: Version) {
        while self.undo.front().is_some_and(|layer| layer.version <= version) {
            let layer = self.undo.pop_front().expect("checked");
            for record in &layer.records {
                let slot = record.slot as usize;
                let stamp = self.stamp(slot);
                if stamp != FREE && stamp & DEAD != 0 && stamp & !DEAD <= version {
                    self.release(table, slot);
                }
            }
        }
    }

    /// No rows, and no memory of any.
    pub fn is_forgotten(&self) -> bool {
        self.live == 0 && self.undo.is_empty()
    }

    /// Keeps which entries changed in a version, not what they were. Returns the bytes of the layer that stay.
    pub fn give_up_images(&mut self, version: Version) -> usize {
        self.undo.iter_mut().find(|layer| layer.version == version).map_or(0, |layer| {
            layer.images = Vec::new();
            layer.bytes()
        })
    }

    /// Saves what a slot held before its first write in this version.
    #[inline]
    pub(super) fn save(&mut self, table: &TableDef, at: &Moment, slot: usize, stamp: u32) {
        let start = slot * self.shape.stride + self.shape.cells_at;
        let layer = self.undo.back_mut().expect("the layer of the version is open");
        let image_at = layer.images.len() as u64;
        if stamp & DEAD == 0 && at.keep_images {
            let cells = &self.slab[start..start + table.layout.len()];
            table.layout.pack(cells, &self.heap.bytes, &mut layer.images);
        }
        layer.records.push(UndoRecord { slot: slot as u32, prior: stamp, image_at });
    }

    pub(super) fn record(&mut self, slot: usize, prior: u32, image_at: u64) {
        let layer = self.undo.back_mut().expect("the layer of the version is open");
        layer.records.push(UndoRecord { slot: slot as u32, prior, image_at });
    }

    /// Takes back the save of this visit: nothing was written.
    pub(super) fn unsave(&mut self, slot: usize) {
        if let Some(prior) = self.forget_record() {
            self.set_stamp(slot, prior);
        }
    }

    pub(super) fn forget_record(&mut self) -> Option<u32> {
        let layer = self.undo.back_mut()?;
        let record = layer.records.pop()?;
        if record.prior != ABSENT {
            layer.images.truncate(record.image_at as usize);
        }
        Some(record.prior)
    }
}

/// What a snapshot covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotSpan {
    /// Changes after this version,
    pub sealed: Version,
    /// up to this one.
    pub version: Version,
    pub now_ms: i64,
    /// Rows per piece, about.
    pub max_rows: usize,
}

fn image<'a>(layer: &'a UndoLayer, record: &UndoRecord, table: &TableDef) -> &'a [u8] {
    let rest = &layer.images[record.image_at as usize..];
    &rest[..table.layout.packed_len(rest)]
}
