//! Rows to Arrow arrays and back, for every type that `SqlType::arrow` yields.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, NullArray, PrimitiveArray, StringArray, types::ArrowPrimitiveType,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, NullBufferBuilder};
use arrow_schema::{DataType, TimeUnit};
use millstream_api::graph::Schema;

use super::RowRef;
use super::layout::{CellKind, RowLayout};

/// Collects rows into arrays of the table's value columns.
#[derive(Debug)]
pub struct RowArrays {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    ty: DataType,
    nulls: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>),
    Bytes(BinaryBuilder),
}

impl RowArrays {
    /// For rows of a table with these value columns.
    #[must_use]
    pub fn new(value: &Schema) -> Self {
        Self::of(&RowLayout::new(value, false))
    }

    pub(crate) fn of(layout: &RowLayout) -> Self {
        let columns = layout.types.iter().zip(&layout.cells).map(|(ty, cell)| Column::new(ty, cell.kind));
        Self { columns: columns.collect() }
    }

    /// Appends a row.
    pub fn push(&mut self, row: &RowRef<'_>) {
        for (i, column) in self.columns.iter_mut().enumerate() {
            column.push(row, i);
        }
    }

    /// Appends a row of NULLs.
    pub fn push_nulls(&mut self) {
        for column in &mut self.columns {
            column.push_null();
        }
    }

    /// The arrays so far; starts anew.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

impl Column {
    fn new(ty: &DataType, kind: CellKind) -> Self {
        let values = match kind {
            CellKind::Int => Values::Int(Vec::new()),
            CellKind::Float => Values::Float(Vec::new()),
            CellKind::Decimal => Values::Decimal(Vec::new()),
            CellKind::Bytes => Values::Bytes(BinaryBuilder::new()),
        };
        Self { ty: ty.clone(), nulls: NullBufferBuilder::new(0), values }
    }

    fn push(&mut self, row: &RowRef<'_>, column: usize) {
        if row.is_null(column) {
            self.push_null();
            return;
        }
        self.nulls.append_non_null();
        match &mut self.values {
            Values::Int(values) => values.push(row.i64(column)),
            Values::Float(values) => values.push(row.f64(column)),
            Values::Decimal(values) => values.push(row.i128(column)),
            Values::Bytes(values) => values.append_value(row.bytes(column)),
        }
    }

    fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Int(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Bytes(values) => values.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Int(values) => ints(&self.ty, &std::mem::take(values), nulls),
            Values::Float(values) => floats(&self.ty, std::mem::take(values), nulls),
            Values::Decimal(values) => {
                let array = Decimal128Array::new(std::mem::take(values).into(), nulls);
                Arc::new(array.with_data_type(self.ty.clone()))
            }
            Values::Bytes(values) => {
                let array = values.finish();
                match self.ty {
                    DataType::Utf8 => {
                        Arc::new(StringArray::try_from_binary(array).expect("string columns are only given UTF-8"))
                    }
                    _ => Arc::new(array),
                }
            }
        }
    }
}

/// Narrows i64 cells, which came from values of `ty`.
fn ints(ty: &DataType, values: &[i64], nulls: Option<NullBuffer>) -> ArrayRef {
    fn narrow<T: ArrowPrimitiveType>(ty: &DataType, values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(ty.clone()))
    }
    let i32s = || values.iter().map(|v| *v as i32).collect::<Vec<i32>>();
    match ty {
        DataType::Null => Arc::new(NullArray::new(values.len())),
        DataType::Boolean => {
            Arc::new(BooleanArray::new(BooleanBuffer::from_iter(values.iter().map(|v| *v != 0)), nulls))
        }
        DataType::Int8 => narrow::<Int8Type>(ty, values.iter().map(|v| *v as i8).collect(), nulls),
        DataType::Int16 => narrow::<Int16Type>(ty, values.iter().map(|v| *v as i16).collect(), nulls),
        DataType::Int32 => narrow::<Int32Type>(ty, i32s(), nulls),
        DataType::Date32 => narrow::<Date32Type>(ty, i32s(), nulls),
        DataType::Time32(TimeUnit::Millisecond) => narrow::<Time32MillisecondType>(ty, i32s(), nulls),
        DataType::Int64 => narrow::<Int64Type>(ty, values.to_vec(), nulls),
        DataType::Duration(TimeUnit::Millisecond) => narrow::<DurationMillisecondType>(ty, values.to_vec(), nulls),
        DataType::Timestamp(TimeUnit::Millisecond, _) => narrow::<TimestampMillisecondType>(ty, values.to_vec(), nulls),
        DataType::Timestamp(TimeUnit::Microsecond, _) => narrow::<TimestampMicrosecondType>(ty, values.to_vec(), nulls),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => narrow::<TimestampNanosecondType>(ty, values.to_vec(), nulls),
        other => unreachable!("no SQL type maps to {other}"),
    }
}

fn floats(ty: &DataType, values: Vec<f64>, nulls: Option<NullBuffer>) -> ArrayRef {
    if *ty == DataType::Float32 {
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls))
    } else {
        Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls))
    }
}

/// The value as an i64 cell holds it.
pub(super) fn int_at(array: &dyn Array, row: usize) -> i64 {
    match array.data_type() {
        DataType::Boolean => i64::from(array.as_boolean().value(row)),
        DataType::Int8 => i64::from(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => i64::from(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => i64::from(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row),
        DataType::Date32 => i64::from(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time32(TimeUnit::Millisecond) => i64::from(array.as_primitive::<Time32MillisecondType>().value(row)),
        DataType::Duration(TimeUnit::Millisecond) => array.as_primitive::<DurationMillisecondType>().value(row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array.as_primitive::<TimestampMillisecondType>().value(row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().value(row),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array.as_primitive::<TimestampNanosecondType>().value(row),
        other => unreachable!("no SQL type of an integer cell maps to {other}"),
    }
}

pub(super) fn float_at(array: &dyn Array, row: usize) -> f64 {
    match array.data_type() {
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)),
        _ => array.as_primitive::<Float64Type>().value(row),
    }
}

pub(super) fn decimal_at(array: &dyn Array, row: usize) -> i128 {
    array.as_primitive::<Decimal128Type>().value(row)
}

pub(super) fn bytes_at(array: &dyn Array, row: usize) -> &[u8] {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        _ => array.as_binary::<i32>().value(row),
    }
}
