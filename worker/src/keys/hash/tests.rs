//! Golden values: a change here makes every checkpoint unreadable.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, NullArray, StringArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};

use super::*;

fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
    let mut out = vec![7; 3];
    hash_columns(columns, columns.first().map_or(2, |c| c.len()), &mut out);
    out
}

fn one(column: ArrayRef) -> u64 {
    assert_eq!(column.len(), 1);
    hashes(&[column])[0]
}

fn dec(value: i128, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap())
}

#[test]
fn golden_values() {
    let golden: Vec<(&str, ArrayRef, u64)> = vec![
        ("BIGINT 0", Arc::new(Int64Array::from(vec![0])), 0xE220_A839_7B1D_CDAF),
        ("BIGINT 1", Arc::new(Int64Array::from(vec![1])), 0xE4D9_7177_1B65_2C20),
        ("BIGINT -1", Arc::new(Int64Array::from(vec![-1])), 0xDE0A_564C_BCD0_60C4),
        ("BIGINT max", Arc::new(Int64Array::from(vec![i64::MAX])), 0x39CA_3C83_5068_D818),
        ("BOOLEAN true", Arc::new(BooleanArray::from(vec![true])), 0xBEEB_8DA1_658E_EC67),
        ("DOUBLE 1.5", Arc::new(Float64Array::from(vec![1.5])), 0x9304_5FD1_5ACC_A01C),
        ("DOUBLE NaN", Arc::new(Float64Array::from(vec![f64::NAN])), 0xDDD3_D5A1_10A5_7E1D),
        ("DECIMAL 12.34", dec(1234, 2), 0x8802_A288_8F74_D759),
        ("DECIMAL -10^30", dec(-(10i128.pow(30)), 0), 0xEA63_EE23_5B02_7B3E),
        ("STRING ''", Arc::new(StringArray::from(vec![""])), 0x388E_C5BD_0562_E095),
        ("STRING 'millstream'", Arc::new(StringArray::from(vec!["millstream"])), 0x0D73_E197_33D7_F36F),
        ("BYTES 00ff", Arc::new(BinaryArray::from_vec(vec![&[0u8, 255][..]])), 0x0058_39A7_BEF4_DCF8),
        ("DATE 2024-02-29", Arc::new(Date32Array::from(vec![19_782])), 0xD903_12E1_0C6E_AF99),
        ("TIME 12:34:56.789", Arc::new(Time32MillisecondArray::from(vec![45_296_789])), 0x1093_7A15_2DAF_61ED),
        (
            "TIMESTAMP 1709210096789",
            Arc::new(TimestampMillisecondArray::from(vec![1_709_210_096_789])),
            0x489B_13ED_9356_6E88,
        ),
        (
            "TIMESTAMP(6) .789001",
            Arc::new(TimestampMicrosecondArray::from(vec![1_709_210_096_789_001])),
            0x7E49_3FE4_55E7_4E6E,
        ),
        (
            "TIMESTAMP_LTZ 1709210096789",
            Arc::new(TimestampMillisecondArray::from(vec![1_709_210_096_789]).with_timezone("UTC")),
            0x10ED_1DBD_ADE9_3E31,
        ),
        ("INTERVAL 1 s", Arc::new(DurationMillisecondArray::from(vec![1_000])), 0xB7B3_1414_F1A7_1A31),
        ("NULL", Arc::new(NullArray::new(1)), 0xC2D3_26E0_055B_DEF6),
    ];
    let mut wrong = Vec::new();
    for (name, column, expected) in golden {
        let got = one(column);
        if got != expected {
            wrong.push(format!("{name}: {got:#018x}"));
        }
    }
    assert!(wrong.is_empty(), "the hash rule changed:\n{}", wrong.join("\n"));
}

#[test]
fn golden_values_of_several_columns_depend_on_their_order() {
    let a: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let b: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    assert_eq!(hashes(&[a.clone(), b.clone()]), [0xF71C_30A1_8F89_94A7]);
    assert_eq!(hashes(&[b.clone(), a.clone()]), [0x2ED4_C612_326D_BE2B]);
    assert_eq!(hashes(&[a.clone(), a, b]), [0x9216_5BDB_23DF_DD14]);
    assert_eq!(hashes(&[]), [0x9E37_79B9_7F4A_7C15; 2]);
}

#[test]
fn equal_values_of_different_types_hash_alike() {
    let int = one(Arc::new(Int64Array::from(vec![-7])));
    assert_eq!(int, one(Arc::new(Int8Array::from(vec![-7]))));
    assert_eq!(int, one(Arc::new(Int16Array::from(vec![-7]))));
    assert_eq!(int, one(Arc::new(Int32Array::from(vec![-7]))));
    assert_eq!(one(dec(10, 1)), one(dec(100, 2)));
    assert_eq!(one(dec(0, 0)), one(dec(0, 9)));
    assert_ne!(one(dec(1, 0)), one(Arc::new(Int64Array::from(vec![1]))), "types are cast first");
    assert_eq!(one(Arc::new(Float32Array::from(vec![0.5]))), one(Arc::new(Float64Array::from(vec![0.5]))));
    assert_eq!(one(Arc::new(Float64Array::from(vec![-0.0]))), one(Arc::new(Float64Array::from(vec![0.0]))));
    let nan = f64::from_bits(0xFFF8_0000_0000_0001);
    assert_eq!(one(Arc::new(Float64Array::from(vec![nan]))), one(Arc::new(Float64Array::from(vec![f64::NAN]))));
    let ms = one(Arc::new(TimestampMillisecondArray::from(vec![-5])));
    assert_eq!(ms, one(Arc::new(TimestampMicrosecondArray::from(vec![-5_000]))));
    assert_eq!(ms, one(Arc::new(TimestampNanosecondArray::from(vec![-5_000_000]))));
    assert_eq!(
        one(Arc::new(TimestampMicrosecondArray::from(vec![-5_001]))),
        one(Arc::new(TimestampNanosecondArray::from(vec![-5_001_000])))
    );
    assert_ne!(ms, one(Arc::new(TimestampMicrosecondArray::from(vec![-5_001]))));
    let null = one(Arc::new(NullArray::new(1)));
    assert_eq!(null, one(Arc::new(Int64Array::from(vec![None]))));
    assert_eq!(null, one(Arc::new(StringArray::from(vec![None::<&str>]))));
}

#[test]
fn nulls_take_the_slow_path_to_the_same_values() {
    let dense = hashes(&[Arc::new(Int64Array::from(vec![1, 2, 3]))]);
    let sparse = hashes(&[Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))]);
    assert_eq!([dense[0], dense[2]], [sparse[0], sparse[2]]);
    let sliced: ArrayRef = Arc::new(Int64Array::from(vec![9, 1, 2, 3]).slice(1, 3));
    assert_eq!(dense, hashes(&[sliced]));
}

#[test]
fn groups_are_spread_evenly() {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..72_000));
    let mut groups = Vec::new();
    key_groups(&hashes(&[keys]), 720, &mut groups);
    let mut counts = vec![0u32; 720];
    for group in groups {
        counts[usize::from(group)] += 1;
    }
    // 100 expected; 5 standard deviations.
    assert!(counts.iter().all(|c| (50..=150).contains(c)), "{counts:?}");
}
