//! A row as text, as Flink's `Row.toString` prints the external (Java) form of each value.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use millstream_api::graph::{RowKind, Schema, SqlType};

use crate::format::text::decimal::write_scientific;
use crate::format::text::number::JavaFloat;
use crate::format::text::time::{DayTime, write_date, write_time};
use crate::transform::aggregate::columns::{bytes_at, native_i64, with_integers};

const NANOS_PER_MS: i64 = 1_000_000;

/// Writes rows of one schema.
#[derive(Debug)]
pub(crate) struct RowText {
    types: Vec<SqlType>,
    is_changelog: bool,
}

impl RowText {
    pub fn new(schema: &Schema, is_changelog: bool) -> Self {
        Self { types: schema.fields.iter().map(|f| f.ty.clone()).collect(), is_changelog }
    }

    /// Appends the row without a line break.
    pub fn write(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        let kind = match batch.columns().last() {
            Some(kinds) if self.is_changelog => RowKind::from_byte(kinds.as_primitive::<Int8Type>().value(row)),
            _ => None,
        };
        out.extend_from_slice(kind.unwrap_or(RowKind::Insert).short().as_bytes());
        out.push(b'[');
        for (at, (ty, column)) in self.types.iter().zip(batch.columns()).enumerate() {
            if at > 0 {
                out.extend_from_slice(b", ");
            }
            if column.is_null(row) || *ty == SqlType::Null {
                out.extend_from_slice(b"null");
            } else {
                write_value(ty, column, row, out);
            }
        }
        out.push(b']');
    }
}

fn write_value(ty: &SqlType, column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    let integer = || with_integers!(column, |values| { values }.nth(row).unwrap_or_default());
    match ty {
        SqlType::Boolean => out.extend_from_slice(if integer() != 0 { b"true" } else { b"false" }),
        SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt => {
            out.extend_from_slice(itoa::Buffer::new().format(integer()).as_bytes());
        }
        SqlType::Float => column.as_primitive::<Float32Type>().value(row).write_java(out),
        SqlType::Double => column.as_primitive::<Float64Type>().value(row).write_java(out),
        SqlType::Decimal { scale, .. } => {
            write_scientific(out, column.as_primitive::<Decimal128Type>().value(row), *scale);
        }
        SqlType::Char { .. } | SqlType::VarChar { .. } => out.extend_from_slice(bytes_at(column, row)),
        SqlType::Binary { .. } | SqlType::VarBinary { .. } => write_bytes(bytes_at(column, row), out),
        SqlType::Date => write_date(out, integer()),
        SqlType::Time { .. } => write_time_of_day(integer() * NANOS_PER_MS, out),
        SqlType::Timestamp { .. } => {
            let time = day_time(column, row);
            write_date(out, time.days);
            out.push(b'T');
            write_time_of_day(time.nanos_of_day, out);
        }
        SqlType::TimestampLtz { .. } => {
            let time = day_time(column, row);
            write_date(out, time.days);
            out.push(b'T');
            // An Instant always has seconds.
            write_time(out, time.nanos_of_day, fraction_digits(time.nanos_of_day));
            out.push(b'Z');
        }
        SqlType::IntervalDayTime => write_duration(column.as_primitive::<DurationMillisecondType>().value(row), out),
        SqlType::IntervalYearMonth => write_period(integer(), out),
        SqlType::Null => out.extend_from_slice(b"null"),
    }
}

fn day_time(column: &ArrayRef, row: usize) -> DayTime {
    let ticks_per_second = match column.data_type() {
        arrow_schema::DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, _) => 1_000_000_000,
        arrow_schema::DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, _) => 1_000_000,
        _ => 1_000,
    };
    DayTime::from_ticks(native_i64(column)[row], ticks_per_second)
}

/// `LocalTime.toString`: seconds only when they or the fraction are not zero, the fraction in groups of three digits.
fn write_time_of_day(nanos: i64, out: &mut Vec<u8>) {
    let digits = fraction_digits(nanos);
    let start = out.len();
    write_time(out, nanos, digits);
    if digits == 0 && out.ends_with(b":00") {
        out.truncate(start + "HH:mm".len());
    }
}

fn fraction_digits(nanos: i64) -> usize {
    match nanos % 1_000_000_000 {
        0 => 0,
        n if n % 1_000_000 == 0 => 3,
        n if n % 1_000 == 0 => 6,
        _ => 9,
    }
}

/// A `byte[]` as `Arrays.toString` prints it: signed.
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(itoa::Buffer::new().format(*byte as i8).as_bytes());
    }
    out.push(b']');
}

/// `Duration.toString`, e.g. `PT36H1M-0.5S`.
fn write_duration(ms: i64, out: &mut Vec<u8>) {
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    out.extend_from_slice(b"PT");
    if hours != 0 {
        out.extend_from_slice(format!("{hours}H").as_bytes());
    }
    if minutes != 0 {
        out.extend_from_slice(format!("{minutes}M").as_bytes());
    }
    if rest != 0 || ms == 0 {
        let sign = if rest < 0 { "-" } else { "" };
        let (seconds, fraction) = ((rest / 1000).abs(), (rest % 1000).abs());
        let text = if fraction == 0 { format!("{sign}{seconds}S") } else { format!("{sign}{seconds}.{fraction:03}") };
        let text = if fraction == 0 { text } else { format!("{}S", text.trim_end_matches('0')) };
        out.extend_from_slice(text.as_bytes());
    }
}

/// `Period.toString`, e.g. `P1Y2M`.
fn write_period(months: i64, out: &mut Vec<u8>) {
    let (years, months) = (months / 12, months % 12);
    let text = match (years, months) {
        (0, 0) => "P0D".to_owned(),
        (0, months) => format!("P{months}M"),
        (years, 0) => format!("P{years}Y"),
        (years, months) => format!("P{years}Y{months}M"),
    };
    out.extend_from_slice(text.as_bytes());
}
