//! Text of dates, times of day and timestamps: `java.time`'s ISO formatters and the SQL forms that Flink derives from them.

use super::calendar::{Civil, NANOS_PER_DAY, NANOS_PER_SECOND, civil_from_days, days_from_civil, days_in_month};

/// Appends two digits.
#[inline]
fn push_two(out: &mut Vec<u8>, value: i64) {
    let value = value as u8;
    out.extend_from_slice(&[b'0' + value / 10, b'0' + value % 10]);
}

/// Appends `yyyy-MM-dd` as `ISO_LOCAL_DATE` prints it: years beyond four digits carry a sign.
pub fn write_date(out: &mut Vec<u8>, days: i64) {
    let Civil { year, month, day } = civil_from_days(days);
    if (0..=9999).contains(&year) {
        push_two(out, year / 100);
        push_two(out, year % 100);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        out.extend_from_slice(format!("{:04}", year.unsigned_abs()).as_bytes());
    }
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// Appends `HH:mm:ss` and the fraction with at least `fraction_min` digits, further ones without trailing zeros.
pub fn write_time(out: &mut Vec<u8>, nanos_of_day: i64, fraction_min: usize) {
    let (seconds, nanos) = (nanos_of_day / NANOS_PER_SECOND, nanos_of_day % NANOS_PER_SECOND);
    write_clock(out, seconds as u32, nanos as u32, 9, fraction_min);
}

/// [`write_time`] where the fraction is already there, as a number of `width` digits.
#[inline]
pub fn write_clock(out: &mut Vec<u8>, seconds_of_day: u32, fraction: u32, width: usize, fraction_min: usize) {
    let mut text = *b"00:00:00.000000000";
    let mut put = |at: usize, value: u32| {
        text[at] = b'0' + (value / 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    };
    put(0, seconds_of_day / 3600);
    put(3, seconds_of_day / 60 % 60);
    put(6, seconds_of_day % 60);
    let mut length = 9 + fraction_min;
    let mut rest = fraction;
    for at in (9..9 + width).rev() {
        let digit = (rest % 10) as u8;
        text[at] = b'0' + digit;
        if digit != 0 {
            length = length.max(at + 1);
        }
        rest /= 10;
    }
    // Without a digit there is no point.
    out.extend_from_slice(&text[..if length == 9 { 8 } else { length }]);
}

/// Appends `yyyy-MM-dd<separator>HH:mm:ss[.fraction]`.
pub fn write_timestamp(out: &mut Vec<u8>, days: i64, nanos_of_day: i64, separator: u8, fraction_min: usize) {
    write_date(out, days);
    out.push(separator);
    write_time(out, nanos_of_day, fraction_min);
}

/// How a reader takes fields that are out of range: `java.time.format.ResolverStyle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// Not at all.
    Strict,
    /// A day up to 31 is cut to its month's last one; 24:00:00 is midnight of the next day.
    Smart,
}

/// Reads exactly `width` digits.
fn digits(text: &[u8], width: usize) -> Option<i64> {
    let text = text.get(..width)?;
    text.iter().try_fold(0i64, |value, c| c.is_ascii_digit().then(|| value * 10 + i64::from(c - b'0')))
}

/// Reads `yyyy-MM-dd` from the start of `text`: days since the epoch, and what follows.
#[must_use]
pub fn read_iso_date(text: &[u8], resolver: Resolver) -> Option<(i64, &[u8])> {
    let (year, rest) = read_iso_year(text)?;
    let rest = rest.strip_prefix(b"-")?;
    let month = digits(rest, 2)?;
    let rest = rest[2..].strip_prefix(b"-")?;
    let day = digits(rest, 2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let last = days_in_month(year, month);
    if day > last && resolver == Resolver::Strict {
        return None;
    }
    Some((days_from_civil(year, month, day.min(last)), &rest[2..]))
}

/// Four digits, or a sign and four to nine digits.
fn read_iso_year(text: &[u8]) -> Option<(i64, &[u8])> {
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => return Some((digits(text, 4)?, &text[4..])),
    };
    let width = unsigned.iter().take(10).take_while(|c| c.is_ascii_digit()).count();
    // A plus sign must be needed, as in java.time's EXCEEDS_PAD.
    if !(4..=9).contains(&width) || (!negative && width == 4) {
        return None;
    }
    let year = digits(unsigned, width)?;
    Some((if negative { -year } else { year }, &unsigned[width..]))
}

/// Reads `HH:mm:ss[.fraction]` from the start of `text`: nanoseconds of the day, and what follows. The fraction has 0
/// to 9 digits. `seconds_optional`: `HH:mm` is enough, as in `ISO_LOCAL_TIME`. 24:00:00 is all nanoseconds of a day.
#[must_use]
pub fn read_time(text: &[u8], seconds_optional: bool, resolver: Resolver) -> Option<(i64, &[u8])> {
    let hour = digits(text, 2)?;
    let rest = text[2..].strip_prefix(b":")?;
    let minute = digits(rest, 2)?;
    let rest = &rest[2..];
    let (second, fraction, rest) = match rest.strip_prefix(b":") {
        Some(rest) => {
            let second = digits(rest, 2)?;
            let (fraction, rest) = read_fraction(&rest[2..]);
            (second, fraction, rest)
        }
        None if seconds_optional => (0, 0, rest),
        None => return None,
    };
    let nanos = ((hour * 60 + minute) * 60 + second) * NANOS_PER_SECOND + fraction;
    let end_of_day = resolver == Resolver::Smart && nanos == NANOS_PER_DAY;
    ((hour < 24 || end_of_day) && minute < 60 && second < 60).then_some((nanos, rest))
}

/// Reads `.` and up to nine digits, as nanoseconds.
fn read_fraction(text: &[u8]) -> (i64, &[u8]) {
    let Some(rest) = text.strip_prefix(b".") else {
        return (0, text);
    };
    let width = rest.iter().take(9).take_while(|c| c.is_ascii_digit()).count();
    let value = digits(rest, width).expect("counted as digits");
    (value * 10i64.pow(9 - width as u32), &rest[width..])
}

/// A point on a calendar without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayTime {
    pub days: i64,
    pub nanos_of_day: i64,
}

