//! Constants to typed expressions.

use millstream_api::graph::{Expr, ExprKind, Literal as Value, SqlType};

use super::time_literal::{self, Interval};
use crate::ast::Literal;
use crate::error::{Position, Result, SqlError};

fn constant(ty: SqlType, value: Value) -> Expr {
    Expr { ty, nullable: value == Value::Null, kind: ExprKind::Literal { value } }
}

pub(super) fn null() -> Expr {
    constant(SqlType::Null, Value::Null)
}

pub(super) fn boolean(value: bool) -> Expr {
    constant(SqlType::Boolean, Value::Boolean(value))
}

/// A string constant is a CHAR of its length.
pub(super) fn string(text: &str) -> Expr {
    let length = u32::try_from(text.chars().count()).expect("the text is at most a few MiB");
    constant(SqlType::Char { length }, Value::String(text.to_owned()))
}

pub(super) fn bind(literal: &Literal, position: Position) -> Result<Expr> {
    let bad = |what: &str, text: &str, form: &str| SqlError::at(position, format!("'{text}' is no {what}")).hint(form);
    Ok(match literal {
        Literal::Null => null(),
        Literal::Boolean(value) => boolean(*value),
        Literal::Number(text) => number(text, false, position)?,
        Literal::String(text) => string(text),
        Literal::Bytes(bytes) => {
            let length = u32::try_from(bytes.len()).expect("the text is at most a few MiB");
            constant(SqlType::Binary { length }, Value::Bytes(bytes.clone()))
        }
        Literal::Date(text) => match time_literal::date(text.trim()) {
            Some((days, "")) => constant(SqlType::Date, Value::Date(days)),
            _ => return Err(bad("date", text, "DATE 'yyyy-MM-dd'")),
        },
        Literal::Time(text) => match time_literal::time(text) {
            Some((millis, digits)) => constant(SqlType::Time { precision: digits.min(3) }, Value::Time(millis)),
            None => return Err(bad("time", text, "TIME 'HH:mm:ss'")),
        },
        Literal::Timestamp(text) => {
            let parsed = time_literal::timestamp(text).and_then(|t| Some((t.precision, t.in_unit_of(t.precision)?)));
            let (precision, value) =
                parsed.ok_or_else(|| bad("timestamp", text, "TIMESTAMP 'yyyy-MM-dd HH:mm:ss.SSS'"))?;
            constant(SqlType::Timestamp { precision }, Value::Timestamp(value))
        }
        Literal::Interval { value, from, to, negative } => match time_literal::interval(value, *from, *to, *negative) {
            Some(Interval::Months(months)) => constant(SqlType::IntervalYearMonth, Value::IntervalMonths(months)),
            Some(Interval::Millis(millis)) => constant(SqlType::IntervalDayTime, Value::IntervalMillis(millis)),
            None => {
                let to = to.map(|t| format!(" TO {}", t.name())).unwrap_or_default();
                return Err(bad(&format!("interval {}{to}", from.name()), value, "INTERVAL '10' SECOND"));
            }
        },
        Literal::Unit(unit) => string(unit.name()),
    })
}

/// A number: INT or BIGINT where it fits, DECIMAL with a point or beyond, DOUBLE with an exponent.
pub(super) fn number(text: &str, negative: bool, position: Position) -> Result<Expr> {
    let sign = if negative { "-" } else { "" };
    if text.contains(['e', 'E']) {
        let value: f64 =
            format!("{sign}{text}").parse().map_err(|_| SqlError::at(position, format!("{text} is no number")))?;
        if value.is_infinite() {
            return Err(SqlError::at(position, format!("{text} is out of DOUBLE's range")));
        }
        return Ok(constant(SqlType::Double, Value::FloatBits(value.to_bits())));
    }
    if let Ok(value) = format!("{sign}{text}").parse::<i64>() {
        let ty = if i32::try_from(value).is_ok() { SqlType::Int } else { SqlType::BigInt };
        return Ok(constant(ty, Value::Int(value)));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    let (scale, precision) = (fraction.len(), (whole.len() + fraction.len()).max(1));
    let unscaled: Option<i128> = if precision <= 38 { format!("{sign}0{whole}{fraction}").parse().ok() } else { None };
    let (Some(unscaled), Ok(precision), Ok(scale)) = (unscaled, u8::try_from(precision), u8::try_from(scale)) else {
        return Err(SqlError::at(position, format!("{text} has more than 38 digits")));
    };
    Ok(constant(SqlType::Decimal { precision, scale }, Value::Decimal(unscaled.to_string())))
}
