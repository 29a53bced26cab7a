//! One accumulator column: a value per group, folded over (group, value) pairs in loops without dispatch per row.
//!
//! The rules are Flink's: NULL arguments do not count; integer sums wrap as Java's do; FLOAT sums in single precision;
//! strings compare by their bytes. Two choices are ours, because two-phase aggregation must not depend on the order of
//! rows: MIN and MAX order floats as `Double.compare` (NaN above all, -0.0 below 0.0), and a DECIMAL sum that once left
//! 38 digits stays overflown ([`DECIMAL_OVERFLOW`], NULL in results).

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_schema::DataType;

use super::columns::{Kind, bytes_at, decimal_array, float_array, integer_array, with_integers};

/// The value of a DECIMAL accumulator after its sum overflowed; no DECIMAL(38) reaches it.
pub const DECIMAL_OVERFLOW: i128 = i128::MAX;
/// 10^38: the first magnitude that DECIMAL(38) cannot hold.
const DECIMAL_LIMIT: i128 = 10_i128.pow(38);
/// The one NaN, greatest in `total_cmp`.
const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0000);

/// How values are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Of rows; or the sum of counts, when counts are merged. Never NULL.
    Count,
    Sum,
    Min,
    Max,
}

/// What feeds an accumulator from one batch.
#[derive(Clone, Debug)]
pub struct Feed {
    /// `None`: each row counts 1.
    pub values: Option<ArrayRef>,
    /// Rows that take part; `None`: all of them.
    pub mask: Option<BooleanBuffer>,
}

impl Feed {
    /// The rows `start..start + len`.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        Self {
            values: self.values.as_ref().map(|v| v.slice(start, len)),
            mask: self.mask.as_ref().map(|m| m.slice(start, len)),
        }
    }
}

/// Values of all groups.
#[derive(Debug)]
pub struct Accumulator {
    fold: Fold,
    ty: DataType,
    slots: Slots,
    seen: Seen,
}

#[derive(Debug)]
enum Slots {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>),
    Bytes { values: Vec<Vec<u8>>, heap_bytes: usize },
}

impl Accumulator {
    /// An accumulator whose column is of type `ty`.
    #[must_use]
    pub fn new(fold: Fold, ty: DataType, kind: Kind) -> Self {
        let slots = match kind {
            Kind::Int => Slots::Int(Vec::new()),
            Kind::Float => Slots::Float(Vec::new()),
            Kind::Decimal => Slots::Decimal(Vec::new()),
            Kind::Bytes => Slots::Bytes { values: Vec::new(), heap_bytes: 0 },
        };
        Self { fold, ty, slots, seen: Seen::default() }
    }

    /// Folds a batch in. `groups` holds the group of each row; there are `group_count` groups by now, and each group
    /// that was not there before has a row in this batch.
    pub fn update(&mut self, groups: &[u32], group_count: usize, feed: &Feed) {
        let mask = feed.mask.as_ref();
        let Some(values) = &feed.values else {
            self.count(groups, group_count, mask);
            return;
        };
        if let Slots::Bytes { values: slots, heap_bytes } = &mut self.slots {
            let wanted = if self.fold == Fold::Min { Ordering::Less } else { Ordering::Greater };
            slots.resize_with(group_count, Vec::new);
            let seen = self.seen.materialise(group_count);
            fold_bytes(slots, seen, heap_bytes, groups, values, mask, wanted);
            return;
        }
        if self.fold != Fold::Count {
            self.seen.update(self.slots.len(), group_count, groups, mask);
        }
        match &mut self.slots {
            Slots::Int(slots) => fold_integers(self.fold, slots, groups, group_count, values, mask),
            Slots::Float(slots) => {
                let single = self.ty == DataType::Float32;
                fold_floats(self.fold, single, slots, groups, group_count, values, mask);
            }
            Slots::Decimal(slots) => fold_decimals(self.fold, slots, groups, group_count, values, mask),
            Slots::Bytes { .. } => {}
        }
    }

    fn count(&mut self, groups: &[u32], group_count: usize, mask: Option<&BooleanBuffer>) {
        if let Slots::Int(counts) = &mut self.slots {
            counts.resize(group_count, 0);
            fold_each(counts, groups, std::iter::repeat(1), mask, |count, one: i64| count + one);
        }
    }

