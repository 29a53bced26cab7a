//! Which columns of a relation somebody reads: from the INSERT down to the tables.

use std::collections::BTreeSet;
use std::rc::Rc;

use indexmap::IndexMap;
use millstream_api::graph::Expr;

use crate::bind::Table;
use crate::bind::relation::{Aggregate, Node, Relation};

/// The columns that are read of each table, in the order in which tables are first read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    pub tables: IndexMap<String, (Rc<Table>, BTreeSet<usize>)>,
}

/// Notes what `relation` reads of tables when these of its columns are needed.
pub(super) fn collect(relation: &Relation, needed: &BTreeSet<usize>, reads: &mut Reads) {
    match &relation.node {
        Node::Scan(table) => {
            let entry = reads.tables.entry(table.name.clone()).or_insert_with(|| (Rc::clone(table), BTreeSet::new()));
            entry.1.extend(needed);
        }
        Node::Project { input, .. } | Node::Filter { input, .. } | Node::Window { input, .. } => {
            collect(input, &of_input(relation, needed), reads);
        }
        Node::Union { inputs } => {
            for input in inputs {
                collect(input, &of_input(relation, needed), reads);
            }
        }
        Node::Aggregate(aggregate) => collect(&aggregate.input, &of_input(relation, needed), reads),
    }
}

/// Columns that an input must have so that these columns can be made.
pub(super) fn of_input(relation: &Relation, needed: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut columns = BTreeSet::new();
    match &relation.node {
        Node::Scan(_) => {}
        Node::Project { exprs, .. } => needed.iter().for_each(|i| reads_of(&exprs[*i], &mut columns)),
        Node::Filter { predicate, .. } => {
            columns.extend(needed);
            reads_of(predicate, &mut columns);
        }
        Node::Union { .. } => {
            columns.extend(needed);
            // Rows that are only counted still need a column to be rows of.
            if columns.is_empty() {
                columns.insert(0);
            }
        }
        Node::Window { input, time_column, .. } => {
            columns.extend(needed.iter().filter(|i| **i < input.columns.len()));
            columns.insert(*time_column);
        }
        Node::Aggregate(aggregate) => {
            aggregate.keys.iter().for_each(|k| reads_of(k, &mut columns));
            for (_, call) in needed_aggregates(aggregate, needed) {
                call.arg.iter().chain(&call.filter).for_each(|e| reads_of(e, &mut columns));
            }
            columns.extend(aggregate.window.as_ref().map(|w| w.end_column));
        }
    }
    columns
}

/// The aggregates that are among the needed columns, with their column.
pub(super) fn needed_aggregates<'a>(
    aggregate: &'a Aggregate,
    needed: &'a BTreeSet<usize>,
) -> impl Iterator<Item = (usize, &'a crate::bind::relation::AggregateExpr)> {
    let first = aggregate.keys.len() + aggregate.window.as_ref().map_or(0, |w| w.columns.len());
    aggregate.aggregates.iter().enumerate().map(move |(i, a)| (first + i, a)).filter(|(i, _)| needed.contains(i))
}

fn reads_of(expr: &Expr, columns: &mut BTreeSet<usize>) {
    expr.visit_columns(&mut |i| {
        columns.insert(i);
    });
}
