//! The typing rules that the function table names: argument types in, a signature out.
//!
//! A rule answers `None` where the arguments do not fit; the planner then reports the function's usage line.

use super::super::promotion::{
    DecimalOp, as_decimal, common_numeric, common_type, comparable, decimal_result, round_decimal,
};
use super::super::{Literal, SqlType};
use super::{Arg, Signature};

const MILLIS: u8 = 3;
const LTZ: SqlType = SqlType::TimestampLtz { precision: MILLIS };
const TIMESTAMP: SqlType = SqlType::Timestamp { precision: MILLIS };

/// An argument as a string of whatever length.
fn string(arg: &Arg<'_>) -> Option<SqlType> {
    match arg.ty {
        SqlType::Null => Some(SqlType::STRING),
        ty if ty.is_string() => Some(ty.clone()),
        _ => None,
    }
}

fn integer(arg: &Arg<'_>, as_type: SqlType) -> Option<SqlType> {
    (arg.ty.is_integer() || *arg.ty == SqlType::Null).then_some(as_type)
}

fn numeric(arg: &Arg<'_>) -> Option<SqlType> {
    match arg.ty {
        SqlType::Null => Some(SqlType::Int),
        ty if ty.is_numeric() => Some(ty.clone()),
        _ => None,
    }
}

fn signature(args: Vec<SqlType>, result: SqlType) -> Option<Signature> {
    Some(Signature { args, result })
}

