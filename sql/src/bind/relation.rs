//! The logical plan: relations over relations, each with its columns.

use std::rc::Rc;

use millstream_api::graph::{AggregateFunction, Expr, Field, SqlType, WindowColumn};

use super::catalog::Table;
use crate::error::{Position, Result, SqlError};

/// Relations in one plan, views and common table expressions counted where they are used. They are copied into each
/// use, so a tower of views that each read the one below twice would double at every level.
const RELATIONS_MAX: usize = 5000;
/// Relations on top of one another: recursion over plans is bounded by it.
const RELATION_DEPTH_MAX: usize = 150;

/// What a column means for event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeAttribute {
    /// The watermark is about this column.
    Event,
    /// PROCTIME().
    Processing,
}

/// A column that a window function added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowRole {
    pub column: WindowColumn,
    pub window: Rc<WindowShape>,
}

/// A window function at one place of the text; durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowShape {
    /// Tells two calls with the same durations apart.
    pub id: usize,
    pub time_type: SqlType,
    pub size_ms: i64,
    pub slide_ms: i64,
    pub offset_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
    pub time: Option<TimeAttribute>,
    pub window: Option<WindowRole>,
}

impl Column {
    pub fn plain(name: impl Into<String>, ty: SqlType, nullable: bool) -> Self {
        Self { name: name.into(), ty, nullable, time: None, window: None }
    }

    pub fn expr(&self, index: usize) -> Expr {
        Expr::column(index, self.ty.clone(), self.nullable)
    }

    pub fn field(&self) -> Field {
        Field::new(self.name.clone(), self.ty.clone(), self.nullable)
    }
}

/// What kinds of rows a relation yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    Append,
    /// Updates occur. `key`: columns that identify a row, where such are among the relation's columns.
    Updating {
        key: Option<Vec<usize>>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub node: Node,
    pub columns: Vec<Column>,
    pub changes: Changes,
    /// Of this relation and all below it.
    count: usize,
    depth: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// All columns of a table.
    Scan(Rc<Table>),
    Project {
        input: Box<Relation>,
        exprs: Vec<Expr>,
    },
    Filter {
        input: Box<Relation>,
        predicate: Expr,
    },
    Union {
        inputs: Vec<Relation>,
    },
    /// The input's columns, then window_start, window_end, window_time.
    Window {
        input: Box<Relation>,
        time_column: usize,
        shape: Rc<WindowShape>,
    },
    /// Columns: keys, the window columns that are grouped by, aggregates.
    Aggregate(Box<Aggregate>),
}

#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub input: Relation,
    /// Over the input's columns.
    pub keys: Vec<Expr>,
    pub aggregates: Vec<AggregateExpr>,
    pub window: Option<GroupWindow>,
}

/// An aggregate function over expressions of the input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AggregateExpr {
    pub function: AggregateFunction,
    pub arg: Option<Expr>,
    pub filter: Option<Expr>,
    pub output: Field,
}

/// The window whose start and end are among the grouping columns.
#[derive(Clone, Debug)]
pub(crate) struct GroupWindow {
    pub shape: Rc<WindowShape>,
    /// The input column that holds the window's end.
    pub end_column: usize,
    /// In the order of the aggregate's output.
    pub columns: Vec<WindowColumn>,
}

impl Relation {
    pub fn new(node: Node, columns: Vec<Column>, changes: Changes, position: Position) -> Result<Self> {
        let (count, depth) = match &node {
            Node::Scan(_) => (0, 0),
            Node::Project { input, .. } | Node::Filter { input, .. } | Node::Window { input, .. } => {
                (input.count, input.depth)
            }
            Node::Union { inputs } => {
                (inputs.iter().map(|i| i.count).sum(), inputs.iter().map(|i| i.depth).max().unwrap_or(0))
            }
            Node::Aggregate(a) => (a.input.count, a.input.depth),
        };
        if count >= RELATIONS_MAX || depth >= RELATION_DEPTH_MAX {
            return Err(SqlError::at(
                position,
                format!(
                    "the plan has more than {RELATIONS_MAX} steps, or more than {RELATION_DEPTH_MAX} on top of one another"
                ),
            ));
        }
        Ok(Self { node, columns, changes, count: count + 1, depth: depth + 1 })
    }

    /// Computes `exprs` as `names`; a column that passes through keeps its time attribute and its place in the key.
    pub fn project(self, exprs: Vec<Expr>, names: Vec<String>, position: Position) -> Result<Self> {
        let columns = exprs
            .iter()
            .zip(names)
            .map(|(expr, name)| match passed_through(expr) {
                Some(index) => Column { name, ..self.columns[index].clone() },
                None => Column::plain(name, expr.ty.clone(), expr.nullable),
            })
            .collect();
        let changes = match &self.changes {
            Changes::Append => Changes::Append,
            Changes::Updating { key } => {
                let place = |column: &usize| exprs.iter().position(|e| passed_through(e) == Some(*column));
                Changes::Updating { key: key.as_ref().and_then(|k| k.iter().map(place).collect()) }
            }
        };
        Relation::new(Node::Project { input: Box::new(self), exprs }, columns, changes, position)
    }

    pub fn filter(self, predicate: Expr, position: Position) -> Result<Self> {
        let (columns, changes) = (self.columns.clone(), self.changes.clone());
        Relation::new(Node::Filter { input: Box::new(self), predicate }, columns, changes, position)
    }
}

/// The input column that an expression is, and nothing more.
pub(crate) fn passed_through(expr: &Expr) -> Option<usize> {
    match expr.kind {
        millstream_api::graph::ExprKind::Column { index } => Some(index),
        _ => None,
    }
}
