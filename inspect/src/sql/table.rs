//! A table of state as a virtual table of SQLite: each scan reads the segments beside the engine, a batch ahead of it.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_int};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use rusqlite::vtab::{
    Context, CreateVTab, Filters, IndexInfo, VTab, VTabConnection, VTabCursor, VTabKind, sqlite3_vtab,
    sqlite3_vtab_cursor,
};
use rusqlite::{Error, Result};
use tokio::runtime::Handle;

use super::quoted;
use super::value::Column;
use crate::{InspectError, Stored, StoredTable};

/// Batches between a reader and its scan: the reader has one more in its hands.
const BATCHES_AHEAD: usize = 0;
/// What a scan costs in SQLite's eyes, so that it scans each table of a join once and indexes the others.
const SCAN_COST: f64 = 1e12;

/// What is shared by all tables of a connection.
#[derive(Debug)]
pub(super) struct Tables {
    pub tables: Vec<StoredTable>,
    stored: Stored,
    io: Handle,
    failure: Mutex<Option<InspectError>>,
}

impl Tables {
    pub fn new(stored: Stored, io: Handle) -> Self {
        Self { tables: StoredTable::all(&stored), stored, io, failure: Mutex::default() }
    }

    /// Why a scan ended early.
    pub fn failure(&self) -> Option<InspectError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, error: InspectError) -> Error {
        let told = Error::ModuleError(error.to_string());
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }

    /// Begins to read a table; the reader ends when nobody takes its batches any more.
    fn scan(self: &Arc<Self>, at: usize) -> Receiver<std::result::Result<RecordBatch, InspectError>> {
        let (batches, taken) = sync_channel(BATCHES_AHEAD);
        let shared = Arc::clone(self);
        self.io.spawn_blocking(move || {
            let table = &shared.tables[at];
            let stored = &shared.stored;
            let closed = || InspectError::Sql("the scan has ended".to_owned());
            let send = |batch| batches.send(Ok(batch)).map_err(|_| closed());
            let read = stored.segments.entries(&table.manifest, &table.spec, stored.now_ms(), send);
            if let Err(error) = shared.io.block_on(read) {
                // If the scan has ended, nobody hears it.
                let _ = batches.send(Err(shared.io.block_on(stored.explain(error))));
            }
        });
        taken
    }
}

/// A declared table.
#[repr(C)]
pub(super) struct StateTable {
    /// SQLite's part comes first.
    base: sqlite3_vtab,
    shared: Arc<Tables>,
    at: usize,
}

// SAFETY: `StateTable` is `repr(C)` and begins with `sqlite3_vtab`.
unsafe impl<'vtab> VTab<'vtab> for StateTable {
    type Aux = Arc<Tables>;
    type Cursor = Scan;

    fn connect(
        _: &mut VTabConnection,
        shared: Option<&Arc<Tables>>,
        _module: &[u8],
        _database: &[u8],
        _table: &[u8],
        arguments: &[&[u8]],
    ) -> Result<(Cow<'static, CStr>, Self)> {
        let at = arguments.first().and_then(|at| std::str::from_utf8(at).ok()?.trim().parse::<usize>().ok());
        let found = shared.zip(at).filter(|(shared, at)| *at < shared.tables.len());
        let (shared, at) = found.ok_or_else(|| Error::ModuleError("there is no such table of state".to_owned()))?;
        let declaration =
            CString::new(declaration(&shared.tables[at])).map_err(|e| Error::ModuleError(e.to_string()))?;
        Ok((Cow::Owned(declaration), Self { base: sqlite3_vtab::default(), shared: Arc::clone(shared), at }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<bool> {
        info.set_estimated_cost(SCAN_COST);
        Ok(true)
    }

    fn open(&'vtab mut self) -> Result<Scan> {
        let shared = Arc::clone(&self.shared);
        Ok(Scan {
            base: sqlite3_vtab_cursor::default(),
            shared,
            at: self.at,
            batches: None,
            batch: None,
            row: 0,
            id: 0,
        })
    }
}

impl CreateVTab<'_> for StateTable {
    const KIND: VTabKind = VTabKind::Default;
}

/// As SQLite reads it: only names and affinities count.
fn declaration(table: &StoredTable) -> String {
    let affinity = |ty: &DataType| match ty {
        DataType::Utf8 | DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(..) => "TEXT",
        DataType::Binary => "BLOB",
        DataType::Float32 | DataType::Float64 => "REAL",
        DataType::Decimal128(..) => "NUMERIC",
        _ => "INTEGER",
    };
    let column = |field: &Arc<arrow_schema::Field>| format!("{} {}", quoted(field.name()), affinity(field.data_type()));
    let columns: Vec<String> = table.schema.fields().iter().map(column).collect();
    format!("CREATE TABLE state ({})", columns.join(", "))
}

/// One pass over a table.
#[repr(C)]
pub(super) struct Scan {
    /// SQLite's part comes first.
    base: sqlite3_vtab_cursor,
    shared: Arc<Tables>,
    at: usize,
    batches: Option<Receiver<std::result::Result<RecordBatch, InspectError>>>,
    /// Where the scan stands. `None`: at the end.
    batch: Option<(Vec<Column>, usize)>,
    row: usize,
    id: i64,
}

impl Scan {
    /// Goes on to the next batch that has rows.
    fn take_batch(&mut self) -> Result<()> {
        self.batch = None;
        self.row = 0;
        while let Some(batches) = &self.batches {
            match batches.recv() {
                Ok(Ok(batch)) if batch.num_rows() == 0 => {}
                Ok(Ok(batch)) => {
                    let columns = self.shared.tables[self.at].shown(&batch).into_iter().map(Column::new).collect();
                    self.batch = Some((columns, batch.num_rows()));
                    return Ok(());
                }
                Ok(Err(error)) => {
                    self.batches = None;
                    return Err(self.shared.note(error));
                }
                // The reader is through.
                Err(_) => self.batches = None,
            }
        }
        Ok(())
    }
}

// SAFETY: `Scan` is `repr(C)` and begins with `sqlite3_vtab_cursor`.
unsafe impl VTabCursor for Scan {
    fn filter(&mut self, _: c_int, _: Option<&str>, _: &Filters<'_>) -> Result<()> {
        self.id = 0;
        self.batches = Some(self.shared.scan(self.at));
        self.take_batch()
    }

    fn next(&mut self) -> Result<()> {
        self.id += 1;
        self.row += 1;
        match &self.batch {
            Some((_, rows)) if self.row < *rows => Ok(()),
            _ => self.take_batch(),
        }
    }

    fn eof(&self) -> bool {
        self.batch.is_none()
    }

    fn column(&self, context: &mut Context, at: c_int) -> Result<()> {
        let column = self.batch.as_ref().zip(usize::try_from(at).ok()).and_then(|((columns, _), at)| columns.get(at));
        match column {
            Some(column) => context.set_result(&column.value(self.row)?),
            None => Err(Error::ModuleError(format!("there is no column {at}"))),
        }
    }

    fn rowid(&self) -> Result<i64> {
        Ok(self.id)
    }
}
