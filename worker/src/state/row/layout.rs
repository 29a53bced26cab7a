//! Where the columns of a row are, and the heap of its variable ones.

use arrow_schema::DataType;
use millstream_api::graph::Schema;

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellKind {
    /// Booleans, integers, dates, times, intervals: an i64.
    Int,
    /// FLOAT and DOUBLE: an f64.
    Float,
    /// DECIMAL: an i128.
    Decimal,
    /// Strings and binary: offset and length (u32 each) in the heap.
    Bytes,
}

impl CellKind {
    fn of(ty: &DataType) -> Self {
        match ty {
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Decimal128(..) => Self::Decimal,
            DataType::Utf8 | DataType::Binary => Self::Bytes,
            _ => Self::Int,
        }
    }

    pub(crate) fn width(self) -> usize {
        if self == Self::Decimal { 16 } else { 8 }
    }
}

/// One column's place.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub offset: usize,
    pub kind: CellKind,
}

/// The layout of a table's rows.
#[derive(Debug)]
pub(crate) struct RowLayout {
    pub cells: Vec<Cell>,
    pub types: Vec<DataType>,
    /// Offsets of the cells of kind `Bytes`.
    pub variable: Vec<usize>,
    /// Where the time of the last write is, in tables with TTL.
    pub written_at: Option<usize>,
    /// A new row: nullable columns NULL, the others zero or empty.
    pub blank: Vec<u8>,
}

impl RowLayout {
    pub fn new(value: &Schema, ttl: bool) -> Self {
        let types: Vec<DataType> = value.fields.iter().map(|f| f.ty.arrow()).collect();
        let mut end = types.len().div_ceil(8);
        let mut cells = Vec::with_capacity(types.len());
        for ty in &types {
            let kind = CellKind::of(ty);
            cells.push(Cell { offset: end, kind });
            end += kind.width();
        }
        let written_at = ttl.then(|| {
            end += 8;
            end - 8
        });
        let mut blank = vec![0; end];
        for (i, field) in value.fields.iter().enumerate() {
            if field.nullable {
                blank[i / 8] |= 1 << (i % 8);
            }
        }
        let variable = cells.iter().filter(|c| c.kind == CellKind::Bytes).map(|c| c.offset).collect();
        Self { cells, types, variable, written_at, blank }
    }

    /// Bytes of a row without its heap.
    pub fn len(&self) -> usize {
        self.blank.len()
    }

    #[inline]
    pub fn offset(&self, column: usize, kind: CellKind) -> usize {
        let cell = &self.cells[column];
        debug_assert_eq!(cell.kind, kind, "column {column} is {}", self.types[column]);
        cell.offset
    }

    /// Time of the last write, epoch ms; 0 in tables without TTL.
    pub fn written_ms(&self, cells: &[u8]) -> i64 {
        self.written_at.map_or(0, |at| super::i64_at(cells, at))
    }

    pub fn set_written_ms(&self, cells: &mut [u8], now_ms: i64) {
        if let Some(at) = self.written_at {
            cells[at..at + 8].copy_from_slice(&now_ms.to_le_bytes());
        }
    }

    /// Appends the row as one run of bytes: the cells, their references counted from the end of the cells, then what they
    /// refer to.
    pub fn pack(&self, cells: &[u8], heap: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(cells);
        let mut end = 0;
        for &at in &self.variable {
            let (from, len) = reference(cells, at);
            out.extend_from_slice(&heap[from..from + len]);
            set_reference(&mut out[start..], at, end, len);
            end += len;
        }
    }

    /// Reads a packed row in place, without copying.
    pub fn packed<'a>(&'a self, packed: &'a [u8]) -> super::RowRef<'a> {
        let (cells, heap) = packed.split_at(self.len());
        super::RowRef { layout: self, cells, heap }
    }

