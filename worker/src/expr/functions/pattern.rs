//! Java's date patterns: letters `y u M L d D E a H k K h m s S`, quoted text, `[ ]` for optional parts.
//!
//! Two readers, because Flink uses two: `DateTimeFormatter` (TO_TIMESTAMP) wants the widths and ranges that the pattern
//! says and the whole text; `SimpleDateFormat` (UNIX_TIMESTAMP, TO_DATE) takes numbers of any width, carries what is out of
//! range (the 32nd of January is the 1st of February) and ignores what follows. Both are in `read`; writing is the same.

mod read;

use crate::format::text::calendar::{Civil, NANOS_PER_SECOND, civil_from_days, day_of_year, iso_day_of_week};
use crate::format::text::time::DayTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A field of a date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Weekday,
    HalfOfDay,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    HourFrom1,
    /// 0 to 11.
    HourOfHalf,
    /// 1 to 12.
    HourOfHalfFrom1,
    Minute,
    Second,
    Fraction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    Field(Field, usize),
    OptionalStart,
    OptionalEnd,
}

/// Whose pattern it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// DATE_FORMAT and TO_TIMESTAMP.
    DateTimeFormatter,
    /// UNIX_TIMESTAMP, FROM_UNIXTIME and TO_DATE. Has no optional parts, and `u` is the day of the week.
    SimpleDateFormat,
}

/// A parsed pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    items: Vec<Item>,
}

impl Pattern {
    /// Parses a pattern; the error says what it has that is not supported.
    pub fn parse(pattern: &str, dialect: Dialect) -> Result<Self, String> {
        let simple = dialect == Dialect::SimpleDateFormat;
        let mut items = Vec::new();
        let mut chars = pattern.chars().peekable();
        let mut depth = 0i32;
        while let Some(c) = chars.next() {
            match c {
                '\'' => push_text(&mut items, &quoted(&mut chars, pattern)?),
                '[' | ']' | '{' | '}' | '#' if simple => push_text(&mut items, c.encode_utf8(&mut [0; 4])),
                '[' => {
                    depth += 1;
                    items.push(Item::OptionalStart);
                }
                ']' if depth > 0 => {
                    depth -= 1;
                    items.push(Item::OptionalEnd);
                }
                ']' | '{' | '}' | '#' => {
                    return Err(format!("the date pattern '{pattern}' has a reserved character '{c}'"));
                }
                'u' if simple => {
                    return Err(format!(
                        "the date pattern '{pattern}' has the letter 'u', which is not supported here"
                    ));
                }
                c if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    items.push(Item::Field(field(c, count, pattern)?, count));
                }
                c => push_text(&mut items, c.encode_utf8(&mut [0; 4])),
            }
        }
        if depth != 0 {
            return Err(format!("the date pattern '{pattern}' has a '[' without its ']'"));
        }
        Ok(Self { items })
    }

    /// Appends the time in this form.
    pub fn write(&self, at: DayTime, out: &mut String) {
        let date = civil_from_days(at.days);
        for item in &self.items {
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Field(field, count) => write_field(*field, *count, at, date, out),
                Item::OptionalStart | Item::OptionalEnd => {}
            }
        }
    }
}

impl Field {
    /// Whether a field of this many letters is written in digits.
    fn is_number(self, count: usize) -> bool {
        !matches!((self, count), (Field::Month, 3..) | (Field::Weekday | Field::HalfOfDay, _))
    }
}

fn push_text(items: &mut Vec<Item>, text: &str) {
    match items.last_mut() {
        Some(Item::Text(last)) => last.push_str(text),
        _ => items.push(Item::Text(text.to_owned())),
    }
}

/// The text up to the closing quote; `''` is a quote, inside and outside of quotes.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, pattern: &str) -> Result<String, String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Ok("'".to_owned());
    }
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('\'') if chars.next_if_eq(&'\'').is_some() => text.push('\''),
            Some('\'') => return Ok(text),
            Some(c) => text.push(c),
            None => return Err(format!("the date pattern '{pattern}' has a quote without its end")),
        }
    }
}

fn field(letter: char, count: usize, pattern: &str) -> Result<Field, String> {
    let (field, count_max) = match letter {
        'y' | 'u' => (Field::Year, 9),
        'M' | 'L' => (Field::Month, 4),
        'd' => (Field::Day, 2),
        'D' => (Field::DayOfYear, 3),
        'E' => (Field::Weekday, 4),
        'a' => (Field::HalfOfDay, 1),
        'H' => (Field::Hour, 2),
        'k' => (Field::HourFrom1, 2),
        'K' => (Field::HourOfHalf, 2),
        'h' => (Field::HourOfHalfFrom1, 2),
        'm' => (Field::Minute, 2),
        's' => (Field::Second, 2),
        'S' => (Field::Fraction, 9),
        _ => return Err(format!("the date pattern '{pattern}' has the letter '{letter}', which is not supported")),
    };
    if count > count_max {
        return Err(format!("the date pattern '{pattern}' has too many letters '{letter}'"));
    }
    Ok(field)
}

