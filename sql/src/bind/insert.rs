//! INSERT INTO: the query's columns as the table's, and whether the table can take such rows.

use std::rc::Rc;

use millstream_api::graph::{Expr, ExprKind, SqlType, promotion};

use super::catalog::{ColumnSource, Table};
use super::relation::{Changes, Node, Relation, passed_through};
use super::{Binder, convert, literal, unknown};
use crate::ast::{Ident, Insert, Query, QueryBody, SelectItem};
use crate::error::{Position, Result, SqlError};

/// A query whose columns are those that the table writes, in the table's order and types.
#[derive(Debug)]
pub(crate) struct BoundInsert {
    pub table: Rc<Table>,
    /// What the user calls the statement.
    pub label: Option<Ident>,
    /// Of the statement.
    pub position: Position,
    pub relation: Relation,
    /// Positions in the relation of the primary key's columns.
    pub key: Vec<usize>,
}

pub(super) fn bind(binder: &mut Binder, insert: &Insert) -> Result<BoundInsert> {
    let table = binder.catalog.sink(&insert.table)?;
    table.connector.check_sink(&insert.table)?;
    let written = written_columns(&table, &insert.table)?;
    let query = binder.query(&insert.query)?;
    let targets = targets(insert, &table, &written)?;
    if query.columns.len() != targets.len() {
        return Err(SqlError::at(
            insert.query.position,
            format!(
                "the query gives {} column(s), '{}' takes {}: {}",
                query.columns.len(),
                table.name,
                targets.len(),
                names(&table, &targets)
            ),
        ));
    }
    let exprs = written
        .iter()
        .map(|at| match targets.iter().position(|t| t == at) {
            Some(from) => assign(&query, from, &table, *at, item_position(&insert.query, from)),
            None => missing(&table, *at, insert.table.position),
        })
        .collect::<Result<Vec<_>>>()?;
    let key: Vec<usize> = table
        .primary_key
        .iter()
        .map(|k| written.iter().position(|w| w == k).expect("key columns are physical"))
        .collect();
    let names = written.iter().map(|at| table.columns[*at].name.clone()).collect();
    let relation = query.project(exprs, names, insert.query.position)?;
    check_changes(&table, &relation, &key, &insert.table)?;
    Ok(BoundInsert { table, label: insert.label.clone(), position: insert.table.position, relation, key })
}

/// The physical columns, by position in the table.
fn written_columns(table: &Table, name: &Ident) -> Result<Vec<usize>> {
    for column in &table.columns {
        if let ColumnSource::Metadata { is_virtual: false, .. } = column.source {
            return Err(SqlError::unsupported(name.position, format!("writing the metadata column '{}'", column.name))
                .hint("declare it VIRTUAL: then it is read only"));
        }
    }
    Ok(table.columns.iter().enumerate().filter(|(_, c)| c.source == ColumnSource::Physical).map(|(i, _)| i).collect())
}

