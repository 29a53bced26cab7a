//! Casts between dates, times and timestamps; all in UTC. Precision is cut, never rounded.

use arrow_array::{Array, ArrayRef};
use millstream_api::graph::SqlType;

use super::{Cast, Refusal, retyped, view};
use crate::expr::EvalError;
use crate::expr::operand::map;
use crate::format::json::ticks_per_second;
use crate::format::text::calendar::MILLIS_PER_DAY;

pub fn to_time(cast: &Cast, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef, EvalError> {
    let data_type = to.arrow();
    let operand = view(array);
    match (from, to) {
        (SqlType::Date, t) if t.is_timestamp() => {
            let per_day = ticks_per_second(&data_type) * 86_400;
            let days = operand.fixed::<i32>();
            cast.rows(array.len(), |row| in_range(days.get(row).map(i64::from), |d| d.checked_mul(per_day)))
        }
        (SqlType::Time { .. }, SqlType::Time { precision }) => {
            let unit = 10i32.pow(3u32.saturating_sub(u32::from(*precision)));
            Ok(map(operand.fixed::<i32>(), &data_type, |time: i32| time / unit * unit))
        }
        (SqlType::Time { .. }, t) if t.is_timestamp() => {
            let per_ms = ticks_per_second(&data_type) / 1000;
            Ok(map(operand.fixed::<i32>(), &data_type, |time: i32| i64::from(time) * per_ms))
        }
        (f, SqlType::Date) if f.is_timestamp() => {
            let per_day = ticks_per_second(&from.arrow()) * 86_400;
            Ok(map(operand.fixed::<i64>(), &data_type, |ticks: i64| ticks.div_euclid(per_day) as i32))
        }
        (f, SqlType::Time { precision }) if f.is_timestamp() => {
            let per_ms = ticks_per_second(&from.arrow()) / 1000;
            let unit = 10i64.pow(3u32.saturating_sub(u32::from(*precision)));
            Ok(map(operand.fixed::<i64>(), &data_type, |ticks: i64| {
                (ticks.div_euclid(per_ms).rem_euclid(MILLIS_PER_DAY) / unit * unit) as i32
            }))
        }
        (f, t) if f.is_timestamp() && t.is_timestamp() => between_timestamps(cast, array, f, t),
        _ => Err(EvalError::user(format!("{from} cannot be cast to {to}"))),
    }
}

fn precision_of(ty: &SqlType) -> u32 {
    match ty {
        SqlType::Timestamp { precision } | SqlType::TimestampLtz { precision } => u32::from(*precision),
        _ => 0,
    }
}

/// TIMESTAMP and TIMESTAMP_LTZ of whatever precisions.
fn between_timestamps(cast: &Cast, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef, EvalError> {
    let data_type = to.arrow();
    let (from_rate, to_rate) = (ticks_per_second(&from.arrow()), ticks_per_second(&data_type));
    if from_rate == to_rate && precision_of(from) <= precision_of(to) {
        return retyped(array, data_type);
    }
    let operand = view(array);
    let ticks = operand.fixed::<i64>();
    if from_rate < to_rate {
        return cast.rows(array.len(), |row| in_range(ticks.get(row), |t| t.checked_mul(to_rate / from_rate)));
    }
    // Ticks of the new type that make one unit of its precision: 100 for TIMESTAMP(1), which is kept in milliseconds.
    let digits_kept = if to_rate == 1_000 {
        3
    } else if to_rate == 1_000_000 {
        6
    } else {
        9
    };
    let unit = 10i64.pow(u32::saturating_sub(digits_kept, precision_of(to)));
    Ok(map(ticks, &data_type, |t: i64| t.div_euclid(from_rate / to_rate).div_euclid(unit) * unit))
}

fn in_range(value: Option<i64>, convert: impl FnOnce(i64) -> Option<i64>) -> Result<Option<i64>, Refusal> {
    match value {
        None => Ok(None),
        Some(value) => {
            convert(value).map(Some).ok_or_else(|| Refusal::Value("a time before 1677 or after 2262".to_owned()))
        }
    }
}
