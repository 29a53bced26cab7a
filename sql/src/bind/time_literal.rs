//! Dates, times, timestamps and intervals as text.

use crate::ast::TimeUnit;

const DAY_MS: i64 = 86_400_000;

/// A timestamp by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timestamp {
    pub days: i32,
    pub seconds_of_day: u32,
    pub nanos: u32,
    /// Digits of the fraction.
    pub precision: u8,
}

impl Timestamp {
    /// Since the epoch, in the unit that a timestamp of this precision is carried in.
    pub fn in_unit_of(self, precision: u8) -> Option<i64> {
        let seconds = i64::from(self.days) * 86_400 + i64::from(self.seconds_of_day);
        let (per_second, nanos_per_unit) = match precision {
            0..=3 => (1000, 1_000_000),
            4..=6 => (1_000_000, 1000),
            _ => (1_000_000_000, 1),
        };
        seconds.checked_mul(per_second)?.checked_add(i64::from(self.nanos / nanos_per_unit))
    }
}

/// `yyyy-MM-dd` at the head of the text: days since the epoch, and what follows.
pub(super) fn date(text: &str) -> Option<(i32, &str)> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=longest).contains(&day) || year == 0 {
        return None;
    }
    Some((days_from_civil(i64::from(year), i64::from(month), i64::from(day))?, rest))
}