    /// Memory of the values, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.slots {
            Slots::Int(values) => values.len() * size_of::<i64>(),
            Slots::Float(values) => values.len() * size_of::<f64>(),
            Slots::Decimal(values) => values.len() * size_of::<i128>(),
            Slots::Bytes { values, heap_bytes } => values.len() * size_of::<Vec<u8>>() + heap_bytes,
        }
    }

    /// The values by group number; NULL where no value was seen. The accumulator is empty afterwards.
    pub fn drain(&mut self) -> ArrayRef {
        let nulls = std::mem::take(&mut self.seen).into_nulls();
        match &mut self.slots {
            Slots::Int(values) => integer_array(&self.ty, std::mem::take(values), nulls),
            Slots::Float(values) => float_array(&self.ty, std::mem::take(values), nulls),
            Slots::Decimal(values) => decimal_array(&self.ty, std::mem::take(values), nulls),
            Slots::Bytes { values, heap_bytes } => {
                *heap_bytes = 0;
                bytes_array(&self.ty, &std::mem::take(values), nulls)
            }
        }
    }
}

impl Slots {
    fn len(&self) -> usize {
        match self {
            Slots::Int(values) => values.len(),
            Slots::Float(values) => values.len(),
            Slots::Decimal(values) => values.len(),
            Slots::Bytes { values, .. } => values.len(),
        }
    }
}

/// Which groups have seen a value. As long as no batch held a NULL that is all of them, and nothing is stored.
#[derive(Debug, Default)]
struct Seen(Option<Vec<bool>>);

impl Seen {
    fn update(&mut self, old_count: usize, group_count: usize, groups: &[u32], mask: Option<&BooleanBuffer>) {
        if self.0.is_none() && mask.is_some() {
            self.0 = Some(vec![true; old_count]);
        }
        if let Some(seen) = &mut self.0 {
            seen.resize(group_count, false);
            fold_each(seen, groups, std::iter::repeat(()), mask, |_, ()| true);
        }
    }

    /// The flags as they are stored, false for groups that are new.
    fn materialise(&mut self, group_count: usize) -> &mut Vec<bool> {
        let seen = self.0.get_or_insert_with(Vec::new);
        seen.resize(group_count, false);
        seen
    }

    fn into_nulls(self) -> Option<NullBuffer> {
        self.0.map(NullBuffer::from).filter(|n| n.null_count() > 0)
    }
}

/// The hot loop.
#[inline]
fn fold_each<A: Copy, V>(
    slots: &mut [A],
    groups: &[u32],
    values: impl Iterator<Item = V>,
    mask: Option<&BooleanBuffer>,
    step: impl Fn(A, V) -> A,
) {
    match mask {
        None => {
            for (group, value) in groups.iter().zip(values) {
                let slot = &mut slots[*group as usize];
                *slot = step(*slot, value);
            }
        }
        Some(mask) => {
            for ((group, value), _) in groups.iter().zip(values).zip(mask.iter()).filter(|(_, takes_part)| *takes_part)
            {
                let slot = &mut slots[*group as usize];
                *slot = step(*slot, value);
            }
        }
    }
}

fn fold_integers(
    fold: Fold,
    slots: &mut Vec<i64>,
    groups: &[u32],
    group_count: usize,
    values: &ArrayRef,
    mask: Option<&BooleanBuffer>,
) {
    let start = match fold {
        Fold::Count | Fold::Sum => 0,
        Fold::Min => i64::MAX,
        Fold::Max => i64::MIN,
    };
    slots.resize(group_count, start);
    with_integers!(values, |values| match fold {
        // Sums of narrower types wrap at their own width when the column is made: the low bits are the same.
        Fold::Count | Fold::Sum => fold_each(slots, groups, values, mask, i64::wrapping_add),
        Fold::Min => fold_each(slots, groups, values, mask, i64::min),
        Fold::Max => fold_each(slots, groups, values, mask, i64::max),
    });
}

