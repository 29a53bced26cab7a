//! SELECT with GROUP BY or aggregates.

use std::rc::Rc;

use millstream_api::graph::{AggregateFunction, Expr, ExprKind, Field, SqlType, WindowColumn, promotion};

use super::call::aggregate_function;
use super::expression::{self, bind_scalar, condition};
use super::relation::{
    Aggregate, AggregateExpr, Changes, Column, GroupWindow, Node, Relation, TimeAttribute, WindowShape, passed_through,
};
use super::scope::Scope;
use crate::ast;
use crate::error::{Position, Result, SqlError};

/// Whether an aggregate function stands in the expression.
pub(super) fn has_aggregate(expr: &ast::Expr) -> bool {
    match &expr.kind {
        ast::ExprKind::Column { .. } | ast::ExprKind::Literal(_) => false,
        ast::ExprKind::Call(c) => {
            aggregate_function(&c.name).is_some() || c.args.iter().chain(c.filter.as_deref()).any(has_aggregate)
        }
        ast::ExprKind::Cast { arg, .. } => has_aggregate(arg),
        ast::ExprKind::Case { operand, branches, otherwise } => {
            operand.as_deref().is_some_and(has_aggregate)
                || otherwise.as_deref().is_some_and(has_aggregate)
                || branches.iter().any(|(when, then)| has_aggregate(when) || has_aggregate(then))
        }
        ast::ExprKind::Between { value, low, high, .. } => [value, low, high].into_iter().any(|e| has_aggregate(e)),
    }
}

/// The grouping of one SELECT: grows by an aggregate whenever an expression names a new one.
pub(super) struct Grouping<'a> {
    scope: Scope<'a>,
    /// Plain keys, then window columns, as expressions over the input; the output's first columns.
    keys: Vec<Expr>,
    key_columns: Vec<Column>,
    window: Option<GroupWindow>,
    aggregates: Vec<AggregateExpr>,
}

impl<'a> Grouping<'a> {
    pub fn new(scope: Scope<'a>, group_by: &[ast::Expr]) -> Result<Self> {
        let mut keys: Vec<Expr> = Vec::new();
        for key in group_by {
            let bound = bind_scalar(key, scope, "GROUP BY")?;
            if let ExprKind::Literal { .. } = bound.kind {
                return Err(SqlError::at(key.position, "GROUP BY a constant groups nothing")
                    .hint("name the column: places and aliases of SELECT are not known in GROUP BY"));
            }
            if !keys.contains(&bound) {
                keys.push(bound);
            }
        }
        Ok(Self::of_columns(scope, keys).0)
    }

    /// The grouping by these expressions, and the place of each among the output's columns.
    pub fn of_columns(scope: Scope<'a>, keys: Vec<Expr>) -> (Self, Vec<usize>) {
        let window = group_window(&keys, scope);
        let of_window = |key: &Expr| {
            let role = passed_through(key).and_then(|i| scope.columns[i].window.as_ref());
            role.filter(|r| window.as_ref().is_some_and(|(shape, _)| r.window == *shape)).map(|r| r.column)
        };
        let (window_keys, mut ordered): (Vec<Expr>, Vec<Expr>) =
            keys.iter().cloned().partition(|k| of_window(k).is_some());
        let columns = window_keys.iter().filter_map(of_window).collect();
        ordered.extend(window_keys);
        let places = keys.iter().map(|k| ordered.iter().position(|o| o == k).expect("the same keys")).collect();
        let window = window.map(|(shape, end_column)| GroupWindow { shape, end_column, columns });
        let mut grouping = Self { scope, key_columns: Vec::new(), keys: ordered, window, aggregates: Vec::new() };
        grouping.key_columns = grouping.keys.iter().enumerate().map(|(i, key)| grouping.key_column(i, key)).collect();
        (grouping, places)
    }

    fn key_column(&self, index: usize, key: &Expr) -> Column {
        match passed_through(key) {
            Some(input) => {
                let column = &self.scope.columns[input];
                let keeps =
                    self.window.as_ref().zip(column.window.as_ref()).is_some_and(|(w, role)| role.window == w.shape);
                let window = column.window.clone().filter(|_| keeps);
                let is_time = window.as_ref().is_some_and(|role| role.column == WindowColumn::Time);
                Column { window, time: is_time.then_some(TimeAttribute::Event), ..column.clone() }
            }
            None => Column::plain(format!("key{index}"), key.ty.clone(), key.nullable),
        }
    }

    /// An expression of SELECT or HAVING, over the grouping's output.
    pub fn bind(&mut self, expr: &ast::Expr) -> Result<Expr> {
        expression::bind(expr, &mut |node| self.leaf(node))
    }

    fn leaf(&mut self, node: &ast::Expr) -> Result<Option<Expr>> {
        if let ast::ExprKind::Call(c) = &node.kind
            && let Some(function) = aggregate_function(&c.name)
        {
            return self.aggregate(function, c, node.position).map(Some);
        }
        if matches!(node.kind, ast::ExprKind::Literal(_)) || has_aggregate(node) {
            return Ok(None);
        }
        let bound = bind_scalar(node, self.scope, "SELECT")?;
        if let Some(index) = self.keys.iter().position(|k| *k == bound) {
            return Ok(Some(self.key_columns[index].expr(index)));
        }
        if let ast::ExprKind::Column { name, .. } = &node.kind {
            return Err(SqlError::at(node.position, format!("the column '{}' is not grouped", name.text))
                .hint("put it into GROUP BY, or into an aggregate such as MAX"));
        }
        Ok(None)
    }

