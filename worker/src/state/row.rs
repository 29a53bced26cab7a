//! A row of state as the transforms see it.

use arrow_array::{Array, ArrayRef};
use millstream_api::graph::Schema;

/// A row that may be changed.
#[derive(Debug)]
pub struct RowMut<'a> {
    _cells: &'a mut [u8],
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    _cells: &'a [u8],
}

impl RowMut<'_> {
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn as_ref(&self) -> RowRef<'_> {
        unimplemented!()
    }
    /// Whether there was a row before this visit.
    #[must_use]
    pub fn existed(&self) -> bool {
        unimplemented!()
    }
    #[must_use]
    pub fn is_null(&self, _column: usize) -> bool {
        unimplemented!()
    }
    /// BOOLEAN (0, 1), every integer, DATE, TIME, TIMESTAMP, interval: the Arrow value widened.
    #[must_use]
    pub fn i64(&self, _column: usize) -> i64 {
        unimplemented!()
    }
    /// FLOAT (widened), DOUBLE.
    #[must_use]
    pub fn f64(&self, _column: usize) -> f64 {
        unimplemented!()
    }
    /// DECIMAL: the unscaled value.
    #[must_use]
    pub fn i128(&self, _column: usize) -> i128 {
        unimplemented!()
    }
    /// Strings and binary.
    #[must_use]
    pub fn bytes(&self, _column: usize) -> &[u8] {
        unimplemented!()
    }
    pub fn set_null(&mut self, _column: usize) {
        unimplemented!()
    }
    pub fn set_i64(&mut self, _column: usize, _value: i64) {
        unimplemented!()
    }
    pub fn set_f64(&mut self, _column: usize, _value: f64) {
        unimplemented!()
    }
    pub fn set_i128(&mut self, _column: usize, _value: i128) {
        unimplemented!()
    }
    pub fn set_bytes(&mut self, _column: usize, _value: &[u8]) {
        unimplemented!()
    }
    /// Takes over row `row` of an array of the column's Arrow type, NULL included.
    pub fn set_from(&mut self, _column: usize, _array: &dyn Array, _row: usize) {
        unimplemented!()
    }
}

impl<'a> RowRef<'a> {
    #[must_use]
    pub fn is_null(&self, _column: usize) -> bool {
        unimplemented!()
    }
    /// As [`RowMut::i64`].
    #[must_use]
    pub fn i64(&self, _column: usize) -> i64 {
        unimplemented!()
    }
    #[must_use]
    pub fn f64(&self, _column: usize) -> f64 {
        unimplemented!()
    }
    #[must_use]
    pub fn i128(&self, _column: usize) -> i128 {
        unimplemented!()
    }
    #[must_use]
    pub fn bytes(&self, _column: usize) -> &'a [u8] {
        unimplemented!()
    }
}

/// Collects rows into arrays of the table's value columns.
#[derive(Debug)]
pub struct RowArrays {}

impl RowArrays {
    #[must_use]
    pub fn new(_value: &Schema) -> Self {
        unimplemented!()
    }
    pub fn push(&mut self, _row: &RowRef<'_>) {
        unimplemented!()
    }
    /// The arrays so far; starts anew.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        unimplemented!()
    }
}
