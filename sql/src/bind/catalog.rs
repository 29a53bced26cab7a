//! The tables and views that the script has declared so far.

use std::rc::Rc;

use indexmap::IndexMap;
use millstream_api::graph::{Expr, SqlType};

use super::relation::{Changes, Column as RelationColumn, Node, Relation, TimeAttribute};
use super::unknown;
use crate::ast::Ident;
use crate::connector::Connector;
use crate::error::{Position, Result, SqlError};

/// Where a table's column comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ColumnSource {
    Physical,
    /// `ty`: the type in which the connector has it; a cast leads to the declared one.
    Metadata {
        key: String,
        ty: SqlType,
        nullable: bool,
        is_virtual: bool,
    },
    /// Over the table's columns by position; refers to no other computed column.
    Computed(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub name: String,
    pub position: Position,
    pub ty: SqlType,
    pub nullable: bool,
    pub source: ColumnSource,
    pub time: Option<TimeAttribute>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Watermark {
    pub column: usize,
    /// Over the table's columns by position.
    pub expr: Expr,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub watermark: Option<Watermark>,
    /// Columns by position.
    pub primary_key: Vec<usize>,
    pub connector: Connector,
    /// `scan.watermark.idle-timeout`, the table's own.
    pub idle_timeout_ms: Option<u64>,
}

#[derive(Debug)]
enum Entry {
    Table(Rc<Table>),
    View(Relation),
}

#[derive(Debug, Default)]
pub(crate) struct Catalog {
    entries: IndexMap<String, Entry>,
    /// Names whose declaration was refused: what refers to them is not reported again.
    refused: Vec<String>,
}

impl Catalog {
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub fn check_free(&self, name: &Ident, what: &str) -> Result<()> {
        if self.contains(&name.text) {
            return Err(SqlError::at(name.position, format!("the {what} '{}' is declared twice", name.text)));
        }
        Ok(())
    }

    pub fn add_table(&mut self, table: Table) {
        self.entries.insert(table.name.clone(), Entry::Table(Rc::new(table)));
    }

    pub fn add_view(&mut self, name: &str, relation: Relation) {
        self.entries.insert(name.to_owned(), Entry::View(relation));
    }

    pub fn refuse(&mut self, name: &str) {
        self.refused.push(name.to_owned());
    }

    fn unknown(&self, what: &str, name: &Ident) -> SqlError {
        let mut error = unknown(what, name, self.names());
        error.follows = self.refused.contains(&name.text);
        error
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The relation that a table or view name stands for.
    pub fn relation(&self, name: &Ident) -> Result<Relation> {
        match self.entries.get(&name.text) {
            Some(Entry::View(relation)) => Ok(relation.clone()),
            Some(Entry::Table(table)) => {
                let columns = table.columns.iter().map(|c| RelationColumn {
                    time: c.time,
                    ..RelationColumn::plain(c.name.clone(), c.ty.clone(), c.nullable)
                });
                table.connector.check_source(name)?;
                Relation::new(Node::Scan(Rc::clone(table)), columns.collect(), Changes::Append, name.position)
            }
            None => Err(self.unknown("the table or view", name)),
        }
    }

    /// The table that an INSERT writes.
    pub fn sink(&self, name: &Ident) -> Result<Rc<Table>> {
        match self.entries.get(&name.text) {
            Some(Entry::Table(table)) => Ok(Rc::clone(table)),
            Some(Entry::View(_)) => {
                Err(SqlError::at(name.position, format!("'{}' is a view: INSERT INTO needs a table", name.text)))
            }
            None => Err(self.unknown("the table", name)),
        }
    }
}
