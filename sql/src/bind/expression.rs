//! Scalar expressions to typed ones.

use millstream_api::graph::{Expr, ExprKind, SqlType, promotion};

use super::scope::Scope;
use super::{call, convert, literal};
use crate::ast;
use crate::error::{Position, Result, SqlError};

/// Largest expression that is written out twice (the operand of BETWEEN, of a simple CASE, of NULLIF).
const COPY_NODES_MAX: usize = 1000;

/// What a node stands for by itself: asked at every node, from the top; `None`: it is what its children make of it.
/// It must answer for every column and every aggregate.
pub(super) type Leaf<'a> = dyn FnMut(&ast::Expr) -> Result<Option<Expr>> + 'a;

/// Over the columns of `scope`, without aggregates. `place` names the clause in messages.
pub(super) fn bind_scalar(expr: &ast::Expr, scope: Scope<'_>, place: &str) -> Result<Expr> {
    bind(expr, &mut |node| match &node.kind {
        ast::ExprKind::Column { qualifier, name } => {
            let index = scope.resolve(qualifier.as_ref(), name)?;
            Ok(Some(scope.columns[index].expr(index)))
        }
        ast::ExprKind::Call(c) if call::aggregate_function(&c.name).is_some() => {
            Err(SqlError::at(node.position, format!("the aggregate {} cannot stand in {place}", c.name)))
        }
        _ => Ok(None),
    })
}

/// A condition: BOOLEAN.
pub(super) fn condition(expr: Expr, position: Position, place: &str) -> Result<Expr> {
    match expr.ty {
        SqlType::Boolean => Ok(expr),
        SqlType::Null => Ok(convert::coerce(expr, &SqlType::Boolean)),
        other => Err(SqlError::at(position, format!("{place} needs a BOOLEAN, this is {other}"))),
    }
}

pub(super) fn bind(expr: &ast::Expr, leaf: &mut Leaf<'_>) -> Result<Expr> {
    if let Some(bound) = leaf(expr)? {
        return Ok(bound);
    }
    match &expr.kind {
        ast::ExprKind::Column { name, .. } => {
            Err(SqlError::at(expr.position, format!("the column '{}' cannot stand here", name.text)))
        }
        ast::ExprKind::Literal(value) => literal::bind(value, expr.position),
        ast::ExprKind::Call(c) => bind_call(c, expr.position, leaf),
        ast::ExprKind::Cast { arg, ty, try_cast } => {
            let bound = bind(arg, leaf)?;
            convert::explicit_cast(bound, ty, *try_cast, expr.position)
        }
        ast::ExprKind::Case { operand, branches, otherwise } => {
            bind_case(expr.position, operand.as_deref(), branches, otherwise.as_deref(), leaf)
        }
        ast::ExprKind::Between { value, low, high, negated } => {
            let bound = Located { expr: bind(value, leaf)?, position: value.position };
            let low = Located { expr: bind(low, leaf)?, position: low.position };
            let high = Located { expr: bind(high, leaf)?, position: high.position };
            let above = call::typed(">=", vec![bound.copied()?, low], expr.position)?;
            let below = call::typed("<=", vec![bound, high], expr.position)?;
            let both = call::typed(
                "AND",
                vec![Located::at(above, expr.position), Located::at(below, expr.position)],
                expr.position,
            )?;
            if *negated { call::typed("NOT", vec![Located::at(both, expr.position)], expr.position) } else { Ok(both) }
        }
    }
}

fn bind_call(c: &ast::Call, position: Position, leaf: &mut Leaf<'_>) -> Result<Expr> {
    if let (Some(_), _) | (_, true) = (&c.filter, c.star || c.distinct) {
        return Err(SqlError::at(position, format!("{} is no aggregate: it takes no *, DISTINCT or FILTER", c.name)));
    }
    if let ("NEGATE", [ast::Expr { kind: ast::ExprKind::Literal(ast::Literal::Number(text)), .. }]) =
        (c.name.as_str(), &c.args[..])
    {
        return literal::number(text, true, position);
    }
    let args = c
        .args
        .iter()
        .map(|arg| Ok(Located { expr: bind(arg, leaf)?, position: arg.position }))
        .collect::<Result<Vec<_>>>()?;
    call::bind(&c.name, args, position)
}

fn bind_case(
    position: Position,
    operand: Option<&ast::Expr>,
    branches: &[(ast::Expr, ast::Expr)],
    otherwise: Option<&ast::Expr>,
    leaf: &mut Leaf<'_>,
) -> Result<Expr> {
    let operand = operand.map(|o| Ok(Located { expr: bind(o, leaf)?, position: o.position })).transpose()?;
    let mut bound = Vec::with_capacity(branches.len());
    for (when, then) in branches {
        let test = bind(when, leaf)?;
        let test = match &operand {
            Some(operand) => {
                call::typed("=", vec![operand.copied()?, Located::at(test, when.position)], when.position)?
            }
            None => condition(test, when.position, "WHEN")?,
        };
        bound.push((test, Located { expr: bind(then, leaf)?, position: then.position }));
    }
    let otherwise = otherwise.map(|o| Ok(Located { expr: bind(o, leaf)?, position: o.position })).transpose()?;
    case(position, bound, otherwise)
}

/// A searched CASE; the results meet in their common type.
pub(super) fn case(position: Position, branches: Vec<(Expr, Located)>, otherwise: Option<Located>) -> Result<Expr> {
    let mut ty = SqlType::Null;
    for result in branches.iter().map(|(_, then)| then).chain(&otherwise) {
        ty = promotion::common_type(&ty, &result.expr.ty).ok_or_else(|| {
            SqlError::at(
                result.position,
                format!("the results of a CASE have no common type: {ty} and {}", result.expr.ty),
            )
            .hint("CAST one of them")
        })?;
    }
    if ty == SqlType::Null {
        return Err(
            SqlError::at(position, "every result of the CASE is NULL").hint("CAST(NULL AS <type>) gives it a type")
        );
    }
    let nullable =
        branches.iter().any(|(_, then)| then.expr.nullable) || otherwise.as_ref().is_none_or(|o| o.expr.nullable);
    let branches = branches.into_iter().map(|(when, then)| (when, convert::coerce(then.expr, &ty))).collect();
    let otherwise = otherwise.map(|o| Box::new(convert::coerce(o.expr, &ty)));
    Ok(Expr { ty, nullable, kind: ExprKind::Case { branches, otherwise } })
}

/// A typed expression and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub expr: Expr,
    pub position: Position,
}

impl Located {
    pub fn at(expr: Expr, position: Position) -> Self {
        Self { expr, position }
    }

    /// A second copy, when it is small enough: copies of copies would grow without bound.
    pub fn copied(&self) -> Result<Self> {
        if size(&self.expr) > COPY_NODES_MAX {
            return Err(SqlError::at(self.position, "the expression is too large to stand here")
                .hint("compute it in a subquery"));
        }
        Ok(self.clone())
    }
}

/// Nodes of an expression.
pub(crate) fn size(expr: &Expr) -> usize {
    1 + match &expr.kind {
        ExprKind::Column { .. } | ExprKind::Literal { .. } => 0,
        ExprKind::Call { args, .. } => args.iter().map(size).sum(),
        ExprKind::Cast { arg, .. } => size(arg),
        ExprKind::Case { branches, otherwise } => {
            branches.iter().map(|(when, then)| size(when) + size(then)).sum::<usize>()
                + otherwise.as_deref().map_or(0, size)
        }
    }
}
