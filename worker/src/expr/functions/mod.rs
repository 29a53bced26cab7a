//! The functions of `api::graph::functions`, each bound to the types of its arguments.
//!
//! `bind` is asked once per call of an expression and answers a kernel; what can be prepared (a pattern, a regular
//! expression, a unit) is prepared then. AND, OR, COALESCE and CASE are not here: they decide which rows are evaluated.

mod arithmetic;
mod compare;
mod datetime;
mod decimals;
mod extract;
mod hash;
mod like;
mod logic;
mod math;
mod pattern;
mod regexp;
mod rounding;
mod strings;

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use millstream_api::graph::SqlType;

use super::operand::Operand;
use super::{EvalContext, EvalError, ExprError};

/// One evaluation of a call.
pub struct Call<'a> {
    pub args: &'a [Operand],
    pub rows: usize,
    pub cx: &'a EvalContext,
}

/// An argument as it is known when the call is compiled.
pub struct ArgInfo<'a> {
    pub ty: &'a SqlType,
    /// An array of one element, where the argument is constant.
    pub value: Option<&'a ArrayRef>,
}

impl ArgInfo<'_> {
    /// A constant string that is not NULL.
    fn text(&self) -> Option<&str> {
        let value = self.value.filter(|v| self.ty.is_string() && v.is_valid(0))?;
        Some(value.as_string::<i32>().value(0))
    }
}

type Kernel = Box<dyn Fn(&Call<'_>) -> Result<ArrayRef, EvalError> + Send + Sync>;

/// A function bound to the types of its arguments.
pub struct Function {
    kernel: Kernel,
    can_fail: bool,
    name: String,
}

impl Function {
    /// A function that answers, or answers NULL, whatever the row holds.
    fn total(kernel: impl Fn(&Call<'_>) -> Result<ArrayRef, EvalError> + Send + Sync + 'static) -> Self {
        Self { kernel: Box::new(kernel), can_fail: false, name: String::new() }
    }

    /// A function that refuses some rows.
    fn partial(kernel: impl Fn(&Call<'_>) -> Result<ArrayRef, EvalError> + Send + Sync + 'static) -> Self {
        Self { kernel: Box::new(kernel), can_fail: true, name: String::new() }
    }

    pub fn call(&self, call: &Call<'_>) -> Result<ArrayRef, EvalError> {
        (self.kernel)(call)
    }

    pub fn can_fail(&self) -> bool {
        self.can_fail
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a module answers: `None`, the function is not of its kind.
type Binding = Result<Option<Function>, ExprError>;

/// The kernel of the function `name` for these arguments and this result.
pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Result<Function, ExprError> {
    const FAMILIES: &[fn(&str, &[ArgInfo<'_>], &SqlType) -> Binding] = &[
        logic::bind,
        compare::bind,
        arithmetic::bind,
        decimals::bind,
        rounding::bind,
        math::bind,
        strings::bind,
        like::bind,
        regexp::bind,
        hash::bind,
        extract::bind,
        datetime::bind,
    ];
    for family in FAMILIES {
        if let Some(function) = family(name, args, result)? {
            return Ok(Function { name: name.to_owned(), ..function });
        }
    }
    let types: Vec<String> = args.iter().map(|a| a.ty.to_string()).collect();
    Err(ExprError::new(format!("{name} does not take ({})", types.join(", "))))
}

fn is_decimal(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Decimal { .. })
}

/// Runs `$body` with `$native` being the Rust type of the number type `$ty`; `None` for other types.
macro_rules! for_number {
    ($ty:expr, $native:ident => $body:expr) => {
        match $ty {
            SqlType::TinyInt => {
                type $native = i8;
                Some($body)
            }
            SqlType::SmallInt => {
                type $native = i16;
                Some($body)
            }
            SqlType::Int | SqlType::IntervalYearMonth => {
                type $native = i32;
                Some($body)
            }
            SqlType::BigInt | SqlType::IntervalDayTime => {
                type $native = i64;
                Some($body)
            }
            SqlType::Float => {
                type $native = f32;
                Some($body)
            }
            SqlType::Double => {
                type $native = f64;
                Some($body)
            }
            _ => None,
        }
    };
}
pub(super) use for_number;