    fn aggregate(&mut self, function: AggregateFunction, c: &ast::Call, position: Position) -> Result<Expr> {
        if c.distinct {
            return Err(SqlError::unsupported(position, format!("{}(DISTINCT ...)", c.name)));
        }
        let filter = match &c.filter {
            Some(f) => Some(condition(bind_scalar(f, self.scope, "FILTER")?, f.position, "FILTER")?),
            None => None,
        };
        let arg = self.argument(function, c, position)?;
        let Some(ty) = promotion::aggregate_result(function, arg.as_ref().map(|a| &a.ty)) else {
            let given = arg.map_or_else(|| "*".to_owned(), |a| a.ty.to_string());
            return Err(SqlError::at(position, format!("{} cannot be applied to ({given})", c.name)));
        };
        // A sum of DECIMALs that outgrows its type is NULL.
        let overflows = matches!(ty, SqlType::Decimal { .. })
            && !matches!(function, AggregateFunction::Min | AggregateFunction::Max);
        let nullable = function != AggregateFunction::Count
            && (overflows || self.keys.is_empty() || filter.is_some() || arg.as_ref().is_none_or(|a| a.nullable));
        // The name plays no part in what is the same aggregate.
        let call = AggregateExpr { function, arg, filter, output: Field::new("", ty, nullable) };
        let same = |a: &AggregateExpr| (a.function, &a.arg, &a.filter) == (call.function, &call.arg, &call.filter);
        let index = self.aggregates.iter().position(same).unwrap_or(self.aggregates.len());
        let expr = Expr::column(self.keys.len() + index, call.output.ty.clone(), nullable);
        if index == self.aggregates.len() {
            self.aggregates.push(call);
        }
        Ok(expr)
    }

    /// The argument; `None`: every row counts (`COUNT(*)`, COUNT of what cannot be NULL).
    fn argument(&self, function: AggregateFunction, c: &ast::Call, position: Position) -> Result<Option<Expr>> {
        if c.star {
            return match function {
                AggregateFunction::Count => Ok(None),
                _ => Err(SqlError::at(position, format!("{}(*) does not exist", c.name))),
            };
        }
        let [arg] = &c.args[..] else {
            return Err(SqlError::at(position, format!("{} takes 1 argument, {} given", c.name, c.args.len())));
        };
        let bound = bind_scalar(arg, self.scope, "an aggregate")?;
        if function == AggregateFunction::Count && !bound.nullable {
            return Ok(None);
        }
        if bound.ty == SqlType::Null {
            return Err(SqlError::at(arg.position, format!("{}(NULL) has no type", c.name)));
        }
        Ok(Some(bound))
    }

    /// The relation whose columns the bound expressions mean.
    pub fn finish(self, input: Relation, position: Position) -> Result<Relation> {
        let Self { keys, key_columns, window, mut aggregates, scope } = self;
        name_aggregates(&mut aggregates, &key_columns, scope.columns);
        let mut columns = key_columns;
        columns.extend(
            aggregates.iter().map(|a| Column::plain(a.output.name.clone(), a.output.ty.clone(), a.output.nullable)),
        );
        let plain_keys = keys.len() - window.as_ref().map_or(0, |w| w.columns.len());
        let changes = match window {
            Some(_) => Changes::Append,
            None => Changes::Updating { key: Some((0..plain_keys).collect()) },
        };
        let keys = keys.into_iter().take(plain_keys).collect();
        Relation::new(
            Node::Aggregate(Box::new(Aggregate { input, keys, aggregates, window })),
            columns,
            changes,
            position,
        )
    }
}

/// The window whose start and end are both among the keys, and the input column of its end.
fn group_window(keys: &[Expr], scope: Scope<'_>) -> Option<(Rc<WindowShape>, usize)> {
    let roles: Vec<_> = keys
        .iter()
        .filter_map(passed_through)
        .filter_map(|i| scope.columns[i].window.as_ref().map(|role| (i, role)))
        .collect();
    roles.iter().find_map(|(end, role)| {
        let has_start = roles.iter().any(|(_, r)| r.column == WindowColumn::Start && r.window == role.window);
        (role.column == WindowColumn::End && has_start).then(|| (Rc::clone(&role.window), *end))
    })
}

/// `sum_price`, `count_all`, ..: names for state and plans, unique among the columns.
fn name_aggregates(aggregates: &mut [AggregateExpr], keys: &[Column], input: &[Column]) {
    let mut taken: Vec<String> = keys.iter().map(|k| k.name.clone()).collect();
    for aggregate in aggregates {
        let function = format!("{:?}", aggregate.function).to_lowercase();
        let of = match aggregate.arg.as_ref().map(|a| passed_through(a).map(|i| input[i].name.as_str())) {
            None => "all",
            Some(Some(column)) => column,
            Some(None) => "expr",
        };
        let base = format!("{function}_{of}");
        let mut name = base.clone();
        let mut number = 1;
        while taken.contains(&name) {
            number += 1;
            name = format!("{base}_{number}");
        }
        taken.push(name.clone());
        aggregate.output.name = name;
    }
}
