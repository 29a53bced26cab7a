//! `millstream state query`: the rows of a statement, as they come.
//!
//! Owns: the three forms of rows. Does not own: the statement (`inspect::sql`).

use millstream_inspect::{Answer, Cell, query as ask};
use serde_json::{Value, json};

use super::args::{QueryArguments, RowFormat};
use super::print::{csv_line, out};
use super::source::{Stop, open_one};
use crate::ask::table::aligned;
use crate::exit::Exit;

/// Rows of a table that are held back to find the widths of its columns. Later rows are aligned among themselves.
const ROWS_PER_TABLE: usize = 1_000;
/// NULL in a table; in CSV it is nothing.
const NULL_TEXT: &str = "NULL";

pub async fn query(arguments: &QueryArguments) -> Result<Exit, Stop> {
    let stored = open_one(&arguments.source).await?;
    let mut rows = Rows { format: arguments.output, columns: Vec::new(), held: Vec::new(), headed: false };
    ask(stored, arguments.sql.clone(), move |answer| rows.take(answer)).await?;
    Ok(Exit::Success)
}

/// Rows on their way to standard output.
struct Rows {
    format: RowFormat,
    columns: Vec<String>,
    /// Of a table.
    held: Vec<Vec<String>>,
    /// The columns are named.
    headed: bool,
}

impl Rows {
    /// Whether there is somebody who wants more.
    fn take(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Columns(columns) => self.columns(columns),
            Answer::Row(row) => self.row(row),
            Answer::End => self.end(),
        }
    }

    fn columns(&mut self, columns: Vec<String>) -> bool {
        let goes_on = self.format != RowFormat::Csv || out(&csv_line(columns.iter().map(String::as_str)));
        self.columns = columns;
        goes_on
    }

    fn row(&mut self, row: Vec<Cell>) -> bool {
        match self.format {
            RowFormat::Csv => {
                let cells: Vec<String> = row.iter().map(|cell| text_of(cell, "")).collect();
                out(&csv_line(cells.iter().map(String::as_str)))
            }
            RowFormat::Json => out(&format!("{}\n", object(&self.columns, row))),
            RowFormat::Table => {
                self.held.push(row.iter().map(|cell| text_of(cell, NULL_TEXT)).collect());
                self.held.len() < ROWS_PER_TABLE || self.end()
            }
        }
    }

    fn end(&mut self) -> bool {
        if self.format != RowFormat::Table || (self.headed && self.held.is_empty()) {
            return true;
        }
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let table = aligned(&columns, &std::mem::take(&mut self.held));
        // Of a long answer only the first rows have the head above them.
        let lines = if self.headed { table.split_once('\n').map_or("", |(_, rows)| rows) } else { &table };
        self.headed = true;
        out(&format!("{lines}\n"))
    }
}

fn text_of(cell: &Cell, null: &str) -> String {
    match cell {
        Cell::Null => null.to_owned(),
        Cell::Integer(number) => number.to_string(),
        Cell::Real(number) => number.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Bytes(bytes) => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn object(columns: &[String], row: Vec<Cell>) -> String {
    let value = |cell: Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => json!(number),
        // JSON has no infinity.
        Cell::Real(number) if number.is_finite() => json!(number),
        Cell::Real(number) => json!(number.to_string()),
        Cell::Text(text) => json!(text),
        Cell::Bytes(bytes) => json!(hex(&bytes)),
    };
    // In the order of the statement, which an object of serde's would not keep.
    let named = columns.iter().zip(row).map(|(name, cell)| format!("{}:{}", json!(name), value(cell)));
    format!("{{{}}}", named.collect::<Vec<_>>().join(","))
}
