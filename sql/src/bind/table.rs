//! CREATE TABLE.

use std::collections::HashSet;

use millstream_api::graph::{Expr, ExprKind, SqlType, promotion};

use super::catalog::{Column, ColumnSource, Table, Watermark};
use super::expression::bind_scalar;
use super::relation::{self, TimeAttribute};
use super::scope::Scope;
use super::{Binder, convert, unknown};
use crate::ast::{ColumnKind, CreateTable, Ident, WatermarkDef};
use crate::connector::Connector;
use crate::error::{Result, SqlError};
use crate::rewrite::move_columns;

/// Event time is milliseconds.
const EVENT_TIME_PRECISION_MAX: u8 = 3;
const COLUMNS_MAX: usize = 2000;

impl Binder {
    pub fn create_table(&mut self, def: &CreateTable) -> Result<()> {
        if self.catalog.contains(&def.name.text) && def.if_not_exists {
            return Ok(());
        }
        self.catalog.check_free(&def.name, "table")?;
        check_names(def)?;
        let mut columns = stored_columns(def)?;
        let connector = Connector::parse(def, &columns)?;
        bind_metadata(def, &connector.connector, &mut columns)?;
        bind_computed(def, &mut columns)?;
        let watermark = def.watermark.as_ref().map(|w| bind_watermark(w, &mut columns)).transpose()?;
        let primary_key = bind_primary_key(def, &mut columns)?;
        connector.connector.check_key(def, &columns, &primary_key)?;
        self.catalog.add_table(Table {
            name: def.name.text.clone(),
            columns,
            watermark,
            primary_key,
            connector: connector.connector,
            idle_timeout_ms: connector.idle_timeout_ms,
        });
        Ok(())
    }
}

fn check_names(def: &CreateTable) -> Result<()> {
    let mut seen = HashSet::new();
    for column in &def.columns {
        if !seen.insert(column.name.text.as_str()) {
            return Err(SqlError::at(
                column.name.position,
                format!("the column '{}' is declared twice", column.name.text),
            ));
        }
    }
    if def.columns.len() > COLUMNS_MAX {
        return Err(SqlError::at(def.name.position, format!("a table has at most {COLUMNS_MAX} columns")));
    }
    if !def.columns.iter().any(|c| matches!(c.kind, ColumnKind::Physical(_))) {
        return Err(SqlError::at(def.name.position, format!("the table '{}' has no physical column", def.name.text)));
    }
    Ok(())
}

/// The columns with types and places; computed ones get theirs later.
fn stored_columns(def: &CreateTable) -> Result<Vec<Column>> {
    let column = |name: &Ident, ty: SqlType, nullable, source| Column {
        name: name.text.clone(),
        position: name.position,
        ty,
        nullable,
        source,
        time: None,
    };
    def.columns
        .iter()
        .map(|c| match &c.kind {
            ColumnKind::Physical(ty) => Ok(column(&c.name, ty.ty.clone(), ty.nullable, ColumnSource::Physical)),
            ColumnKind::Metadata { ty, key, is_virtual } => {
                let key = key.as_ref().map_or_else(|| c.name.text.clone(), |k| k.text.clone());
                // What the connector delivers is filled in when the connector is known.
                let source =
                    ColumnSource::Metadata { key, ty: ty.ty.clone(), nullable: ty.nullable, is_virtual: *is_virtual };
                Ok(column(&c.name, ty.ty.clone(), ty.nullable, source))
            }
            ColumnKind::Computed(_) => {
                Ok(column(&c.name, SqlType::Null, true, ColumnSource::Computed(super::literal::null())))
            }
        })
        .collect()
}

