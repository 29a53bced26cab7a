//! Keyed state: tables of rows by (key group, namespace, key), versioned by epoch.
//!
//! The namespace is an i64 that orders the entries of a table within a key group: the end of a window slice, a
//! timer's time, 0 where there is none. Two backends stand behind [`State`]: `memory` (packed rows, an undo layer
//! per epoch) and `disk` (embedded LSM). Owns: rows and their versions. Does not own: Parquet and the store
//! (`snapshot`), nor when an epoch ends (`task`).
//!
//! The life of an epoch here: `end_epoch(n)` at the barrier, `snapshot_piece(n)` until `None` while rows change on,
//! then `sealed(n)` or `aborted(n)`. A restore is `register`, `load` of every batch (`forget` takes key groups back),
//! `loaded(n)`.

mod backend;
mod budget;
mod changes;
mod config;
mod disk;
mod error;
mod memory;
mod parts;
mod row;
mod table;
mod versions;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use millstream_api::graph::Schema;
use millstream_api::ids::Epoch;

use crate::keys::KeyBatch;
use backend::{Backend, SnapshotCursor};
use budget::{Budget, Reached};
use changes::ChangeBuilder;
pub(crate) use changes::Changes;
pub use changes::{ChangeOp, GROUP_COLUMN, NAMESPACE_COLUMN, OP_COLUMN, WRITTEN_COLUMN, change_schema};
pub use config::{BackendConfig, StateConfig};
pub use error::{Fullness, StateError};
use memory::SnapshotSpan;
pub use millstream_api::readings::TableSize;
pub use parts::StatePart;
pub use row::{RowArrays, RowMut, RowRef};
use table::Moment;
pub(crate) use table::TableDef;
use versions::Versions;

/// Rows per piece when a snapshot has to be taken at once.
const EAGER_PIECE_ROWS: usize = 64 << 10;

/// A table that a transform keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Unique within the transform; stands in the manifest.
    pub name: String,
    pub key: Schema,
    pub value: Schema,
    /// An entry expires so long after its last write, in processing time.
    pub ttl_ms: Option<u64>,
}

/// Index of a table in its [`State`], in order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// The namespaces of a batch of keys.
#[derive(Clone, Copy, Debug)]
pub enum Namespaces<'a> {
    One(i64),
    /// One per key.
    Each(&'a [i64]),
}

impl Namespaces<'_> {
    #[inline]
    fn of(&self, row: usize) -> i64 {
        match self {
            Self::One(namespace) => *namespace,
            Self::Each(namespaces) => namespaces[row],
        }
    }
}

/// What becomes of a row that `update` visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row as it is now.
    Keep,
    /// There is no row any more.
    Delete,
    /// Nothing was set: a row that was absent stays absent, and nothing goes into the next snapshot.
    Unchanged,
}

/// Where a scan goes on. `ScanCursor::default()` starts one.
#[derive(Clone, Debug, Default)]
pub struct ScanCursor {
    memory: memory::MemoryScan,
    disk: disk::DiskScan,
}

/// Rows of one table that changed, or that a restore brings.
///
/// Columns: `$group` UInt16, `$namespace` Int64, `$op` Int8 ([`ChangeOp`]), `$written_ms` Int64 (tables with TTL only),
/// the key columns, the value columns. Key and value columns are nullable here: a delete has NULL values, a dropped
/// namespace has neither. Within an epoch drops of a namespace come before its other rows.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    pub table: TableId,
    pub batch: RecordBatch,
}

/// Keyed state of one transform in one task.
#[derive(Debug)]
pub struct State {
    groups: Range<u16>,
    tables: Vec<Arc<TableDef>>,
    backend: Backend,
    versions: Versions,
    now_ms: i64,
    budget: Budget,
    undo_bytes_max: u64,
    /// What people know it by: its transform and task.
    owner: String,
    snapshot: Option<SnapshotRun>,
}

/// A snapshot that is being read.
#[derive(Debug)]
struct SnapshotRun {
    epoch: Epoch,
    /// The table that is next, and where in it.
    table: usize,
    cursor: SnapshotCursor,
    /// Taken at once because the undo layers had to go.
    ready: VecDeque<ChangeBatch>,
}

/// State without tables, for transforms that keep none.
impl Default for State {
    fn default() -> Self {
        Self::with(0..0, Backend::memory(0..0), &StateConfig::unbounded())
    }
}

