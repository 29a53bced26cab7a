//! Accumulator columns folded into rows of keyed state, whose value columns they are.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use super::accumulator::{add_decimal, add_single, max_float, min_float};
use super::columns::{Kind, bytes_at, native_i64, with_integers};
use super::{AggregatePlan, Fold};
use crate::state::RowMut;

/// Partial accumulators of a batch, ready to be merged row by row.
pub struct Partials<'a> {
    columns: Vec<PartialColumn<'a>>,
}

struct PartialColumn<'a> {
    fold: Fold,
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    /// `spare_bits`: how many of an i64's 64 bits the column does not have.
    Int {
        values: Cow<'a, [i64]>,
        spare_bits: u32,
    },
    Float {
        values: Cow<'a, [f64]>,
        single: bool,
    },
    Decimal(&'a [i128]),
    Bytes(&'a ArrayRef),
}

impl<'a> Partials<'a> {
    /// Views the accumulator columns of `plan`.
    #[must_use]
    pub fn new(plan: &AggregatePlan, arrays: &'a [ArrayRef]) -> Self {
        let columns = plan.columns().iter().zip(arrays).map(|(column, array)| PartialColumn {
            fold: column.fold,
            nulls: array.nulls().filter(|n| n.null_count() > 0),
            values: Values::of(column.kind, array),
        });
        Self { columns: columns.collect() }
    }

    /// Folds the accumulators of row `row` into a row of state.
    #[inline]
    pub fn merge(&self, row: usize, state: &mut RowMut<'_>) {
        for (at, column) in self.columns.iter().enumerate() {
            if column.nulls.is_none_or(|n| n.is_valid(row)) {
                column.merge(row, at, state);
            }
        }
    }
}

impl PartialColumn<'_> {
    #[inline]
    fn merge(&self, row: usize, at: usize, state: &mut RowMut<'_>) {
        // A count is never NULL and starts at zero; every other accumulator is NULL until it has a value.
        let first = state.is_null(at);
        match &self.values {
            Values::Int { values, spare_bits } => {
                let value = values[row];
                let folded = if first { value } else { fold_i64(self.fold, state.i64(at), value) };
                // A sum wraps at the width of its own type.
                state.set_i64(at, folded << spare_bits >> spare_bits);
            }
            Values::Float { values, single } => {
                let value = values[row];
                let folded = match self.fold {
                    _ if first => value,
                    Fold::Count | Fold::Sum if *single => add_single(state.f64(at), value),
                    Fold::Count | Fold::Sum => state.f64(at) + value,
                    Fold::Min => min_float(state.f64(at), value),
                    Fold::Max => max_float(state.f64(at), value),
                };
                state.set_f64(at, folded);
            }
            Values::Decimal(values) => {
                let value = values[row];
                let folded = match self.fold {
                    _ if first => value,
                    Fold::Count | Fold::Sum => add_decimal(state.i128(at), value),
                    Fold::Min => state.i128(at).min(value),
                    Fold::Max => state.i128(at).max(value),
                };
                state.set_i128(at, folded);
            }
            Values::Bytes(values) => {
                let value = bytes_at(values, row);
                let replaces = match self.fold {
                    _ if first => true,
                    Fold::Max => value > state.bytes(at),
                    _ => value < state.bytes(at),
                };
                if replaces {
                    state.set_bytes(at, value);
                }
            }
        }
    }
}

fn fold_i64(fold: Fold, a: i64, b: i64) -> i64 {
    match fold {
        Fold::Count | Fold::Sum => a.wrapping_add(b),
        Fold::Min => a.min(b),
        Fold::Max => a.max(b),
    }
}

impl<'a> Values<'a> {
    fn of(kind: Kind, array: &'a ArrayRef) -> Self {
        match (kind, array.data_type()) {
            (Kind::Int, DataType::Int64 | DataType::Timestamp(..) | DataType::Duration(_)) => {
                Self::Int { values: Cow::Borrowed(native_i64(array)), spare_bits: 0 }
            }
            (Kind::Int, ty) => {
                let width = ty.primitive_width().unwrap_or(1);
                let spare_bits = 64 - 8 * u32::try_from(width).expect("at most 8 bytes");
                Self::Int { values: with_integers!(array, |values| Cow::Owned(values.collect())), spare_bits }
            }
            (Kind::Float, DataType::Float32) => {
                let values = array.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v));
                Self::Float { values: Cow::Owned(values.collect()), single: true }
            }
            (Kind::Float, _) => {
                Self::Float { values: Cow::Borrowed(array.as_primitive::<Float64Type>().values()), single: false }
            }
            (Kind::Decimal, _) => Self::Decimal(array.as_primitive::<Decimal128Type>().values()),
            (Kind::Bytes, _) => Self::Bytes(array),
        }
    }
}
