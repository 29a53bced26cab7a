//! Versions on disk: the undo tree, snapshots from it, roll back.

use std::collections::BTreeSet;

use lsm_tree::Slice;

use super::super::StateError;
use super::super::changes::ChangeBuilder;
use super::super::memory::SnapshotSpan;
use super::super::table::TableDef;
use super::super::versions::Version;
use super::keys::PLACE_BYTES;
use super::{DiskBackend, Scratch, alive, just_after, keys, stamp};

/// An undo value: there was no row.
const WAS_ABSENT: [u8; 1] = [0];
/// The first byte of an undo value that goes on with the stored row.
const WAS_ROW: u8 = 1;

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

impl DiskBackend {
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

    /// Saves what the row `scratch.row_key` was before its first write in the version. True: it was there then.
    pub(super) fn save(
        &self,
        version: Version,
        scratch: &mut Scratch,
        stored: Option<&Slice>,
    ) -> Result<bool, StateError> {
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

    pub(super) fn open_layer(&mut self, version: Version) {
        if self.layers.last() != Some(&version) {
            self.layers.push(version);
        }
    }
}

/// The stored row of an undo value, if there was one.
fn stored_row(undo: &[u8]) -> Option<&[u8]> {
    (undo[0] == WAS_ROW).then(|| &undo[1..])
}
