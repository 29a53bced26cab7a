//! Functions of DOUBLEs.

use std::f64::consts::LN_2;

use arrow_schema::DataType;
use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Function};
use crate::expr::operand::{map, map2};

pub fn bind(name: &str, args: &[ArgInfo<'_>], _result: &SqlType) -> Binding {
    let one: fn(f64) -> f64 = match (name, args.len()) {
        ("SQRT", 1) => f64::sqrt,
        ("EXP", 1) => f64::exp,
        ("LN" | "LOG", 1) => f64::ln,
        ("LOG10", 1) => f64::log10,
        // Flink divides logarithms: LOG2(8) is 2.0794415416798357 / 0.6931471805599453.
        ("LOG2", 1) => |x| x.ln() / LN_2,
        ("POWER", 2) => {
            return Ok(Some(two(f64::powf)));
        }
        ("LOG", 2) => {
            return Ok(Some(two(|base, x| x.ln() / base.ln())));
        }
        _ => return Ok(None),
    };
    Ok(Some(Function::total(move |call| Ok(map(call.args[0].fixed::<f64>(), &DataType::Float64, one)))))
}

fn two(op: fn(f64, f64) -> f64) -> Function {
    Function::total(move |call| {
        Ok(map2(call.args[0].fixed::<f64>(), call.args[1].fixed::<f64>(), call.rows, &DataType::Float64, op))
    })
}
