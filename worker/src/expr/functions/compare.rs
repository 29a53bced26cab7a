//! Comparison: Arrow's kernels, but for floating point (Java's `==` and `<`) and DECIMALs of different scales.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_arith::boolean::{is_null, or_kleene};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, new_null_array};
use arrow_buffer::i256;
use arrow_ord::cmp;
use arrow_select::nullif::nullif;
use arrow_select::zip::zip;
use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Call, Function};
use crate::expr::EvalError;
use crate::expr::operand::{Native, Operand, compare2};

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Op {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "=" => Op::Equal,
            "<>" => Op::NotEqual,
            "<" => Op::Less,
            "<=" => Op::LessEqual,
            ">" => Op::Greater,
            ">=" => Op::GreaterEqual,
            _ => return None,
        })
    }

    /// Whether two values in this order satisfy it; `None`: one is not a number.
    #[inline]
    fn holds(self, order: Option<Ordering>) -> bool {
        match (self, order) {
            (Op::NotEqual, order) => order != Some(Ordering::Equal),
            (_, None) => false,
            (Op::Equal, Some(order)) => order.is_eq(),
            (Op::Less, Some(order)) => order.is_lt(),
            (Op::LessEqual, Some(order)) => order.is_le(),
            (Op::Greater, Some(order)) => order.is_gt(),
            (Op::GreaterEqual, Some(order)) => order.is_ge(),
        }
    }
}

/// How values of a type compare.
#[derive(Clone, Copy, Debug)]
enum Comparison {
    /// As Arrow compares: integers, times, strings and bytes (unsigned), booleans, DECIMALs of one scale.
    Arrow,
    Single,
    Double,
    /// DECIMALs with these scales.
    Scales(u8, u8),
}

impl Comparison {
    fn of(left: &SqlType, right: &SqlType) -> Self {
        match (left, right) {
            (SqlType::Float, _) => Comparison::Single,
            (SqlType::Double, _) => Comparison::Double,
            (SqlType::Decimal { precision: p1, scale: s1 }, SqlType::Decimal { precision: p2, scale: s2 })
                if (p1, s1) != (p2, s2) =>
            {
                Comparison::Scales(*s1, *s2)
            }
            _ => Comparison::Arrow,
        }
    }

    fn compare(self, op: Op, a: &Operand, b: &Operand, rows: usize) -> Result<BooleanArray, EvalError> {
        Ok(match self {
            Comparison::Arrow => {
                let result = match op {
                    Op::Equal => cmp::eq(a, b)?,
                    Op::NotEqual => cmp::neq(a, b)?,
                    Op::Less => cmp::lt(a, b)?,
                    Op::LessEqual => cmp::lt_eq(a, b)?,
                    Op::Greater => cmp::gt(a, b)?,
                    Op::GreaterEqual => cmp::gt_eq(a, b)?,
                };
                // Two scalars among columns (`1 IN (x, 2)`) give one value for all rows.
                if result.len() == rows {
                    result
                } else {
                    Operand::Scalar(Arc::new(result)).into_array(rows)?.as_boolean().clone()
                }
            }
            Comparison::Single => floats::<f32>(op, a, b, rows),
            Comparison::Double => floats::<f64>(op, a, b, rows),
            Comparison::Scales(s1, s2) => compare2(a.fixed::<i128>(), b.fixed::<i128>(), rows, |x, y| {
                op.holds(Some(compare_decimals(x, s1, y, s2)))
            }),
        })
    }
}

fn floats<N: Native + PartialOrd>(op: Op, a: &Operand, b: &Operand, rows: usize) -> BooleanArray {
    compare2(a.fixed::<N>(), b.fixed::<N>(), rows, |x, y| op.holds(x.partial_cmp(&y)))
}

/// Compares by value, in 256 bits: 10^38 times 10^38 fits.
fn compare_decimals(a: i128, a_scale: u8, b: i128, b_scale: u8) -> Ordering {
    let widen =
        |value: i128, digits: u8| i256::from_i128(value).wrapping_mul(i256::from_i128(10i128.pow(u32::from(digits))));
    let scale = a_scale.max(b_scale);
    widen(a, scale - a_scale).cmp(&widen(b, scale - b_scale))
}

pub fn bind(name: &str, args: &[ArgInfo<'_>], _result: &SqlType) -> Binding {
    let pair = || Comparison::of(args[0].ty, args[1].ty);
    if let Some(op) = Op::of(name) {
        let comparison = pair();
        return Ok(Some(Function::total(move |call| {
            Ok(Arc::new(comparison.compare(op, &call.args[0], &call.args[1], call.rows)?))
        })));
    }
    Ok(Some(match name {
        "IS DISTINCT FROM" => distinct(pair(), true),
        "IS NOT DISTINCT FROM" => distinct(pair(), false),
        "IN" => {
            let comparisons: Vec<_> = args[1..].iter().map(|a| Comparison::of(args[0].ty, a.ty)).collect();
            Function::total(move |call| is_in(&comparisons, call))
        }
        "GREATEST" | "LEAST" => {
            let op = if name == "GREATEST" { Op::Greater } else { Op::Less };
            let comparison = Comparison::of(args[0].ty, args[0].ty);
            Function::total(move |call| extreme(comparison, op, call))
        }
        _ => return Ok(None),
    }))
}

/// `<>` (or `=`) with NULL as a value.
fn distinct(comparison: Comparison, wanted: bool) -> Function {
    Function::total(move |call| {
        let equal = comparison.compare(Op::Equal, &call.args[0], &call.args[1], call.rows)?;
        let null = |arg: &Operand, row: usize| arg.array().is_null(if arg.is_scalar() { 0 } else { row });
        let (a, b) = (&call.args[0], &call.args[1]);
        let bits = arrow_buffer::BooleanBuffer::collect_bool(call.rows, |row| {
            let same = if equal.is_valid(row) { equal.value(row) } else { null(a, row) && null(b, row) };
            same != wanted
        });
        Ok(Arc::new(BooleanArray::new(bits, None)))
    })
}

fn is_in(comparisons: &[Comparison], call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let mut found: Option<BooleanArray> = None;
    for (comparison, item) in comparisons.iter().zip(&call.args[1..]) {
        let equal = comparison.compare(Op::Equal, &call.args[0], item, call.rows)?;
        found = Some(match found {
            Some(so_far) => or_kleene(&so_far, &equal)?,
            None => equal,
        });
    }
    Ok(Arc::new(found.unwrap_or_else(|| BooleanArray::from(vec![false; call.rows]))))
}

/// The largest or smallest argument; NULL where one is NULL.
fn extreme(comparison: Comparison, op: Op, call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let mut best = call.args[0].clone().into_array(call.rows)?;
    for next in &call.args[1..] {
        if next.is_scalar() && next.array().is_null(0) {
            return Ok(new_null_array(best.data_type(), call.rows));
        }
        let current = Operand::Column(Arc::clone(&best));
        let better = comparison.compare(op, next, &current, call.rows)?;
        best = zip(&super::super::tree::definite(&better), next, &current)?;
        if next.array().null_count() > 0 {
            best = nullif(&best, &is_null(next.array())?)?;
        }
    }
    Ok(best)
}
