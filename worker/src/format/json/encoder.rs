//! Encodes rows as JSON objects, byte for byte as Flink's `json` format writes them.

use std::cell::Cell;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use arrow_array::{Array, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_api::graph::{JsonOptions, Schema, SqlType, TimestampFormat};

use super::column::ticks_per_second;
use super::strings::{write_escaped, write_float};
use crate::format::text::decimal::{write_plain, write_stripped};
use crate::format::text::time::{write_clock, write_date, write_time};

/// What the objects look like: the columns that go in, and their keys.
#[derive(Clone, Debug)]
pub struct JsonEncoder {
    columns: Vec<Key>,
    decimal_as_plain_number: bool,
    ignore_null_fields: bool,
    timestamp_separator: u8,
}

#[derive(Clone, Debug)]
struct Key {
    /// Position in the batch.
    column: usize,
    /// `,"key":`, escaped.
    literal: Literal,
    ty: SqlType,
}

/// Constant text.
#[derive(Clone, Debug)]
struct Literal {
    text: Box<[u8]>,
    /// The text and its length, where it has at most 16 bytes.
    short: Option<([u8; 16], usize)>,
}

impl Literal {
    fn new(text: Vec<u8>) -> Self {
        let short = (text.len() <= 16).then(|| {
            let mut bytes = [0; 16];
            bytes[..text.len()].copy_from_slice(&text);
            (bytes, text.len())
        });
        Self { text: text.into(), short }
    }
}

impl JsonEncoder {
    /// Encodes all columns of the schema under their names. A row-kind column behind them is not written.
    #[must_use]
    pub fn new(schema: &Schema, options: JsonOptions) -> Self {
        let columns = schema.fields.iter().enumerate().map(|(at, field)| (at, field.name.clone()));
        Self::with_columns(schema, columns, options)
    }

    /// Encodes these columns (position in the schema, key in the object), in this order.
    #[must_use]
    pub fn with_columns(
        schema: &Schema,
        columns: impl IntoIterator<Item = (usize, String)>,
        options: JsonOptions,
    ) -> Self {
        let key = |(column, name): (usize, String)| {
            let mut literal = vec![b',', b'"'];
            write_escaped(name.as_bytes(), &mut literal);
            literal.extend_from_slice(b"\":");
            Key { column, literal: Literal::new(literal), ty: schema.fields[column].ty.clone() }
        };
        Self {
            columns: columns.into_iter().map(key).collect(),
            decimal_as_plain_number: options.decimal_as_plain_number,
            ignore_null_fields: options.ignore_null_fields,
            timestamp_separator: match options.timestamp_format {
                TimestampFormat::Sql => b' ',
                TimestampFormat::Iso8601 => b'T',
            },
        }
    }

    /// Looks the columns of a batch up once for all its rows. The batch has the schema that the encoder was made for.
    #[must_use]
    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> BoundEncoder<'a> {
        let columns = self
            .columns
            .iter()
            .map(|key| (&key.literal, Values::of(batch.column(key.column).as_ref(), &key.ty, self)))
            .collect();
        BoundEncoder { columns, ignore_null_fields: self.ignore_null_fields }
    }
}

/// An encoder that knows its batch.
pub struct BoundEncoder<'a> {
    columns: Vec<(&'a Literal, Values<'a>)>,
    ignore_null_fields: bool,
}

impl BoundEncoder<'_> {
    /// Appends the row as one JSON object.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        for (key, values) in &self.columns {
            let null = values.is_null(row);
            if null && self.ignore_null_fields {
                continue;
            }
            push_key(out, key);
            if null {
                out.extend_from_slice(b"null");
            } else {
                values.write(row, out);
            }
        }
        // The comma of the first key is where the object opens.
        match out.get_mut(start) {
            Some(first) => *first = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }
}

/// Appends a key's literal: by a copy of constant size, which needs no call, where it is short.
#[inline(always)]
fn push_key(out: &mut Vec<u8>, key: &Literal) {
    let start = out.len();
    match &key.short {
        Some((bytes, length)) => {
            out.extend_from_slice(bytes);
            out.truncate(start + length);
        }
        None => out.extend_from_slice(&key.text),
    }
}

