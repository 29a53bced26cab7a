//! Flink's rules for the types of results: promotion, decimal precision and scale, common types, aggregates, casts.
//!
//! Owns: pure functions from types to types. Does not own: which function takes which arguments (`functions`).
//! The rules are those of Flink's `LogicalTypeMerging`, `LogicalTypeCasts` and its Calcite type system.

use super::{AggregateFunction, SqlType};

const DECIMAL_PRECISION_MAX: u32 = 38;
/// The scale that a quotient or a product keeps when digits must go.
const DECIMAL_SCALE_KEPT: u32 = 6;

/// Arithmetic on two DECIMALs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalOp {
    /// `+` and `-`.
    Add,
    Multiply,
    Divide,
    Modulo,
}

/// Cuts precision and scale to 38 digits: integer digits win, the scale keeps at least min(scale, 6).
fn adjust(precision: u32, scale: u32) -> SqlType {
    if precision <= DECIMAL_PRECISION_MAX {
        return decimal(precision, scale);
    }
    let integer_digits = precision - scale;
    let least_scale = scale.min(DECIMAL_SCALE_KEPT);
    decimal(DECIMAL_PRECISION_MAX, DECIMAL_PRECISION_MAX.saturating_sub(integer_digits).max(least_scale))
}

fn decimal(precision: u32, scale: u32) -> SqlType {
    let digits = |n: u32| u8::try_from(n.min(DECIMAL_PRECISION_MAX)).expect("at most 38");
    SqlType::Decimal { precision: digits(precision.max(1)), scale: digits(scale) }
}

/// (precision, scale) of an exact number as a DECIMAL.
fn exact(ty: &SqlType) -> Option<(u32, u32)> {
    Some(match ty {
        SqlType::TinyInt => (3, 0),
        SqlType::SmallInt => (5, 0),
        SqlType::Int => (10, 0),
        SqlType::BigInt => (19, 0),
        SqlType::Decimal { precision, scale } => (u32::from(*precision), u32::from(*scale)),
        _ => return None,
    })
}

/// An exact number's type as a DECIMAL that holds all of its values.
#[must_use]
pub fn as_decimal(ty: &SqlType) -> Option<SqlType> {
    exact(ty).map(|(p, s)| decimal(p, s))
}

/// Whether no cast from `from` to `to` meets a value with too many digits. Such a value becomes NULL, as in Flink, so the
/// result of a cast to a DECIMAL that does not fit is nullable. Other types than DECIMAL always fit in this sense.
#[must_use]
pub fn fits_decimal(from: &SqlType, to: &SqlType) -> bool {
    let SqlType::Decimal { precision, scale } = to else { return true };
    // One digit more where digits behind the point go: rounding may carry.
    let needs = |(p, s): (u32, u32)| p - s + u32::from(s > u32::from(*scale));
    exact(from).is_some_and(|from| needs(from) <= u32::from(precision - scale))
}

