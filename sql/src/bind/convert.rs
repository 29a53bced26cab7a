//! Conversions that the planner inserts, and those that the user asks for.

use millstream_api::graph::{Expr, ExprKind, Literal, SqlType, promotion};

use super::time_literal;
use crate::ast::TypeDef;
use crate::error::{Position, Result, SqlError};

/// `expr` in the type `ty`, which a typing rule asked for: no value changes. Constants are converted here.
///
/// Lengths of strings and bytes and precisions within one Arrow type need no step: the column stays as it is.
pub(super) fn coerce(expr: Expr, ty: &SqlType) -> Expr {
    if expr.ty == *ty {
        return expr;
    }
    if let ExprKind::Literal { value } = &expr.kind
        && let Some(value) = convert_literal(value, &expr.ty, ty)
    {
        return Expr { ty: ty.clone(), nullable: expr.nullable, kind: ExprKind::Literal { value } };
    }
    if carried_as_is(&expr.ty, ty) {
        return expr;
    }
    cast(expr, ty.clone(), false)
}

/// Whether a value of `from` stands for one of `to` as it is; lengths of strings play no part.
pub(super) fn carried_as_is(from: &SqlType, to: &SqlType) -> bool {
    let family = match (from, to) {
        (a, b) if a.is_string() && b.is_string() => true,
        (SqlType::Binary { .. } | SqlType::VarBinary { .. }, SqlType::Binary { .. } | SqlType::VarBinary { .. }) => {
            true
        }
        (SqlType::Time { precision: a }, SqlType::Time { precision: b })
        | (SqlType::Timestamp { precision: a }, SqlType::Timestamp { precision: b })
        | (SqlType::TimestampLtz { precision: a }, SqlType::TimestampLtz { precision: b }) => a <= b,
        _ => false,
    };
    family && from.arrow() == to.arrow()
}

/// A constant in another type, where that is exact and cheap to say.
fn convert_literal(value: &Literal, from: &SqlType, to: &SqlType) -> Option<Literal> {
    Some(match (value, to) {
        (Literal::Null, _) => Literal::Null,
        (Literal::Int(n), SqlType::TinyInt) => Literal::Int(i64::from(i8::try_from(*n).ok()?)),
        (Literal::Int(n), SqlType::SmallInt) => Literal::Int(i64::from(i16::try_from(*n).ok()?)),
        (Literal::Int(n), SqlType::Int) => Literal::Int(i64::from(i32::try_from(*n).ok()?)),
        (Literal::Int(n), SqlType::BigInt) => Literal::Int(*n),
        (Literal::Int(n), SqlType::Decimal { precision, scale }) => {
            let unscaled = i128::from(*n).checked_mul(10i128.checked_pow(u32::from(*scale))?)?;
            decimal_within(unscaled, *precision)?
        }
        #[allow(clippy::cast_precision_loss, reason = "CAST(BIGINT AS DOUBLE) rounds as well")]
        (Literal::Int(n), SqlType::Double) => Literal::FloatBits((*n as f64).to_bits()),
        (Literal::Decimal(text), SqlType::Decimal { precision, scale }) => {
            let SqlType::Decimal { scale: old, .. } = from else { return None };
            let unscaled: i128 = text.parse().ok()?;
            let factor = 10i128.checked_pow(u32::from(scale.checked_sub(*old)?))?;
            decimal_within(unscaled.checked_mul(factor)?, *precision)?
        }
        (Literal::Decimal(text), SqlType::Double) => {
            let SqlType::Decimal { scale, .. } = from else { return None };
            Literal::FloatBits(format!("{text}e-{scale}").parse::<f64>().ok()?.to_bits())
        }
        (Literal::String(s), ty) if ty.is_string() => Literal::String(s.clone()),
        _ => return None,
    })
}

fn decimal_within(unscaled: i128, precision: u8) -> Option<Literal> {
    (unscaled.unsigned_abs() < 10u128.checked_pow(u32::from(precision))?)
        .then(|| Literal::Decimal(unscaled.to_string()))
}

pub(super) fn cast(expr: Expr, ty: SqlType, try_cast: bool) -> Expr {
    let nullable = expr.nullable || try_cast || !promotion::fits_decimal(&expr.ty, &ty);
    Expr { ty, nullable, kind: ExprKind::Cast { arg: Box::new(expr), try_cast } }
}

/// CAST and TRY_CAST as the user wrote them.
pub(super) fn explicit_cast(expr: Expr, to: &TypeDef, try_cast: bool, position: Position) -> Result<Expr> {
    if !promotion::castable(&expr.ty, &to.ty) {
        let hint = match (&expr.ty, &to.ty) {
            (a, ty) if a.is_numeric() && ty.is_timestamp() => {
                Some("use TO_TIMESTAMP_LTZ(number, precision)".to_owned())
            }
            (a, ty) if a.is_timestamp() && ty.is_numeric() => {
                Some("use EXTRACT(EPOCH FROM x) or UNIX_TIMESTAMP".to_owned())
            }
            _ => None,
        };
        return Err(SqlError::at(position, format!("CAST from {} to {} does not exist", expr.ty, to.ty)).hint_opt(hint));
    }
    if expr.ty == to.ty {
        return Ok(expr);
    }
    if matches!(expr.kind, ExprKind::Literal { value: Literal::Null | Literal::Int(_) })
        && (expr.ty == SqlType::Null || to.ty.is_integer())
        && let ExprKind::Literal { value } = &expr.kind
        && let Some(value) = convert_literal(value, &expr.ty, &to.ty)
    {
        return Ok(Expr { ty: to.ty.clone(), nullable: expr.nullable, kind: ExprKind::Literal { value } });
    }
    Ok(cast(expr, to.ty.clone(), try_cast))
}

/// Types for which a string constant stands in a comparison: `ts > '2026-01-01 00:00:00'`.
pub(super) fn string_constant_as(expr: Expr, ty: &SqlType, position: Position) -> Result<Expr> {
    let ExprKind::Literal { value: Literal::String(text) } = &expr.kind else { return Ok(expr) };
    let literal = match ty {
        SqlType::Date => time_literal::date(text).map(|(days, _)| Literal::Date(days)),
        SqlType::Time { .. } => time_literal::time(text).map(|(millis, _)| Literal::Time(millis)),
        SqlType::Timestamp { precision } | SqlType::TimestampLtz { precision } => {
            time_literal::timestamp(text).and_then(|t| t.in_unit_of(*precision)).map(Literal::Timestamp)
        }
        _ => return Ok(expr),
    };
    match literal {
        Some(value) => Ok(Expr { ty: ty.clone(), nullable: false, kind: ExprKind::Literal { value } }),
        None => Err(SqlError::at(position, format!("'{text}' is no {ty}"))),
    }
}

/// A cast of a constant as a constant, where that is exact; otherwise the cast itself.
pub(crate) fn fold_cast(arg: Expr, ty: SqlType, nullable: bool, try_cast: bool) -> Expr {
    if let ExprKind::Literal { value } = &arg.kind
        && !(arg.ty.is_string() && ty.is_string())
        && let Some(value) = convert_literal(value, &arg.ty, &ty)
    {
        return Expr { ty, nullable, kind: ExprKind::Literal { value } };
    }
    Expr { ty, nullable, kind: ExprKind::Cast { arg: Box::new(arg), try_cast } }
}
