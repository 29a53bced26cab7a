//! Values on their way through an expression: a column, or one value for all rows, and typed views of both.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Datum, NullArray, PrimitiveArray, RecordBatch, StringArray, UInt32Array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use arrow_select::take::take;

use super::EvalError;

/// The rows that an expression is evaluated for.
pub struct Input {
    columns: Vec<ArrayRef>,
    pub rows: usize,
}

impl Input {
    pub fn of(batch: &RecordBatch) -> Self {
        Self { columns: batch.columns().to_vec(), rows: batch.num_rows() }
    }

    /// No rows to speak of: for expressions without columns.
    pub fn one_row() -> Self {
        Self { columns: Vec::new(), rows: 1 }
    }

    pub fn column(&self, index: usize) -> ArrayRef {
        Arc::clone(&self.columns[index])
    }

    /// These rows, with the columns in `reads`; the others are not there.
    pub fn select(&self, rows: &UInt32Array, reads: &[usize]) -> Result<Self, ArrowError> {
        let absent: ArrayRef = Arc::new(NullArray::new(rows.len()));
        let mut columns = vec![absent; self.columns.len()];
        for index in reads {
            columns[*index] = take(&self.columns[*index], rows, None)?;
        }
        Ok(Self { columns, rows: rows.len() })
    }
}

/// A column, or one value that stands for every row.
#[derive(Clone, Debug)]
pub enum Operand {
    Column(ArrayRef),
    /// An array of one element.
    Scalar(ArrayRef),
}

impl Operand {
    pub fn array(&self) -> &ArrayRef {
        match self {
            Operand::Column(array) | Operand::Scalar(array) => array,
        }
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self, Operand::Scalar(_))
    }

    /// As a column of `rows` rows.
    pub fn into_array(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        match self {
            Operand::Column(array) => Ok(array),
            Operand::Scalar(value) if rows == 1 => Ok(value),
            Operand::Scalar(value) => take(&value, &UInt32Array::from(vec![0; rows]), None),
        }
    }

    fn step(&self) -> usize {
        usize::from(!self.is_scalar())
    }

    /// A view of the values as `N`.
    pub fn fixed<N: Native>(&self) -> Fixed<'_, N> {
        let array = self.array();
        Fixed { values: N::values(array.as_ref()), nulls: nulls_of(array), step: self.step() }
    }

    pub fn text(&self) -> Text<'_> {
        Text { array: self.array().as_string(), step: self.step() }
    }

    pub fn boolean(&self) -> Booleans<'_> {
        Booleans { array: self.array().as_boolean(), step: self.step() }
    }

    pub fn binary(&self) -> Binary<'_> {
        Binary { array: self.array().as_binary(), step: self.step() }
    }
}

impl Datum for Operand {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array().as_ref(), self.is_scalar())
    }
}

fn nulls_of(array: &ArrayRef) -> Option<&NullBuffer> {
    array.nulls().filter(|n| n.null_count() > 0)
}

/// Values of one width, with the nulls beside them.
#[derive(Clone, Copy)]
pub struct Fixed<'a, N> {
    pub values: &'a [N],
    pub nulls: Option<&'a NullBuffer>,
    step: usize,
}

impl<N: Native> Fixed<'_, N> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<N> {
        let at = row * self.step;
        if self.nulls.is_some_and(|n| n.is_null(at)) { None } else { Some(self.values[at]) }
    }

    fn is_null_scalar(&self) -> bool {
        self.step == 0 && self.nulls.is_some()
    }

    fn column_nulls(&self) -> Option<&NullBuffer> {
        if self.step == 0 { None } else { self.nulls }
    }
}

/// Strings.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    array: &'a StringArray,
    step: usize,
}

impl<'a> Text<'a> {
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        let at = row * self.step;
        if self.array.is_null(at) { None } else { Some(self.array.value(at)) }
    }
}

/// Byte strings.
#[derive(Clone, Copy)]
pub struct Binary<'a> {
    array: &'a BinaryArray,
    step: usize,
}

impl<'a> Binary<'a> {
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        let at = row * self.step;
        if self.array.is_null(at) { None } else { Some(self.array.value(at)) }
    }
}

/// Booleans.
#[derive(Clone, Copy)]
pub struct Booleans<'a> {
    array: &'a BooleanArray,
    step: usize,
}

impl Booleans<'_> {
    pub fn get(&self, row: usize) -> Option<bool> {
        let at = row * self.step;
        if self.array.is_null(at) { None } else { Some(self.array.value(at)) }
    }
}

/// A type that Arrow arrays hold directly, whatever their logical type is: i64 for BIGINT and timestamps alike.
pub trait Native: Copy + Default + Send + Sync + 'static {
    fn values(array: &dyn Array) -> &[Self];
    /// An array of the logical type `data_type`.
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef;
}

fn values_of<P: ArrowPrimitiveType>(array: &dyn Array) -> &[P::Native] {
    array.as_primitive_opt::<P>().expect("the planner gave the argument this type").values()
}

fn array_of<P: ArrowPrimitiveType>(
    values: Vec<P::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<P>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type.clone()))
}

macro_rules! native {
    ($native:ty, $default:ty $(, $pattern:pat => $other:ty)*) => {
        impl Native for $native {
            fn values(array: &dyn Array) -> &[Self] {
                match array.data_type() {
                    $($pattern => values_of::<$other>(array),)*
                    _ => values_of::<$default>(array),
                }
            }

            fn array(values: Vec<Self>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
                match data_type {
                    $($pattern => array_of::<$other>(values, nulls, data_type),)*
                    _ => array_of::<$default>(values, nulls, data_type),
                }
            }
        }
    };
}