fn fold_floats(
    fold: Fold,
    single: bool,
    slots: &mut Vec<f64>,
    groups: &[u32],
    group_count: usize,
    values: &ArrayRef,
    mask: Option<&BooleanBuffer>,
) {
    let start = match fold {
        Fold::Count | Fold::Sum => 0.0,
        Fold::Min => NAN,
        Fold::Max => f64::NEG_INFINITY,
    };
    slots.resize(group_count, start);
    match values.data_type() {
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v));
            fold_float_values(fold, single, slots, groups, values, mask);
        }
        _ => {
            let values = values.as_primitive::<Float64Type>().values().iter().copied();
            fold_float_values(fold, single, slots, groups, values, mask);
        }
    }
}

fn fold_float_values(
    fold: Fold,
    single: bool,
    slots: &mut [f64],
    groups: &[u32],
    values: impl Iterator<Item = f64>,
    mask: Option<&BooleanBuffer>,
) {
    match fold {
        Fold::Count | Fold::Sum if single => fold_each(slots, groups, values, mask, add_single),
        Fold::Count | Fold::Sum => fold_each(slots, groups, values, mask, |sum, value| sum + value),
        Fold::Min => fold_each(slots, groups, values, mask, min_float),
        Fold::Max => fold_each(slots, groups, values, mask, max_float),
    }
}

fn fold_decimals(
    fold: Fold,
    slots: &mut Vec<i128>,
    groups: &[u32],
    group_count: usize,
    values: &ArrayRef,
    mask: Option<&BooleanBuffer>,
) {
    let start = match fold {
        Fold::Count | Fold::Sum => 0,
        Fold::Min => i128::MAX,
        Fold::Max => i128::MIN,
    };
    slots.resize(group_count, start);
    let values = values.as_primitive::<Decimal128Type>().values().iter().copied();
    match fold {
        Fold::Count | Fold::Sum => fold_each(slots, groups, values, mask, add_decimal),
        Fold::Min => fold_each(slots, groups, values, mask, i128::min),
        Fold::Max => fold_each(slots, groups, values, mask, i128::max),
    }
}

fn fold_bytes(
    slots: &mut [Vec<u8>],
    seen: &mut [bool],
    heap_bytes: &mut usize,
    groups: &[u32],
    values: &ArrayRef,
    mask: Option<&BooleanBuffer>,
    wanted: Ordering,
) {
    for (row, group) in groups.iter().enumerate().filter(|(row, _)| mask.is_none_or(|m| m.value(*row))) {
        let (slot, seen) = (&mut slots[*group as usize], &mut seen[*group as usize]);
        let value = bytes_at(values, row);
        if !*seen || value.cmp(slot.as_slice()) == wanted {
            let before = slot.capacity();
            slot.clear();
            slot.extend_from_slice(value);
            *heap_bytes += slot.capacity() - before;
            *seen = true;
        }
    }
}

fn bytes_array(ty: &DataType, values: &[Vec<u8>], nulls: Option<NullBuffer>) -> ArrayRef {
    let offsets = OffsetBuffer::<i32>::from_lengths(values.iter().map(Vec::len));
    let data = Buffer::from_vec(values.concat());
    if *ty == DataType::Utf8 {
        Arc::new(StringArray::new(offsets, data, nulls))
    } else {
        Arc::new(BinaryArray::new(offsets, data, nulls))
    }
}

/// The sum of two FLOATs, rounded to single precision as Java does.
pub fn add_single(a: f64, b: f64) -> f64 {
    f64::from(a as f32 + b as f32)
}

/// The smaller of two by `Double.compare`.
pub fn min_float(a: f64, b: f64) -> f64 {
    if compare_floats(b, a) == Ordering::Less { b } else { a }
}

/// The larger of two by `Double.compare`.
pub fn max_float(a: f64, b: f64) -> f64 {
    if compare_floats(b, a) == Ordering::Greater { b } else { a }
}

fn compare_floats(a: f64, b: f64) -> Ordering {
    let one_nan = |v: f64| if v.is_nan() { NAN } else { v };
    one_nan(a).total_cmp(&one_nan(b))
}

/// The sum of two DECIMAL accumulators.
pub fn add_decimal(a: i128, b: i128) -> i128 {
    match a.checked_add(b) {
        Some(sum) if a != DECIMAL_OVERFLOW && b != DECIMAL_OVERFLOW && sum.abs() < DECIMAL_LIMIT => sum,
        _ => DECIMAL_OVERFLOW,
    }
}