impl State {
    /// Opens empty state for these key groups.
    pub fn open(config: &StateConfig, groups: Range<u16>) -> Result<Self, StateError> {
        let backend = match &config.backend {
            BackendConfig::Memory => Backend::memory(groups.clone()),
            BackendConfig::Disk { dir } => Backend::disk(dir, groups.clone())?,
        };
        Ok(Self::with(groups, backend, config))
    }

    fn with(groups: Range<u16>, backend: Backend, config: &StateConfig) -> Self {
        Self {
            groups,
            tables: Vec::new(),
            backend,
            versions: Versions::default(),
            now_ms: 0,
            budget: Budget::new(config.bytes_max),
            undo_bytes_max: config.undo_bytes_max,
            owner: config.owner.clone(),
            snapshot: None,
        }
    }

    /// The key groups that it was opened for.
    pub fn groups(&self) -> &Range<u16> {
        &self.groups
    }

    /// From now on it is bounded so: it outlived a deployment, and the next one divides the worker's budget anew.
    pub fn set_bounds(&mut self, config: &StateConfig) {
        self.budget = Budget::new(config.bytes_max);
        self.undo_bytes_max = config.undo_bytes_max;
    }

    /// Declares a table. Every table is declared before the first access and before `load`.
    pub fn register(&mut self, spec: TableSpec) -> Result<TableId, StateError> {
        if self.tables.iter().any(|table| table.spec.name == spec.name) {
            let reason = format!("table {} is declared twice", spec.name);
            return Err(StateError::Bug { verb: "declare a table of", reason });
        }
        let def = Arc::new(TableDef::new(spec)?);
        self.backend.add_table(Arc::clone(&def));
        self.tables.push(def);
        Ok(TableId(self.tables.len() as u32 - 1))
    }

    /// The declared tables, in order.
    pub fn tables(&self) -> impl Iterator<Item = (TableId, &TableSpec)> {
        self.tables.iter().enumerate().map(|(i, table)| (TableId(i as u32), &table.spec))
    }

