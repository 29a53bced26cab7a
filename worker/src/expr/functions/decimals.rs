//! Arithmetic on DECIMALs: exact in 256 bits, then rounded HALF_UP to the result's scale; NULL where it does not fit.
//!
//! What fits in 128 bits, nearly everything, is computed there.

use arrow_array::ArrayRef;
use arrow_buffer::i256;
use arrow_schema::DataType;
use millstream_api::graph::SqlType;

use super::arithmetic::DIVISION_BY_ZERO;
use super::{ArgInfo, Binding, Call, Function};
use crate::expr::EvalError;
use crate::expr::operand::{fixed_options, fixed_rows};
use crate::format::text::decimal::{divide_half_up, fit, fits, power_of_ten, rescale};

/// The scales of two arguments and the result's type.
#[derive(Clone, Copy, Debug)]
struct Shape {
    left: i32,
    right: i32,
    precision: u8,
    scale: u8,
}

pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Binding {
    let SqlType::Decimal { precision, scale } = *result else {
        return Ok(None);
    };
    let scale_of = |ty: &SqlType| match ty {
        SqlType::Decimal { scale, .. } => Some(i32::from(*scale)),
        _ => None,
    };
    let scales: Option<Vec<i32>> = args.iter().map(|a| scale_of(a.ty)).collect();
    let data_type = result.arrow();
    Ok(match (name, scales.as_deref()) {
        ("+" | "-" | "*", Some(&[left, right])) => {
            let shape = Shape { left, right, precision, scale };
            let op = match name {
                "+" => add,
                "-" => subtract,
                _ => multiply,
            };
            Some(Function::total(move |call| Ok(total(call, &data_type, shape, op))))
        }
        ("/" | "%", Some(&[left, right])) => {
            let shape = Shape { left, right, precision, scale };
            let op = if name == "/" { divide } else { remainder };
            Some(Function::partial(move |call| partial(call, &data_type, shape, op)))
        }
        ("NEGATE" | "ABS" | "SIGN", Some(&[from])) => {
            let op: fn(i128, u32) -> i128 = match name {
                "NEGATE" => |v, _| -v,
                "ABS" => |v, _| v.abs(),
                _ => |v, scale| v.signum() * power_of_ten(scale),
            };
            Some(Function::total(move |call| {
                let values = call.args[0].fixed::<i128>();
                Ok(fixed_options(call.rows, &data_type, |row| {
                    let value = op(values.get(row)?, from as u32);
                    fit(value, from, precision, scale)
                }))
            }))
        }
        _ => None,
    })
}

fn total(call: &Call<'_>, data_type: &DataType, shape: Shape, op: fn(i128, i128, Shape) -> Option<i128>) -> ArrayRef {
    let (a, b) = (call.args[0].fixed::<i128>(), call.args[1].fixed::<i128>());
    fixed_options(call.rows, data_type, |row| op(a.get(row)?, b.get(row)?, shape))
}

fn partial(
    call: &Call<'_>,
    data_type: &DataType,
    shape: Shape,
    op: fn(i128, i128, Shape) -> Option<i128>,
) -> Result<ArrayRef, EvalError> {
    let (a, b) = (call.args[0].fixed::<i128>(), call.args[1].fixed::<i128>());
    fixed_rows(call.rows, data_type, |row| match (a.get(row), b.get(row)) {
        (Some(_), Some(0)) => Err(EvalError::user(DIVISION_BY_ZERO)),
        (Some(a), Some(b)) => Ok(op(a, b, shape)),
        _ => Ok(None),
    })
}

fn add(a: i128, b: i128, shape: Shape) -> Option<i128> {
    let scale = shape.left.max(shape.right);
    let sum = rescale(a, shape.left, scale).zip(rescale(b, shape.right, scale)).and_then(|(a, b)| a.checked_add(b));
    match sum {
        Some(sum) => fit(sum, scale, shape.precision, shape.scale),
        None => {
            let sum = widen(a, scale - shape.left)?.checked_add(widen(b, scale - shape.right)?)?;
            fit_wide(sum, scale, shape)
        }
    }
}

fn subtract(a: i128, b: i128, shape: Shape) -> Option<i128> {
    add(a, -b, shape)
}

fn multiply(a: i128, b: i128, shape: Shape) -> Option<i128> {
    let scale = shape.left + shape.right;
    match a.checked_mul(b) {
        Some(product) => fit(product, scale, shape.precision, shape.scale),
        None => fit_wide(i256::from_i128(a).checked_mul(i256::from_i128(b))?, scale, shape),
    }
}

fn divide(a: i128, b: i128, shape: Shape) -> Option<i128> {
    // a / 10^left / (b / 10^right) = quotient / 10^scale
    let shift = i32::from(shape.scale) - shape.left + shape.right;
    let quotient = if shift >= 0 {
        let narrow = 10i128.checked_pow(shift as u32).and_then(|p| a.checked_mul(p));
        match narrow {
            Some(numerator) => divide_half_up(numerator, b),
            // Beyond 256 bits the quotient has more than 38 digits.
            None => wide_half_up(widen(a, shift)?, i256::from_i128(b))?.to_i128()?,
        }
    } else {
        wide_half_up(i256::from_i128(a), widen(b, -shift)?)?.to_i128()?
    };
    Some(quotient).filter(|q| fits(*q, shape.precision))
}

fn remainder(a: i128, b: i128, shape: Shape) -> Option<i128> {
    let scale = shape.left.max(shape.right);
    let rest = widen(a, scale - shape.left)?.checked_rem(widen(b, scale - shape.right)?)?;
    fit_wide(rest, scale, shape)
}

/// `value * 10^digits`.
fn widen(value: i128, digits: i32) -> Option<i256> {
    let power = i256::from_i128(10).checked_pow(digits as u32)?;
    i256::from_i128(value).checked_mul(power)
}

fn fit_wide(value: i256, from: i32, shape: Shape) -> Option<i128> {
    let shift = from - i32::from(shape.scale);
    let value = if shift > 0 {
        wide_half_up(value, i256::from_i128(10).checked_pow(shift as u32)?)?
    } else {
        value.checked_mul(i256::from_i128(10).checked_pow(shift.unsigned_abs())?)?
    };
    value.to_i128().filter(|v| fits(*v, shape.precision))
}

/// [`divide_half_up`] in 256 bits.
fn wide_half_up(numerator: i256, denominator: i256) -> Option<i256> {
    let quotient = numerator.checked_div(denominator)?;
    let rest = numerator.checked_rem(denominator)?.wrapping_abs();
    let magnitude = denominator.wrapping_abs();
    if rest < magnitude.wrapping_sub(rest) {
        return Some(quotient);
    }
    let up = if numerator.is_negative() == denominator.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    quotient.checked_add(up)
}