/// Result type of arithmetic on exact numbers of which at least one is a DECIMAL.
#[must_use]
pub fn decimal_result(op: DecimalOp, left: &SqlType, right: &SqlType) -> Option<SqlType> {
    let ((p1, s1), (p2, s2)) = (exact(left)?, exact(right)?);
    Some(match op {
        DecimalOp::Add => {
            let scale = s1.max(s2);
            adjust((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        DecimalOp::Multiply => adjust(p1 + p2 + 1, s1 + s2),
        DecimalOp::Divide => {
            let scale = DECIMAL_SCALE_KEPT.max(s1 + p2 + 1);
            adjust(p1 - s1 + s2 + scale, scale)
        }
        DecimalOp::Modulo if s1 == 0 && s2 == 0 => decimal(p2, 0),
        DecimalOp::Modulo => {
            let scale = s1.max(s2);
            decimal((p1 - s1).min(p2 - s2) + scale, scale)
        }
    })
}

/// Result type of `ROUND(DECIMAL(precision, scale), digits)`.
#[must_use]
pub fn round_decimal(precision: u8, scale: u8, digits: i64) -> SqlType {
    let (p, s) = (u32::from(precision), u32::from(scale));
    match u32::try_from(digits) {
        Ok(digits) if digits >= s => decimal(p, s),
        Ok(digits) => decimal(1 + p - s + digits, digits),
        Err(_) => decimal(1 + p - s, 0),
    }
}

fn integer_rank(ty: &SqlType) -> Option<u8> {
    Some(match ty {
        SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int => 3,
        SqlType::BigInt => 4,
        _ => return None,
    })
}

/// The type in which two numbers meet: the wider integer, a DECIMAL that holds both, or the approximate one
/// (DOUBLE where a DECIMAL meets a FLOAT).
#[must_use]
pub fn common_numeric(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType::{Decimal, Double, Float};
    if !left.is_numeric() || !right.is_numeric() {
        return None;
    }
    Some(match (left, right) {
        (Double, _) | (_, Double) => Double,
        (Float, Decimal { .. }) | (Decimal { .. }, Float) => Double,
        (Float, _) | (_, Float) => Float,
        _ => match (integer_rank(left), integer_rank(right)) {
            (Some(l), Some(r)) => {
                if l >= r {
                    left.clone()
                } else {
                    right.clone()
                }
            }
            _ => {
                let ((p1, s1), (p2, s2)) = (exact(left)?, exact(right)?);
                let scale = s1.max(s2);
                adjust((p1 - s1).max(p2 - s2) + scale, scale)
            }
        },
    })
}

/// The type in which values of both types meet (CASE, COALESCE, UNION ALL, comparison); `None`: there is none.
#[must_use]
pub fn common_type(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType::{Binary, Char, Date, Null, Time, Timestamp, TimestampLtz, VarBinary, VarChar};
    Some(match (left, right) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (a, b) if a.is_numeric() && b.is_numeric() => common_numeric(a, b)?,
        (Char { length: a } | VarChar { length: a }, Char { length: b } | VarChar { length: b }) => {
            VarChar { length: *a.max(b) }
        }
        (Binary { length: a } | VarBinary { length: a }, Binary { length: b } | VarBinary { length: b }) => {
            VarBinary { length: *a.max(b) }
        }
        (Time { precision: a }, Time { precision: b }) => Time { precision: *a.max(b) },
        (Timestamp { precision: a }, Timestamp { precision: b }) => Timestamp { precision: *a.max(b) },
        (TimestampLtz { precision: a }, TimestampLtz { precision: b }) => TimestampLtz { precision: *a.max(b) },
        (Date, Timestamp { precision }) | (Timestamp { precision }, Date) => Timestamp { precision: *precision },
        _ => return None,
    })
}

/// Whether a comparison (`=`, `<`, MIN, GROUP BY) is defined on values of this type.
#[must_use]
pub fn comparable(ty: &SqlType) -> bool {
    *ty != SqlType::Null
}

/// Result type of an aggregate; `None`: the function does not take such an argument. COUNT takes any.
///
/// SUM and AVG keep the argument's type, except SUM of a DECIMAL: DECIMAL(38, s), and AVG of a DECIMAL:
/// DECIMAL(38, max(6, s)).
#[must_use]
pub fn aggregate_result(function: AggregateFunction, arg: Option<&SqlType>) -> Option<SqlType> {
    match (function, arg) {
        (AggregateFunction::Count, _) => Some(SqlType::BigInt),
        (AggregateFunction::Sum, Some(SqlType::Decimal { scale, .. })) => {
            Some(SqlType::Decimal { precision: 38, scale: *scale })
        }
        (AggregateFunction::Avg, Some(SqlType::Decimal { scale, .. })) => {
            Some(SqlType::Decimal { precision: 38, scale: (*scale).max(6) })
        }
        (AggregateFunction::Sum | AggregateFunction::Avg, Some(ty)) if ty.is_numeric() => Some(ty.clone()),
        (AggregateFunction::Min | AggregateFunction::Max, Some(ty))
            if ty.is_numeric()
                || ty.is_string()
                || ty.is_timestamp()
                || matches!(ty, SqlType::Boolean | SqlType::Date | SqlType::Time { .. }) =>
        {
            Some(ty.clone())
        }
        _ => None,
    }
}

/// Whether `CAST(from AS to)` exists.
#[must_use]
pub fn castable(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::{Boolean, Date, IntervalDayTime, IntervalYearMonth, Null, Time, Timestamp, TimestampLtz};
    let binary = |t: &SqlType| matches!(t, SqlType::Binary { .. } | SqlType::VarBinary { .. });
    match (from, to) {
        (a, b) if a == b => true,
        (_, Null) => false,
        (Null, _) => true,
        (a, b) if a.is_string() => !matches!(b, IntervalDayTime | IntervalYearMonth),
        (_, b) if b.is_string() => true,
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (Boolean, b) => b.is_numeric(),
        (a, Boolean) => a.is_numeric(),
        (a, b) if binary(a) && binary(b) => true,
        (Date, Timestamp { .. } | TimestampLtz { .. }) => true,
        (Time { .. }, Time { .. } | Timestamp { .. } | TimestampLtz { .. }) => true,
        (Timestamp { .. } | TimestampLtz { .. }, Date | Time { .. } | Timestamp { .. } | TimestampLtz { .. }) => true,
        _ => false,
    }
}

/// Whether INSERT INTO takes a query column of type `from` for a sink column of type `to` without an explicit CAST
/// (Flink's implicit casts). Precision and length of the target are applied by the cast that the planner inserts.
#[must_use]
pub fn assignable(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::{Date, Null, Time, Timestamp, TimestampLtz};
    let binary = |t: &SqlType| matches!(t, SqlType::Binary { .. } | SqlType::VarBinary { .. });
    match (from, to) {
        (a, b) if a == b => true,
        (Null, _) => true,
        (a, b) if a.is_string() && b.is_string() => true,
        (a, b) if binary(a) && binary(b) => true,
        (a, b) if a.is_numeric() && b.is_numeric() => match (integer_rank(a), integer_rank(b)) {
            (Some(from), Some(to)) => from <= to,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => !matches!(
                (a, b),
                (SqlType::Double, SqlType::Float) | (SqlType::Float | SqlType::Double, SqlType::Decimal { .. })
            ),
        },
        (Date, Timestamp { .. } | TimestampLtz { .. }) => true,
        (Time { .. }, Time { .. }) => true,
        (Timestamp { .. } | TimestampLtz { .. }, Timestamp { .. } | TimestampLtz { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(precision: u8, scale: u8) -> SqlType {
        SqlType::Decimal { precision, scale }
    }

    #[test]
    fn decimal_arithmetic_follows_flink() {
        assert_eq!(decimal_result(DecimalOp::Add, &d(10, 2), &d(5, 3)), Some(d(12, 3)));
        assert_eq!(decimal_result(DecimalOp::Multiply, &d(10, 2), &d(5, 3)), Some(d(16, 5)));
        assert_eq!(decimal_result(DecimalOp::Divide, &d(10, 2), &d(5, 3)), Some(d(19, 8)));
        assert_eq!(decimal_result(DecimalOp::Divide, &d(38, 10), &SqlType::BigInt), Some(d(38, 10)));
        assert_eq!(decimal_result(DecimalOp::Modulo, &d(10, 2), &SqlType::Int), Some(d(10, 2)));
        assert_eq!(decimal_result(DecimalOp::Add, &SqlType::Double, &d(1, 0)), None);
    }

    #[test]
    fn numbers_meet_in_the_type_that_holds_both() {
        assert_eq!(common_numeric(&SqlType::Int, &SqlType::BigInt), Some(SqlType::BigInt));
        assert_eq!(common_numeric(&SqlType::BigInt, &SqlType::Float), Some(SqlType::Float));
        assert_eq!(common_numeric(&d(10, 2), &SqlType::Float), Some(SqlType::Double));
        assert_eq!(common_numeric(&d(10, 2), &SqlType::Int), Some(d(12, 2)));
        assert_eq!(
            common_type(&SqlType::Char { length: 1 }, &SqlType::Char { length: 3 }),
            Some(SqlType::VarChar { length: 3 })
        );
        assert_eq!(common_type(&SqlType::Int, &SqlType::STRING), None);
    }

    #[test]
    fn rounding_keeps_room_for_the_carry() {
        assert_eq!(round_decimal(10, 4, 2), d(9, 2));
        assert_eq!(round_decimal(10, 4, 6), d(10, 4));
        assert_eq!(round_decimal(10, 4, -1), d(7, 0));
    }
}
