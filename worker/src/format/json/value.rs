//! From a JSON value to a value of a column: the fast way for what is expected, and Flink's coercions for the rest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_api::graph::TimestampFormat;

use super::column::{Bytes, Column, Data, Full, Times};
use super::cursor::{Cursor, Fault, RawText, Token, plain_text, short_integer};
use super::error::{DecodeError, DecodeReason};
use super::strings::write_compact;
use crate::format::text::calendar::NANOS_PER_DAY;
use crate::format::text::decimal;
use crate::format::text::number::{read_double, read_long, read_single};
use crate::format::text::time::{DayTime, Resolver, read_iso_date, read_time, read_timestamp};

/// How many bytes of a bad value an error shows.
const SHOWN_MAX: usize = 64;

/// Why a value was not taken.
pub enum ValueFault {
    /// The record is not JSON, or the batch is full: the record fails.
    Record(DecodeError),
    /// The type cannot take the value: the record fails, or the column becomes NULL.
    Value(DecodeReason),
}

impl From<Fault> for ValueFault {
    fn from(fault: Fault) -> Self {
        ValueFault::Record(fault.into())
    }
}

impl From<Full> for ValueFault {
    fn from(_: Full) -> Self {
        ValueFault::Record(DecodeError::record(DecodeReason::BatchFull))
    }
}

/// Reads the value at `at` into the column when it has the form that the type expects: the position behind it. `None`,
/// and nothing pushed: it has another form.
#[inline(always)]
pub fn push_expected(column: &mut Column, record: &[u8], at: usize, format: TimestampFormat) -> Option<usize> {
    match &mut column.data {
        Data::BigInt(values) => {
            let (value, end) = short_integer(record, at)?;
            values.push(value);
            Some(end)
        }
        Data::Int(values) => {
            let (value, end) = short_integer(record, at)?;
            values.push(i32::try_from(value).ok()?);
            Some(end)
        }
        Data::Text(values) => {
            let (text, end) = plain_text(record, at)?;
            values.push(text).ok()?;
            Some(end)
        }
        Data::Timestamp(times) => {
            let (ticks, end) = usual_timestamp(times, record, at, format)?;
            times.values.push(ticks);
            Some(end)
        }
        _ => None,
    }
}

/// `"yyyy-MM-dd HH:mm:ss[.digits]"` with the separator and the zone that the format wants, and the position behind it.
#[inline(always)]
fn usual_timestamp(times: &mut Times, record: &[u8], at: usize, format: TimestampFormat) -> Option<(i64, usize)> {
    let text = record.get(at..)?.first_chunk::<20>()?;
    if text[0] != b'"' || text[11] != separator(format) {
        return None;
    }
    if text[1..11] != times.day_text {
        read_day(times, &text[1..11])?;
    }
    let seconds = clock_seconds(text)?;
    let (fraction, mut end) = fraction_ticks(record, at + 20, times);
    if times.zoned {
        if record.get(end) != Some(&b'Z') {
            return None;
        }
        end += 1;
    }
    if record.get(end) != Some(&b'"') {
        return None;
    }
    let ticks = times.day_ticks.checked_add(seconds * times.ticks_per_second + fraction)?;
    Some((ticks, end + 1))
}

/// Another day than the last one.
#[inline(never)]
fn read_day(times: &mut Times, text: &[u8]) -> Option<()> {
    let (days, []) = read_iso_date(text, Resolver::Strict)? else {
        return None;
    };
    times.day_ticks = DayTime { days, nanos_of_day: 0 }.ticks(times.ticks_per_second)?;
    times.day_text.copy_from_slice(text);
    Some(())
}

/// Seconds of the day of the `HH:mm:ss` at position 12, all digits at once.
#[inline(always)]
fn clock_seconds(text: &[u8; 20]) -> Option<i64> {
    const COLONS: u64 = 0x0000_3a00_003a_0000;
    const PLACES: u64 = 0x0f0f_000f_0f00_0f0f;
    let clock: [u8; 8] = text[12..].try_into().expect("eight of twenty bytes");
    // Digits become their values, colons zero; any other byte sets a bit outside of 0 to 15 or is caught below.
    let word = u64::from_le_bytes(clock) ^ (COLONS | 0x3030_0030_3000_3030);
    if word & !PLACES != 0 || (word + 0x0606_0006_0600_0606) & !PLACES != 0 {
        return None;
    }
    let two = |shift: u32| ((word >> shift) & 0xff) * 10 + ((word >> (shift + 8)) & 0xff);
    let (hour, minute, second) = (two(0), two(24), two(48));
    (hour < 24 && minute < 60 && second < 60).then_some(((hour * 60 + minute) * 60 + second) as i64)
}

