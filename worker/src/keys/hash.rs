//! The hash rule of `docs/internals/key-hash.md`, a column at a time.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Type tags. A number here is part of every checkpoint: never reuse or change one.
mod tag {
    pub const INTEGER: u64 = 1;
    pub const BOOLEAN: u64 = 2;
    pub const FLOAT: u64 = 3;
    pub const DECIMAL: u64 = 4;
    pub const STRING: u64 = 5;
    pub const BINARY: u64 = 6;
    pub const DATE: u64 = 7;
    pub const TIME: u64 = 8;
    pub const TIMESTAMP: u64 = 9;
    pub const TIMESTAMP_LTZ: u64 = 10;
    pub const DURATION: u64 = 11;
    pub const NULL: u64 = 12;
}

/// 2^64 divided by the golden ratio: spreads tags and keeps columns apart.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// The hash of a key without columns.
const NO_COLUMNS: u64 = GOLDEN;
/// The one NaN.
const CANONICAL_NAN: u64 = 0x7FF8_0000_0000_0000;

/// Hashes rows of `columns` into `hashes` (cleared first), by the rule of `docs/internals/key-hash.md`.
/// `num_rows` counts when there are no columns: then every row has the same hash.
///
/// # Panics
/// When a column has a type that no SQL type maps to (`SqlType::arrow`).
pub fn hash_columns(columns: &[ArrayRef], num_rows: usize, hashes: &mut Vec<u64>) {
    hashes.clear();
    let Some((first, rest)) = columns.split_first() else {
        hashes.resize(num_rows, NO_COLUMNS);
        return;
    };
    hashes.resize(first.len(), 0);
    hash_column(first.as_ref(), hashes, |_, value| value);
    for column in rest {
        hash_column(column.as_ref(), hashes, |before, value| mix(before.wrapping_mul(GOLDEN) ^ value));
    }
}

/// `hash mod max_parallelism` of each, into `groups` (cleared first).
pub fn key_groups(hashes: &[u64], max_parallelism: u32, groups: &mut Vec<u16>) {
    let max = u64::from(max_parallelism);
    groups.clear();
    // The remainder is below MAX_PARALLELISM_LIMIT (32,768).
    groups.extend(hashes.iter().map(|hash| (hash % max) as u16));
}

/// The finaliser: a bijection of 64 bits in which every input bit changes half of the output
/// (David Stafford's variant 13 of MurmurHash3's, as in SplitMix64).
#[inline]
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A fixed-width value: its canonical 64 bits under its tag.
#[inline]
const fn word(tag: u64, bits: u64) -> u64 {
    mix(bits ^ tag.wrapping_mul(GOLDEN))
}