    /// The clock of TTL, epoch ms; never falls.
    pub fn set_processing_time(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Visits the row of each key, in order; where there is none, a new one: nullable columns NULL, the others zero or empty.
    /// When the visitor fails, the state is fit for nothing but `roll_back` or the end.
    pub fn update<E: From<StateError>>(
        &mut self,
        table: TableId,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        visit: impl FnMut(usize, &mut RowMut<'_>) -> Result<Change, E>,
    ) -> Result<(), E> {
        let at = self.moment();
        self.backend.update(table.index(), &at, namespaces, keys, visit)?;
        self.check_budgets()?;
        Ok(())
    }

    /// Shows the row of each key, in order, or `None`.
    pub fn get_many<E: From<StateError>>(
        &self,
        table: TableId,
        namespaces: Namespaces<'_>,
        keys: &KeyBatch,
        visit: impl FnMut(usize, Option<RowRef<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.backend.get_many(table.index(), self.now_ms, namespaces, keys, visit)
    }

    /// Namespaces `<= limit` that have entries (expired ones count until they are cleaned up), ascending.
    pub fn namespaces_until(&self, table: TableId, limit: i64) -> Result<Vec<i64>, StateError> {
        Ok(self.backend.namespaces_until(table.index(), limit))
    }

    /// Shows up to `max_rows` further entries of a namespace: encoded key (`KeyEncoder::decode`) and row. True: that was
    /// all. The order is the backend's. The namespace must not be changed between the calls of one scan.
    pub fn scan<E: From<StateError>>(
        &self,
        table: TableId,
        namespace: i64,
        cursor: &mut ScanCursor,
        max_rows: usize,
        visit: impl FnMut(&[u8], RowRef<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        self.backend.scan(table.index(), self.now_ms, namespace, cursor, max_rows, visit)
    }

    /// Removes every entry of a namespace.
    pub fn drop_namespace(&mut self, table: TableId, namespace: i64) -> Result<(), StateError> {
        let at = self.moment();
        self.backend.drop_namespace(table.index(), &at, namespace)?;
        self.check_budgets()
    }

    /// The barrier of `epoch` has passed: later changes belong to later epochs. Cheap.
    pub fn end_epoch(&mut self, epoch: Epoch) -> Result<(), StateError> {
        self.budget.rearm(self.backend.total_bytes());
        self.versions.end(epoch).map(|_| ())
    }

    /// The next piece (about `max_rows` rows) of what changed since the last sealed epoch, as of the barrier of `epoch`.
    /// `None`: that was all. Rows may be changed between the calls; a row that is may come twice, with the same content.
    pub fn snapshot_piece(&mut self, epoch: Epoch, max_rows: usize) -> Result<Option<ChangeBatch>, StateError> {
        let Some(version) = self.versions.of(epoch).filter(|v| *v > self.versions.sealed()) else {
            let reason = format!("epoch {epoch} has not ended, or is sealed or aborted");
            return Err(StateError::Bug { verb: "snapshot", reason });
        };
        let run = self.snapshot.take().filter(|run| run.epoch == epoch);
        if run.is_none() && !self.can_roll_back(epoch) {
            let reason = format!("the pre-images of epoch {epoch} were given up before its snapshot began");
            return Err(StateError::Bug { verb: "snapshot", reason });
        }
        let mut run = run.unwrap_or_else(|| SnapshotRun::new(epoch));
        let span =
            SnapshotSpan { sealed: self.versions.sealed(), version, now_ms: self.now_ms, max_rows: max_rows.max(1) };
        let piece = match run.ready.pop_front() {
            Some(ready) => Ok(Some(ready)),
            None => run.next_piece(&self.tables, &self.backend, &span),
        };
        self.snapshot = Some(run);
        piece
    }

    /// The manifest of `epoch` is in the log: what it covers is no longer dirty. Known already, or unknown: nothing.
    pub fn sealed(&mut self, epoch: Epoch) -> Result<(), StateError> {
        self.snapshot = self.snapshot.take().filter(|run| run.epoch > epoch);
        match self.versions.seal(epoch) {
            Some(version) => self.backend.sealed(version),
            None => Ok(()),
        }
    }

    /// The epoch was given up: its changes go into the next snapshot.
    pub fn aborted(&mut self, epoch: Epoch) -> Result<(), StateError> {
        self.snapshot = self.snapshot.take().filter(|run| run.epoch != epoch);
        self.versions.abort(epoch);
        Ok(())
    }

    /// Whether `roll_back` can go to `epoch`: it was the last sealed one or ended since, and its undo layers are there.
    #[must_use]
    pub fn can_roll_back(&self, epoch: Epoch) -> bool {
        self.versions.can_roll_back(epoch)
    }

    /// Back to the barrier of `epoch`, which is sealed, known here or not. Later epochs are forgotten.
    pub fn roll_back(&mut self, epoch: Epoch) -> Result<(), StateError> {
        let Some(version) = self.versions.of(epoch).filter(|_| self.can_roll_back(epoch)) else {
            let reason = format!("there is no undo layer of epoch {epoch}");
            return Err(StateError::Bug { verb: "roll back", reason });
        };
        self.snapshot = None;
        self.backend.roll_back(version)?;
        self.versions.rolled_back(epoch);
        self.backend.sealed(version)
    }

    /// Applies rows of a segment, oldest segment first. Rows of key groups of other tasks are skipped.
    pub fn load(&mut self, changes: &ChangeBatch) -> Result<(), StateError> {
        if !self.versions.restoring() {
            let reason = "rows are loaded into state that is in use".to_owned();
            return Err(StateError::Bug { verb: "restore", reason });
        }
        let table = changes.table.index();
        let parsed = Changes::parse(&self.tables[table], &changes.batch)?;
        self.backend.load(table, &parsed, self.now_ms)?;
        self.check_budgets()
    }

    /// Takes rows of these key groups, which were loaded, out of a table again.
    pub fn forget(&mut self, table: TableId, groups: &Range<u16>) -> Result<(), StateError> {
        if !self.versions.restoring() {
            let reason = "loaded rows are taken out of state that is in use".to_owned();
            return Err(StateError::Bug { verb: "restore", reason });
        }
        let groups = groups.start.max(self.groups.start)..groups.end.min(self.groups.end);
        if groups.is_empty() { Ok(()) } else { self.backend.forget(table.index(), &groups) }
    }

    /// All segments of the manifest of `epoch` are loaded: this is what the next snapshot builds on.
    pub fn loaded(&mut self, epoch: Epoch) -> Result<(), StateError> {
        if !self.versions.restoring() {
            let reason = format!("epoch {epoch} is restored into state that is in use");
            return Err(StateError::Bug { verb: "restore", reason });
        }
        self.versions.loaded(epoch);
        Ok(())
    }

    /// Fails as a change would that makes the state larger by so many bytes, if that is too many.
    pub fn check_room_for(&self, bytes_more: u64) -> Result<(), StateError> {
        let bytes = self.backend.total_bytes().saturating_add(bytes_more);
        if bytes > self.budget.bytes_max() { Err(StateError::Full(Box::new(self.fullness(bytes)))) } else { Ok(()) }
    }

    /// Memory (or local disk) that a table takes, about.
    #[must_use]
    pub fn bytes(&self, table: TableId) -> u64 {
        self.backend.bytes(table.index())
    }

    /// Entries of a table; expired ones count until they are cleaned up.
    #[must_use]
    pub fn rows(&self, table: TableId) -> u64 {
        self.backend.rows(table.index())
    }

    /// What each table holds, in order of declaration.
    #[must_use]
    pub fn table_sizes(&self) -> Vec<TableSize> {
        let size = |(id, spec): (TableId, &TableSpec)| {
            let (rows, bytes) = (self.rows(id), self.bytes(id));
            TableSize { table: spec.name.clone(), rows, bytes }
        };
        self.tables().map(size).collect()
    }

    /// Memory of the undo layers.
    #[must_use]
    pub fn undo_bytes(&self) -> u64 {
        self.backend.undo_bytes()
    }

    fn moment(&mut self) -> Moment {
        Moment { version: self.versions.current(), now_ms: self.now_ms, keep_images: self.versions.keeps_images() }
    }

    fn check_budgets(&mut self) -> Result<(), StateError> {
        let bytes = self.backend.total_bytes();
        match self.budget.check(bytes) {
            None => {}
            Some(Reached::Warning) => tracing::warn!("{}", self.fullness(bytes)),
            Some(Reached::Limit) => return Err(StateError::Full(Box::new(self.fullness(bytes)))),
        }
        if self.backend.undo_bytes() > self.undo_bytes_max && self.versions.keeps_images() {
            self.give_up_undo()?;
        }
        Ok(())
    }

    #[cold]
    fn fullness(&self, bytes: u64) -> Fullness {
        let mut tables = self.table_sizes();
        tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
        Fullness { owner: self.owner.clone(), bytes, bytes_max: self.budget.bytes_max(), tables }
    }

    /// Frees the pre-images. The snapshot in flight needs them, so what is left of it is taken now.
    fn give_up_undo(&mut self) -> Result<(), StateError> {
        let pending: Vec<Epoch> = self.versions.pending().map(|(epoch, _)| epoch).collect();
        if let Some(epoch) = pending.last().copied() {
            let mut taken = VecDeque::new();
            while let Some(piece) = self.snapshot_piece(epoch, EAGER_PIECE_ROWS)? {
                taken.push_back(piece);
            }
            self.snapshot.as_mut().expect("it was just taken").ready = taken;
        }
        tracing::warn!(
            undo_bytes = self.backend.undo_bytes(),
            limit = self.undo_bytes_max,
            "undo layers are over their limit: a failure before the next checkpoint restores from the store"
        );
        self.versions.give_up_images();
        self.backend.give_up_images();
        Ok(())
    }
}

impl TableId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl SnapshotRun {
    fn new(epoch: Epoch) -> Self {
        Self { epoch, table: 0, cursor: SnapshotCursor::default(), ready: VecDeque::new() }
    }

    fn next_piece(
        &mut self,
        tables: &[Arc<TableDef>],
        backend: &Backend,
        span: &SnapshotSpan,
    ) -> Result<Option<ChangeBatch>, StateError> {
        while let Some(def) = tables.get(self.table) {
            let table = TableId(self.table as u32);
            let mut out = ChangeBuilder::new(def);
            if backend.snapshot(self.table, span, &mut self.cursor, &mut out)? {
                self.table += 1;
                self.cursor = SnapshotCursor::default();
            }
            if out.len() > 0 {
                return Ok(Some(ChangeBatch { table, batch: out.finish(def)? }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
pub(crate) mod tests;