/// Ticks of an optional `.digits` at `at`, and the position behind it.
#[inline(always)]
fn fraction_ticks(text: &[u8], at: usize, times: &Times) -> (i64, usize) {
    if text.get(at) != Some(&b'.') {
        return (0, at);
    }
    // Milliseconds, the usual form.
    if let Some([a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', end]) = text.get(at + 1..at + 5)
        && !end.is_ascii_digit()
    {
        let millis = i64::from(a - b'0') * 100 + i64::from(b - b'0') * 10 + i64::from(c - b'0');
        return (millis * times.ticks_per_ms, at + 4);
    }
    let mut weight = 1_000_000_000;
    let (mut nanos, mut end) = (0i64, at + 1);
    while end < at + 10
        && let Some(c @ b'0'..=b'9') = text.get(end)
    {
        weight /= 10;
        nanos += weight * i64::from(c - b'0');
        end += 1;
    }
    (nanos / (1_000_000_000 / times.ticks_per_second), end)
}

fn separator(format: TimestampFormat) -> u8 {
    match format {
        TimestampFormat::Sql => b' ',
        TimestampFormat::Iso8601 => b'T',
    }
}

/// Reads any value at the cursor into the column, with Flink's coercions.
#[inline(never)]
pub fn push_any(
    column: &mut Column,
    cursor: &mut Cursor<'_>,
    format: TimestampFormat,
    scratch: &mut Vec<u8>,
) -> Result<(), ValueFault> {
    let token = cursor.value()?;
    if token == Token::Null {
        column.push_null();
        return Ok(());
    }
    if let Data::Binary(values) = &mut column.data {
        return push_binary(values, token, scratch);
    }
    if let Data::Text(values) = &mut column.data {
        return push_text(values, token, scratch);
    }
    scratch.clear();
    let text = token_text(token, scratch);
    match push_converted(column, token, text, format) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ValueFault::Value(unfit(column, token))),
        Err(TooLarge) => {
            // A DECIMAL with too many digits is NULL in Flink, as after a CAST.
            column.push_null();
            Ok(())
        }
    }
}

/// The text that Jackson's `getText` gives for a scalar.
fn token_text<'a>(token: Token<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match token {
        Token::Null => b"null",
        Token::True => b"true",
        Token::False => b"false",
        Token::Number { raw, .. } => raw,
        Token::Text(text @ RawText { escaped: true, .. }) => {
            text.unescape(scratch);
            scratch
        }
        Token::Text(RawText { raw, .. }) => raw,
        Token::Container(raw) => &raw[..1],
    }
}

struct TooLarge;

/// Appends the value of a scalar column. False: the type cannot take it.
fn push_converted(
    column: &mut Column,
    token: Token<'_>,
    text: &[u8],
    format: TimestampFormat,
) -> Result<bool, TooLarge> {
    let trimmed = text.trim_ascii();
    let pushed = match &mut column.data {
        Data::Null(rows) => {
            *rows += 1;
            Some(())
        }
        Data::Boolean(c) => {
            c.push(u8::from(trimmed.eq_ignore_ascii_case(b"true")));
            Some(())
        }
        Data::TinyInt(c) => read_long(trimmed).and_then(|v| i8::try_from(v).ok()).map(|v| c.push(v)),
        Data::SmallInt(c) => read_long(trimmed).and_then(|v| i16::try_from(v).ok()).map(|v| c.push(v)),
        Data::Int(c) => integer(token, trimmed).and_then(|v| i32::try_from(v).ok()).map(|v| c.push(v)),
        Data::BigInt(c) => integer(token, trimmed).map(|v| c.push(v)),
        Data::Float(c) => read_single(trimmed).map(|v| c.push(v)),
        Data::Double(c) => read_double(trimmed).map(|v| c.push(v)),
        Data::Decimal(c, precision, scale) => match decimal::read(trimmed, *precision, *scale) {
            decimal::Read::Value(value) => {
                c.push(value);
                Some(())
            }
            decimal::Read::TooLarge => return Err(TooLarge),
            decimal::Read::Malformed => None,
        },
        Data::Date(c) => match read_iso_date(text, Resolver::Strict) {
            Some((days, [])) => i32::try_from(days).ok().map(|v| c.push(v)),
            _ => None,
        },
        Data::Time(c, unit_ms) => match read_time(text, false, Resolver::Smart) {
            Some((nanos, [])) => {
                let time_ms = (nanos % NANOS_PER_DAY / 1_000_000) as i32;
                c.push(time_ms / *unit_ms * *unit_ms);
                Some(())
            }
            _ => None,
        },
        Data::Timestamp(c) => timestamp(text, format, c).map(|v| c.values.push(v)),
        Data::Text(_) | Data::Binary(_) => unreachable!("handled by push_any"),
    };
    Ok(pushed.is_some())
}

