//! NOT, IS TRUE and its kin, IS NULL.

use std::sync::Arc;

use arrow_arith::boolean::{is_not_null, is_null, not};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_buffer::BooleanBuffer;
use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Call, Function};
use crate::expr::EvalError;

pub fn bind(name: &str, _args: &[ArgInfo<'_>], _result: &SqlType) -> Binding {
    Ok(Some(match name {
        "NOT" => Function::total(|call| Ok(Arc::new(not(call.args[0].array().as_boolean())?))),
        "IS TRUE" => is(true, false),
        "IS NOT TRUE" => is(true, true),
        "IS FALSE" => is(false, false),
        "IS NOT FALSE" => is(false, true),
        "IS NULL" => Function::total(|call| Ok(Arc::new(is_null(call.args[0].array())?))),
        "IS NOT NULL" => Function::total(|call| Ok(Arc::new(is_not_null(call.args[0].array())?))),
        _ => return Ok(None),
    }))
}

/// Whether a boolean is `wanted`; NULL is neither.
fn is(wanted: bool, negated: bool) -> Function {
    Function::total(move |call| is_kernel(call, wanted, negated))
}

fn is_kernel(call: &Call<'_>, wanted: bool, negated: bool) -> Result<ArrayRef, EvalError> {
    let values = call.args[0].array().as_boolean();
    let bits = BooleanBuffer::collect_bool(values.len(), |row| {
        (values.is_valid(row) && values.value(row) == wanted) != negated
    });
    Ok(Arc::new(BooleanArray::new(bits, None)))
}