fn write_field(field: Field, count: usize, at: DayTime, date: Civil, out: &mut String) {
    use std::fmt::Write as _;
    let seconds = at.nanos_of_day / NANOS_PER_SECOND;
    let hour = seconds / 3600;
    let value = match field {
        Field::Year if count == 2 => {
            let _ = write!(out, "{:02}", date.year.rem_euclid(100));
            return;
        }
        Field::Year => {
            if date.year > 9999 && count >= 4 {
                out.push('+');
            }
            date.year
        }
        Field::Month if count >= 3 => return out.push_str(short_or_full(MONTHS[date.month as usize - 1], count)),
        Field::Weekday => {
            return out.push_str(short_or_full(WEEKDAYS[iso_day_of_week(at.days) as usize - 1], count));
        }
        Field::HalfOfDay => return out.push_str(if hour < 12 { "AM" } else { "PM" }),
        Field::Fraction => {
            let digits = format!("{:09}", at.nanos_of_day % NANOS_PER_SECOND);
            return out.push_str(&digits[..count]);
        }
        Field::Month => date.month,
        Field::Day => date.day,
        Field::DayOfYear => day_of_year(date),
        Field::Hour => hour,
        Field::HourFrom1 => {
            if hour == 0 {
                24
            } else {
                hour
            }
        }
        Field::HourOfHalf => hour % 12,
        Field::HourOfHalfFrom1 => (hour + 11) % 12 + 1,
        Field::Minute => seconds / 60 % 60,
        Field::Second => seconds % 60,
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "{value:0count$}");
}

fn short_or_full(name: &str, count: usize) -> &str {
    if count >= 4 { name } else { &name[..3] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: DayTime =
        DayTime { days: 20_778, nanos_of_day: (15 * 3600 + 4 * 60 + 5) * NANOS_PER_SECOND + 67_000_000 };

    #[test]
    fn writes_javas_letters() {
        let write = |pattern: &str| {
            let mut out = String::new();
            Pattern::parse(pattern, Dialect::DateTimeFormatter).unwrap().write(AT, &mut out);
            out
        };
        assert_eq!(write("yyyy-MM-dd HH:mm:ss.SSS"), "2026-11-21 15:04:05.067");
        assert_eq!(write("yy/M/d h:m:s a"), "26/11/21 3:4:5 PM");
        assert_eq!(write("EEE, dd MMM yyyy"), "Sat, 21 Nov 2026");
        assert_eq!(write("EEEE MMMM D"), "Saturday November 325");
        assert_eq!(write("yyyyMMdd'T'HHmmss''"), "20261121T150405'");
        assert_eq!(write("kk KK hh"), "15 03 03");
        assert_eq!(write("yyyy年"), "2026年");
        for bad in ["yyyy-ww", "x", "'open", "[yyyy", "{", "SSSSSSSSSS"] {
            assert!(Pattern::parse(bad, Dialect::DateTimeFormatter).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_strict_reader_wants_the_pattern() {
        let ms = |pattern: &str, text: &str| {
            Pattern::parse(pattern, Dialect::DateTimeFormatter).unwrap().read_strict(text)?.ticks(1000)
        };
        let midnight = 20_778 * 86_400_000;
        assert_eq!(ms("yyyy-MM-dd", "2026-11-21"), Some(midnight));
        assert_eq!(ms("yyyyMMdd", "20261121"), Some(midnight));
        assert_eq!(ms("yyyyMMddHHmmssSSS", "20261121000001005"), Some(midnight + 1005));
        assert_eq!(ms("dd MMM yyyy", "21 Nov 2026"), Some(midnight));
        assert_eq!(ms("d/M/yy h:mm a", "21/11/26 3:04 PM"), Some(midnight + 54_240_000));
        assert_eq!(ms("yyyy-MM-dd[ HH:mm]", "2026-11-21"), Some(midnight));
        assert_eq!(ms("yyyy-MM-dd[ HH:mm]", "2026-11-21 01:00"), Some(midnight + 3_600_000));
        assert_eq!(ms("yyyy-MM-dd", "2023-02-31"), ms("yyyy-MM-dd", "2023-02-28"));
        assert_eq!(ms("HH:mm", "01:00"), Some(3_600_000));
        assert_eq!(ms("HH:mm", "24:00"), Some(0));
        assert_eq!(ms("yyyy-MM-dd HH:mm", "2026-11-20 24:00"), Some(midnight));
        for (pattern, text) in [
            ("yyyy-MM-dd", "2026-11-21 "),
            ("yyyy-MM-dd", "2026-1-21"),
            ("yyyy-MM-dd", "2026-13-21"),
            ("HH:mm", "24:01"),
            ("dd MMM yyyy", "21 nov 2026"),
            ("yyyy", ""),
        ] {
            assert_eq!(ms(pattern, text), None, "{pattern} {text}");
        }
    }

    #[test]
    fn the_lenient_reader_carries_and_ignores_the_rest() {
        let ms = |pattern: &str, text: &str| {
            Pattern::parse(pattern, Dialect::SimpleDateFormat).unwrap().read_lenient(text)?.ticks(1000)
        };
        assert_eq!(ms("yyyy-MM-dd", "2026-01-32 and more"), ms("yyyy-MM-dd", "2026-2-1"));
        assert_eq!(ms("yyyy-MM-dd", "2026-14-01"), ms("yyyy-MM-dd", "2027-02-01"));
        assert_eq!(ms("yyyyMMdd", "20261121"), Some(20_778 * 86_400_000));
        assert_eq!(ms("yyyy-MM-dd HH:mm:ss", "2026-11-21"), None);
        assert_eq!(ms("dd-MMM-yy", "21-NOV-26"), Some(20_778 * 86_400_000));
        assert_eq!(ms("yyyy-MM-dd", "x"), None);
    }
}