fn bind_metadata(def: &CreateTable, connector: &Connector, columns: &mut [Column]) -> Result<()> {
    for (column, defined) in columns.iter_mut().zip(&def.columns) {
        let (ColumnSource::Metadata { key, ty, nullable, .. }, ColumnKind::Metadata { ty: declared, key: written, .. }) =
            (&mut column.source, &defined.kind)
        else {
            continue;
        };
        let position = written.as_ref().map_or(defined.name.position, |k| k.position);
        let known = connector.metadata();
        let Some((_, found, can_be_null)) = known.iter().find(|(name, ..)| *name == key.as_str()) else {
            let hint = if known.is_empty() {
                format!("the connector '{}' has none", connector.name())
            } else {
                format!("it has {}", known.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "))
            };
            return Err(SqlError::at(position, format!("the metadata key '{key}' does not exist")).hint(hint));
        };
        if !promotion::castable(found, &declared.ty) {
            return Err(SqlError::at(
                declared.position,
                format!("the metadata '{key}' is {found}, it cannot be cast to {}", declared.ty),
            ));
        }
        *ty = found.clone();
        *nullable = *can_be_null;
    }
    Ok(())
}

/// The relation's view of some of the table's columns, and the place of each in the table.
fn visible(columns: &[Column], is_visible: impl Fn(&Column) -> bool) -> (Vec<relation::Column>, Vec<usize>) {
    columns
        .iter()
        .enumerate()
        .filter(|(_, c)| is_visible(c))
        .map(|(i, c)| (relation::Column::plain(c.name.clone(), c.ty.clone(), c.nullable), i))
        .unzip()
}

fn bind_computed(def: &CreateTable, columns: &mut [Column]) -> Result<()> {
    let (stored, places) = visible(columns, |c| !matches!(c.source, ColumnSource::Computed(_)));
    let scope = Scope { columns: &stored, alias: Some(&def.name.text) };
    for (column, defined) in columns.iter_mut().zip(&def.columns) {
        let ColumnKind::Computed(expr) = &defined.kind else { continue };
        let bound = bind_scalar(expr, scope, "a computed column")?;
        if bound.ty == SqlType::Null {
            return Err(SqlError::at(expr.position, format!("the column '{}' is NULL without a type", column.name)));
        }
        column.time = is_proctime(&bound).then_some(TimeAttribute::Processing);
        column.ty = bound.ty.clone();
        column.nullable = bound.nullable;
        column.source = ColumnSource::Computed(move_columns(&bound, &|i| places[i]));
    }
    Ok(())
}

fn is_proctime(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Call { function, .. } if function == "PROCTIME")
}

fn bind_watermark(def: &WatermarkDef, columns: &mut [Column]) -> Result<Watermark> {
    let (all, _) = visible(columns, |_| true);
    let scope = Scope { columns: &all, alias: None };
    let index = scope.resolve(None, &def.column)?;
    let ty = columns[index].ty.clone();
    match ty {
        SqlType::Timestamp { precision } | SqlType::TimestampLtz { precision }
            if precision <= EVENT_TIME_PRECISION_MAX => {}
        _ => {
            let message = format!(
                "the event-time column '{}' is {ty}: it must be TIMESTAMP(3) or TIMESTAMP_LTZ(3)",
                def.column.text
            );
            return Err(
                SqlError::at(def.column.position, message).hint("compute such a column: ts AS CAST(x AS TIMESTAMP(3))")
            );
        }
    }
    let bound = bind_scalar(&def.expr, scope, "a watermark")?;
    if std::mem::discriminant(&bound.ty) != std::mem::discriminant(&ty) {
        return Err(SqlError::at(
            def.expr.position,
            format!("the watermark is {}, the column '{}' is {ty}", bound.ty, def.column.text),
        ));
    }
    columns[index].time = Some(TimeAttribute::Event);
    Ok(Watermark { column: index, expr: convert::coerce(bound, &ty) })
}

fn bind_primary_key(def: &CreateTable, columns: &mut [Column]) -> Result<Vec<usize>> {
    let Some(key) = &def.primary_key else { return Ok(Vec::new()) };
    let mut places = Vec::new();
    for name in &key.columns {
        let Some(index) = columns.iter().position(|c| c.name == name.text) else {
            return Err(unknown("the column", name, columns.iter().map(|c| c.name.as_str())));
        };
        if columns[index].source != ColumnSource::Physical {
            return Err(SqlError::at(name.position, format!("the key column '{}' is not physical", name.text)));
        }
        if places.contains(&index) {
            return Err(SqlError::at(name.position, format!("the key names the column '{}' twice", name.text)));
        }
        // A key column is NOT NULL, whether it says so or not.
        columns[index].nullable = false;
        places.push(index);
    }
    Ok(places)
}
