//! CAST and TRY_CAST with Flink's results: what wraps, what is cut, what becomes NULL and what fails.
//!
//! Integers are narrowed by dropping bits and DECIMALs that do not fit become NULL, both as in Flink; texts that are no
//! value of the type fail (or are NULL for TRY_CAST), with the text in the message.

mod number;
mod print;
mod read;
mod time;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, make_array, new_null_array};
use arrow_schema::DataType;
use millstream_api::graph::SqlType;

use super::operand::{Native, Operand, boolean_rows, fixed_rows};
use super::{EvalError, ExprError};

pub use read::{read_date, read_timestamp};

/// A cast between two types.
#[derive(Clone, Debug)]
pub struct Cast {
    from: SqlType,
    to: SqlType,
    /// NULL instead of a failure.
    try_cast: bool,
}

/// Why one value cannot be cast; the caller adds the types.
enum Refusal {
    /// Shown in the message.
    Value(String),
}

impl Cast {
    pub fn new(from: &SqlType, to: &SqlType, try_cast: bool) -> Result<Self, ExprError> {
        if !millstream_api::graph::promotion::castable(from, to) {
            return Err(ExprError::new(format!("{from} cannot be cast to {to}")));
        }
        Ok(Self { from: from.clone(), to: to.clone(), try_cast })
    }

    /// Whether some value of the type fails.
    pub fn can_fail(&self) -> bool {
        if self.try_cast || self.from == self.to {
            return false;
        }
        let floating = matches!(self.from, SqlType::Float | SqlType::Double);
        let nanos = |ty: &SqlType| {
            matches!(ty, SqlType::Timestamp { precision: 7.. } | SqlType::TimestampLtz { precision: 7.. })
        };
        (self.from.is_string() && !self.to.is_string() && !is_binary(&self.to))
            || (floating && matches!(self.to, SqlType::Decimal { .. }))
            || (nanos(&self.to) && !nanos(&self.from))
    }

    pub fn apply(&self, array: &ArrayRef) -> Result<ArrayRef, EvalError> {
        let (from, to) = (&self.from, &self.to);
        if from == to {
            return Ok(Arc::clone(array));
        }
        match (from, to) {
            (SqlType::Null, _) => Ok(new_null_array(&to.arrow(), array.len())),
            (f, t) if t.is_string() => print::to_text(array, f, t),
            (f, t) if f.is_string() => read::from_text(self, array, t),
            (f, t) if is_binary(f) && is_binary(t) => Ok(fit_binary(array, t)),
            (SqlType::Boolean, t) => Ok(number::from_boolean(array, t)),
            (f, SqlType::Boolean) => Ok(number::to_boolean(array, f)),
            (f, t) if f.is_numeric() && t.is_numeric() => number::to_number(self, array, f, t),
            (f, t) => time::to_time(self, array, f, t),
        }
    }

    /// Row by row; what `f` refuses fails, or is NULL for TRY_CAST.
    fn rows<O: Native>(
        &self,
        rows: usize,
        mut f: impl FnMut(usize) -> Result<Option<O>, Refusal>,
    ) -> Result<ArrayRef, EvalError> {
        fixed_rows(rows, &self.to.arrow(), |row| self.settle(f(row)))
    }

    fn settle<T>(&self, outcome: Result<Option<T>, Refusal>) -> Result<Option<T>, EvalError> {
        match outcome {
            Ok(value) => Ok(value),
            Err(_) if self.try_cast => Ok(None),
            Err(Refusal::Value(value)) => {
                Err(EvalError::user(format!("cannot cast {value} ({}) to {}", self.from, self.to)))
            }
        }
    }
}

fn is_binary(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Binary { .. } | SqlType::VarBinary { .. })
}

/// The same values under another logical type of the same layout.
fn retyped(array: &ArrayRef, data_type: DataType) -> Result<ArrayRef, EvalError> {
    Ok(make_array(array.to_data().into_builder().data_type(data_type).build()?))
}

/// Byte strings cut to the type's length; BINARY(n) is filled with zeros.
fn fit_binary(array: &ArrayRef, to: &SqlType) -> ArrayRef {
    let (SqlType::Binary { length } | SqlType::VarBinary { length }) = *to else {
        return Arc::clone(array);
    };
    let (length, fill) = (length as usize, matches!(to, SqlType::Binary { .. }));
    let values = array.as_binary::<i32>();
    let fits = |v: &[u8]| if fill { v.len() == length } else { v.len() <= length };
    if values.iter().flatten().all(fits) {
        return Arc::clone(array);
    }
    let fitted = values.iter().map(|value| {
        value.map(|v| {
            let mut v = v[..v.len().min(length)].to_vec();
            if fill {
                v.resize(length, 0);
            }
            v
        })
    });
    Arc::new(fitted.collect::<BinaryArray>())
}

/// The array as an operand, for the typed views.
fn view(array: &ArrayRef) -> Operand {
    Operand::Column(Arc::clone(array))
}

/// Booleans of a text column, by the cast's rules about refusals.
fn booleans_of(
    cast: &Cast,
    rows: usize,
    mut f: impl FnMut(usize) -> Result<Option<bool>, Refusal>,
) -> Result<ArrayRef, EvalError> {
    let mut failure = None;
    let result = boolean_rows(rows, |row| match cast.settle(f(row)) {
        Ok(value) => value,
        Err(error) => {
            failure.get_or_insert(error);
            None
        }
    });
    failure.map_or(Ok(result), Err)
}
