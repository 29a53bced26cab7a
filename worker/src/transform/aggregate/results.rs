//! Accumulators -> results.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{NullBuffer, i256};
use arrow_schema::DataType;
use millstream_api::graph::{AggregateCall, AggregateFunction};

use super::AggregatePlan;
use super::accumulator::DECIMAL_OVERFLOW;
use super::columns::{decimal_array, float_array, integer_array};

/// The result columns of `plan`, a row per row of its accumulator columns. The error says which call has types that
/// do not belong together.
pub fn results(plan: &AggregatePlan, accumulators: &[ArrayRef]) -> Result<Vec<ArrayRef>, String> {
    let mut rest = accumulators;
    plan.calls()
        .iter()
        .map(|call| {
            let (own, others) = rest.split_at(if call.function == AggregateFunction::Avg { 2 } else { 1 });
            rest = others;
            match call.function {
                AggregateFunction::Avg => average(call, &own[0], &own[1]),
                AggregateFunction::Sum if matches!(own[0].data_type(), DataType::Decimal128(..)) => {
                    Ok(without_overflow(&own[0]))
                }
                _ => Ok(own[0].clone()),
            }
        })
        .collect()
}

/// Overflown sums become NULL.
fn without_overflow(sums: &ArrayRef) -> ArrayRef {
    let values = sums.as_primitive::<Decimal128Type>().values();
    if !values.contains(&DECIMAL_OVERFLOW) {
        return sums.clone();
    }
    let in_range = NullBuffer::from_iter(values.iter().map(|v| *v != DECIMAL_OVERFLOW));
    decimal_array(sums.data_type(), values.to_vec(), NullBuffer::union(sums.nulls(), Some(&in_range)))
}

/// sum / count in the type of the sum, then in the type of the result, as Flink's `AvgAggFunction`; NULL over no value.
fn average(call: &AggregateCall, sums: &ArrayRef, counts: &ArrayRef) -> Result<ArrayRef, String> {
    let counts = counts.as_primitive::<Int64Type>().values();
    let some = NullBuffer::from_iter(counts.iter().map(|c| *c != 0));
    let nulls = NullBuffer::union(sums.nulls(), Some(&some)).filter(|n| n.null_count() > 0);
    let ty = call.output.ty.arrow();
    match (sums.data_type(), &ty) {
        (DataType::Int64, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            let sums = sums.as_primitive::<Int64Type>().values().iter();
            let values = sums.zip(counts).map(|(sum, count)| sum.checked_div(*count).unwrap_or(0)).collect();
            Ok(integer_array(&ty, values, nulls))
        }
        (DataType::Float64, DataType::Float32 | DataType::Float64) => {
            let sums = sums.as_primitive::<Float64Type>().values().iter();
            Ok(float_array(&ty, sums.zip(counts).map(|(sum, count)| sum / *count as f64).collect(), nulls))
        }
        (DataType::Decimal128(_, sum_scale), DataType::Decimal128(precision, scale)) if scale >= sum_scale => {
            let limit = i256::from_i128(10_i128.pow(u32::from(*precision)));
            let factor = i256::from_i128(10_i128.pow(u32::from(scale.abs_diff(*sum_scale))));
            let sums = sums.as_primitive::<Decimal128Type>().values().iter();
            let values: Vec<Option<i128>> =
                sums.zip(counts).map(|(sum, count)| average_decimal(*sum, *count, factor, limit)).collect();
            let fits = NullBuffer::from_iter(values.iter().map(Option::is_some));
            let nulls = NullBuffer::union(nulls.as_ref(), Some(&fits)).filter(|n| n.null_count() > 0);
            Ok(decimal_array(&ty, values.into_iter().map(Option::unwrap_or_default).collect(), nulls))
        }
        (sum, _) => Err(format!("AVG as {} of a sum of type {sum}", call.output.ty)),
    }
}

/// `sum * factor / count`, rounded half up (away from zero); `None` when it has no value of that precision.
fn average_decimal(sum: i128, count: i64, factor: i256, limit: i256) -> Option<i128> {
    if count == 0 || sum == DECIMAL_OVERFLOW {
        return None;
    }
    let dividend = i256::from_i128(sum).checked_mul(factor)?;
    let divisor = i256::from_i128(i128::from(count));
    let (quotient, remainder) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
    let twice = remainder.wrapping_abs().checked_add(remainder.wrapping_abs())?;
    let step = match (twice >= divisor, dividend.is_negative()) {
        (false, _) => i256::ZERO,
        (true, false) => i256::ONE,
        (true, true) => i256::MINUS_ONE,
    };
    quotient.checked_add(step).filter(|v| v.wrapping_abs() < limit)?.to_i128()
}
