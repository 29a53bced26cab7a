//! Generated values: each a pure function of the row's number, by Flink's datagen options and defaults.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use millstream_api::graph::{DatagenField, Field, SqlType};

use crate::format::text::decimal::{self, Read};
use crate::transform::aggregate::columns::{decimal_array, float_array, integer_array};

/// Length of a random STRING or BYTES where no option says it, as in Flink.
const TEXT_LENGTH: u32 = 100;
/// Longest random text: a batch of them stays within memory.
const TEXT_LENGTH_MAX: u32 = 1 << 20;
/// Length of STRING and BYTES, which declare none.
const MAX_LENGTH: u32 = i32::MAX as u32;
const MS_PER_DAY: i64 = 86_400_000;

/// What a value is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowBase {
    /// Number of the row in the table.
    pub number: u64,
    /// Event time at the table's rate.
    pub time_ms: i64,
}

/// Makes the values of one column.
#[derive(Debug)]
pub(super) struct Generator {
    ty: DataType,
    seed: u64,
    null_rate: f64,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Uniform, both ends included.
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Decimal {
        min: i128,
        max: i128,
    },
    Text {
        length: u32,
    },
    Bytes {
        length: u32,
    },
    /// A time at most so long before the row's event time.
    Past {
        max_past_ms: u64,
    },
    SequenceInt {
        start: i64,
    },
    SequenceFloat {
        start: i64,
    },
    SequenceDecimal {
        start: i64,
        factor: i128,
    },
    SequenceText {
        start: i64,
    },
}

impl Generator {
    /// The error names the column and the option.
    pub fn new(field: &Field, options: Option<&DatagenField>, seed: u64) -> Result<Self, String> {
        let ty = field.ty.arrow();
        let (values, null_rate) = match options {
            Some(DatagenField::Sequence { start, end }) => (sequence(field, *start, *end)?, 0.0),
            Some(DatagenField::Random { min, max, length, max_past_ms, null_rate }) => {
                let bounds = (min.as_deref(), max.as_deref());
                (random(field, bounds, *length, max_past_ms.unwrap_or(0))?, *null_rate)
            }
            None => (random(field, (None, None), None, 0)?, 0.0),
        };
        if !(0.0..=1.0).contains(&null_rate) || (null_rate > 0.0 && !field.nullable) {
            let name = &field.name;
            return Err(format!("'fields.{name}.null-rate' = {null_rate}: a rate from 0 to 1, and 0 for NOT NULL"));
        }
        Ok(Self { ty, seed, null_rate, values })
    }

    /// The column of these rows.
    pub fn column(&self, rows: &[RowBase]) -> ArrayRef {
        let nulls = self.nulls(rows);
        // The second draw of a row; the first one decides about NULL.
        let draw = |row: &RowBase| mix(self.seed ^ mix(row.number.wrapping_mul(2) + 1));
        match &self.values {
            Values::Int { min, max } => {
                let values = rows.iter().map(|row| uniform_i64(draw(row), *min, *max)).collect();
                integer_array(&self.ty, values, nulls)
            }
            Values::Float { min, max } => {
                let values = rows.iter().map(|row| min + unit(draw(row)) * (max - min)).collect();
                float_array(&self.ty, values, nulls)
            }
            Values::Decimal { min, max } => {
                let values = rows.iter().map(|row| uniform_i128(draw(row), *min, *max)).collect();
                decimal_array(&self.ty, values, nulls)
            }
            Values::Text { length } => {
                let texts = rows.iter().map(|row| hex(draw(row), *length)).collect::<Vec<_>>();
                self.texts(texts, nulls)
            }
            Values::Bytes { length } => {
                let bytes: Vec<Vec<u8>> = rows.iter().map(|row| bytes(draw(row), *length)).collect();
                let bytes = bytes.iter().enumerate().map(|(at, b)| valid(&nulls, at).then_some(b.as_slice()));
                Arc::new(bytes.collect::<BinaryArray>())
            }
            Values::Past { max_past_ms } => {
                let max_past_ms = i64::try_from(*max_past_ms).unwrap_or(i64::MAX);
                let times = rows.iter().map(|row| row.time_ms.saturating_sub(uniform_i64(draw(row), 0, max_past_ms)));
                integer_array(&self.ty, times.map(|ms| self.native_time(ms)).collect(), nulls)
            }
            Values::SequenceInt { start } => {
                integer_array(&self.ty, rows.iter().map(|row| nth(*start, row)).collect(), nulls)
            }
            Values::SequenceFloat { start } => {
                float_array(&self.ty, rows.iter().map(|row| nth(*start, row) as f64).collect(), nulls)
            }
            Values::SequenceDecimal { start, factor } => {
                let values = rows.iter().map(|row| i128::from(nth(*start, row)) * factor).collect();
                decimal_array(&self.ty, values, nulls)
            }
            Values::SequenceText { start } => {
                let texts = rows.iter().map(|row| nth(*start, row).to_string()).collect();
                self.texts(texts, nulls)
            }
        }
    }

