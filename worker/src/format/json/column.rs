//! Growable columns: what a decoder fills row by row and hands over as Arrow arrays without a copy.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, NullArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use millstream_api::graph::{Field, SqlType};

/// Most bytes that one column of one batch can hold: Arrow's offsets are an i32.
const COLUMN_BYTES_MAX: usize = i32::MAX as usize;

/// Which rows have a value. Costs nothing until the first NULL.
#[derive(Debug, Default)]
struct Validity {
    /// A byte per row, or empty while every row has a value.
    valid: Vec<u8>,
}

impl Validity {
    #[inline(always)]
    fn push_valid(&mut self) {
        if !self.valid.is_empty() {
            self.valid.push(1);
        }
    }

    fn last_is_null(&self) -> bool {
        self.valid.last() == Some(&0)
    }

    #[inline(never)]
    fn push_null(&mut self, rows_before: usize) {
        if self.valid.is_empty() {
            self.valid.resize(rows_before, 1);
        }
        self.valid.push(0);
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        let valid = std::mem::take(&mut self.valid);
        let buffer = NullBuffer::new(BooleanBuffer::collect_bool(valid.len(), |row| valid[row] != 0));
        (buffer.null_count() > 0).then_some(buffer)
    }
}

/// A column of values of one width.
#[derive(Debug, Default)]
pub struct Fixed<T> {
    values: Vec<T>,
    validity: Validity,
}

impl<T: Copy + Default> Fixed<T> {
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
        self.validity.push_valid();
    }

    fn push_null(&mut self) {
        self.validity.push_null(self.values.len());
        self.values.push(T::default());
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.validity.truncate(rows);
    }

    fn take(&mut self) -> (Vec<T>, Option<NullBuffer>) {
        // The next batch is most likely as long as this one.
        let next = Vec::with_capacity(self.values.len());
        (std::mem::replace(&mut self.values, next), self.validity.finish())
    }

    fn finish<P: ArrowPrimitiveType<Native = T>>(&mut self, data_type: DataType) -> ArrayRef
    where
        T: arrow_buffer::ArrowNativeType,
    {
        let (values, nulls) = self.take();
        Arc::new(PrimitiveArray::<P>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type))
    }
}

/// A column of texts or byte strings.
#[derive(Debug)]
pub struct Bytes {
    data: Vec<u8>,
    offsets: Vec<i32>,
    validity: Validity,
}

/// The column's data would pass [`COLUMN_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Bytes {
    fn new() -> Self {
        Self { data: Vec::new(), offsets: vec![0], validity: Validity::default() }
    }

    #[inline(always)]
    pub fn push(&mut self, value: &[u8]) -> Result<(), Full> {
        let end = self.data.len() + value.len();
        if end > COLUMN_BYTES_MAX {
            return Err(Full);
        }
        self.data.extend_from_slice(value);
        self.offsets.push(end as i32);
        self.validity.push_valid();
        Ok(())
    }

    fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    fn push_null(&mut self) {
        self.validity.push_null(self.rows());
        self.offsets.push(self.data.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data.truncate(self.offsets[rows] as usize);
        self.validity.truncate(rows);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let mut next_offsets = Vec::with_capacity(self.offsets.len());
        next_offsets.push(0);
        let next_data = Vec::with_capacity(self.data.len());
        let offsets = std::mem::replace(&mut self.offsets, next_offsets);
        let data = std::mem::replace(&mut self.data, next_data);
        // SAFETY: offsets begin with 0 and each push appends the length of the data, which only grows, and is cut
        // together with the offsets: they are in order and within an i32.
        let offsets = unsafe { OffsetBuffer::new_unchecked(ScalarBuffer::from(offsets)) };
        (offsets, Buffer::from_vec(data), self.validity.finish())
    }

    fn finish_text(&mut self) -> ArrayRef {
        let (offsets, data, nulls) = self.take();
        // SAFETY: only whole texts are pushed, and each was checked to be UTF-8 (`Cursor::text`) or made from a str.
        Arc::new(unsafe { StringArray::new_unchecked(offsets, data, nulls) })
    }

    fn finish_binary(&mut self) -> ArrayRef {
        let (offsets, data, nulls) = self.take();
        Arc::new(BinaryArray::new(offsets, data, nulls))
    }
}

