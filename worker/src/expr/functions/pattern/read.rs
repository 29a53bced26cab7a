//! Reading times by a pattern: strictly as `DateTimeFormatter`, or leniently as `SimpleDateFormat`.

use super::{Field, Item, MONTHS, Pattern, WEEKDAYS};
use crate::format::text::calendar::{NANOS_PER_DAY, NANOS_PER_SECOND, days_from_civil, days_in_month};
use crate::format::text::time::DayTime;

/// Two-digit years are read as 1946 to 2045 by the lenient reader. Java takes 80 years back from the wall clock.
const LENIENT_CENTURY_START: i64 = 1946;

impl Pattern {
    /// Reads a text that has exactly this form.
    pub fn read_strict(&self, text: &str) -> Option<DayTime> {
        let mut fields = Fields::default();
        let rest = read_items(&self.items, text, &mut fields)?;
        if rest.is_empty() { fields.resolve_strict() } else { None }
    }

    /// Reads the beginning of a text as `SimpleDateFormat` does.
    pub fn read_lenient(&self, text: &str) -> Option<DayTime> {
        let mut fields = Fields::default();
        let mut rest = text;
        for (index, item) in self.items.iter().enumerate() {
            rest = match item {
                Item::Text(literal) => rest.strip_prefix(literal.as_str())?,
                Item::Field(field, count) => {
                    let adjacent =
                        matches!(self.items.get(index + 1), Some(Item::Field(next, n)) if next.is_number(*n));
                    read_lenient_field(*field, *count, adjacent, rest.trim_start_matches([' ', '\t']), &mut fields)?
                }
                Item::OptionalStart | Item::OptionalEnd => return None,
            };
        }
        fields.resolve_lenient()
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
}

impl Fields {
    fn set(&mut self, field: Field, value: i64) {
        match field {
            Field::Year => self.year = Some(value),
            Field::Month => self.month = Some(value),
            Field::Day => self.day = Some(value),
            Field::DayOfYear => self.day_of_year = Some(value),
            Field::Hour => self.hour = Some(value),
            Field::HourFrom1 => self.hour = Some(if value == 24 { 0 } else { value }),
            Field::HourOfHalf => self.hour_of_half = Some(value),
            Field::HourOfHalfFrom1 => self.hour_of_half = Some(if value == 12 { 0 } else { value }),
            Field::Minute => self.minute = Some(value),
            Field::Second => self.second = Some(value),
            Field::Fraction => self.nanos = Some(value),
            Field::HalfOfDay => self.afternoon = Some(value == 1),
            Field::Weekday => {}
        }
    }

    /// The hour of the day; one of a half without the half counts as none, as Flink reads it.
    fn hour_of_day(&self) -> Option<i64> {
        self.hour.or_else(|| Some(self.hour_of_half? + if self.afternoon? { 12 } else { 0 }))
    }

    /// 24:00:00.
    fn is_end_of_day(&self) -> bool {
        let zero = |value: Option<i64>| value.is_none_or(|v| v == 0);
        self.hour == Some(24) && zero(self.minute) && zero(self.second) && zero(self.nanos)
    }

    /// Every field in its range, the day cut to the month's last one; 1970-01-01 00:00:00 for what was not read.
    fn resolve_strict(&self) -> Option<DayTime> {
        let (year, month, day) = (self.year.unwrap_or(1970), self.month.unwrap_or(1), self.day.unwrap_or(1));
        let in_range = |value: Option<i64>, from: i64, to: i64| value.is_none_or(|v| (from..=to).contains(&v));
        let valid = in_range(self.month, 1, 12)
            && in_range(self.day, 1, 31)
            && in_range(self.day_of_year, 1, 366)
            && (in_range(self.hour, 0, 23) || self.is_end_of_day())
            && in_range(self.hour_of_half, 0, 11)
            && in_range(self.minute, 0, 59)
            && in_range(self.second, 0, 59);
        if !valid {
            return None;
        }
        let days = match self.day_of_year {
            Some(n) if self.year.is_some() && self.month.is_none() => days_from_civil(year, 1, 1) + n - 1,
            _ => days_from_civil(year, month, day.min(days_in_month(year, month))),
        };
        if self.is_end_of_day() {
            // Without a date there is no day to go on to.
            let next = i64::from(self.year.is_some() && self.month.is_some() && self.day.is_some());
            return Some(DayTime { days: days + next, nanos_of_day: 0 });
        }
        let seconds = (self.hour_of_day().unwrap_or(0) * 60 + self.minute.unwrap_or(0)) * 60 + self.second.unwrap_or(0);
        Some(DayTime { days, nanos_of_day: seconds * NANOS_PER_SECOND + self.nanos.unwrap_or(0) })
    }

