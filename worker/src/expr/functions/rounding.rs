//! CEIL, FLOOR, ROUND and TRUNCATE. Floating point is rounded by its shortest decimal digits, as Flink does by way of
//! `BigDecimal.valueOf(double)`: ROUND(2.675, 2) is 2.68.

use std::sync::Arc;

use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Call, Function};
use crate::expr::operand::{Native, Operand, fixed_options, map};
use crate::format::text::decimal::{fits, power_of_ten, rescale};
use crate::format::text::number::{JavaFloat, read_double, read_single};
use arrow_array::ArrayRef;
use arrow_schema::DataType;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Away from zero from one half on.
    HalfUp,
    TowardsZero,
    Up,
    Down,
}

pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Binding {
    let mode = match name {
        "CEIL" => Mode::Up,
        "FLOOR" => Mode::Down,
        "ROUND" => Mode::HalfUp,
        "TRUNCATE" => Mode::TowardsZero,
        _ => return Ok(None),
    };
    let whole = matches!(mode, Mode::Up | Mode::Down);
    let data_type = result.arrow();
    let scale = match args[0].ty {
        SqlType::Decimal { scale, .. } => i32::from(*scale),
        _ => 0,
    };
    Ok(Some(match result {
        SqlType::Decimal { precision, scale: to } => {
            let (precision, to) = (*precision, i32::from(*to));
            Function::total(move |call| Ok(decimals(call, mode, scale, precision, to, &data_type)))
        }
        SqlType::Double if whole => Function::total(move |call| {
            let op = if mode == Mode::Up { f64::ceil } else { f64::floor };
            Ok(map(call.args[0].fixed::<f64>(), &data_type, op))
        }),
        SqlType::Float if whole => Function::total(move |call| {
            let op = if mode == Mode::Up { f32::ceil } else { f32::floor };
            Ok(map(call.args[0].fixed::<f32>(), &data_type, op))
        }),
        SqlType::Double => Function::total(move |call| Ok(floats(call, mode, &data_type, read_double))),
        SqlType::Float => Function::total(move |call| Ok(floats(call, mode, &data_type, read_single))),
        _ if whole => Function::total(|call| Ok(Arc::clone(call.args[0].array()))),
        SqlType::TinyInt => integer_function::<i8>(mode, data_type),
        SqlType::SmallInt => integer_function::<i16>(mode, data_type),
        SqlType::Int => integer_function::<i32>(mode, data_type),
        SqlType::BigInt => integer_function::<i64>(mode, data_type),
        _ => return Ok(None),
    }))
}

/// The second argument's value for a row; 0 without one.
fn digits_of(args: &[Operand], row: usize) -> Option<i32> {
    args.get(1).map_or(Some(0), |digits| digits.fixed::<i32>().get(row))
}

/// A number whose digits can be cut left of the point.
trait Whole: Native {
    fn widen(self) -> i128;
    /// The low bits, as Java's `intValue` of a BigDecimal.
    fn narrow(value: i128) -> Self;
}

macro_rules! whole {
    ($($native:ty)*) => {$(
        impl Whole for $native {
            fn widen(self) -> i128 { i128::from(self) }
            fn narrow(value: i128) -> Self { value as $native }
        }
    )*};
}
whole!(i8 i16 i32 i64);

fn integer_function<N: Whole>(mode: Mode, data_type: DataType) -> Function {
    Function::total(move |call| {
        let values = call.args[0].fixed::<N>();
        Ok(fixed_options(call.rows, &data_type, |row| {
            let (value, digits) = (values.get(row)?, digits_of(call.args, row)?);
            if digits >= 0 {
                return Some(value);
            }
            Some(N::narrow(round_at(value.widen(), mode, digits.unsigned_abs())))
        }))
    })
}

/// `value` with its last `digits` digits made zero.
fn round_at(value: i128, mode: Mode, digits: u32) -> i128 {
    if digits > 38 {
        return 0;
    }
    let unit = power_of_ten(digits);
    divide(value, unit, mode).saturating_mul(unit)
}

fn divide(value: i128, unit: i128, mode: Mode) -> i128 {
    match mode {
        Mode::HalfUp => crate::format::text::decimal::divide_half_up(value, unit),
        Mode::TowardsZero => value / unit,
        Mode::Down => value.div_euclid(unit),
        Mode::Up => -(-value).div_euclid(unit),
    }
}

/// DECIMALs: rounded at the digit asked for, then brought to the result's scale.
fn decimals(call: &Call<'_>, mode: Mode, scale: i32, precision: u8, to: i32, data_type: &DataType) -> ArrayRef {
    let values = call.args[0].fixed::<i128>();
    fixed_options(call.rows, data_type, |row| {
        let (value, digits) = (values.get(row)?, digits_of(call.args, row)?);
        let cut = scale.saturating_sub(digits);
        let rounded = if cut > 0 { round_at(value, mode, cut as u32) } else { value };
        rescale(rounded, scale, to).filter(|v| fits(*v, precision))
    })
}

fn floats<N: Native + JavaFloat>(
    call: &Call<'_>,
    mode: Mode,
    data_type: &DataType,
    read: fn(&[u8]) -> Option<N>,
) -> ArrayRef {
    let values = call.args[0].fixed::<N>();
    let mut text = Vec::new();
    fixed_options(call.rows, data_type, |row| {
        let (value, digits) = (values.get(row)?, digits_of(call.args, row)?);
        text.clear();
        value.write_java(&mut text);
        // NaN and the infinities have no digits and stay.
        Some(round_text(&text, mode, digits).and_then(|t| read(t.as_bytes())).unwrap_or(value))
    })
}

/// Rounds the decimal text of a floating-point number at this many digits behind the point.
fn round_text(text: &[u8], mode: Mode, digits: i32) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = text.split_once('E').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.')?;
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    // The value is unscaled * 10^-scale.
    let scale = i32::try_from(fraction.len()).ok()? - exponent;
    let cut = i64::from(scale) - i64::from(digits);
    if cut <= 0 {
        return None;
    }
    let rounded = round_at(unscaled, mode, u32::try_from(cut.min(39)).expect("between 1 and 39"));
    Some(format!("{rounded}e{}", -scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_point_is_rounded_by_its_decimal_digits() {
        let round = |v: f64, digits| {
            let mut text = Vec::new();
            v.write_java(&mut text);
            round_text(&text, Mode::HalfUp, digits).and_then(|t| read_double(t.as_bytes())).unwrap_or(v)
        };
        assert_eq!(round(2.675, 2), 2.68);
        assert_eq!(round(-0.5, 0), -1.0);
        assert_eq!(round(1234.5, -2), 1200.0);
        assert_eq!(round(1e300, 2), 1e300);
        assert_eq!(round(1e-300, 2), 0.0);
        assert_eq!(round(f64::INFINITY, 2), f64::INFINITY);
        assert_eq!(round(0.1, 400), 0.1);
    }
}
