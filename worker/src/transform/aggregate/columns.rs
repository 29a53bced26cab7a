//! Arrow columns as the four kinds of values that aggregation knows: integers, floats, decimals, bytes.
//!
//! Everything that an i64 holds (BOOLEAN, all integers, DATE, TIME, TIMESTAMP, intervals) is one kind, so that tables
//! and accumulators exist once, not once per type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, DurationMillisecondType, Int32Type, Int64Type, Time32MillisecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int8Array, Int16Array, Int32Array, Int64Array, PrimitiveArray, make_array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Float,
    Decimal,
    Bytes,
}

impl Kind {
    /// The kind of an Arrow type of `SqlType::arrow`; `None` for the type of a bare NULL.
    #[must_use]
    pub fn of(ty: &DataType) -> Option<Self> {
        Some(match ty {
            DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Int,
            DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(..) | DataType::Duration(_) => Self::Int,
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Decimal128(..) => Self::Decimal,
            DataType::Utf8 | DataType::Binary => Self::Bytes,
            _ => return None,
        })
    }
}

/// Evaluates `$body` with `$values` an iterator of i64 over an array of kind [`Kind::Int`], NULL slots included.
/// A macro, so that the loop inside is compiled for each native type.
macro_rules! with_integers {
    ($array:expr, |$values:ident| $body:expr) => {{
        use ::arrow_array::cast::AsArray as _;
        use ::arrow_schema::DataType;
        let array: &::arrow_array::ArrayRef = $array;
        match array.data_type() {
            DataType::Boolean => {
                let $values = array.as_boolean().values().iter().map(i64::from);
                $body
            }
            DataType::Int8 => {
                let $values =
                    array.as_primitive::<::arrow_array::types::Int8Type>().values().iter().map(|v| i64::from(*v));
                $body
            }
            DataType::Int16 => {
                let $values =
                    array.as_primitive::<::arrow_array::types::Int16Type>().values().iter().map(|v| i64::from(*v));
                $body
            }
            DataType::Int32 | DataType::Date32 | DataType::Time32(_) => {
                let $values = $crate::transform::aggregate::columns::native_i32(array).iter().map(|v| i64::from(*v));
                $body
            }
            _ => {
                let $values = $crate::transform::aggregate::columns::native_i64(array).iter().copied();
                $body
            }
        }
    }};
}
pub(crate) use with_integers;

/// The values of an array that is 32 bits wide.
pub(crate) fn native_i32(array: &ArrayRef) -> &[i32] {
    match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().values(),
        DataType::Time32(_) => array.as_primitive::<Time32MillisecondType>().values(),
        _ => array.as_primitive::<Int32Type>().values(),
    }
}

/// The values of an array that is 64 bits wide.
pub(crate) fn native_i64(array: &ArrayRef) -> &[i64] {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => array.as_primitive::<TimestampMillisecondType>().values(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().values(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array.as_primitive::<TimestampNanosecondType>().values(),
        DataType::Duration(_) => array.as_primitive::<DurationMillisecondType>().values(),
        _ => array.as_primitive::<Int64Type>().values(),
    }
}

/// An array of type `ty`, which is of kind [`Kind::Int`]. Values too large for it lose their high bits, as in Java.
pub(crate) fn integer_array(ty: &DataType, values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    let narrow_32 = |values: Vec<i64>| -> ArrayRef {
        Arc::new(Int32Array::new(values.into_iter().map(|v| v as i32).collect::<Vec<i32>>().into(), nulls.clone()))
    };
    match ty {
        DataType::Boolean => Arc::new(BooleanArray::new(values.into_iter().map(|v| v != 0).collect(), nulls)),
        DataType::Int8 => {
            Arc::new(Int8Array::new(values.into_iter().map(|v| v as i8).collect::<Vec<i8>>().into(), nulls))
        }
        DataType::Int16 => {
            Arc::new(Int16Array::new(values.into_iter().map(|v| v as i16).collect::<Vec<i16>>().into(), nulls))
        }
        DataType::Int32 => narrow_32(values),
        DataType::Date32 | DataType::Time32(_) => retyped(&narrow_32(values), ty),
        DataType::Int64 => Arc::new(Int64Array::new(values.into(), nulls)),
        _ => retyped(&(Arc::new(Int64Array::new(values.into(), nulls)) as ArrayRef), ty),
    }
}

/// The same values under another type of the same width.
fn retyped(array: &ArrayRef, ty: &DataType) -> ArrayRef {
    let data = array.to_data().into_builder().data_type(ty.clone()).build();
    make_array(data.expect("only types of the same native width are exchanged"))
}

/// An array of FLOAT or DOUBLE.
pub(crate) fn float_array(ty: &DataType, values: Vec<f64>, nulls: Option<NullBuffer>) -> ArrayRef {
    use arrow_array::types::{Float32Type, Float64Type};
    if *ty == DataType::Float32 {
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls))
    } else {
        Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls))
    }
}

/// An array of DECIMAL, of unscaled values.
pub(crate) fn decimal_array(ty: &DataType, values: Vec<i128>, nulls: Option<NullBuffer>) -> ArrayRef {
    use arrow_array::types::Decimal128Type;
    Arc::new(PrimitiveArray::<Decimal128Type>::new(values.into(), nulls).with_data_type(ty.clone()))
}

/// The bytes of row `row` of a string or binary array.
pub(crate) fn bytes_at(array: &ArrayRef, row: usize) -> &[u8] {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        _ => array.as_binary::<i32>().value(row),
    }
}