    /// Fields out of their range carry over.
    fn resolve_lenient(&self) -> Option<DayTime> {
        let year = self.year.unwrap_or(1970);
        let days = match self.day_of_year {
            Some(n) if self.month.is_none() => days_from_civil(year, 1, 1) + n - 1,
            _ => days_from_civil(year, self.month.unwrap_or(1), 1) + self.day.unwrap_or(1) - 1,
        };
        let hour = self.hour.or_else(|| Some(self.hour_of_half? + if self.afternoon == Some(true) { 12 } else { 0 }));
        let seconds = hour
            .unwrap_or(0)
            .checked_mul(3600)?
            .checked_add(self.minute.unwrap_or(0).checked_mul(60)?)?
            .checked_add(self.second.unwrap_or(0))?;
        let nanos = seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(self.nanos.unwrap_or(0))?;
        Some(DayTime { days: days + nanos.div_euclid(NANOS_PER_DAY), nanos_of_day: nanos.rem_euclid(NANOS_PER_DAY) })
    }
}

/// Reads the items from the start of `text`: what follows. An optional part that does not fit is left out.
fn read_items<'a>(items: &[Item], mut text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    let mut index = 0;
    while let Some(item) = items.get(index) {
        match item {
            Item::Text(literal) => text = text.strip_prefix(literal.as_str())?,
            Item::Field(field, count) => {
                let reserved = reserved_digits(&items[index + 1..]);
                text = read_strict_field(*field, *count, reserved, text, fields)?;
            }
            Item::OptionalStart => {
                let end = index + closing(&items[index..]);
                let mut tried = *fields;
                if let Some(rest) = read_items(&items[index + 1..end], text, &mut tried) {
                    (text, *fields) = (rest, tried);
                }
                index = end;
            }
            Item::OptionalEnd => {}
        }
        index += 1;
    }
    Some(text)
}

/// Offset of the end of the optional part that `items` begins with.
fn closing(items: &[Item]) -> usize {
    let mut depth = 0;
    for (offset, item) in items.iter().enumerate() {
        match item {
            Item::OptionalStart => depth += 1,
            Item::OptionalEnd => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset;
        }
    }
    items.len()
}

/// Digits that the fixed-width fields right behind a field claim: `yyyyMMdd`.
fn reserved_digits(items: &[Item]) -> usize {
    items
        .iter()
        .map_while(|item| match item {
            Item::Field(field, count) if field.is_number(*count) && *count > 1 => Some(*count),
            _ => None,
        })
        .sum()
}

fn read_strict_field<'a>(
    field: Field,
    count: usize,
    reserved: usize,
    text: &'a str,
    fields: &mut Fields,
) -> Option<&'a str> {
    if !field.is_number(count) {
        return read_name(field, count, text, false, fields);
    }
    let available = text.bytes().take_while(u8::is_ascii_digit).count();
    let width = match (field, count) {
        // One letter, and a year of no fixed width: as many digits as there are, without those claimed behind.
        (Field::Fraction, n) => n,
        (_, 1) | (Field::Year, 3) => available.saturating_sub(reserved),
        (_, n) => n,
    };
    if width == 0 || width > available || width > 18 {
        return None;
    }
    let value: i64 = text[..width].parse().ok()?;
    fields.set(
        field,
        match (field, count) {
            (Field::Fraction, n) => value * 10i64.pow(9 - n as u32),
            (Field::Year, 2) => 2000 + value,
            _ => value,
        },
    );
    Some(&text[width..])
}

fn read_lenient_field<'a>(
    field: Field,
    count: usize,
    adjacent: bool,
    text: &'a str,
    fields: &mut Fields,
) -> Option<&'a str> {
    if !field.is_number(count) {
        return read_name(field, count, text, true, fields);
    }
    let available = text.bytes().take_while(u8::is_ascii_digit).count();
    let width = if adjacent { available.min(count) } else { available };
    if width == 0 || width > 9 {
        return None;
    }
    let value: i64 = text[..width].parse().ok()?;
    fields.set(
        field,
        match field {
            // Milliseconds, however many letters.
            Field::Fraction => value * 1_000_000,
            Field::Year if count <= 2 && width == 2 => {
                let year = LENIENT_CENTURY_START - LENIENT_CENTURY_START % 100 + value;
                if year < LENIENT_CENTURY_START { year + 100 } else { year }
            }
            _ => value,
        },
    );
    Some(&text[width..])
}

/// Reads the name of a month, a weekday, or AM and PM.
fn read_name<'a>(field: Field, count: usize, text: &'a str, lenient: bool, fields: &mut Fields) -> Option<&'a str> {
    let names: &[&str] = match field {
        Field::Month => &MONTHS,
        Field::Weekday => &WEEKDAYS,
        _ => &["AM", "PM"],
    };
    let matches = |name: &str| {
        let head = text.get(..name.len())?;
        let equal = if lenient { head.eq_ignore_ascii_case(name) } else { head == name };
        equal.then_some(name.len())
    };
    for (index, name) in names.iter().enumerate() {
        let short = &name[..name.len().min(3)];
        // The lenient reader takes the long name where there is one.
        let length =
            if lenient { matches(name).or_else(|| matches(short)) } else { matches(short_or_all(name, count)) };
        if let Some(length) = length {
            let value = index as i64 + i64::from(field == Field::Month);
            fields.set(field, value);
            return Some(&text[length..]);
        }
    }
    None
}

fn short_or_all(name: &str, count: usize) -> &str {
    if count >= 4 { name } else { &name[..name.len().min(3)] }
}