/// Times of a column with the day that was read last: neighbours mostly share it.
#[derive(Debug)]
pub struct Times {
    pub values: Fixed<i64>,
    pub ticks_per_second: i64,
    pub ticks_per_ms: i64,
    /// TIMESTAMP_LTZ: the text ends with `Z`.
    pub zoned: bool,
    pub day_text: [u8; 10],
    /// Ticks at the start of that day.
    pub day_ticks: i64,
}

/// The values of a column, by the column's type. With a tag of its own: the compiler would hide it in a capacity, and
/// every value would pay for its decoding.
#[derive(Debug)]
#[repr(u8)]
pub enum Data {
    Null(usize),
    Boolean(Fixed<u8>),
    TinyInt(Fixed<i8>),
    SmallInt(Fixed<i16>),
    /// INT and INTERVAL YEAR TO MONTH.
    Int(Fixed<i32>),
    /// BIGINT and INTERVAL DAY TO SECOND.
    BigInt(Fixed<i64>),
    Float(Fixed<f32>),
    Double(Fixed<f64>),
    Decimal(Fixed<i128>, u8, u8),
    Text(Bytes),
    Binary(Bytes),
    Date(Fixed<i32>),
    /// With the milliseconds of the least unit that the type keeps.
    Time(Fixed<i32>, i32),
    Timestamp(Times),
}

/// A column that is being filled.
#[derive(Debug)]
pub struct Column {
    pub field: Field,
    pub data: Data,
}

impl Column {
    pub fn new(field: &Field) -> Self {
        let data = match &field.ty {
            SqlType::Null => Data::Null(0),
            SqlType::Boolean => Data::Boolean(Fixed::default()),
            SqlType::TinyInt => Data::TinyInt(Fixed::default()),
            SqlType::SmallInt => Data::SmallInt(Fixed::default()),
            SqlType::Int | SqlType::IntervalYearMonth => Data::Int(Fixed::default()),
            SqlType::BigInt | SqlType::IntervalDayTime => Data::BigInt(Fixed::default()),
            SqlType::Float => Data::Float(Fixed::default()),
            SqlType::Double => Data::Double(Fixed::default()),
            SqlType::Decimal { precision, scale } => Data::Decimal(Fixed::default(), *precision, *scale),
            SqlType::Char { .. } | SqlType::VarChar { .. } => Data::Text(Bytes::new()),
            SqlType::Binary { .. } | SqlType::VarBinary { .. } => Data::Binary(Bytes::new()),
            SqlType::Date => Data::Date(Fixed::default()),
            SqlType::Time { precision } => {
                Data::Time(Fixed::default(), 10i32.pow(3u32.saturating_sub(u32::from(*precision))))
            }
            SqlType::Timestamp { .. } | SqlType::TimestampLtz { .. } => Data::Timestamp(Times {
                values: Fixed::default(),
                ticks_per_second: ticks_per_second(&field.ty.arrow()),
                ticks_per_ms: ticks_per_second(&field.ty.arrow()) / 1000,
                zoned: matches!(field.ty, SqlType::TimestampLtz { .. }),
                day_text: [0; 10],
                day_ticks: 0,
            }),
        };
        Self { field: field.clone(), data }
    }

    #[inline(always)]
    pub fn rows(&self) -> usize {
        match &self.data {
            Data::Null(rows) => *rows,
            Data::Boolean(c) => c.values.len(),
            Data::TinyInt(c) => c.values.len(),
            Data::SmallInt(c) => c.values.len(),
            Data::Int(c) | Data::Date(c) | Data::Time(c, _) => c.values.len(),
            Data::BigInt(c) => c.values.len(),
            Data::Float(c) => c.values.len(),
            Data::Double(c) => c.values.len(),
            Data::Decimal(c, ..) => c.values.len(),
            Data::Text(c) | Data::Binary(c) => c.rows(),
            Data::Timestamp(c) => c.values.values.len(),
        }
    }