/// Reads a date, `separator` and a time of day. With the separator `T`, which Java reads in either case, the seconds
/// are optional.
#[must_use]
pub fn read_timestamp(text: &[u8], separator: u8, resolver: Resolver) -> Option<(DayTime, &[u8])> {
    let (days, rest) = read_iso_date(text, resolver)?;
    let (first, rest) = rest.split_first()?;
    if !first.eq_ignore_ascii_case(&separator) {
        return None;
    }
    let (nanos, rest) = read_time(rest, separator == b'T', resolver)?;
    Some((DayTime { days: days + nanos / NANOS_PER_DAY, nanos_of_day: nanos % NANOS_PER_DAY }, rest))
}

impl DayTime {
    /// Ticks since the epoch, cut to the unit that has `ticks_per_second`; `None` beyond an i64.
    #[must_use]
    pub fn ticks(self, ticks_per_second: i64) -> Option<i64> {
        let nanos_per_tick = NANOS_PER_SECOND / ticks_per_second;
        self.days.checked_mul(86_400 * ticks_per_second)?.checked_add(self.nanos_of_day / nanos_per_tick)
    }

    /// The inverse of [`DayTime::ticks`].
    #[must_use]
    pub fn from_ticks(ticks: i64, ticks_per_second: i64) -> Self {
        let ticks_per_day = 86_400 * ticks_per_second;
        Self {
            days: ticks.div_euclid(ticks_per_day),
            nanos_of_day: ticks.rem_euclid(ticks_per_day) * (NANOS_PER_SECOND / ticks_per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(ticks: i64, per_second: i64, fraction_min: usize) -> String {
        let at = DayTime::from_ticks(ticks, per_second);
        let mut out = Vec::new();
        write_timestamp(&mut out, at.days, at.nanos_of_day, b' ', fraction_min);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fractions_lose_trailing_zeros_beyond_the_minimum() {
        assert_eq!(printed(0, 1000, 0), "1970-01-01 00:00:00");
        assert_eq!(printed(1_500, 1000, 0), "1970-01-01 00:00:01.5");
        assert_eq!(printed(-1, 1000, 0), "1969-12-31 23:59:59.999");
        assert_eq!(printed(1_500, 1000, 3), "1970-01-01 00:00:01.500");
        assert_eq!(printed(1_000_000_001, 1_000_000_000, 0), "1970-01-01 00:00:01.000000001");
        assert_eq!(printed(253_402_300_800_000, 1000, 0), "+10000-01-01 00:00:00");
        assert_eq!(printed(-62_198_755_200_000, 1000, 0), "-0001-01-01 00:00:00");
    }

    #[test]
    fn reads_what_java_reads() {
        let read = |s: &str, sep| {
            read_timestamp(s.as_bytes(), sep, Resolver::Strict)
                .and_then(|(t, rest)| rest.is_empty().then(|| t.ticks(1000).unwrap()))
        };
        assert_eq!(read("1970-01-01 00:00:01", b' '), Some(1000));
        assert_eq!(read("1970-01-01 00:00:01.", b' '), Some(1000));
        assert_eq!(read("1970-01-01 00:00:01.123456789", b' '), Some(1123));
        assert_eq!(read("1970-01-01 00:00:01.1234567890", b' '), None);
        assert_eq!(read("1970-01-01 00:00", b' '), None);
        assert_eq!(read("1970-01-01T00:01", b'T'), Some(60_000));
        assert_eq!(read("1970-01-01t00:00:01.5", b'T'), Some(1500));
        assert_eq!(read("-0001-01-01T00:00", b'T'), Some(-62_198_755_200_000));
        assert_eq!(read("+10000-01-01 00:00:00", b' '), Some(253_402_300_800_000));
        let smart = |s: &str| read_timestamp(s.as_bytes(), b' ', Resolver::Smart).map(|(t, _)| t.ticks(1000).unwrap());
        assert_eq!(smart("2023-02-31 00:00:00"), smart("2023-02-28 00:00:00"));
        assert_eq!(smart("1970-01-01 24:00:00"), Some(86_400_000));
        assert_eq!(smart("1970-01-01 24:00:01"), None);
        assert_eq!(smart("1970-01-32 00:00:00"), None);
        for bad in ["2023-02-29 00:00:00", "2023-13-01 00:00:00", "2023-01-01 24:00:00", "2023-1-01 00:00:00", "", "20"]
        {
            assert_eq!(read(bad, b' '), None, "{bad}");
        }
    }
}