    fn texts(&self, texts: Vec<String>, nulls: Option<NullBuffer>) -> ArrayRef {
        let texts = texts.iter().enumerate().map(|(at, text)| valid(&nulls, at).then_some(text.as_str()));
        Arc::new(texts.collect::<StringArray>())
    }

    fn nulls(&self, rows: &[RowBase]) -> Option<NullBuffer> {
        let is_value = |row: &RowBase| unit(mix(self.seed ^ mix(row.number.wrapping_mul(2)))) >= self.null_rate;
        (self.null_rate > 0.0).then(|| rows.iter().map(is_value).collect())
    }

    /// Milliseconds since the epoch in the unit of the column.
    fn native_time(&self, ms: i64) -> i64 {
        match self.ty {
            DataType::Date32 => ms.div_euclid(MS_PER_DAY),
            DataType::Time32(_) => ms.rem_euclid(MS_PER_DAY),
            DataType::Timestamp(TimeUnit::Microsecond, _) => ms.saturating_mul(1_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => ms.saturating_mul(1_000_000),
            _ => ms,
        }
    }
}

fn valid(nulls: &Option<NullBuffer>, at: usize) -> bool {
    nulls.as_ref().is_none_or(|n| n.is_valid(at))
}

/// The sequence's value in this row; the table ends before it overflows.
fn nth(start: i64, row: &RowBase) -> i64 {
    start.wrapping_add(row.number as i64)
}

fn sequence(field: &Field, start: i64, end: i64) -> Result<Values, String> {
    let name = &field.name;
    let (min, max) = integer_range(&field.ty);
    Ok(match &field.ty {
        ty if ty.is_integer() => {
            if start < min || end > max {
                return Err(format!("the sequence of column {name} from {start} to {end} leaves the range of {ty}"));
            }
            Values::SequenceInt { start }
        }
        SqlType::Float | SqlType::Double => Values::SequenceFloat { start },
        SqlType::Decimal { precision, scale } => {
            let factor = decimal::power_of_ten(u32::from(*scale));
            let fits = |v: i64| i128::from(v).checked_mul(factor).is_some_and(|v| decimal::fits(v, *precision));
            if !fits(start) || !fits(end) {
                return Err(format!("the sequence of column {name} from {start} to {end} leaves {}", field.ty));
            }
            Values::SequenceDecimal { start, factor }
        }
        ty if ty.is_string() => Values::SequenceText { start },
        ty => return Err(format!("'fields.{name}.kind' = 'sequence' is not for columns of type {ty}")),
    })
}

fn random(
    field: &Field,
    (min, max): (Option<&str>, Option<&str>),
    length: Option<u32>,
    max_past_ms: u64,
) -> Result<Values, String> {
    let name = &field.name;
    let length = |declared: u32| {
        let default = if declared == MAX_LENGTH { TEXT_LENGTH } else { declared };
        let length = length.unwrap_or(default);
        if length > TEXT_LENGTH_MAX || length > declared {
            let most = declared.min(TEXT_LENGTH_MAX);
            return Err(format!("'fields.{name}.length' = {length}: {} takes {most} at most", field.ty));
        }
        Ok(length)
    };
    let values = match &field.ty {
        ty if ty.is_integer() => {
            let (low, high) = integer_range(ty);
            let min = bound(field, "min", min, low, |text| text.parse().ok().filter(|v| (low..=high).contains(v)))?;
            let max = bound(field, "max", max, high, |text| text.parse().ok().filter(|v| (low..=high).contains(v)))?;
            ordered(field, min, max)?;
            Values::Int { min, max }
        }
        SqlType::Boolean => Values::Int { min: 0, max: 1 },
        SqlType::Float | SqlType::Double => {
            let high = if field.ty == SqlType::Float { f64::from(f32::MAX) } else { f64::MAX };
            let parse = |text: &str| text.parse().ok().filter(|v: &f64| v.abs() <= high);
            // Java's MIN_VALUE, Flink's default, is the smallest positive number.
            let (min, max) = (bound(field, "min", min, 0.0, parse)?, bound(field, "max", max, high, parse)?);
            ordered(field, min, max)?;
            Values::Float { min, max }
        }
        SqlType::Decimal { precision, scale } => {
            let high = decimal::power_of_ten(u32::from(*precision)) - 1;
            let parse = |text: &str| match decimal::read(text.as_bytes(), *precision, *scale) {
                Read::Value(value) => Some(value),
                _ => None,
            };
            let (min, max) = (bound(field, "min", min, -high, parse)?, bound(field, "max", max, high, parse)?);
            ordered(field, min, max)?;
            Values::Decimal { min, max }
        }
        SqlType::Char { length: declared } | SqlType::VarChar { length: declared } => {
            Values::Text { length: length(*declared)? }
        }
        SqlType::Binary { length: declared } | SqlType::VarBinary { length: declared } => {
            Values::Bytes { length: length(*declared)? }
        }
        SqlType::Date | SqlType::Time { .. } | SqlType::Timestamp { .. } | SqlType::TimestampLtz { .. } => {
            Values::Past { max_past_ms }
        }
        SqlType::IntervalDayTime | SqlType::IntervalYearMonth => Values::Int { min: 0, max: i64::from(i32::MAX) },
        ty => return Err(format!("datagen makes no values of type {ty} (column {name})")),
    };
    Ok(values)
}

fn integer_range(ty: &SqlType) -> (i64, i64) {
    match ty {
        SqlType::TinyInt => (i64::from(i8::MIN), i64::from(i8::MAX)),
        SqlType::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
        SqlType::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

fn bound<T>(
    field: &Field,
    option: &str,
    text: Option<&str>,
    default: T,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let Some(text) = text else { return Ok(default) };
    parse(text.trim()).ok_or_else(|| format!("'fields.{}.{option}' = '{text}' is no value of {}", field.name, field.ty))
}

fn ordered<T: PartialOrd>(field: &Field, min: T, max: T) -> Result<(), String> {
    if min <= max {
        return Ok(());
    }
    Err(format!("'fields.{0}.min' is above 'fields.{0}.max'", field.name))
}

/// Spreads every bit of `x` over all bits (the finaliser of splitmix64).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number in `[0, 1)`.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

fn uniform_i64(draw: u64, min: i64, max: i64) -> i64 {
    let span = max.wrapping_sub(min) as u64;
    match span.checked_add(1) {
        Some(count) => min.wrapping_add(((u128::from(draw) * u128::from(count)) >> 64) as i64),
        None => draw as i64,
    }
}

fn uniform_i128(draw: u64, min: i128, max: i128) -> i128 {
    let span = max.wrapping_sub(min) as u128;
    let wide = (u128::from(draw) << 64) | u128::from(mix(draw));
    min.wrapping_add((wide % span.saturating_add(1)) as i128)
}

/// Random hexadecimal digits, as Flink's random strings are.
fn hex(draw: u64, length: u32) -> String {
    let mut text = String::with_capacity(length as usize);
    let mut word = draw;
    for at in 0..length {
        if at % 16 == 0 && at > 0 {
            word = mix(word);
        }
        let digit = (word >> (at % 16 * 4)) & 15;
        text.push(char::from_digit(digit as u32, 16).expect("below 16"));
    }
    text
}

fn bytes(draw: u64, length: u32) -> Vec<u8> {
    let mut word = draw;
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while bytes.len() < length as usize {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = mix(word);
    }
    bytes.truncate(length as usize);
    bytes
}