    /// Length of the packed row that starts at `bytes`.
    pub fn packed_len(&self, bytes: &[u8]) -> usize {
        self.len() + self.variable.iter().map(|&at| reference(bytes, at).1).sum::<usize>()
    }

    /// Overwrites `cells` with a packed row; what `cells` referred to becomes garbage.
    pub fn unpack(&self, packed: &[u8], cells: &mut [u8], heap: &mut Heap) {
        for &at in &self.variable {
            heap.release(cells, at);
        }
        let (packed_cells, packed_heap) = packed.split_at(self.len());
        cells.copy_from_slice(packed_cells);
        for &at in &self.variable {
            let (from, len) = reference(packed_cells, at);
            set_reference(cells, at, 0, 0);
            heap.store(cells, at, &packed_heap[from..from + len]);
        }
    }

    /// Makes `cells` a new row.
    pub fn reset(&self, cells: &mut [u8], heap: &mut Heap) {
        for &at in &self.variable {
            heap.release(cells, at);
        }
        cells.copy_from_slice(&self.blank);
    }
}

/// Bytes that rows of one table refer to. Append-only between compactions.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub bytes: Vec<u8>,
    /// Bytes that nothing refers to any more.
    pub garbage: usize,
    /// A value did not fit: references are 32 bits wide. The caller of the visitor turns this into an error.
    pub overflowed: bool,
}

/// Largest heap of one table in one key group and namespace.
pub(crate) const HEAP_BYTES_MAX: usize = u32::MAX as usize;
/// Below this a heap is not worth compacting.
const HEAP_COMPACT_MIN: usize = 4 << 10;

impl Heap {
    /// Stores `value` and refers to it from the cell at `at`; in place when it is not longer than what was there.
    pub fn store(&mut self, cells: &mut [u8], at: usize, value: &[u8]) {
        let (start, len) = reference(cells, at);
        if value.len() <= len {
            self.bytes[start..start + value.len()].copy_from_slice(value);
            self.garbage += len - value.len();
            set_reference(cells, at, start, value.len());
            return;
        }
        self.garbage += len;
        set_reference(cells, at, 0, 0);
        if self.bytes.len() + value.len() > HEAP_BYTES_MAX {
            self.overflowed = true;
            return;
        }
        let start = self.append(value);
        set_reference(cells, at, start, value.len());
    }

    /// Appends bytes; returns where they start. The caller has checked the bound.
    pub fn append(&mut self, value: &[u8]) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        start
    }

    /// The cell at `at` refers to nothing any more.
    pub fn release(&mut self, cells: &mut [u8], at: usize) {
        let (_, len) = reference(cells, at);
        self.garbage += len;
        set_reference(cells, at, 0, 0);
    }

    /// More than half is garbage.
    pub fn wants_compaction(&self) -> bool {
        self.garbage > HEAP_COMPACT_MIN && self.garbage * 2 > self.bytes.len()
    }
}

/// Offset and length that a cell of kind `Bytes` holds.
#[inline]
pub(super) fn reference(cells: &[u8], at: usize) -> (usize, usize) {
    let word = |at: usize| u32::from_le_bytes(cells[at..at + 4].try_into().expect("4 bytes")) as usize;
    (word(at), word(at + 4))
}

#[inline]
pub(crate) fn set_reference(cells: &mut [u8], at: usize, start: usize, len: usize) {
    // Both are at most HEAP_BYTES_MAX.
    cells[at..at + 4].copy_from_slice(&(start as u32).to_le_bytes());
    cells[at + 4..at + 8].copy_from_slice(&(len as u32).to_le_bytes());
}

/// Moves what the cell at `at` refers to from one heap to the end of another.
pub(crate) fn move_reference(cells: &mut [u8], at: usize, from: &[u8], to: &mut Vec<u8>) {
    let (start, len) = reference(cells, at);
    let moved = to.len();
    to.extend_from_slice(&from[start..start + len]);
    set_reference(cells, at, if len == 0 { 0 } else { moved }, len);
}