/// INT and BIGINT take floats too, cut towards zero as Jackson's `getLongValue` does, by way of a double.
fn integer(token: Token<'_>, text: &[u8]) -> Option<i64> {
    match token {
        Token::Number { float: true, .. } => {
            let value = read_double(text)?;
            (i64::MIN as f64..=i64::MAX as f64).contains(&value).then_some(value as i64)
        }
        _ => read_long(text),
    }
}

fn timestamp(text: &[u8], format: TimestampFormat, times: &Times) -> Option<i64> {
    // ISO_LOCAL_DATE_TIME is strict; the formatters that Flink builds itself are not.
    let resolver = match format {
        TimestampFormat::Iso8601 if !times.zoned => Resolver::Strict,
        _ => Resolver::Smart,
    };
    let (at, rest) = read_timestamp(text, separator(format), resolver)?;
    let complete = if times.zoned { rest == b"Z" } else { rest.is_empty() };
    if !complete {
        return None;
    }
    at.ticks(times.ticks_per_second)
}

fn push_text(values: &mut Bytes, token: Token<'_>, scratch: &mut Vec<u8>) -> Result<(), ValueFault> {
    scratch.clear();
    match token {
        Token::Container(raw) => {
            write_compact(raw, scratch);
            values.push(scratch)?;
        }
        scalar => values.push(token_text(scalar, scratch))?,
    }
    Ok(())
}

/// BYTES: base64 as Jackson reads it, blanks allowed between groups of four.
fn push_binary(values: &mut Bytes, token: Token<'_>, scratch: &mut Vec<u8>) -> Result<(), ValueFault> {
    let Token::Text(text) = token else {
        return Err(ValueFault::Value(DecodeReason::Value { expected: "base64 text".to_owned(), found: shown(token) }));
    };
    scratch.clear();
    text.unescape(scratch);
    let mut digits = 0usize;
    scratch.retain(|c| {
        let skip = *c <= b' ' && digits.is_multiple_of(4);
        digits += usize::from(!skip);
        !skip
    });
    match STANDARD.decode(&*scratch) {
        Ok(bytes) => Ok(values.push(&bytes)?),
        Err(_) => {
            Err(ValueFault::Value(DecodeReason::Value { expected: "base64 text".to_owned(), found: shown(token) }))
        }
    }
}

fn unfit(column: &Column, token: Token<'_>) -> DecodeReason {
    DecodeReason::Value { expected: column.field.ty.to_string(), found: shown(token) }
}

/// The value for an error message, cut.
fn shown(token: Token<'_>) -> String {
    let (kind, raw) = match token {
        Token::Null => return "null".to_owned(),
        Token::True => return "true".to_owned(),
        Token::False => return "false".to_owned(),
        Token::Number { raw, .. } => ("the number ", raw),
        Token::Text(text) => ("the string ", text.raw),
        Token::Container([b'{', ..]) => return "an object".to_owned(),
        Token::Container(_) => return "an array".to_owned(),
    };
    let text = String::from_utf8_lossy(raw);
    let quote = if matches!(token, Token::Text(_)) { "\"" } else { "" };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{kind}{quote}{}...{quote}", &text[..end]),
        None => format!("{kind}{quote}{text}{quote}"),
    }
}
