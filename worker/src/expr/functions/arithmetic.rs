//! `+ - * / %`, sign functions on integers, floating point and intervals, and times moved by intervals.
//!
//! Integers wrap around, as in Java; only division by zero fails. DECIMALs are in `decimals`.

use arrow_array::ArrayRef;
use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Call, Function, for_number, is_decimal};
use crate::expr::EvalError;
use crate::expr::operand::{Native, fixed_rows, map, map2};
use crate::format::json::ticks_per_second;
use crate::format::text::calendar::{MILLIS_PER_DAY, add_months};

pub const DIVISION_BY_ZERO: &str = "division by zero";

/// Java's arithmetic on a primitive type.
pub trait Number: Native {
    fn add(self, other: Self) -> Self;
    fn subtract(self, other: Self) -> Self;
    fn multiply(self, other: Self) -> Self;
    /// `None`: division by zero.
    fn divide(self, other: Self) -> Option<Self>;
    fn remainder(self, other: Self) -> Option<Self>;
    fn negate(self) -> Self;
    fn absolute(self) -> Self;
    fn sign(self) -> Self;
}

macro_rules! integer {
    ($($native:ty)*) => {$(
        impl Number for $native {
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            fn subtract(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn multiply(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn divide(self, other: Self) -> Option<Self> { (other != 0).then(|| self.wrapping_div(other)) }
            fn remainder(self, other: Self) -> Option<Self> { (other != 0).then(|| self.wrapping_rem(other)) }
            fn negate(self) -> Self { self.wrapping_neg() }
            fn absolute(self) -> Self { self.wrapping_abs() }
            fn sign(self) -> Self { self.signum() }
        }
    )*};
}
integer!(i8 i16 i32 i64);

macro_rules! float {
    ($($native:ty)*) => {$(
        impl Number for $native {
            fn add(self, other: Self) -> Self { self + other }
            fn subtract(self, other: Self) -> Self { self - other }
            fn multiply(self, other: Self) -> Self { self * other }
            fn divide(self, other: Self) -> Option<Self> { Some(self / other) }
            fn remainder(self, other: Self) -> Option<Self> { Some(self % other) }
            fn negate(self) -> Self { -self }
            fn absolute(self) -> Self { self.abs() }
            /// Math.signum: zeros and NaN stay themselves, unlike Rust's.
            fn sign(self) -> Self { if self == 0.0 || self.is_nan() { self } else { self.signum() } }
        }
    )*};
}
float!(f32 f64);

pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Binding {
    if args.iter().any(|a| is_decimal(a.ty)) {
        return Ok(None);
    }
    Ok(match (name, args) {
        ("NEGATE" | "ABS" | "SIGN", [_]) => for_number!(result, N => unary::<N>(name, result)),
        ("+" | "-" | "*" | "/" | "%", [a, b]) => match moved(name, a.ty, b.ty, result) {
            Some(function) => Some(function),
            None if a.ty == b.ty => for_number!(result, N => binary::<N>(name, result)),
            None => None,
        },
        _ => None,
    })
}

fn unary<N: Number>(name: &str, result: &SqlType) -> Function {
    let data_type = result.arrow();
    let op = match name {
        "NEGATE" => N::negate,
        "ABS" => N::absolute,
        _ => N::sign,
    };
    Function::total(move |call| Ok(map(call.args[0].fixed::<N>(), &data_type, op)))
}

fn binary<N: Number>(name: &str, result: &SqlType) -> Function {
    let data_type = result.arrow();
    match name {
        "+" => total_binary::<N>(data_type, N::add),
        "-" => total_binary::<N>(data_type, N::subtract),
        "*" => total_binary::<N>(data_type, N::multiply),
        _ => {
            let op = if name == "/" { N::divide } else { N::remainder };
            // Floating point divides by zero without a fault.
            let can_fail = matches!(result, SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt);
            let kernel = move |call: &Call<'_>| divide(call, &data_type, op);
            if can_fail { Function::partial(kernel) } else { Function::total(kernel) }
        }
    }
}

/// `op` is a type of its own here, so that the loop over the values is compiled for it.
fn total_binary<N: Number>(
    data_type: arrow_schema::DataType,
    op: impl Fn(N, N) -> N + Copy + Send + Sync + 'static,
) -> Function {
    Function::total(move |call| {
        Ok(map2(call.args[0].fixed::<N>(), call.args[1].fixed::<N>(), call.rows, &data_type, op))
    })
}

fn divide<N: Number>(
    call: &Call<'_>,
    data_type: &arrow_schema::DataType,
    op: fn(N, N) -> Option<N>,
) -> Result<ArrayRef, EvalError> {
    let (a, b) = (call.args[0].fixed::<N>(), call.args[1].fixed::<N>());
    fixed_rows(call.rows, data_type, |row| match (a.get(row), b.get(row)) {
        (Some(a), Some(b)) => op(a, b).map(Some).ok_or_else(|| EvalError::user(DIVISION_BY_ZERO)),
        _ => Ok(None),
    })
}

/// Times and intervals: the time (or interval) in one argument, what moves it in the other.
fn moved(name: &str, left: &SqlType, right: &SqlType, result: &SqlType) -> Option<Function> {
    use SqlType::{BigInt, IntervalDayTime, IntervalYearMonth};
    let is_interval = |ty: &SqlType| matches!(ty, IntervalDayTime | IntervalYearMonth);
    match name {
        "+" | "-" if is_interval(right) && left != right => {
            plus_interval(left, right, 0, if name == "-" { -1 } else { 1 }, result)
        }
        "+" if is_interval(left) && left != right => plus_interval(right, left, 1, 1, result),
        "*" if is_interval(left) && *right == BigInt => Some(times(left, 0, result)),
        "*" if is_interval(right) && *left == BigInt => Some(times(right, 1, result)),
        _ => None,
    }
}

/// A time, in argument `time_at`, moved by `sign` intervals.
fn plus_interval(time: &SqlType, interval: &SqlType, time_at: usize, sign: i64, result: &SqlType) -> Option<Function> {
    use SqlType::{Date, IntervalDayTime, IntervalYearMonth, Time};
    Some(match (time, interval) {
        (Date, IntervalDayTime) => shift(time_at, result, move |days: i32, ms: i64| {
            i32::try_from(i64::from(days) + sign * (ms / MILLIS_PER_DAY)).ok()
        }),
        (Date, IntervalYearMonth) => shift(time_at, result, move |days: i32, months: i32| {
            i32::try_from(add_months(i64::from(days), sign * i64::from(months))).ok()
        }),
        (Time { .. }, IntervalDayTime) => shift(time_at, result, move |time: i32, ms: i64| {
            Some((i64::from(time) + sign * (ms % MILLIS_PER_DAY)).rem_euclid(MILLIS_PER_DAY) as i32)
        }),
        (timestamp, IntervalDayTime) if timestamp.is_timestamp() => {
            let ticks_per_ms = sign * ticks_per_second(&timestamp.arrow()) / 1000;
            shift(time_at, result, move |ticks: i64, ms: i64| ticks.checked_add(ms.checked_mul(ticks_per_ms)?))
        }
        (timestamp, IntervalYearMonth) if timestamp.is_timestamp() => {
            let ticks_per_day = ticks_per_second(&timestamp.arrow()) * 86_400;
            shift(time_at, result, move |ticks: i64, months: i32| {
                add_months_to(ticks, ticks_per_day, sign * i64::from(months))
            })
        }
        _ => return None,
    })
}

/// A timestamp moved by months; its time of day stays.
pub fn add_months_to(ticks: i64, ticks_per_day: i64, months: i64) -> Option<i64> {
    let days = add_months(ticks.div_euclid(ticks_per_day), months);
    days.checked_mul(ticks_per_day)?.checked_add(ticks.rem_euclid(ticks_per_day))
}

/// `f` of the argument `first_at` and of the other one; `None`: beyond the type's range.
fn shift<A: Native, B: Native>(
    first_at: usize,
    result: &SqlType,
    f: impl Fn(A, B) -> Option<A> + Send + Sync + 'static,
) -> Function {
    let (data_type, ty) = (result.arrow(), result.clone());
    Function::partial(move |call| {
        let (a, b) = (call.args[first_at].fixed::<A>(), call.args[1 - first_at].fixed::<B>());
        fixed_rows(call.rows, &data_type, |row| match (a.get(row), b.get(row)) {
            (Some(a), Some(b)) => {
                f(a, b).map(Some).ok_or_else(|| EvalError::user(format!("the result is beyond the range of {ty}")))
            }
            _ => Ok(None),
        })
    })
}

/// An interval, in argument `interval_at`, times a BIGINT; wraps around.
fn times(interval: &SqlType, interval_at: usize, result: &SqlType) -> Function {
    if *interval == SqlType::IntervalDayTime {
        return binary::<i64>("*", result);
    }
    shift(interval_at, result, |months: i32, n: i64| Some(i64::from(months).wrapping_mul(n) as i32))
}
