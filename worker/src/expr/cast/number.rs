//! Casts between numbers, and between numbers and booleans.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use millstream_api::graph::SqlType;

use super::{Cast, Refusal, view};
use crate::expr::EvalError;
use crate::expr::functions::for_number;
use crate::expr::operand::{boolean_rows, fixed_options, map};
use crate::format::text::decimal::{self, Read, fit, power_of_ten, write_plain};
use crate::format::text::number::{JavaFloat, read_double};

/// TRUE is 1, FALSE 0.
pub fn from_boolean(array: &ArrayRef, to: &SqlType) -> ArrayRef {
    let values = array.as_boolean();
    let value = |row: usize| values.is_valid(row).then(|| values.value(row));
    if let SqlType::Decimal { precision, scale } = *to {
        return fixed_options(values.len(), &to.arrow(), |row| fit(i128::from(value(row)?), 0, precision, scale));
    }
    for_number!(to, N => fixed_options(values.len(), &to.arrow(), |row| Some(N::from(value(row)?))))
        .unwrap_or_else(|| unreachable!("booleans are cast to numbers only"))
}

/// Zero is FALSE, everything else TRUE.
pub fn to_boolean(array: &ArrayRef, from: &SqlType) -> ArrayRef {
    let operand = view(array);
    if let SqlType::Decimal { .. } = from {
        let values = operand.fixed::<i128>();
        return boolean_rows(array.len(), |row| Some(values.get(row)? != 0));
    }
    for_number!(from, N => {
        let values = operand.fixed::<N>();
        boolean_rows(array.len(), |row| Some(values.get(row)? != N::default()))
    })
    .unwrap_or_else(|| unreachable!("only numbers are cast to booleans"))
}

#[allow(clippy::unnecessary_cast, reason = "one of the types that the macro goes through is the target's own")]
pub fn to_number(cast: &Cast, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef, EvalError> {
    let data_type = to.arrow();
    let operand = view(array);
    Ok(match (from, to) {
        (SqlType::Decimal { scale, .. }, _) => return Ok(from_decimal(array, *scale, to)),
        (SqlType::Float | SqlType::Double, SqlType::Decimal { .. }) => return float_to_decimal(cast, array, from, to),
        (_, SqlType::Decimal { precision, scale }) => for_number!(from, N => {
            let values = operand.fixed::<N>();
            fixed_options(array.len(), &data_type, |row| fit(values.get(row)? as i128, 0, *precision, *scale))
        }),
        // Java goes by way of an int: (byte) 300.0 is 44.
        (SqlType::Float | SqlType::Double, SqlType::TinyInt) => for_number!(from, N => {
            map(operand.fixed::<N>(), &data_type, |v| v as i32 as i8)
        }),
        (SqlType::Float | SqlType::Double, SqlType::SmallInt) => for_number!(from, N => {
            map(operand.fixed::<N>(), &data_type, |v| v as i32 as i16)
        }),
        (_, SqlType::TinyInt) => for_number!(from, N => map(operand.fixed::<N>(), &data_type, |v| v as i8)),
        (_, SqlType::SmallInt) => for_number!(from, N => map(operand.fixed::<N>(), &data_type, |v| v as i16)),
        (_, SqlType::Int) => for_number!(from, N => map(operand.fixed::<N>(), &data_type, |v| v as i32)),
        (_, SqlType::BigInt) => for_number!(from, N => map(operand.fixed::<N>(), &data_type, |v| v as i64)),
        (_, SqlType::Float) => for_number!(from, N => map(operand.fixed::<N>(), &data_type, |v| v as f32)),
        _ => for_number!(from, N => map(operand.fixed::<N>(), &data_type, |v| v as f64)),
    }
    .unwrap_or_else(|| unreachable!("numbers are cast from numbers")))
}

fn from_decimal(array: &ArrayRef, scale: u8, to: &SqlType) -> ArrayRef {
    let data_type = to.arrow();
    let operand = view(array);
    let values = operand.fixed::<i128>();
    // The integer part's low bits, as BigDecimal.longValue.
    let whole = move |v: i128| (v / power_of_ten(u32::from(scale))) as i64;
    match to {
        SqlType::Decimal { precision, scale: to_scale } => {
            fixed_options(array.len(), &data_type, |row| fit(values.get(row)?, i32::from(scale), *precision, *to_scale))
        }
        SqlType::TinyInt => map(values, &data_type, |v| whole(v) as i8),
        SqlType::SmallInt => map(values, &data_type, |v| whole(v) as i16),
        SqlType::Int => map(values, &data_type, |v| whole(v) as i32),
        SqlType::BigInt => map(values, &data_type, whole),
        SqlType::Float => map(values, &data_type, |v| decimal_to_double(v, scale) as f32),
        _ => map(values, &data_type, |v| decimal_to_double(v, scale)),
    }
}

/// Correctly rounded: by one division where both sides are exact, otherwise by way of the digits.
fn decimal_to_double(unscaled: i128, scale: u8) -> f64 {
    if unscaled.unsigned_abs() < 1 << 53 && scale <= 22 {
        return unscaled as f64 / 10f64.powi(i32::from(scale));
    }
    let mut text = Vec::new();
    write_plain(&mut text, unscaled, scale);
    read_double(&text).expect("a decimal is a number")
}

/// By the shortest decimal digits, as `BigDecimal.valueOf(double)`; NaN and the infinities are refused.
fn float_to_decimal(cast: &Cast, array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef, EvalError> {
    let SqlType::Decimal { precision, scale } = *to else {
        unreachable!("called for DECIMALs");
    };
    let operand = view(array);
    let mut text = Vec::new();
    cast.rows(array.len(), |row| {
        text.clear();
        let present = if *from == SqlType::Float {
            operand.fixed::<f32>().get(row).map(|v| v.write_java(&mut text))
        } else {
            operand.fixed::<f64>().get(row).map(|v| v.write_java(&mut text))
        };
        if present.is_none() {
            return Ok(None);
        }
        match decimal::read(&text, precision, scale) {
            Read::Value(value) => Ok(Some(value)),
            Read::TooLarge => Ok(None),
            Read::Malformed => Err(Refusal::Value(String::from_utf8_lossy(&text).into_owned())),
        }
    })
}