native!(i8, Int8Type);
native!(i16, Int16Type);
native!(i32, Int32Type, DataType::Date32 => Date32Type, DataType::Time32(_) => Time32MillisecondType);
native!(i64, Int64Type,
    DataType::Duration(_) => DurationMillisecondType,
    DataType::Timestamp(TimeUnit::Millisecond, _) => TimestampMillisecondType,
    DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType,
    DataType::Timestamp(TimeUnit::Nanosecond, _) => TimestampNanosecondType);
native!(f32, Float32Type);
native!(f64, Float64Type);
native!(i128, Decimal128Type);

/// `f` of every value; NULL stays NULL. `f` also sees the undefined values behind NULLs.
pub fn map<A: Native, O: Native>(a: Fixed<'_, A>, data_type: &DataType, f: impl Fn(A) -> O) -> ArrayRef {
    O::array(a.values.iter().map(|v| f(*v)).collect(), a.nulls.cloned(), data_type)
}

/// `f` of every pair; NULL where one is NULL. `f` also sees the undefined values behind NULLs.
pub fn map2<A: Native, B: Native, O: Native>(
    a: Fixed<'_, A>,
    b: Fixed<'_, B>,
    rows: usize,
    data_type: &DataType,
    f: impl Fn(A, B) -> O,
) -> ArrayRef {
    if a.is_null_scalar() || b.is_null_scalar() {
        return O::array(vec![O::default(); rows], Some(NullBuffer::new_null(rows)), data_type);
    }
    let values: Vec<O> = match (a.step, b.step) {
        (1, 1) => a.values.iter().zip(b.values).map(|(x, y)| f(*x, *y)).collect(),
        (1, _) => {
            let y = b.values[0];
            a.values.iter().map(|x| f(*x, y)).collect()
        }
        (_, 1) => {
            let x = a.values[0];
            b.values.iter().map(|y| f(x, *y)).collect()
        }
        _ => vec![f(a.values[0], b.values[0]); rows],
    };
    O::array(values, NullBuffer::union(a.column_nulls(), b.column_nulls()), data_type)
}

/// Row by row, where rows can be NULL or fail.
pub fn fixed_rows<O: Native>(
    rows: usize,
    data_type: &DataType,
    mut f: impl FnMut(usize) -> Result<Option<O>, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let mut values = Vec::with_capacity(rows);
    let mut valid = Vec::new();
    for row in 0..rows {
        let value = f(row)?;
        if value.is_none() && valid.is_empty() {
            valid.resize(row, true);
        }
        if value.is_none() || !valid.is_empty() {
            valid.push(value.is_some());
        }
        values.push(value.unwrap_or_default());
    }
    let nulls = (!valid.is_empty()).then(|| NullBuffer::from(valid));
    Ok(O::array(values, nulls, data_type))
}

/// Row by row, where rows can be NULL.
pub fn fixed_options<O: Native>(rows: usize, data_type: &DataType, mut f: impl FnMut(usize) -> Option<O>) -> ArrayRef {
    fixed_rows(rows, data_type, |row| Ok(f(row))).expect("no row fails")
}

/// Booleans row by row.
pub fn boolean_rows(rows: usize, mut f: impl FnMut(usize) -> Option<bool>) -> ArrayRef {
    Arc::new((0..rows).map(&mut f).collect::<BooleanArray>())
}

/// Truth of a predicate of every pair; NULL where one is NULL.
pub fn compare2<A: Native, B: Native>(
    a: Fixed<'_, A>,
    b: Fixed<'_, B>,
    rows: usize,
    f: impl Fn(A, B) -> bool,
) -> BooleanArray {
    if a.is_null_scalar() || b.is_null_scalar() {
        return BooleanArray::new_null(rows);
    }
    let values = BooleanBuffer::collect_bool(rows, |row| f(a.values[row * a.step], b.values[row * b.step]));
    BooleanArray::new(values, NullBuffer::union(a.column_nulls(), b.column_nulls()))
}

/// Most bytes that one result column of strings can hold: Arrow's offsets are an i32.
const COLUMN_BYTES_MAX: usize = i32::MAX as usize;

/// Builds a column of strings from rows that `f` writes. `f` answers whether the row has a value.
pub fn text_rows(
    rows: usize,
    mut f: impl FnMut(usize, &mut String) -> Result<bool, EvalError>,
) -> Result<ArrayRef, EvalError> {
    let mut data = String::new();
    let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
    offsets.push(0);
    let mut valid = Vec::new();
    for row in 0..rows {
        let start = data.len();
        let is_valid = f(row, &mut data)?;
        if !is_valid {
            data.truncate(start);
            if valid.is_empty() {
                valid.resize(row, true);
            }
        }
        if !is_valid || !valid.is_empty() {
            valid.push(is_valid);
        }
        if data.len() > COLUMN_BYTES_MAX {
            return Err(EvalError::user("the strings of one batch are larger than 2 GiB; write shorter ones"));
        }
        offsets.push(data.len() as i32);
    }
    let nulls = (!valid.is_empty()).then(|| NullBuffer::from(valid));
    let offsets = arrow_buffer::OffsetBuffer::new(ScalarBuffer::from(offsets));
    let data = arrow_buffer::Buffer::from_vec(data.into_bytes());
    Ok(Arc::new(StringArray::try_new(offsets, data, nulls)?))
}

/// Strings row by row, each a piece of an argument or made anew.
pub fn text_options<S: AsRef<str>>(rows: usize, mut f: impl FnMut(usize) -> Option<S>) -> Result<ArrayRef, EvalError> {
    text_rows(rows, |row, out| {
        Ok(match f(row) {
            Some(value) => {
                out.push_str(value.as_ref());
                true
            }
            None => false,
        })
    })
}
