//! Values of state as SQLite has them, and SQLite's as an answer has them.
//!
//! Owns: integers, floats, strings and bytes as themselves; BOOLEAN as 0 and 1; DECIMAL as a number where a double holds it
//! exactly enough to print it again, else as text; dates and times as text that sorts by time.

use std::cell::OnceCell;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::FormatOptions;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Error, Result};

use crate::columns::without_zone;

/// A decimal of at most so many digits is the same after a way through a double.
const EXACT_DIGITS: u32 = 15;

/// A column of a batch.
pub(super) struct Column {
    stored: ArrayRef,
    /// In one of the few types that SQLite has. Made when a statement looks at the column.
    simple: OnceCell<ArrayRef>,
}

impl Column {
    pub fn new(stored: ArrayRef) -> Self {
        Self { stored, simple: OnceCell::new() }
    }

    pub fn value(&self, row: usize) -> Result<ToSqlOutput<'_>> {
        if self.stored.is_null(row) {
            return Ok(ToSqlOutput::Owned(Value::Null));
        }
        let column = match self.simple.get() {
            Some(simple) => simple,
            None => {
                let simple = simplified(&self.stored).map_err(|e| Error::ModuleError(e.to_string()))?;
                self.simple.get_or_init(|| simple)
            }
        };
        Ok(match column.data_type() {
            DataType::Int64 => ToSqlOutput::Owned(Value::Integer(column.as_primitive::<Int64Type>().value(row))),
            DataType::Float64 => ToSqlOutput::Owned(Value::Real(column.as_primitive::<Float64Type>().value(row))),
            DataType::Utf8 => ToSqlOutput::Borrowed(ValueRef::Text(column.as_string::<i32>().value(row).as_bytes())),
            DataType::Binary => ToSqlOutput::Borrowed(ValueRef::Blob(column.as_binary::<i32>().value(row))),
            DataType::Decimal128(_, scale) => {
                ToSqlOutput::Owned(decimal(column.as_primitive::<Decimal128Type>().value(row), *scale))
            }
            other => return Err(Error::ModuleError(format!("values of type {other} cannot be read"))),
        })
    }
}

fn simplified(stored: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
    let mut format = FormatOptions::default().with_time_format(Some("%H:%M:%S%.3f"));
    let to = match stored.data_type() {
        DataType::Utf8 | DataType::Binary | DataType::Decimal128(..) => return Ok(ArrayRef::clone(stored)),
        DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Date32 | DataType::Time32(_) => DataType::Utf8,
        DataType::Timestamp(unit, zone) => {
            format = format.with_timestamp_format(Some(time_format(*unit, zone.is_some())));
            DataType::Utf8
        }
        _ => DataType::Int64,
    };
    cast_with_options(&without_zone(stored), &to, &CastOptions { safe: false, format_options: format })
}

/// As many digits as the type has; `utc`: a Z at the end.
fn time_format(unit: TimeUnit, utc: bool) -> &'static str {
    match (unit, utc) {
        (TimeUnit::Second | TimeUnit::Millisecond, false) => "%Y-%m-%d %H:%M:%S%.3f",
        (TimeUnit::Second | TimeUnit::Millisecond, true) => "%Y-%m-%d %H:%M:%S%.3fZ",
        (TimeUnit::Microsecond, false) => "%Y-%m-%d %H:%M:%S%.6f",
        (TimeUnit::Microsecond, true) => "%Y-%m-%d %H:%M:%S%.6fZ",
        (TimeUnit::Nanosecond, false) => "%Y-%m-%d %H:%M:%S%.9f",
        (TimeUnit::Nanosecond, true) => "%Y-%m-%d %H:%M:%S%.9fZ",
    }
}

fn decimal(unscaled: i128, scale: i8) -> Value {
    let fits = unscaled.unsigned_abs() < 10u128.pow(EXACT_DIGITS);
    match (i64::try_from(unscaled), scale) {
        (Ok(whole), 0) => Value::Integer(whole),
        // Both are exact, so the quotient is the double that is nearest to the decimal.
        (Ok(whole), 1..=22) if fits => Value::Real(whole as f64 / 10f64.powi(i32::from(scale))),
        _ => Value::Text(decimal_text(unscaled, scale)),
    }
}

fn decimal_text(unscaled: i128, scale: i8) -> String {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs().to_string());
    let scale = usize::try_from(scale).unwrap_or_default();
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Int16Array, Time32MillisecondArray,
        TimestampMicrosecondArray, TimestampMillisecondArray,
    };

    use super::*;

    fn shown(array: ArrayRef) -> Cell {
        match Column::new(array).value(0).unwrap() {
            ToSqlOutput::Borrowed(value) => value.into(),
            ToSqlOutput::Owned(value) => ValueRef::from(&value).into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_of_value_has_its_form() {
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(shown(Arc::new(BooleanArray::from(vec![true]))), Cell::Integer(1));
        assert_eq!(shown(Arc::new(Int16Array::from(vec![-3]))), Cell::Integer(-3));
        assert_eq!(shown(Arc::new(Int16Array::from(vec![None]))), Cell::Null);
        assert_eq!(shown(Arc::new(Float32Array::from(vec![0.5]))), Cell::Real(0.5));
        assert_eq!(shown(Arc::new(Date32Array::from(vec![1]))), text("1970-01-02"));
        assert_eq!(shown(Arc::new(Time32MillisecondArray::from(vec![1_500]))), text("00:00:01.500"));
        assert_eq!(shown(Arc::new(TimestampMillisecondArray::from(vec![1]))), text("1970-01-01 00:00:00.001"));
        let utc = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
        assert_eq!(shown(Arc::new(utc)), text("1970-01-01 00:00:00.000001Z"));
    }

    #[test]
    fn decimals_are_exact() {
        let shown = |unscaled: i128, scale: i8| {
            shown(Arc::new(Decimal128Array::from(vec![unscaled]).with_precision_and_scale(38, scale).unwrap()))
        };
        assert_eq!(shown(1_230, 2), Cell::Real(12.3));
        assert_eq!(shown(-7, 0), Cell::Integer(-7));
        assert_eq!(shown(-5, 3), Cell::Real(-0.005));
        assert_eq!(shown(12_345_678_901_234_567_890, 4), Cell::Text("1234567890123456.7890".to_owned()));
        assert_eq!(decimal_text(-5, 3), "-0.005");
    }
}
