//! Queries to relations.

use millstream_api::graph::{Expr, SqlType, promotion};

use super::aggregate::{Grouping, has_aggregate};
use super::expression::{bind_scalar, condition};
use super::relation::{Changes, Column, Node, Relation};
use super::scope::Scope;
use super::{Binder, convert};
use crate::ast::{ExprKind, Ident, Query, QueryBody, Select, SelectItem, TableRef, TableRefKind};
use crate::error::{Position, Result, SqlError};

/// Columns of one relation.
const COLUMNS_MAX: usize = 2000;
/// Queries inside one another; below the parser's own bound.
const QUERY_DEPTH_MAX: usize = 50;

/// Names of columns that SELECT gave no name, as Calcite makes them.
fn unnamed(index: usize) -> String {
    format!("EXPR${index}")
}

impl Binder {
    pub(super) fn query(&mut self, query: &Query) -> Result<Relation> {
        if self.depth >= QUERY_DEPTH_MAX {
            return Err(SqlError::at(
                query.position,
                format!("more than {QUERY_DEPTH_MAX} queries inside one another"),
            ));
        }
        self.depth += 1;
        let outer = self.with.len();
        let result = self.query_here(query);
        self.with.truncate(outer);
        self.depth -= 1;
        result
    }

    fn query_here(&mut self, query: &Query) -> Result<Relation> {
        for (name, columns, inner) in &query.with {
            let relation = self.query(inner)?;
            let relation = rename_columns(relation, columns, &format!("'{}'", name.text))?;
            self.with.push((name.text.clone(), relation));
        }
        match &query.body {
            QueryBody::Select(select) => self.select(select, query.position),
            QueryBody::UnionAll(inputs) => {
                let relations = inputs.iter().map(|i| self.query(i)).collect::<Result<Vec<_>>>()?;
                let positions: Vec<Position> = inputs.iter().map(|i| i.position).collect();
                union_all(relations, &positions)
            }
        }
    }

    pub(super) fn table_ref(&mut self, table: &TableRef) -> Result<(Relation, Option<String>)> {
        let (relation, own_name) = match &table.kind {
            TableRefKind::Named(name) => (self.named(name)?, Some(name.text.clone())),
            TableRefKind::Query(query) => {
                let relation = self.query(query)?;
                check_unique_columns(&relation, table.position)?;
                (relation, None)
            }
            TableRefKind::Window(call) => (self.window(call)?, None),
        };
        let alias = table.alias.as_ref().map(|a| a.text.clone()).or(own_name);
        Ok((rename_columns(relation, &table.column_aliases, "the table")?, alias))
    }

    fn named(&self, name: &Ident) -> Result<Relation> {
        match self.with.iter().rev().find(|(n, _)| *n == name.text) {
            Some((_, relation)) => Ok(relation.clone()),
            None => self.catalog.relation(name),
        }
    }

    fn select(&mut self, select: &Select, position: Position) -> Result<Relation> {
        let (mut input, alias) = self.table_ref(&select.from)?;
        if let Some(filter) = &select.filter {
            let bound = bind_scalar(filter, Scope::new(&input, alias.as_deref()), "WHERE")?;
            let bound = condition(bound, filter.position, "WHERE")?;
            input = input.filter(bound, filter.position)?;
        }
        let aggregates = select.items.iter().any(|i| matches!(i, SelectItem::Expr { expr, .. } if has_aggregate(expr)));
        let grouped = select.group_by.is_some() || select.having.is_some() || aggregates;
        let output = if grouped {
            grouped_select(select, input, alias.as_deref(), position)?
        } else {
            plain_select(select, input, alias.as_deref(), position)?
        };
        if select.distinct { distinct(output, position) } else { Ok(output) }
    }
}

fn plain_select(select: &Select, input: Relation, alias: Option<&str>, position: Position) -> Result<Relation> {
    let scope = Scope::new(&input, alias);
    let mut output = Output::default();
    for item in &select.items {
        match item {
            SelectItem::Wildcard { qualifier, .. } => {
                if let Some(qualifier) = qualifier {
                    scope.check_qualifier(qualifier)?;
                }
                for (index, column) in scope.columns.iter().enumerate() {
                    output.push(column.expr(index), column.name.clone());
                }
            }
            SelectItem::Expr { expr, alias } => {
                let bound = bind_scalar(expr, scope, "SELECT without GROUP BY")?;
                output.push_item(bound, expr, alias.as_ref());
            }
        }
    }
    output.check(position)?;
    input.project(output.exprs, output.names, position)
}

fn grouped_select(select: &Select, input: Relation, alias: Option<&str>, position: Position) -> Result<Relation> {
    if let Changes::Updating { .. } = input.changes {
        return Err(SqlError::unsupported(position, "an aggregate over a result that is updated")
            .hint("the rows below come from a GROUP BY without a window"));
    }
    let scope_input = input.clone();
    let group_by = select.group_by.as_deref().unwrap_or_default();
    let mut grouping = Grouping::new(Scope::new(&scope_input, alias), group_by)?;
    let mut output = Output::default();
    for item in &select.items {
        match item {
            SelectItem::Wildcard { position, .. } => {
                return Err(SqlError::at(*position, "* cannot stand beside GROUP BY or aggregates")
                    .hint("name the grouped columns"));
            }
            SelectItem::Expr { expr, alias } => {
                let bound = grouping.bind(expr)?;
                output.push_item(bound, expr, alias.as_ref());
            }
        }
    }
    let having = match &select.having {
        Some(having) => Some((condition(grouping.bind(having)?, having.position, "HAVING")?, having.position)),
        None => None,
    };
    output.check(position)?;
    let mut relation = grouping.finish(input, position)?;
    if let Some((predicate, position)) = having {
        relation = relation.filter(predicate, position)?;
    }
    relation.project(output.exprs, output.names, position)
}