    pub fn push_null(&mut self) {
        match &mut self.data {
            Data::Null(rows) => *rows += 1,
            Data::Boolean(c) => c.push_null(),
            Data::TinyInt(c) => c.push_null(),
            Data::SmallInt(c) => c.push_null(),
            Data::Int(c) | Data::Date(c) | Data::Time(c, _) => c.push_null(),
            Data::BigInt(c) => c.push_null(),
            Data::Float(c) => c.push_null(),
            Data::Double(c) => c.push_null(),
            Data::Decimal(c, ..) => c.push_null(),
            Data::Text(c) | Data::Binary(c) => c.push_null(),
            Data::Timestamp(c) => c.values.push_null(),
        }
    }

    /// Whether the last row has no value.
    pub fn last_is_null(&self) -> bool {
        match &self.data {
            Data::Null(_) => true,
            Data::Boolean(c) => c.validity.last_is_null(),
            Data::TinyInt(c) => c.validity.last_is_null(),
            Data::SmallInt(c) => c.validity.last_is_null(),
            Data::Int(c) | Data::Date(c) | Data::Time(c, _) => c.validity.last_is_null(),
            Data::BigInt(c) => c.validity.last_is_null(),
            Data::Float(c) => c.validity.last_is_null(),
            Data::Double(c) => c.validity.last_is_null(),
            Data::Decimal(c, ..) => c.validity.last_is_null(),
            Data::Text(c) | Data::Binary(c) => c.validity.last_is_null(),
            Data::Timestamp(c) => c.values.validity.last_is_null(),
        }
    }

    /// Drops the rows behind the first `rows`; there may be fewer.
    pub fn truncate(&mut self, rows: usize) {
        if self.rows() <= rows {
            return;
        }
        match &mut self.data {
            Data::Null(n) => *n = rows,
            Data::Boolean(c) => c.truncate(rows),
            Data::TinyInt(c) => c.truncate(rows),
            Data::SmallInt(c) => c.truncate(rows),
            Data::Int(c) | Data::Date(c) | Data::Time(c, _) => c.truncate(rows),
            Data::BigInt(c) => c.truncate(rows),
            Data::Float(c) => c.truncate(rows),
            Data::Double(c) => c.truncate(rows),
            Data::Decimal(c, ..) => c.truncate(rows),
            Data::Text(c) | Data::Binary(c) => c.truncate(rows),
            Data::Timestamp(c) => c.values.truncate(rows),
        }
    }

    /// Bytes of variable length that the column holds.
    pub fn text_bytes(&self) -> usize {
        match &self.data {
            Data::Text(c) | Data::Binary(c) => c.data.len(),
            _ => 0,
        }
    }

    /// The column as an array; the column is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef {
        let data_type = self.field.ty.arrow();
        match &mut self.data {
            Data::Null(rows) => Arc::new(NullArray::new(std::mem::take(rows))),
            Data::Boolean(c) => {
                let (values, nulls) = c.take();
                Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(values.len(), |row| values[row] != 0), nulls))
            }
            Data::TinyInt(c) => c.finish::<Int8Type>(data_type),
            Data::SmallInt(c) => c.finish::<Int16Type>(data_type),
            Data::Int(c) => c.finish::<Int32Type>(data_type),
            Data::BigInt(c) if self.field.ty == SqlType::IntervalDayTime => {
                c.finish::<DurationMillisecondType>(data_type)
            }
            Data::BigInt(c) => c.finish::<Int64Type>(data_type),
            Data::Float(c) => c.finish::<Float32Type>(data_type),
            Data::Double(c) => c.finish::<Float64Type>(data_type),
            Data::Decimal(c, ..) => c.finish::<Decimal128Type>(data_type),
            Data::Text(c) => c.finish_text(),
            Data::Binary(c) => c.finish_binary(),
            Data::Date(c) => c.finish::<Date32Type>(data_type),
            Data::Time(c, _) => c.finish::<Time32MillisecondType>(data_type),
            Data::Timestamp(c) => finish_timestamp(&mut c.values, data_type),
        }
    }
}

fn finish_timestamp(values: &mut Fixed<i64>, data_type: DataType) -> ArrayRef {
    use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, _) => values.finish::<TimestampMicrosecondType>(data_type),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => values.finish::<TimestampNanosecondType>(data_type),
        _ => values.finish::<TimestampMillisecondType>(data_type),
    }
}

/// How many units of a timestamp type make a second.
pub fn ticks_per_second(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
        _ => 1_000,
    }
}
