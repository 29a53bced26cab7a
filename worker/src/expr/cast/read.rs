//! Casts from strings: the texts that Flink takes for each type. Blanks around them do not count.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray};
use millstream_api::graph::SqlType;

use super::{Cast, Refusal, booleans_of, fit_binary};
use crate::expr::EvalError;
use crate::expr::operand::Native;
use crate::format::json::ticks_per_second;
use crate::format::text::calendar::{MILLIS_PER_DAY, NANOS_PER_DAY, NANOS_PER_SECOND, days_from_civil, days_in_month};
use crate::format::text::decimal::{self, Read};
use crate::format::text::number::{read_double, read_single};
use crate::format::text::time::DayTime;

/// How much of a text an error shows.
const SHOWN_MAX: usize = 64;

pub fn from_text(cast: &Cast, array: &ArrayRef, to: &SqlType) -> Result<ArrayRef, EvalError> {
    let texts = array.as_string::<i32>();
    let text = |row: usize| texts.is_valid(row).then(|| texts.value(row));
    match to {
        SqlType::Boolean => booleans_of(cast, texts.len(), |row| read_with(text(row), read_boolean)),
        SqlType::TinyInt => {
            values(cast, texts.len(), |row| read_with(text(row), |t| i8::try_from(read_integer(t)?).ok()))
        }
        SqlType::SmallInt => {
            values(cast, texts.len(), |row| read_with(text(row), |t| i16::try_from(read_integer(t)?).ok()))
        }
        SqlType::Int => values(cast, texts.len(), |row| read_with(text(row), |t| i32::try_from(read_integer(t)?).ok())),
        SqlType::BigInt => values(cast, texts.len(), |row| read_with(text(row), read_integer)),
        SqlType::Float => values(cast, texts.len(), |row| read_with(text(row), |t| read_single(t.as_bytes()))),
        SqlType::Double => values(cast, texts.len(), |row| read_with(text(row), |t| read_double(t.as_bytes()))),
        SqlType::Decimal { precision, scale } => values(cast, texts.len(), |row| {
            let Some(text) = text(row) else { return Ok(None) };
            match decimal::read(text.trim().as_bytes(), *precision, *scale) {
                Read::Value(value) => Ok(Some(value)),
                Read::TooLarge | Read::Malformed => Err(refused(text)),
            }
        }),
        SqlType::Date => values(cast, texts.len(), |row| read_with(text(row), read_date)),
        SqlType::Time { precision } => {
            let unit = 10i32.pow(3u32.saturating_sub(u32::from(*precision)));
            values(cast, texts.len(), |row| read_with(text(row), |t| Some(read_time(t)? / unit * unit)))
        }
        SqlType::Timestamp { precision } | SqlType::TimestampLtz { precision } => {
            let per_second = ticks_per_second(&to.arrow());
            let unit = 10i64.pow(9 - u32::from(*precision).min(9));
            values(cast, texts.len(), |row| {
                read_with(text(row), |t| {
                    let at = read_timestamp(t)?;
                    DayTime { nanos_of_day: at.nanos_of_day / unit * unit, ..at }.ticks(per_second)
                })
            })
        }
        _ => {
            let bytes: ArrayRef = Arc::new(BinaryArray::from(texts.clone()));
            Ok(fit_binary(&bytes, to))
        }
    }
}

fn values<N: Native>(
    cast: &Cast,
    rows: usize,
    f: impl FnMut(usize) -> Result<Option<N>, Refusal>,
) -> Result<ArrayRef, EvalError> {
    cast.rows(rows, f)
}

fn read_with<T>(text: Option<&str>, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
    match text {
        None => Ok(None),
        Some(text) => read(text.trim()).map(Some).ok_or_else(|| refused(text)),
    }
}

fn refused(text: &str) -> Refusal {
    let shown = match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("'{}...'", &text[..end]),
        None => format!("'{text}'"),
    };
    Refusal::Value(shown)
}

fn read_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// An integer; digits behind a point are checked and dropped, as in Flink ('12.9' is 12).
fn read_integer(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    match whole {
        "" | "+" | "-" => text.contains('.').then_some(0),
        _ => whole.parse().ok(),
    }
}

/// All-digit text as a number.
fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `y`, `y-m` or `y-m-d`, and whatever follows a blank: days since the epoch. Flink's `DateTimeUtils.parseDate`.
pub fn read_date(text: &str) -> Option<i32> {
    let date = text.split(' ').next()?;
    let mut parts = date.splitn(3, '-');
    let year = number(parts.next()?)?;
    let month = parts.next().map_or(Some(1), number)?;
    let day = parts.next().map_or(Some(1), number)?;
    let valid = year <= 9999 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| days_from_civil(year, month, day) as i32)
}