/// Folds the hash of each value of `column` into `hashes` by `combine(before, value)`.
fn hash_column(column: &dyn Array, hashes: &mut [u64], combine: impl Fn(u64, u64) -> u64) {
    use DataType as T;
    match column.data_type() {
        T::Null => hashes.iter_mut().for_each(|h| *h = combine(*h, word(tag::NULL, 0))),
        T::Boolean => {
            let values = column.as_boolean().values();
            fold(column, hashes, combine, |i| word(tag::BOOLEAN, u64::from(values.value(i))));
        }
        T::Int8 => words::<Int8Type>(column, hashes, combine, |v| word(tag::INTEGER, i64::from(v) as u64)),
        T::Int16 => words::<Int16Type>(column, hashes, combine, |v| word(tag::INTEGER, i64::from(v) as u64)),
        T::Int32 => words::<Int32Type>(column, hashes, combine, |v| word(tag::INTEGER, i64::from(v) as u64)),
        T::Int64 => words::<Int64Type>(column, hashes, combine, |v| word(tag::INTEGER, v as u64)),
        T::Float32 => words::<Float32Type>(column, hashes, combine, |v| float(f64::from(v))),
        T::Float64 => words::<Float64Type>(column, hashes, combine, float),
        T::Decimal128(_, scale) => {
            let scale = *scale;
            words::<Decimal128Type>(column, hashes, combine, |v| decimal(v, scale));
        }
        T::Utf8 => {
            let values = column.as_string::<i32>();
            fold(column, hashes, combine, |i| xxh3_64_with_seed(values.value(i).as_bytes(), tag::STRING));
        }
        T::Binary => {
            let values = column.as_binary::<i32>();
            fold(column, hashes, combine, |i| xxh3_64_with_seed(values.value(i), tag::BINARY));
        }
        T::Date32 => words::<Date32Type>(column, hashes, combine, |v| word(tag::DATE, i64::from(v) as u64)),
        T::Time32(TimeUnit::Millisecond) => {
            words::<Time32MillisecondType>(column, hashes, combine, |v| word(tag::TIME, i64::from(v) as u64));
        }
        T::Duration(TimeUnit::Millisecond) => {
            words::<DurationMillisecondType>(column, hashes, combine, |v| word(tag::DURATION, v as u64));
        }
        T::Timestamp(unit, zone) => {
            let tag = if zone.is_some() { tag::TIMESTAMP_LTZ } else { tag::TIMESTAMP };
            match unit {
                TimeUnit::Millisecond => {
                    words::<TimestampMillisecondType>(column, hashes, combine, |v| timestamp(tag, v, 1));
                }
                TimeUnit::Microsecond => {
                    words::<TimestampMicrosecondType>(column, hashes, combine, |v| timestamp(tag, v, 1_000));
                }
                TimeUnit::Nanosecond => {
                    words::<TimestampNanosecondType>(column, hashes, combine, |v| timestamp(tag, v, 1_000_000));
                }
                TimeUnit::Second => panic!("failed to hash a key column of type {}", column.data_type()),
            }
        }
        other => panic!("failed to hash a key column of type {other}: no SQL type maps to it"),
    }
}

/// A column of fixed-width values.
fn words<T: ArrowPrimitiveType>(
    column: &dyn Array,
    hashes: &mut [u64],
    combine: impl Fn(u64, u64) -> u64,
    hash: impl Fn(T::Native) -> u64,
) {
    let values = column.as_primitive::<T>().values();
    if column.null_count() == 0 {
        for (h, value) in hashes.iter_mut().zip(values.iter()) {
            *h = combine(*h, hash(*value));
        }
    } else {
        fold(column, hashes, combine, |i| hash(values[i]));
    }
}

/// Any column: `hash(row)` where there is a value.
fn fold(column: &dyn Array, hashes: &mut [u64], combine: impl Fn(u64, u64) -> u64, hash: impl Fn(usize) -> u64) {
    for (i, h) in hashes.iter_mut().enumerate() {
        let value = if column.is_null(i) { word(tag::NULL, 0) } else { hash(i) };
        *h = combine(*h, value);
    }
}

#[inline]
fn float(value: f64) -> u64 {
    word(tag::FLOAT, canonical_float_bits(value))
}

/// -0.0 as 0.0, every NaN as the one.
#[inline]
pub(super) fn canonical_float_bits(value: f64) -> u64 {
    if value.is_nan() {
        CANONICAL_NAN
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Trailing zeros of the fraction do not count: 1.0 and 1.00 are one value. The scale does not go below 0.
fn decimal(mut unscaled: i128, mut scale: i8) -> u64 {
    while scale > 0 && unscaled % 10 == 0 {
        if unscaled == 0 {
            scale = 0;
            break;
        }
        unscaled /= 10;
        scale -= 1;
    }
    let low = word(tag::DECIMAL, unscaled as u64);
    let high = mix(low.wrapping_mul(GOLDEN) ^ ((unscaled >> 64) as u64));
    mix(high.wrapping_mul(GOLDEN) ^ (i64::from(scale) as u64))
}

/// Milliseconds, then what is left below a millisecond in nanoseconds where that is not 0.
#[inline]
fn timestamp(tag: u64, value: i64, per_ms: i64) -> u64 {
    let hash = word(tag, value.div_euclid(per_ms) as u64);
    let rest_ns = value.rem_euclid(per_ms) * (1_000_000 / per_ms);
    if rest_ns == 0 { hash } else { mix(hash.wrapping_mul(GOLDEN) ^ (rest_ns as u64)) }
}

#[cfg(test)]
mod tests;
