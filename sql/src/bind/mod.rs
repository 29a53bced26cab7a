//! Statements to relations: names resolved, types by Flink's rules, every refusal with its place.
//!
//! Owns: the catalog of tables and views, scopes, typing, the logical plan. Does not own: the physical graph (`plan`),
//! what a connector's options mean (`connector`).

mod aggregate;
mod call;
mod catalog;
mod convert;
mod expression;
mod insert;
mod literal;
mod query;
pub(crate) mod relation;
mod scope;
mod table;
mod time_literal;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use catalog::{Catalog, Column as TableColumn, ColumnSource, Table};
pub(crate) use convert::fold_cast;
pub(crate) use insert::BoundInsert;

use crate::ast::{CreateView, Insert};
use crate::error::{Result, SqlError};

/// Binds statements one after the other against the tables and views so far.
#[derive(Default)]
pub(crate) struct Binder {
    pub catalog: Catalog,
    /// Window functions seen so far; the number tells windows of equal shape apart.
    windows: usize,
    /// Common table expressions in scope, the innermost last.
    with: Vec<(String, relation::Relation)>,
    /// How deep queries are nested right now.
    depth: usize,
}

impl Binder {
    pub fn create_view(&mut self, view: &CreateView) -> Result<()> {
        if self.catalog.contains(&view.name.text) && view.if_not_exists {
            return Ok(());
        }
        self.catalog.check_free(&view.name, "view")?;
        let relation = self.query(&view.query)?;
        let relation = query::rename_columns(relation, &view.columns, &format!("the view '{}'", view.name.text))?;
        query::check_unique_columns(&relation, view.name.position)?;
        self.catalog.add_view(&view.name.text, relation);
        Ok(())
    }

    pub fn insert(&mut self, insert: &Insert) -> Result<BoundInsert> {
        insert::bind(self, insert)
    }

    fn new_window(&mut self) -> usize {
        self.windows += 1;
        self.windows
    }
}

/// The error for a name that is none of the known ones.
fn unknown<'a>(what: &str, name: &crate::ast::Ident, known: impl IntoIterator<Item = &'a str>) -> SqlError {
    let hint = crate::error::did_you_mean(&name.text, known);
    SqlError::at(name.position, format!("{what} '{}' does not exist", name.text)).hint_opt(hint)
}
