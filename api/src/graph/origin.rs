//! What the state of an aggregate was made from: keys and arguments as expressions over the columns of tables.
//!
//! Two graphs place columns differently when a source reads more of them, or a step is merged into another one; what the
//! columns mean is the same. So state is compared by this, and not by positions. Owns: following a column back to its table.
//! Does not own: what a difference leads to.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{AggregateCall, JobGraph, Operand, SourceTransform, Transform, TransformKind};
use crate::ids::TransformId;

/// An expression whose text would be longer says nothing: views over views can multiply it.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// What stands for such a one. Two of them count as the same.
const TOO_LONG: &str = "...";

/// Where the rows of an aggregate come from, as people write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `user_id`, in order.
    pub keys: Vec<String>,
    /// `SUM(price * 2)`, in order.
    pub aggregates: Vec<String>,
    /// Of a window: the event-time column.
    pub time: Option<String>,
    /// Which rows count, in the order in which they are dropped.
    pub conditions: Vec<String>,
}

impl JobGraph {
    /// Of a transform that aggregates; `None`: it does not.
    #[must_use]
    pub fn origin(&self, transform: &Transform) -> Option<Origin> {
        Trace { graph: self, known: RefCell::default() }.origin(transform)
    }
}

/// Columns on their way back.
struct Trace<'g> {
    graph: &'g JobGraph,
    /// Each column is followed once, however often expressions name it.
    known: RefCell<BTreeMap<(TransformId, usize), Operand>>,
}

impl<'g> Trace<'g> {
    fn origin(&self, transform: &Transform) -> Option<Origin> {
        let aggregates = matches!(
            transform.kind,
            TransformKind::GlobalWindowAggregate { .. } | TransformKind::GlobalGroupAggregate { .. }
        );
        let local = self.input(transform).filter(|_| aggregates)?;
        let (keys, calls, time) = match &local.kind {
            TransformKind::LocalGroupAggregate { keys, aggregates, .. } => (keys, aggregates, None),
            TransformKind::LocalWindowAggregate { keys, aggregates, window } => {
                (keys, aggregates, Some(window.time_column))
            }
            _ => return None,
        };
        let rows = self.input(local)?;
        let mut conditions = Vec::new();
        self.conditions(rows, &mut conditions);
        Some(Origin {
            keys: keys.iter().map(|key| self.column(rows, *key).text).collect(),
            aggregates: calls.iter().map(|call| self.call(rows, call)).collect(),
            time: time.map(|column| self.column(rows, column).text),
            conditions,
        })
    }

    fn input(&self, transform: &Transform) -> Option<&'g Transform> {
        self.graph.inputs_of(transform.id).first().map(|edge| self.graph.transform(edge.from))
    }

    fn call(&self, rows: &Transform, call: &AggregateCall) -> String {
        let arg = call.arg.map_or("*".to_owned(), |arg| self.column(rows, arg).text);
        let filter = call.filter.map(|filter| format!(" FILTER (WHERE {})", self.column(rows, filter).text));
        format!("{}({arg}){}", call.function.name(), filter.unwrap_or_default())
    }

    /// A column that leaves a transform.
    fn column(&self, of: &Transform, column: usize) -> Operand {
        if let Some(known) = self.known.borrow().get(&(of.id, column)) {
            return known.clone();
        }
        let origin = self.column_of(of, column);
        let origin = if origin.text.len() > TEXT_BYTES_MAX { Operand::plain(TOO_LONG) } else { origin };
        self.known.borrow_mut().insert((of.id, column), origin.clone());
        origin
    }

    fn column_of(&self, of: &Transform, column: usize) -> Operand {
        let own_name = || Operand::plain(of.output.fields.get(column).map_or("?", |f| f.name.as_str()));
        match &of.kind {
            TransformKind::Source(source) => source_column(source, column),
            TransformKind::Calc { projection, .. } => match (projection.get(column), self.input(of)) {
                (Some(expr), Some(input)) => expr.operand(&|i| self.column(input, i)),
                _ => own_name(),
            },
            TransformKind::Union => self.united(of, column),
            TransformKind::WindowAssign { .. } => match self.input(of) {
                Some(input) if column < input.output.fields.len() => self.column(input, column),
                _ => own_name(),
            },
            TransformKind::GlobalWindowAggregate { keys, .. } | TransformKind::GlobalGroupAggregate { keys, .. } => {
                let origin = self.origin(of).unwrap_or_default();
                let result = column.checked_sub(keys.len());
                let text = result.map_or_else(|| origin.keys.get(column), |i| origin.aggregates.get(i));
                text.map_or_else(own_name, Operand::plain)
            }
            TransformKind::LocalWindowAggregate { .. }
            | TransformKind::LocalGroupAggregate { .. }
            | TransformKind::Sink(_) => own_name(),
        }
    }

    fn united(&self, union: &Transform, column: usize) -> Operand {
        let inputs = self.graph.inputs_of(union.id);
        let mut origins: Vec<Operand> =
            inputs.iter().map(|edge| self.column(self.graph.transform(edge.from), column)).collect();
        origins.dedup();
        match &origins[..] {
            [one] => one.clone(),
            several => {
                let texts: Vec<&str> = several.iter().map(|o| o.text.as_str()).collect();
                Operand::plain(format!("({})", texts.join(" | ")))
            }
        }
    }

    /// Which of the rows of its tables reach what is behind `of`.
    fn conditions(&self, of: &Transform, out: &mut Vec<String>) {
        for edge in self.graph.inputs_of(of.id) {
            self.conditions(self.graph.transform(edge.from), out);
        }
        if let (TransformKind::Calc { filter: Some(filter), .. }, Some(input)) = (&of.kind, self.input(of)) {
            out.push(filter.operand(&|i| self.column(input, i)).text);
        }
    }
}

/// A stored column by its name, a computed one by its expression. Not by the table: rows may come from another one later on.
fn source_column(source: &SourceTransform, column: usize) -> Operand {
    let stored = |i: usize| Operand::plain(source.scan.get(i).map_or("?", |c| c.field.name.as_str()));
    source.projection.get(column).map_or_else(|| Operand::plain("?"), |expr| expr.operand(&stored))
}
