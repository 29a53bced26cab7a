//! SQL over the tables of a checkpoint or savepoint: SQLite, with a virtual table for each table of state, which is read
//! when a statement asks for it (docs/design/0014).
//!
//! Owns: which names tables have, that a statement only reads, answers row by row. Does not own: the virtual tables
//! (`table`), values (`value`).

mod table;
mod value;

use std::collections::HashSet;
use std::ffi::CStr;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::vtab::Module;
use tokio::runtime::Handle;

use crate::{InspectError, Stored, StoredTable};
use table::{StateTable, Tables};
pub use value::Cell;

/// What the virtual tables are made by.
const MODULE: &CStr = c"millstream_state";
/// Databases that SQLite attaches at most beside its own (SQLITE_MAX_ATTACHED).
const UIDS_MAX: usize = 10;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The columns' names: first, and once.
    Columns(Vec<String>),
    Row(Vec<Cell>),
    /// There are no more rows.
    End,
}

/// Runs a statement and shows its rows, one after the other, for as long as `on_answer` wants more. Memory: that of reading each
/// table that the statement names ([`millstream_worker::snapshot::Segments::entries`]); sorting and joining spill to
/// temporary files.
///
/// # Errors
/// When the statement is wrong or does more than read, or when a table cannot be read.
pub async fn query(
    stored: Stored,
    sql: String,
    on_answer: impl FnMut(Answer) -> bool + Send + 'static,
) -> Result<(), InspectError> {
    let tables = Arc::new(Tables::new(stored, Handle::current()));
    let run = tokio::task::spawn_blocking(move || {
        let answered = answer(&tables, &sql, on_answer);
        // What made a table fail says more than what SQLite makes of it.
        answered.map_err(|error| tables.failure().unwrap_or(error))
    });
    run.await.map_err(|e| InspectError::Sql(format!("the engine failed: {e}")))?
}

fn answer(tables: &Arc<Tables>, sql: &str, mut on_answer: impl FnMut(Answer) -> bool) -> Result<(), InspectError> {
    let wrong = |error: &rusqlite::Error| InspectError::Sql(message(error, &tables.tables));
    check(sql)?;
    let connection = Connection::open_in_memory().map_err(|e| wrong(&e))?;
    declare(&connection, tables, sql)?;
    let mut statement = connection.prepare(sql).map_err(|e| wrong(&e))?;
    // `WITH` may begin a statement that writes.
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(refused());
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = columns.len();
    if !on_answer(Answer::Columns(columns)) {
        return Ok(());
    }
    let mut rows = statement.query([]).map_err(|e| wrong(&e))?;
    while let Some(row) = rows.next().map_err(|e| wrong(&e))? {
        let cells = (0..width).map(|at| row.get_ref(at).map(Cell::from));
        let cells = cells.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(&e))?;
        if !on_answer(Answer::Row(cells)) {
            return Ok(());
        }
    }
    on_answer(Answer::End);
    Ok(())
}

/// Makes each table known by its alias, and those whose uid the statement names also by uid and name.
fn declare(connection: &Connection, tables: &Arc<Tables>, sql: &str) -> Result<(), InspectError> {
    const VIRTUAL: Module<'_, StateTable> = Module::read_only_module();
    let failed = |e: rusqlite::Error| InspectError::Sql(format!("failed to set the tables up: {e}"));
    connection.create_module(MODULE, &VIRTUAL, Some(Arc::clone(tables))).map_err(failed)?;
    let module = MODULE.to_string_lossy();
    let mut uids = HashSet::new();
    for (at, table) in tables.tables.iter().enumerate() {
        let create = |name: &str| {
            connection.execute_batch(&format!("CREATE VIRTUAL TABLE {name} USING {module}({at})")).map_err(failed)
        };
        create(&quoted(&table.alias))?;
        let uid = quoted(&table.manifest.uid.0);
        if !sql.contains(&uid) {
            continue;
        }
        if uids.insert(uid.clone()) {
            if uids.len() > UIDS_MAX {
                let message =
                    format!("a statement may name {UIDS_MAX} transforms by their uids: use the tables' aliases");
                return Err(InspectError::Sql(message));
            }
            connection.execute_batch(&format!("ATTACH ':memory:' AS {uid}")).map_err(failed)?;
        }
        create(&format!("{uid}.{}", quoted(&table.manifest.table)))?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Anything but a question could only touch other files.
fn check(sql: &str) -> Result<(), InspectError> {
    let first = sql.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let asks = ["SELECT", "WITH", "VALUES", "EXPLAIN"].iter().any(|word| word.eq_ignore_ascii_case(first));
    if asks { Ok(()) } else { Err(refused()) }
}

fn refused() -> InspectError {
    InspectError::Sql("stored state is only read: the statement must be a SELECT".to_owned())
}

/// What is wrong with a statement, with what there would have been.
fn message(error: &rusqlite::Error, tables: &[StoredTable]) -> String {
    let said = match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => match usize::try_from(*offset) {
            Ok(offset) if offset < sql.len() => format!("column {}: {msg}", offset + 1),
            _ => msg.clone(),
        },
        rusqlite::Error::SqliteFailure(_, Some(msg)) => msg.clone(),
        other => other.to_string(),
    };
    let hint = if said.contains("no such table") {
        let names: Vec<&str> = tables.iter().map(|table| table.alias.as_str()).collect();
        format!("; there are: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
    } else if said.contains("no such column") {
        let tables: Vec<String> = tables.iter().map(|t| format!("{} ({})", t.alias, t.columns().join(", "))).collect();
        format!("; there are: {}", tables.join("; "))
    } else {
        String::new()
    };
    format!("the statement is wrong: {said}{hint}")
}

#[cfg(test)]
mod tests;