fn strings_to(args: &[Arg<'_>], result: SqlType) -> Option<Signature> {
    signature(args.iter().map(string).collect::<Option<_>>()?, result)
}

/// Strings, then INTs; `strings` is how many strings stand first.
fn strings_then_ints(args: &[Arg<'_>], strings: usize, result: SqlType) -> Option<Signature> {
    let types = args
        .iter()
        .enumerate()
        .map(|(i, a)| if i < strings { string(a) } else { integer(a, SqlType::Int) })
        .collect::<Option<_>>()?;
    signature(types, result)
}

pub(super) fn booleans(args: &[Arg<'_>]) -> Option<Signature> {
    args.iter().all(|a| matches!(a.ty, SqlType::Boolean | SqlType::Null)).then_some(())?;
    signature(vec![SqlType::Boolean; args.len()], SqlType::Boolean)
}

/// Any one argument, BOOLEAN out: IS NULL.
pub(super) fn any_to_boolean(args: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![args[0].ty.clone()], SqlType::Boolean)
}

/// All arguments in their common type, BOOLEAN out. DECIMALs that no DECIMAL(38, s) holds together stay as they are.
pub(super) fn comparison(args: &[Arg<'_>]) -> Option<Signature> {
    let decimals =
        args.iter().all(|a| as_decimal(a.ty).is_some()) && args.iter().any(|a| matches!(a.ty, SqlType::Decimal { .. }));
    if decimals && !one_decimal_holds(args) {
        return signature(args.iter().map(|a| as_decimal(a.ty)).collect::<Option<_>>()?, SqlType::Boolean);
    }
    let ty = common(args)?;
    comparable(&ty).then_some(())?;
    signature(vec![ty; args.len()], SqlType::Boolean)
}

fn one_decimal_holds(args: &[Arg<'_>]) -> bool {
    let digits = args.iter().filter_map(|a| match as_decimal(a.ty) {
        Some(SqlType::Decimal { precision, scale }) => Some((precision - scale, scale)),
        _ => None,
    });
    let (integer, scale) = digits.fold((0, 0), |(i, s), (di, ds)| (i.max(di), s.max(ds)));
    integer + scale <= 38
}

fn common(args: &[Arg<'_>]) -> Option<SqlType> {
    let mut types = args.iter().map(|a| a.ty.clone());
    let first = types.next()?;
    types.try_fold(first, |a, b| common_type(&a, &b))
}

/// All arguments and the result in their common type: COALESCE, GREATEST, LEAST.
pub(super) fn common_of_all(args: &[Arg<'_>]) -> Option<Signature> {
    let ty = common(args)?;
    signature(vec![ty.clone(); args.len()], ty)
}

pub(super) fn add(args: &[Arg<'_>]) -> Option<Signature> {
    datetime_plus_interval(args[0].ty, args[1].ty)
        .or_else(|| {
            datetime_plus_interval(args[1].ty, args[0].ty).map(|mut s| {
                s.args.reverse();
                s
            })
        })
        .or_else(|| arithmetic(args, DecimalOp::Add))
}

pub(super) fn subtract(args: &[Arg<'_>]) -> Option<Signature> {
    datetime_plus_interval(args[0].ty, args[1].ty).or_else(|| arithmetic(args, DecimalOp::Add))
}

pub(super) fn multiply(args: &[Arg<'_>]) -> Option<Signature> {
    match (args[0].ty, args[1].ty) {
        (interval @ (SqlType::IntervalDayTime | SqlType::IntervalYearMonth), n) if n.is_integer() => {
            signature(vec![interval.clone(), SqlType::BigInt], interval.clone())
        }
        (n, interval @ (SqlType::IntervalDayTime | SqlType::IntervalYearMonth)) if n.is_integer() => {
            signature(vec![SqlType::BigInt, interval.clone()], interval.clone())
        }
        _ => arithmetic(args, DecimalOp::Multiply),
    }
}

pub(super) fn divide(args: &[Arg<'_>]) -> Option<Signature> {
    arithmetic(args, DecimalOp::Divide)
}

pub(super) fn modulo(args: &[Arg<'_>]) -> Option<Signature> {
    arithmetic(args, DecimalOp::Modulo)
}

fn datetime_plus_interval(datetime: &SqlType, interval: &SqlType) -> Option<Signature> {
    use SqlType::{Date, IntervalDayTime, IntervalYearMonth, Time};
    let fits = match (datetime, interval) {
        (Date | IntervalDayTime | Time { .. }, IntervalDayTime) => true,
        (Date | IntervalYearMonth, IntervalYearMonth) => true,
        (ts, IntervalDayTime | IntervalYearMonth) => ts.is_timestamp(),
        _ => false,
    };
    fits.then_some(())?;
    signature(vec![datetime.clone(), interval.clone()], datetime.clone())
}

fn arithmetic(args: &[Arg<'_>], op: DecimalOp) -> Option<Signature> {
    let (left, right) = match (args[0].ty, args[1].ty) {
        (SqlType::Null, SqlType::Null) => (&SqlType::Int, &SqlType::Int),
        (SqlType::Null, other) | (other, SqlType::Null) => (other, other),
        both => both,
    };
    let ty = common_numeric(left, right)?;
    if let SqlType::Decimal { .. } = ty {
        let result = decimal_result(op, left, right)?;
        return signature(vec![as_decimal(left)?, as_decimal(right)?], result);
    }
    signature(vec![ty.clone(), ty.clone()], ty)
}

/// One number in, the same type out: NEGATE, ABS, SIGN.
pub(super) fn same_number(args: &[Arg<'_>]) -> Option<Signature> {
    match args[0].ty {
        interval @ (SqlType::IntervalDayTime | SqlType::IntervalYearMonth) => {
            signature(vec![interval.clone()], interval.clone())
        }
        _ => numeric(&args[0]).and_then(|ty| signature(vec![ty.clone()], ty)),
    }
}

/// CEIL and FLOOR of a number: a DECIMAL loses its scale.
pub(super) fn whole_number(args: &[Arg<'_>]) -> Option<Signature> {
    let ty = numeric(&args[0])?;
    let result = match &ty {
        SqlType::Decimal { precision, .. } => SqlType::Decimal { precision: *precision, scale: 0 },
        other => other.clone(),
    };
    signature(vec![ty], result)
}

/// ROUND and TRUNCATE: a DECIMAL takes the scale of a literal second argument.
pub(super) fn round(args: &[Arg<'_>]) -> Option<Signature> {
    let ty = numeric(&args[0])?;
    let digits = match args.get(1) {
        None => Some(0),
        Some(Arg { literal: Some(Literal::Int(n)), .. }) => Some(*n),
        Some(_) => None,
    };
    let result = match (&ty, digits) {
        (SqlType::Decimal { precision, scale }, Some(n)) => round_decimal(*precision, *scale, n),
        _ => ty.clone(),
    };
    let mut types = vec![ty];
    if let Some(arg) = args.get(1) {
        types.push(integer(arg, SqlType::Int)?);
    }
    signature(types, result)
}

pub(super) fn doubles(args: &[Arg<'_>]) -> Option<Signature> {
    args.iter().map(numeric).collect::<Option<Vec<_>>>()?;
    signature(vec![SqlType::Double; args.len()], SqlType::Double)
}

pub(super) fn strings(args: &[Arg<'_>]) -> Option<Signature> {
    strings_to(args, SqlType::STRING)
}

/// `||`: strings, or bytes; the length is the sum.
pub(super) fn concat_operator(args: &[Arg<'_>]) -> Option<Signature> {
    let types: Vec<SqlType> = args.iter().map(string).collect::<Option<_>>()?;
    let length = |ty: &SqlType| match ty {
        SqlType::Char { length } | SqlType::VarChar { length } => *length,
        _ => 0,
    };
    let sum = types.iter().map(length).fold(0, u32::saturating_add).min(super::super::types::MAX_LENGTH);
    let all_char = types.iter().all(|t| matches!(t, SqlType::Char { .. }));
    let result = if all_char { SqlType::Char { length: sum } } else { SqlType::VarChar { length: sum } };
    signature(types, result)
}

pub(super) fn strings_to_int(args: &[Arg<'_>]) -> Option<Signature> {
    strings_to(args, SqlType::Int)
}

pub(super) fn strings_to_boolean(args: &[Arg<'_>]) -> Option<Signature> {
    strings_to(args, SqlType::Boolean)
}

pub(super) fn string_ints(args: &[Arg<'_>]) -> Option<Signature> {
    strings_then_ints(args, 1, SqlType::STRING)
}

pub(super) fn two_strings_ints(args: &[Arg<'_>]) -> Option<Signature> {
    strings_then_ints(args, 2, SqlType::STRING)
}

pub(super) fn two_strings_ints_to_int(args: &[Arg<'_>]) -> Option<Signature> {
    strings_then_ints(args, 2, SqlType::Int)
}

/// LPAD, RPAD.
pub(super) fn pad(args: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![string(&args[0])?, integer(&args[1], SqlType::Int)?, string(&args[2])?], SqlType::STRING)
}

/// EXTRACT: the unit as a string literal, then a date, time, timestamp or interval.
pub(super) fn extract(args: &[Arg<'_>]) -> Option<Signature> {
    let ok = args[1].ty.is_timestamp()
        || matches!(
            args[1].ty,
            SqlType::Date | SqlType::Time { .. } | SqlType::IntervalDayTime | SqlType::IntervalYearMonth
        );
    ok.then_some(())?;
    signature(vec![string(&args[0])?, args[1].ty.clone()], SqlType::BigInt)
}

/// FLOOR_TO, CEIL_TO: the unit, then a date, time or timestamp.
pub(super) fn round_time(args: &[Arg<'_>]) -> Option<Signature> {
    (args[1].ty.is_timestamp() || matches!(args[1].ty, SqlType::Date | SqlType::Time { .. })).then_some(())?;
    signature(vec![string(&args[0])?, args[1].ty.clone()], args[1].ty.clone())
}

/// TIMESTAMPADD: the unit, BIGINT, then a date or timestamp. A DATE becomes a TIMESTAMP where the unit is below a day.
pub(super) fn timestamp_add(args: &[Arg<'_>]) -> Option<Signature> {
    let whole_days = matches!(args[0].literal, Some(Literal::String(u)) if ["YEAR", "QUARTER", "MONTH", "WEEK", "DAY"].contains(&u.as_str()));
    let ty = match args[2].ty {
        SqlType::Date if whole_days => SqlType::Date,
        SqlType::Date => TIMESTAMP,
        ty if ty.is_timestamp() => ty.clone(),
        _ => return None,
    };
    signature(vec![string(&args[0])?, integer(&args[1], SqlType::BigInt)?, ty.clone()], ty)
}

/// TIMESTAMPDIFF: the unit, then two dates or timestamps, both as the same kind of timestamp.
pub(super) fn timestamp_diff(args: &[Arg<'_>]) -> Option<Signature> {
    let as_timestamp = |ty: &SqlType| match ty {
        SqlType::Date => Some(TIMESTAMP),
        ty if ty.is_timestamp() => Some(ty.clone()),
        _ => None,
    };
    let ty = common_type(&as_timestamp(args[1].ty)?, &as_timestamp(args[2].ty)?)?;
    signature(vec![string(&args[0])?, ty.clone(), ty], SqlType::Int)
}

/// DATE_FORMAT: a timestamp (a string is cast to TIMESTAMP(3), a date to TIMESTAMP(3)), then the pattern.
pub(super) fn date_format(args: &[Arg<'_>]) -> Option<Signature> {
    let ty = match args[0].ty {
        SqlType::Date => TIMESTAMP,
        ty if ty.is_string() => TIMESTAMP,
        ty if ty.is_timestamp() => ty.clone(),
        _ => return None,
    };
    signature(vec![ty, string(&args[1])?], SqlType::STRING)
}

pub(super) fn strings_to_timestamp(args: &[Arg<'_>]) -> Option<Signature> {
    strings_to(args, TIMESTAMP)
}

/// TO_TIMESTAMP_LTZ(BIGINT, INT) or TO_TIMESTAMP_LTZ(STRING[, STRING]).
pub(super) fn to_timestamp_ltz(args: &[Arg<'_>]) -> Option<Signature> {
    if args[0].ty.is_string() {
        return strings_to(args, LTZ);
    }
    let mut types = vec![integer(&args[0], SqlType::BigInt)?];
    if let Some(precision) = args.get(1) {
        types.push(integer(precision, SqlType::Int)?);
    }
    signature(types, LTZ)
}

pub(super) fn strings_to_date(args: &[Arg<'_>]) -> Option<Signature> {
    strings_to(args, SqlType::Date)
}

pub(super) fn strings_to_bigint(args: &[Arg<'_>]) -> Option<Signature> {
    strings_to(args, SqlType::BigInt)
}

/// FROM_UNIXTIME: BIGINT seconds, then the pattern.
pub(super) fn from_unixtime(args: &[Arg<'_>]) -> Option<Signature> {
    let mut types = vec![integer(&args[0], SqlType::BigInt)?];
    if let Some(pattern) = args.get(1) {
        types.push(string(pattern)?);
    }
    signature(types, SqlType::STRING)
}

pub(super) fn now_ltz(_: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![], LTZ)
}

pub(super) fn now_local(_: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![], TIMESTAMP)
}

pub(super) fn now_date(_: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![], SqlType::Date)
}

pub(super) fn now_time(_: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![], SqlType::Time { precision: 0 })
}

pub(super) fn now_seconds(_: &[Arg<'_>]) -> Option<Signature> {
    signature(vec![], SqlType::BigInt)
}