/// Exactly `digits` digits.
fn number(text: &str, digits: usize) -> Option<(u32, &str)> {
    let (head, rest) = text.split_at_checked(digits)?;
    head.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    Some((head.parse().ok()?, rest))
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i32> {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

/// `HH:mm:ss[.fraction]` at the head of the text: seconds, nanoseconds, digits of the fraction.
fn clock(text: &str) -> Option<(u32, u32, u8)> {
    let (hour, rest) = number(text, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = number(rest.strip_prefix(':')?, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match rest.strip_prefix('.') {
        Some(fraction) if !fraction.is_empty() => fraction,
        None if rest.is_empty() => "",
        _ => return None,
    };
    let (nanos, digits) = fraction_nanos(fraction)?;
    Some((hour * 3600 + minute * 60 + second, nanos, digits))
}

fn fraction_nanos(digits: &str) -> Option<(u32, u8)> {
    if digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{digits:0<9}");
    Some((padded.parse().ok()?, u8::try_from(digits.len()).ok()?))
}

/// `HH:mm:ss[.fraction]`: milliseconds of the day, and digits of the fraction.
pub(super) fn time(text: &str) -> Option<(i32, u8)> {
    let (seconds, nanos, digits) = clock(text.trim())?;
    Some((i32::try_from(u64::from(seconds) * 1000 + u64::from(nanos) / 1_000_000).ok()?, digits))
}

/// `yyyy-MM-dd[ HH:mm:ss[.fraction]]`
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    let (days, rest) = date(text.trim())?;
    if rest.is_empty() {
        return Some(Timestamp { days, seconds_of_day: 0, nanos: 0, precision: 0 });
    }
    let (seconds_of_day, nanos, precision) = clock(rest.strip_prefix([' ', 'T'])?)?;
    Some(Timestamp { days, seconds_of_day, nanos, precision })
}

/// An interval's value: months or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interval {
    Months(i32),
    Millis(i64),
}

/// `INTERVAL 'text' from [TO to]`. A leading minus inside the text negates.
pub(super) fn interval(text: &str, from: TimeUnit, to: Option<TimeUnit>, negative: bool) -> Option<Interval> {
    let text = text.trim();
    let (inner, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let sign = if inner == negative { 1 } else { -1 };
    let value = match (from, to) {
        (TimeUnit::Year | TimeUnit::Quarter | TimeUnit::Month, None) => {
            let each = match from {
                TimeUnit::Year => 12,
                TimeUnit::Quarter => 3,
                _ => 1,
            };
            return Some(Interval::Months(digits(text)?.checked_mul(each * sign)?.try_into().ok()?));
        }
        (TimeUnit::Year, Some(TimeUnit::Month)) => {
            let (years, months) = text.split_once('-')?;
            let months = digits(months).filter(|m| *m < 12)?;
            return Some(Interval::Months(
                digits(years)?.checked_mul(12)?.checked_add(months)?.checked_mul(sign)?.try_into().ok()?,
            ));
        }
        (TimeUnit::Second, None) => seconds_millis(text)?,
        (unit, None) => digits(text)?.checked_mul(unit.fixed_millis()?)?,
        (from, Some(to)) => day_time_millis(text, from, to)?,
    };
    Some(Interval::Millis(value.checked_mul(sign)?))
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    text.parse().ok()
}

/// `s[.fraction]`
fn seconds_millis(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (nanos, _) = fraction_nanos(fraction)?;
    digits(seconds)?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
}

/// `d hh:mm:ss[.fraction]`, from one unit to another.
fn day_time_millis(text: &str, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    const UNITS: [TimeUnit; 4] = [TimeUnit::Day, TimeUnit::Hour, TimeUnit::Minute, TimeUnit::Second];
    let first = UNITS.iter().position(|u| *u == from)?;
    let last = UNITS.iter().position(|u| *u == to)?;
    let mut rest = text;
    let mut total = 0i64;
    for (at, unit) in UNITS.into_iter().enumerate().take(last + 1).skip(first) {
        let part = if at == last {
            std::mem::take(&mut rest)
        } else {
            let (part, tail) = rest.split_once(if unit == TimeUnit::Day { ' ' } else { ':' })?;
            rest = tail.trim_start();
            part
        };
        let value = if unit == TimeUnit::Second {
            seconds_millis(part)?
        } else {
            digits(part)?.checked_mul(unit.fixed_millis()?)?
        };
        // Behind the leading field a field stays below the next larger unit.
        let limit = match unit {
            TimeUnit::Hour => DAY_MS,
            TimeUnit::Minute => 3_600_000,
            _ => 60_000,
        };
        if at > first && value >= limit {
            return None;
        }
        total = total.checked_add(value)?;
    }
    (first < last).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_timestamps() {
        assert_eq!(date("1970-01-01"), Some((0, "")));
        assert_eq!(date("2000-03-01").map(|d| d.0), Some(11_017));
        assert_eq!(date("1969-12-31").map(|d| d.0), Some(-1));
        for bad in ["2023-02-29", "2023-13-01", "2023-1-1", "0000-01-01", "x"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        let t = timestamp("1970-01-02 00:00:01.5").unwrap();
        assert_eq!((t.precision, t.in_unit_of(3), t.in_unit_of(6)), (1, Some(86_401_500), Some(86_401_500_000)));
        assert_eq!(timestamp("1970-01-02 24:00:00"), None);
        assert_eq!(time("23:59:59.999"), Some((86_399_999, 3)));
    }

    #[test]
    fn intervals() {
        use TimeUnit::{Day, Hour, Minute, Month, Second, Week, Year};
        for (text, from, to, expected) in [
            ("10", Second, None, Some(Interval::Millis(10_000))),
            ("1.5", Second, None, Some(Interval::Millis(1500))),
            ("-1", Hour, None, Some(Interval::Millis(-3_600_000))),
            ("1 02:03:04.005", Day, Some(Second), Some(Interval::Millis(93_784_005))),
            ("90:30", Minute, Some(Second), Some(Interval::Millis(5_430_000))),
            ("2-3", Year, Some(Month), Some(Interval::Months(27))),
            ("1", Week, None, Some(Interval::Millis(604_800_000))),
            ("1 25", Day, Some(Hour), None),
            ("x", Day, None, None),
            ("1", Second, Some(Day), None),
            ("99999999999999999999", Second, None, None),
        ] {
            assert_eq!(interval(text, from, to, false), expected, "{text}");
        }
    }
}
