//! Rows of state: how they are laid out, and how transforms see them.
//!
//! A row is one run of bytes: a bitmap of NULLs, then a cell per column. Integers, booleans, dates and times are 8
//! bytes whatever their SQL type (one load, no dispatch), floats 8, decimals 16, strings and binary an 8-byte
//! reference into a heap beside the rows. Tables with TTL have one more cell, the time of the last write.

mod arrays;
mod layout;

pub use arrays::RowArrays;
pub(crate) use layout::{CellKind, HEAP_BYTES_MAX, Heap, RowLayout, move_reference, set_reference};

use arrow_array::Array;

/// A row that may be changed.
#[derive(Debug)]
pub struct RowMut<'a> {
    pub(crate) layout: &'a RowLayout,
    pub(crate) cells: &'a mut [u8],
    pub(crate) heap: &'a mut Heap,
    pub(crate) existed: bool,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    pub(crate) layout: &'a RowLayout,
    pub(crate) cells: &'a [u8],
    pub(crate) heap: &'a [u8],
}

impl RowMut<'_> {
    /// Whether there was a row before this visit.
    #[must_use]
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// The row as it is now.
    #[must_use]
    pub fn view(&self) -> RowRef<'_> {
        RowRef { layout: self.layout, cells: self.cells, heap: &self.heap.bytes }
    }

    #[must_use]
    #[inline]
    pub fn is_null(&self, column: usize) -> bool {
        is_null(self.cells, column)
    }

    /// BOOLEAN (0, 1), every integer, DATE, TIME, TIMESTAMP, interval: the Arrow value widened. 0 where it is NULL.
    #[must_use]
    #[inline]
    pub fn i64(&self, column: usize) -> i64 {
        i64_at(self.cells, self.layout.offset(column, CellKind::Int))
    }

    /// FLOAT (widened), DOUBLE. 0 where it is NULL.
    #[must_use]
    #[inline]
    pub fn f64(&self, column: usize) -> f64 {
        f64::from_bits(i64_at(self.cells, self.layout.offset(column, CellKind::Float)) as u64)
    }

    /// DECIMAL: the unscaled value. 0 where it is NULL.
    #[must_use]
    #[inline]
    pub fn i128(&self, column: usize) -> i128 {
        i128_at(self.cells, self.layout.offset(column, CellKind::Decimal))
    }

    /// Strings and binary. Empty where it is NULL.
    #[must_use]
    #[inline]
    pub fn bytes(&self, column: usize) -> &[u8] {
        bytes_at(self.cells, &self.heap.bytes, self.layout.offset(column, CellKind::Bytes))
    }

    /// The column becomes NULL.
    pub fn set_null(&mut self, column: usize) {
        self.cells[column / 8] |= 1 << (column % 8);
        let cell = &self.layout.cells[column];
        if cell.kind == CellKind::Bytes {
            self.heap.release(self.cells, cell.offset);
        }
        self.cells[cell.offset..cell.offset + cell.kind.width()].fill(0);
    }

    #[inline]
    pub fn set_i64(&mut self, column: usize, value: i64) {
        let at = self.layout.offset(column, CellKind::Int);
        self.cells[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self.clear_null(column);
    }

    #[inline]
    pub fn set_f64(&mut self, column: usize, value: f64) {
        let at = self.layout.offset(column, CellKind::Float);
        self.cells[at..at + 8].copy_from_slice(&value.to_bits().to_le_bytes());
        self.clear_null(column);
    }

    #[inline]
    pub fn set_i128(&mut self, column: usize, value: i128) {
        let at = self.layout.offset(column, CellKind::Decimal);
        self.cells[at..at + 16].copy_from_slice(&value.to_le_bytes());
        self.clear_null(column);
    }

    /// String columns take UTF-8 only.
    pub fn set_bytes(&mut self, column: usize, value: &[u8]) {
        let at = self.layout.offset(column, CellKind::Bytes);
        self.heap.store(self.cells, at, value);
        self.clear_null(column);
    }

    /// Takes over row `row` of an array of the column's Arrow type, NULL included.
    pub fn set_from(&mut self, column: usize, array: &dyn Array, row: usize) {
        if array.is_null(row) {
            self.set_null(column);
            return;
        }
        match self.layout.cells[column].kind {
            CellKind::Int => self.set_i64(column, arrays::int_at(array, row)),
            CellKind::Float => self.set_f64(column, arrays::float_at(array, row)),
            CellKind::Decimal => self.set_i128(column, arrays::decimal_at(array, row)),
            CellKind::Bytes => self.set_bytes(column, arrays::bytes_at(array, row)),
        }
    }

    #[inline]
    fn clear_null(&mut self, column: usize) {
        self.cells[column / 8] &= !(1 << (column % 8));
    }
}

impl<'a> RowRef<'a> {
    #[must_use]
    #[inline]
    pub fn is_null(&self, column: usize) -> bool {
        is_null(self.cells, column)
    }

    /// As [`RowMut::i64`].
    #[must_use]
    #[inline]
    pub fn i64(&self, column: usize) -> i64 {
        i64_at(self.cells, self.layout.offset(column, CellKind::Int))
    }

    /// As [`RowMut::f64`].
    #[must_use]
    #[inline]
    pub fn f64(&self, column: usize) -> f64 {
        f64::from_bits(i64_at(self.cells, self.layout.offset(column, CellKind::Float)) as u64)
    }

    /// As [`RowMut::i128`].
    #[must_use]
    #[inline]
    pub fn i128(&self, column: usize) -> i128 {
        i128_at(self.cells, self.layout.offset(column, CellKind::Decimal))
    }

    /// As [`RowMut::bytes`].
    #[must_use]
    #[inline]
    pub fn bytes(&self, column: usize) -> &'a [u8] {
        bytes_at(self.cells, self.heap, self.layout.offset(column, CellKind::Bytes))
    }
}

#[inline]
fn is_null(cells: &[u8], column: usize) -> bool {
    cells[column / 8] & (1 << (column % 8)) != 0
}

#[inline]
fn i64_at(cells: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(cells[at..at + 8].try_into().expect("8 bytes"))
}

#[inline]
fn i128_at(cells: &[u8], at: usize) -> i128 {
    i128::from_le_bytes(cells[at..at + 16].try_into().expect("16 bytes"))
}

#[inline]
pub(crate) fn bytes_at<'h>(cells: &[u8], heap: &'h [u8], at: usize) -> &'h [u8] {
    let (start, len) = layout::reference(cells, at);
    &heap[start..start + len]
}

#[cfg(test)]
mod tests;