fn names(table: &Table, places: &[usize]) -> String {
    places.iter().map(|i| table.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The table's columns that the query's columns go to, in the query's order.
fn targets(insert: &Insert, table: &Table, written: &[usize]) -> Result<Vec<usize>> {
    let Some(list) = &insert.columns else { return Ok(written.to_vec()) };
    let mut places: Vec<usize> = Vec::new();
    for name in list {
        let Some(index) = written.iter().copied().find(|i| table.columns[*i].name == name.text) else {
            return Err(unknown(
                &format!("in '{}' the column", table.name),
                name,
                written.iter().map(|i| table.columns[*i].name.as_str()),
            ));
        };
        if places.contains(&index) {
            return Err(SqlError::at(name.position, format!("the column '{}' is named twice", name.text)));
        }
        places.push(index);
    }
    Ok(places)
}

/// Where a column of the query stands, as closely as it can be said.
fn item_position(query: &Query, column: usize) -> Position {
    match &query.body {
        QueryBody::Select(select) => {
            let before_star = select.items.iter().take_while(|i| matches!(i, SelectItem::Expr { .. })).count();
            match select.items.get(column) {
                Some(SelectItem::Expr { expr, .. }) if column < before_star => expr.position,
                _ => query.position,
            }
        }
        QueryBody::UnionAll(_) => query.position,
    }
}

/// The query's column in the type of the table's.
fn assign(query: &Relation, from: usize, table: &Table, to: usize, position: Position) -> Result<Expr> {
    let (source, target) = (&query.columns[from], &table.columns[to]);
    if !promotion::assignable(&source.ty, &target.ty) {
        let message =
            format!("the column '{}' of '{}' is {}, the query gives {}", target.name, table.name, target.ty, source.ty);
        let hint = promotion::castable(&source.ty, &target.ty).then(|| format!("CAST(... AS {})", target.ty));
        return Err(SqlError::at(position, message).hint_opt(hint));
    }
    let expr = source.expr(from);
    // Lengths are not enforced by default, as in Flink (table.exec.sink.type-length-enforcer = IGNORE).
    if source.ty == target.ty || convert::carried_as_is(&source.ty, &target.ty) {
        return Ok(expr);
    }
    if source.ty == SqlType::Null {
        return Ok(typed_null(&target.ty));
    }
    Ok(convert::cast(expr, target.ty.clone(), false))
}

fn typed_null(ty: &SqlType) -> Expr {
    convert::coerce(literal::null(), ty)
}

/// A column that the INSERT's list leaves out.
fn missing(table: &Table, column: usize, position: Position) -> Result<Expr> {
    let column = &table.columns[column];
    if !column.nullable {
        let message =
            format!("the column '{}' of '{}' is NOT NULL, and the INSERT gives it no value", column.name, table.name);
        return Err(SqlError::at(position, message));
    }
    Ok(typed_null(&column.ty))
}

fn check_changes(table: &Table, relation: &Relation, key: &[usize], name: &Ident) -> Result<()> {
    let Changes::Updating { key: upsert_key } = &relation.changes else { return Ok(()) };
    if !table.connector.takes_updates() {
        let message = format!(
            "the table '{}' (connector '{}') takes inserts only, and the query's result is updated",
            table.name,
            table.connector.name()
        );
        return Err(SqlError::at(name.position, message)
            .hint("use the connector 'upsert-kafka' with a PRIMARY KEY, or group by a window"));
    }
    if !table.connector.needs_key() {
        return Ok(());
    }
    let mut wanted: Vec<usize> = key.iter().copied().filter(|k| !is_constant(relation, *k)).collect();
    let mut given = upsert_key.clone();
    wanted.sort_unstable();
    if let Some(given) = &mut given {
        given.sort_unstable();
    }
    if given.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let column_names =
        |places: &[usize]| places.iter().map(|i| relation.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ");
    let by = match &given {
        Some(given) if given.is_empty() => "a single row".to_owned(),
        Some(given) => format!("a row for each ({})", column_names(given)),
        None => "rows without a key (their GROUP BY columns are not all selected)".to_owned(),
    };
    let message = format!(
        "the PRIMARY KEY ({}) of '{}' does not fit the query's result, which is updated: it has {by}",
        column_names(key),
        table.name
    );
    Err(SqlError::at(name.position, message).hint("the PRIMARY KEY must be the columns of GROUP BY"))
}

/// Whether a column has one value in all rows, whatever is read.
fn is_constant(relation: &Relation, column: usize) -> bool {
    match &relation.node {
        Node::Project { input, exprs } => match passed_through(&exprs[column]) {
            Some(below) => is_constant(input, below),
            None => is_constant_expr(&exprs[column], input),
        },
        Node::Filter { input, .. } => is_constant(input, column),
        _ => false,
    }
}

fn is_constant_expr(expr: &Expr, input: &Relation) -> bool {
    match &expr.kind {
        ExprKind::Literal { .. } => true,
        ExprKind::Column { index } => is_constant(input, *index),
        ExprKind::Cast { arg, .. } => is_constant_expr(arg, input),
        _ => false,
    }
}
