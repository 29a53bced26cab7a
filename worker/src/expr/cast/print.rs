//! Casts to strings: how Flink prints each type, then cut or filled to the length of the target.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use millstream_api::graph::SqlType;

use super::view;
use crate::expr::EvalError;
use crate::expr::functions::for_number;
use crate::expr::operand::{Operand, text_rows};
use crate::format::json::ticks_per_second;
use crate::format::text::calendar::MILLIS_PER_DAY;
use crate::format::text::decimal::write_plain;
use crate::format::text::number::JavaFloat;
use crate::format::text::time::{DayTime, write_date, write_time, write_timestamp};

/// Longest value that a CHAR or VARCHAR takes; `None`: no bound that matters.
fn bound(to: &SqlType) -> Option<(usize, bool)> {
    match *to {
        SqlType::Char { length } => Some((length as usize, true)),
        SqlType::VarChar { length } if *to != SqlType::STRING => Some((length as usize, false)),
        _ => None,
    }
}

pub fn to_text(array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef, EvalError> {
    if from.is_string() && fits_already(array, from, to) {
        return Ok(Arc::clone(array));
    }
    let operand = view(array);
    let bound = bound(to);
    let mut buffer = Vec::new();
    text_rows(array.len(), |row, out| {
        if operand.array().is_null(row) {
            return Ok(false);
        }
        let start = out.len();
        if from.is_string() {
            out.push_str(operand.array().as_string::<i32>().value(row));
        } else {
            buffer.clear();
            print(&operand, row, from, &mut buffer);
            out.push_str(&String::from_utf8_lossy(&buffer));
        }
        if let Some((length, fill)) = bound {
            fit(out, start, length, fill);
        }
        Ok(true)
    })
}

fn fits_already(array: &ArrayRef, from: &SqlType, to: &SqlType) -> bool {
    let Some((length, fill)) = bound(to) else {
        return true;
    };
    let (SqlType::Char { length: from_length } | SqlType::VarChar { length: from_length }) = *from else {
        return false;
    };
    if !fill && from_length as usize <= length {
        return true;
    }
    let fits = |text: &str| {
        let count = text.chars().count();
        if fill { count == length } else { count <= length }
    };
    array.as_string::<i32>().iter().flatten().all(fits)
}

/// Cuts what stands behind `start` to `length` characters, or fills it with blanks.
fn fit(out: &mut String, start: usize, length: usize, fill: bool) {
    match out[start..].char_indices().nth(length) {
        Some((end, _)) => out.truncate(start + end),
        None if fill => {
            let missing = length - out[start..].chars().count();
            out.extend(std::iter::repeat_n(' ', missing));
        }
        None => {}
    }
}

/// Appends the value of a row that has one.
fn print(operand: &Operand, row: usize, from: &SqlType, out: &mut Vec<u8>) {
    const PRESENT: &str = "the row was found to have a value";
    match from {
        SqlType::Boolean => {
            out.extend_from_slice(if operand.boolean().get(row).expect(PRESENT) { b"TRUE" } else { b"FALSE" });
        }
        SqlType::Float => operand.fixed::<f32>().get(row).expect(PRESENT).write_java(out),
        SqlType::Double => operand.fixed::<f64>().get(row).expect(PRESENT).write_java(out),
        SqlType::Decimal { scale, .. } => write_plain(out, operand.fixed::<i128>().get(row).expect(PRESENT), *scale),
        SqlType::Binary { .. } | SqlType::VarBinary { .. } => {
            out.extend_from_slice(operand.binary().get(row).expect(PRESENT));
        }
        SqlType::Date => write_date(out, i64::from(operand.fixed::<i32>().get(row).expect(PRESENT))),
        SqlType::Time { precision } => {
            print_time(operand.fixed::<i32>().get(row).expect(PRESENT), usize::from(*precision), out);
        }
        SqlType::Timestamp { precision } | SqlType::TimestampLtz { precision } => {
            let ticks = operand.fixed::<i64>().get(row).expect(PRESENT);
            let at = DayTime::from_ticks(ticks, ticks_per_second(operand.array().data_type()));
            write_timestamp(out, at.days, at.nanos_of_day, b' ', usize::from(*precision));
        }
        SqlType::IntervalDayTime => print_day_time(operand.fixed::<i64>().get(row).expect(PRESENT), out),
        SqlType::IntervalYearMonth => {
            let months = operand.fixed::<i32>().get(row).expect(PRESENT);
            let (sign, months) = (if months < 0 { '-' } else { '+' }, months.unsigned_abs());
            out.extend_from_slice(format!("{sign}{}-{:02}", months / 12, months % 12).as_bytes());
        }
        integer => {
            for_number!(integer, N => {
                let value = operand.fixed::<N>().get(row).expect(PRESENT);
                out.extend_from_slice(value.to_string().as_bytes());
            })
            .unwrap_or_else(|| unreachable!("every other type is an integer"));
        }
    }
}

/// TIME: at most `precision` digits, one at least when the precision is not 0, no zeros behind that.
fn print_time(time_ms: i32, precision: usize, out: &mut Vec<u8>) {
    let nanos = i64::from(time_ms).rem_euclid(MILLIS_PER_DAY) * 1_000_000;
    let unit = 10i64.pow(9 - precision.min(9) as u32);
    write_time(out, nanos / unit * unit, usize::from(precision > 0));
}

fn print_day_time(interval_ms: i64, out: &mut Vec<u8>) {
    let (sign, ms) = (if interval_ms < 0 { '-' } else { '+' }, interval_ms.unsigned_abs());
    let seconds = ms / 1000;
    out.extend_from_slice(
        format!(
            "{sign}{} {:02}:{:02}:{:02}.{:03}",
            seconds / 86_400,
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60,
            ms % 1000
        )
        .as_bytes(),
    );
}
