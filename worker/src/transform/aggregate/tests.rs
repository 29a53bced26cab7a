//! The core against a reference, type by type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Int8Type, Int64Type};
use arrow_array::{ArrayRef, Decimal128Array, Float32Array, Int8Array, Int64Array};
use millstream_api::graph::{AggregateCall, AggregateFunction, ChangelogMode, Field, Schema, SqlType};

use super::accumulator::DECIMAL_OVERFLOW;
use super::results::results;
use super::*;
use crate::transform::harness::{
    K1, K2, Random, TIME, TestRow, batch, by_key, calls, input_schema, lines, reference_results, row,
};

fn text(keys: &[usize], columns: Vec<ArrayRef>) -> Vec<String> {
    let mut fields: Vec<Field> = keys.iter().map(|k| input_schema().fields[*k].clone()).collect();
    fields.extend(calls().into_iter().map(|c| c.output));
    let schema = Schema::new(fields);
    let batch = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    let mut lines = lines(&schema, &ChangelogMode::Append, &[batch]);
    lines.sort();
    lines
}

#[test]
fn combining_rows_and_merging_partials_equal_the_reference_for_every_key() {
    let key_sets: [&[usize]; 6] = [&[K1], &[K2], &[K1, K2], &[TIME], &[TIME, K2, K1], &[]];
    for (seed, keys) in key_sets.into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let fields: Vec<Field> = keys.iter().map(|k| input_schema().fields[*k].clone()).collect();
        let plan = AggregatePlan::new(&calls()).unwrap();
        let mut merged = HashAggregate::new(&fields, &plan).unwrap();
        let mut local = HashAggregate::new(&fields, &plan).unwrap();
        let mut all: Vec<TestRow> = Vec::new();
        for step in 0..30 {
            let rows: Vec<TestRow> = (0..1 + random.below(50))
                .map(|_| {
                    let time = random.in_range(-5..5);
                    row(&mut random, time)
                })
                .collect();
            let input = batch(&rows);
            let key_columns: Vec<ArrayRef> = keys.iter().map(|k| input.column(*k).clone()).collect();
            let feeds = plan.feeds_of_rows(&input);
            if step % 3 == 0 {
                let partials = plan.partials_of_each(&feeds, rows.len());
                merged.update(&key_columns, &plan.feeds_of_partials(&partials), rows.len()).unwrap();
            } else {
                local.update(&key_columns, &feeds, rows.len()).unwrap();
                let groups = local.len();
                // Used again after it was drained.
                let (key_columns, partials) = local.drain().unwrap();
                merged.update(&key_columns, &plan.feeds_of_partials(&partials), groups).unwrap();
            }
            all.extend(rows);
        }
        assert!(merged.bytes() > 0);
        let (mut columns, accumulators) = merged.drain().unwrap();
        columns.extend(results(&plan, &accumulators).unwrap());
        let mut expected: Vec<String> =
            by_key(keys, &all).into_iter().map(|(k, rows)| format!("+I[{k}{}]", reference_results(&rows))).collect();
        expected.sort();
        assert_eq!(text(keys, columns), expected, "keys {keys:?}");
        assert!(merged.is_empty());
    }
}

fn call(function: AggregateFunction, arg_type: SqlType, output: SqlType) -> AggregateCall {
    AggregateCall {
        function,
        arg: Some(0),
        arg_type: Some(arg_type),
        filter: None,
        output: Field::new("result", output, true),
    }
}

/// The result of one call over one column, all rows in one group.
fn aggregate(call: AggregateCall, column: ArrayRef) -> ArrayRef {
    let plan = AggregatePlan::new(&[call]).unwrap();
    let mut all = HashAggregate::new(&[], &plan).unwrap();
    let input = RecordBatch::try_from_iter([("v", column)]).unwrap();
    all.update(&[], &plan.feeds_of_rows(&input), input.num_rows()).unwrap();
    let (_, accumulators) = all.drain().unwrap();
    results(&plan, &accumulators).unwrap().remove(0)
}

#[test]
fn integer_sums_wrap_at_the_width_of_their_type_as_java_does() {
    let tiny: ArrayRef = Arc::new(Int8Array::from(vec![100, 100]));
    let sum = aggregate(call(AggregateFunction::Sum, SqlType::TinyInt, SqlType::TinyInt), tiny);
    assert_eq!(sum.as_primitive::<Int8Type>().value(0), -56);
    let big: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1]));
    let sum = aggregate(call(AggregateFunction::Sum, SqlType::BigInt, SqlType::BigInt), big);
    assert_eq!(sum.as_primitive::<Int64Type>().value(0), i64::MIN);
}

#[test]
fn a_decimal_sum_that_overflows_is_null_and_stays_null() {
    let ty = SqlType::Decimal { precision: 38, scale: 0 };
    let most = 10_i128.pow(38) - 1;
    let column = |values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 0).unwrap())
    };
    let sum = |values| aggregate(call(AggregateFunction::Sum, ty.clone(), ty.clone()), column(values));
    assert_eq!(sum(vec![most - 1, 1]).as_primitive::<Decimal128Type>().value(0), most);
    assert!(sum(vec![most, 1]).is_null(0));
    assert!(sum(vec![most, 1, -5]).is_null(0));
    assert!(sum(vec![-most, -1]).is_null(0));
    assert_eq!(super::accumulator::add_decimal(DECIMAL_OVERFLOW, -1), DECIMAL_OVERFLOW);
}

#[test]
fn averages_follow_flink_truncated_for_integers_half_up_for_decimals() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(-3), None, Some(-4)]));
    let average = aggregate(call(AggregateFunction::Avg, SqlType::BigInt, SqlType::BigInt), ints);
    assert_eq!(average.as_primitive::<Int64Type>().value(0), -3);
    let (arg, output) = (SqlType::Decimal { precision: 10, scale: 2 }, SqlType::Decimal { precision: 38, scale: 6 });
    let money: ArrayRef =
        Arc::new(Decimal128Array::from(vec![-100, -100, -1]).with_precision_and_scale(10, 2).unwrap());
    let average = aggregate(call(AggregateFunction::Avg, arg, output), money);
    assert_eq!(average.as_primitive::<Decimal128Type>().value(0), -670_000);
    let none: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    assert!(aggregate(call(AggregateFunction::Avg, SqlType::BigInt, SqlType::BigInt), none).is_null(0));
}

#[test]
fn floats_sum_in_their_own_precision_and_order_as_double_compare() {
    let floats = |values: Vec<f32>| -> ArrayRef { Arc::new(Float32Array::from(values)) };
    let of = |function, values| aggregate(call(function, SqlType::Float, SqlType::Float), floats(values));
    let value = |array: ArrayRef| array.as_primitive::<Float32Type>().value(0);
    assert_eq!(value(of(AggregateFunction::Sum, vec![16_777_216.0, 1.0, 1.0])), 16_777_216.0);
    assert!(value(of(AggregateFunction::Max, vec![1.0, f32::NAN, 2.0])).is_nan());
    assert_eq!(value(of(AggregateFunction::Min, vec![f32::NAN, 2.0, -f32::NAN])), 2.0);
    assert!(value(of(AggregateFunction::Min, vec![0.0, -0.0])).is_sign_negative());
    assert!(value(of(AggregateFunction::Max, vec![-0.0, 0.0])).is_sign_positive());
}