/// SELECT DISTINCT: a grouping by all columns.
fn distinct(input: Relation, position: Position) -> Result<Relation> {
    if let Changes::Updating { .. } = input.changes {
        return Err(SqlError::unsupported(position, "SELECT DISTINCT over a result that is updated"));
    }
    let scope_input = input.clone();
    let keys: Vec<_> =
        scope_input.columns.iter().enumerate().map(|(index, c)| (c.expr(index), c.name.clone())).collect();
    let (grouping, order) =
        Grouping::of_columns(Scope::new(&scope_input, None), keys.iter().map(|(e, _)| e.clone()).collect());
    let relation = grouping.finish(input, position)?;
    let exprs = order.iter().map(|at| relation.columns[*at].expr(*at)).collect();
    relation.project(exprs, keys.into_iter().map(|(_, name)| name).collect(), position)
}

/// The columns of a SELECT as they come.
#[derive(Default)]
struct Output {
    exprs: Vec<Expr>,
    names: Vec<String>,
}

impl Output {
    fn push(&mut self, expr: Expr, name: String) {
        self.exprs.push(expr);
        self.names.push(name);
    }

    fn push_item(&mut self, bound: Expr, expr: &crate::ast::Expr, alias: Option<&Ident>) {
        let name = match (alias, &expr.kind) {
            (Some(alias), _) => alias.text.clone(),
            (None, ExprKind::Column { name, .. }) => name.text.clone(),
            _ => unnamed(self.exprs.len()),
        };
        self.push(bound, name);
    }

    fn check(&self, position: Position) -> Result<()> {
        if self.exprs.len() > COLUMNS_MAX {
            return Err(SqlError::at(position, format!("more than {COLUMNS_MAX} columns")));
        }
        Ok(())
    }
}

/// Gives the columns other names, where names are given.
pub(super) fn rename_columns(mut relation: Relation, names: &[Ident], what: &str) -> Result<Relation> {
    let Some(first) = names.first() else { return Ok(relation) };
    if names.len() != relation.columns.len() {
        return Err(SqlError::at(
            first.position,
            format!("{} column name(s) for {what} of {} column(s)", names.len(), relation.columns.len()),
        ));
    }
    for (column, name) in relation.columns.iter_mut().zip(names) {
        column.name.clone_from(&name.text);
    }
    Ok(relation)
}

/// Two columns of one name can be selected, but not named afterwards.
pub(super) fn check_unique_columns(relation: &Relation, position: Position) -> Result<()> {
    for (index, column) in relation.columns.iter().enumerate() {
        if relation.columns[..index].iter().any(|c| c.name == column.name) {
            return Err(SqlError::at(position, format!("the query has two columns called '{}'", column.name))
                .hint("give one an alias"));
        }
    }
    Ok(())
}

/// UNION ALL: columns by place, in their common types, under the first input's names.
fn union_all(mut inputs: Vec<Relation>, positions: &[Position]) -> Result<Relation> {
    if inputs.len() == 1 {
        return Ok(inputs.remove(0));
    }
    let mut columns: Vec<Column> = inputs[0].columns.clone();
    for (input, position) in inputs.iter().zip(positions).skip(1) {
        if input.columns.len() != columns.len() {
            return Err(SqlError::at(
                *position,
                format!("UNION ALL of a query of {} column(s) and one of {}", columns.len(), input.columns.len()),
            ));
        }
        for (column, other) in columns.iter_mut().zip(&input.columns) {
            let Some(ty) = promotion::common_type(&column.ty, &other.ty) else {
                return Err(SqlError::at(
                    *position,
                    format!(
                        "UNION ALL: the column '{}' is {} and {}, which have no common type",
                        column.name, column.ty, other.ty
                    ),
                )
                .hint("CAST one of them"));
            };
            if column.ty != ty || other.ty != ty || column.time != other.time {
                column.time = None;
            }
            column.ty = ty;
            column.nullable |= other.nullable;
            column.window = None;
        }
    }
    let updating = inputs.iter().any(|i| matches!(i.changes, Changes::Updating { .. }));
    let changes = if updating { Changes::Updating { key: None } } else { Changes::Append };
    let inputs = inputs
        .into_iter()
        .zip(positions)
        .map(|(input, position)| to_types(input, columns.iter().map(|c| &c.ty), *position))
        .collect::<Result<_>>()?;
    Relation::new(Node::Union { inputs }, columns, changes, positions[0])
}

/// The relation with its columns in these types.
fn to_types<'a>(input: Relation, types: impl Iterator<Item = &'a SqlType>, position: Position) -> Result<Relation> {
    let exprs: Vec<Expr> =
        input.columns.iter().zip(types).enumerate().map(|(i, (c, ty))| convert::coerce(c.expr(i), ty)).collect();
    if exprs.iter().enumerate().all(|(i, e)| super::relation::passed_through(e) == Some(i)) {
        return Ok(input);
    }
    let names = input.columns.iter().map(|c| c.name.clone()).collect();
    input.project(exprs, names, position)
}