/// `h`, `h:m`, `h:m:s` or `h:m:s.f`: milliseconds of the day, rounded by the fourth digit of the fraction.
fn read_time(text: &str) -> Option<i32> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.splitn(3, ':');
    let hour = number(parts.next()?)?;
    let minute = parts.next().map_or(Some(0), number)?;
    let second = parts.next();
    if fraction.is_some() && second.is_none() {
        return None;
    }
    let second = second.map_or(Some(0), number)?;
    let millis = fraction.map_or(Some(0), |f| {
        let digits: String = f.chars().chain("0000".chars()).take(4).collect();
        Some((number(&digits)? + 5) / 10)
    })?;
    let valid = hour < 24 && minute < 60 && second < 60;
    let time_ms = ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    valid.then_some(time_ms.min(MILLIS_PER_DAY - 1) as i32)
}

/// `yyyy-[M]M-[d]d[ [H]H:[m]m:[s]s[.f]]`, the fraction with up to nine digits. A day beyond the end of its month is its
/// last day and 24:00:00 the next midnight, as Java's SMART resolver has it.
pub fn read_timestamp(text: &str) -> Option<DayTime> {
    let (date, clock) = text.split_once(' ').map_or((text, None), |(d, c)| (d, Some(c)));
    let (year_text, rest) = date.split_at_checked(4)?;
    let mut parts = rest.strip_prefix('-')?.splitn(2, '-');
    let year = short_number(year_text, 4)?;
    let month = short_number(parts.next()?, 2)?;
    let day = short_number(parts.next()?, 2)?;
    if year_text.len() != 4 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    let nanos = clock.map_or(Some(0), read_clock)?;
    Some(DayTime { days: days + nanos / NANOS_PER_DAY, nanos_of_day: nanos % NANOS_PER_DAY })
}

fn read_clock(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let mut part = || short_number(parts.next()?, 2);
    let (hour, minute, second) = (part()?, part()?, part()?);
    if minute > 59 || second > 59 || fraction.len() > 9 {
        return None;
    }
    let fraction = if fraction.is_empty() { 0 } else { number(fraction)? * 10i64.pow(9 - fraction.len() as u32) };
    let nanos = ((hour * 60 + minute) * 60 + second) * NANOS_PER_SECOND + fraction;
    (nanos <= NANOS_PER_DAY).then_some(nanos)
}

/// 1 to `digits_max` digits.
fn short_number(text: &str, digits_max: usize) -> Option<i64> {
    ((1..=digits_max).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_take_flinks_texts() {
        assert_eq!(read_date("2026-11-21"), Some(20_778));
        assert_eq!(read_date("2026-1-2"), Some(20_455));
        assert_eq!(read_date("2026-1-2 10:00:00"), Some(20_455));
        assert_eq!(read_date("2026"), Some(20_454));
        for bad in ["2026-02-29", "2026-13-01", "x", "", "2026-1-1x", "10000-01-01"] {
            assert_eq!(read_date(bad), None, "{bad}");
        }
        assert_eq!(read_time("9:5:1.25"), Some(32_701_250));
        assert_eq!(read_time("09"), Some(32_400_000));
        assert_eq!(read_time("10:20:30.9999"), Some(37_231_000));
        assert_eq!(read_time("23:59:59.9999"), Some(86_399_999));
        for bad in ["24:00:00", "a", "1:2.5", ""] {
            assert_eq!(read_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn timestamps_take_flinks_texts() {
        let ms = |text: &str| read_timestamp(text).and_then(|at| at.ticks(1000));
        assert_eq!(ms("1970-01-01"), Some(0));
        assert_eq!(ms("1970-1-1 0:0:1.5"), Some(1500));
        assert_eq!(ms("2023-02-31 00:00:00"), ms("2023-02-28 00:00:00"));
        assert_eq!(ms("1970-01-01 24:00:00"), Some(86_400_000));
        for bad in ["1970-01-01T00:00:00", "1970-01-01 24:00:01", "1970-01-01 00:00", "70-01-01", "1970-01-32", ""] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn integers_drop_a_fraction() {
        assert_eq!(read_integer("12.9"), Some(12));
        assert_eq!(read_integer("-.9"), Some(0));
        assert_eq!(read_integer("+7"), Some(7));
        assert_eq!(read_integer("."), Some(0));
        for bad in ["", "-", "1.x", "1e3", "9223372036854775808"] {
            assert_eq!(read_integer(bad), None, "{bad}");
        }
    }
}
