//! Expressions over other columns.

use millstream_api::graph::{Expr, ExprKind};

use crate::bind::fold_cast;

/// The expression with each column replaced by what `column` gives for it.
pub(crate) fn replace_columns(expr: &Expr, column: &mut impl FnMut(usize) -> Expr) -> Expr {
    let kind = match &expr.kind {
        ExprKind::Column { index } => return column(*index),
        ExprKind::Literal { .. } => expr.kind.clone(),
        ExprKind::Call { function, args } => ExprKind::Call {
            function: function.clone(),
            args: args.iter().map(|a| replace_columns(a, column)).collect(),
        },
        ExprKind::Cast { arg, try_cast } => {
            return fold_cast(replace_columns(arg, column), expr.ty.clone(), expr.nullable, *try_cast);
        }
        ExprKind::Case { branches, otherwise } => ExprKind::Case {
            branches: branches
                .iter()
                .map(|(when, then)| (replace_columns(when, column), replace_columns(then, column)))
                .collect(),
            otherwise: otherwise.as_ref().map(|o| Box::new(replace_columns(o, column))),
        },
    };
    Expr { ty: expr.ty.clone(), nullable: expr.nullable, kind }
}

/// The expression with each column's position mapped.
pub(crate) fn move_columns(expr: &Expr, place: &impl Fn(usize) -> usize) -> Expr {
    let mut moved = expr.clone();
    move_in_place(&mut moved, place);
    moved
}

fn move_in_place(expr: &mut Expr, place: &impl Fn(usize) -> usize) {
    match &mut expr.kind {
        ExprKind::Column { index } => *index = place(*index),
        ExprKind::Literal { .. } => {}
        ExprKind::Call { args, .. } => args.iter_mut().for_each(|a| move_in_place(a, place)),
        ExprKind::Cast { arg, .. } => move_in_place(arg, place),
        ExprKind::Case { branches, otherwise } => {
            for (when, then) in branches {
                move_in_place(when, place);
                move_in_place(then, place);
            }
            if let Some(otherwise) = otherwise {
                move_in_place(otherwise, place);
            }
        }
    }
}