/// The values of a bound column, typed.
enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    TinyInt(&'a PrimitiveArray<Int8Type>),
    SmallInt(&'a PrimitiveArray<Int16Type>),
    Int(&'a PrimitiveArray<Int32Type>),
    BigInt(&'a PrimitiveArray<Int64Type>),
    IntervalMillis(&'a PrimitiveArray<DurationMillisecondType>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal { values: &'a PrimitiveArray<Decimal128Type>, scale: u8, plain: bool },
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time32MillisecondType>),
    Timestamp(Times<'a>),
}

/// Timestamps of whatever unit, with the day that was printed last: neighbours mostly share it.
struct Times<'a> {
    array: &'a dyn Array,
    ticks: &'a [i64],
    ticks_per_second: i64,
    /// Digits of a second's fraction.
    fraction_digits: usize,
    separator: u8,
    zoned: bool,
    day: Cell<i64>,
    day_text: Cell<[u8; 10]>,
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> &PrimitiveArray<T> {
    array.as_primitive_opt::<T>().expect("a batch has the types of its schema")
}

impl<'a> Values<'a> {
    fn of(array: &'a dyn Array, ty: &SqlType, encoder: &JsonEncoder) -> Self {
        match ty {
            SqlType::Null => Values::Null,
            SqlType::Boolean => Values::Boolean(array.as_boolean()),
            SqlType::TinyInt => Values::TinyInt(primitive(array)),
            SqlType::SmallInt => Values::SmallInt(primitive(array)),
            SqlType::Int | SqlType::IntervalYearMonth => Values::Int(primitive(array)),
            SqlType::BigInt => Values::BigInt(primitive(array)),
            SqlType::IntervalDayTime => Values::IntervalMillis(primitive(array)),
            SqlType::Float => Values::Float(primitive(array)),
            SqlType::Double => Values::Double(primitive(array)),
            SqlType::Decimal { scale, .. } => {
                Values::Decimal { values: primitive(array), scale: *scale, plain: encoder.decimal_as_plain_number }
            }
            SqlType::Char { .. } | SqlType::VarChar { .. } => Values::Text(array.as_string()),
            SqlType::Binary { .. } | SqlType::VarBinary { .. } => Values::Binary(array.as_binary()),
            SqlType::Date => Values::Date(primitive(array)),
            SqlType::Time { .. } => Values::Time(primitive(array)),
            SqlType::Timestamp { .. } | SqlType::TimestampLtz { .. } => Values::Timestamp(Times {
                array,
                ticks: timestamp_ticks(array),
                ticks_per_second: ticks_per_second(array.data_type()),
                fraction_digits: ticks_per_second(array.data_type()).ilog10() as usize,
                separator: encoder.timestamp_separator,
                zoned: matches!(ty, SqlType::TimestampLtz { .. }),
                day: Cell::new(i64::MIN),
                day_text: Cell::new([0; 10]),
            }),
        }
    }

    #[inline(always)]
    fn is_null(&self, row: usize) -> bool {
        match self {
            Values::Null => true,
            Values::Boolean(a) => a.is_null(row),
            Values::TinyInt(a) => a.is_null(row),
            Values::SmallInt(a) => a.is_null(row),
            Values::Int(a) => a.is_null(row),
            Values::BigInt(a) => a.is_null(row),
            Values::IntervalMillis(a) => a.is_null(row),
            Values::Float(a) => a.is_null(row),
            Values::Double(a) => a.is_null(row),
            Values::Decimal { values, .. } => values.is_null(row),
            Values::Text(a) => a.is_null(row),
            Values::Binary(a) => a.is_null(row),
            Values::Date(a) => a.is_null(row),
            Values::Time(a) => a.is_null(row),
            Values::Timestamp(times) => times.array.is_null(row),
        }
    }

    /// Appends the value of a row that has one.
    #[inline(always)]
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Values::Null => out.extend_from_slice(b"null"),
            Values::Boolean(a) => out.extend_from_slice(if a.value(row) { b"true" } else { b"false" }),
            Values::TinyInt(a) => write_integer(out, a.value(row)),
            Values::SmallInt(a) => write_integer(out, a.value(row)),
            Values::Int(a) => write_integer(out, a.value(row)),
            Values::BigInt(a) => write_integer(out, a.value(row)),
            Values::IntervalMillis(a) => write_integer(out, a.value(row)),
            Values::Float(a) => write_float(out, a.value(row), a.value(row).is_finite()),
            Values::Double(a) => write_float(out, a.value(row), a.value(row).is_finite()),
            Values::Decimal { values, scale, plain: true } => write_plain(out, values.value(row), *scale),
            Values::Decimal { values, scale, plain: false } => write_stripped(out, values.value(row), *scale),
            Values::Text(a) => {
                out.push(b'"');
                write_escaped(a.value(row).as_bytes(), out);
                out.push(b'"');
            }
            Values::Binary(a) => write_base64(out, a.value(row)),
            Values::Date(a) => {
                out.push(b'"');
                write_date(out, i64::from(a.value(row)));
                out.push(b'"');
            }
            Values::Time(a) => {
                out.push(b'"');
                write_time(out, i64::from(a.value(row)) * 1_000_000, 0);
                out.push(b'"');
            }
            Values::Timestamp(times) => times.write(row, out),
        }
    }
}

#[inline(always)]
fn write_integer<I: itoa::Integer>(out: &mut Vec<u8>, value: I) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    let length = base64::encoded_len(bytes.len(), true).expect("base64 of an array element fits in memory");
    out.resize(start + length, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the slice has the length of the base64 text");
    out.push(b'"');
}

fn timestamp_ticks(array: &dyn Array) -> &[i64] {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(array).values(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType>(array).values(),
        _ => primitive::<TimestampMillisecondType>(array).values(),
    }
}

impl Times<'_> {
    #[inline(always)]
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let per_day = 86_400 * self.ticks_per_second;
        let (days, ticks) = (self.ticks[row].div_euclid(per_day), self.ticks[row].rem_euclid(per_day) as u64);
        let per_second = self.ticks_per_second as u64;
        out.push(b'"');
        if days == self.day.get() {
            out.extend_from_slice(&self.day_text.get());
        } else {
            self.write_day(days, out);
        }
        out.push(self.separator);
        write_clock(out, (ticks / per_second) as u32, (ticks % per_second) as u32, self.fraction_digits, 0);
        out.extend_from_slice(if self.zoned { b"Z\"" } else { b"\"" });
    }

    #[inline(never)]
    fn write_day(&self, days: i64, out: &mut Vec<u8>) {
        let start = out.len();
        write_date(out, days);
        // Dates of years beyond four digits are longer and not kept.
        if let Ok(text) = out[start..].try_into() {
            self.day.set(days);
            self.day_text.set(text);
        }
    }
}
