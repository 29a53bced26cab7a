//! Scalar expressions: compiled once per transform, evaluated a batch at a time with Flink's meaning.
//!
//! An expression of the graph becomes a tree of kernels (`compile`), each from columns to a column. Branches of CASE, the
//! later arguments of AND, OR and COALESCE are evaluated only for the rows that need them when they could fail (`tree`).
//! Owns: evaluation, every function of `api::graph::functions`, CAST. Does not own: types of expressions (the planner's),
//! or the row kind (it passes by).

mod cast;
mod compile;
mod functions;
mod operand;
mod tree;

#[cfg(test)]
mod tests;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use arrow_select::filter::prep_null_mask_filter;
use millstream_api::graph::{Expr, Schema, SqlType};
use thiserror::Error;

use operand::Input;
use tree::Tree;

/// What an expression may use beside its columns.
#[derive(Clone, Copy, Debug)]
pub struct EvalContext {
    /// The step's processing time, epoch ms: CURRENT_TIMESTAMP and its kin.
    pub processing_time_ms: i64,
}

/// An expression that cannot be compiled. The planner lets none through, so this speaks of a graph of another version,
/// or of a bad constant (a regular expression, a date pattern).
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct ExprError {
    pub reason: String,
}

impl ExprError {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A row that cannot be evaluated.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The same row fails again the same way: a cast, a division by zero. Not retried.
    #[error("{0}")]
    UserData(String),
    #[error("failed to evaluate an expression (a defect of Millstream)")]
    Kernel(#[from] ArrowError),
}

impl EvalError {
    fn user(reason: impl Into<String>) -> Self {
        Self::UserData(reason.into())
    }
}

/// An expression that is ready to run. Cheap to share; evaluation changes nothing.
#[derive(Debug)]
pub struct CompiledExpr {
    tree: Tree,
    ty: SqlType,
}

impl CompiledExpr {
    /// Compiles an expression over columns of this schema. Parts without columns are computed here, once.
    pub fn compile(expr: &Expr, schema: &Schema) -> Result<Self, ExprError> {
        Ok(Self { tree: compile::compile(expr, schema)?, ty: expr.ty.clone() })
    }

    /// The Arrow type of the result.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        self.ty.arrow()
    }

    /// The column that the expression is, if it is nothing else.
    #[must_use]
    pub fn as_column(&self) -> Option<usize> {
        self.tree.as_column()
    }

    /// One value per row of the batch. A row-kind column behind the schema's columns does no harm.
    pub fn evaluate(&self, batch: &RecordBatch, cx: &EvalContext) -> Result<ArrayRef, EvalError> {
        let input = Input::of(batch);
        let array = self.tree.evaluate(&input, cx)?.into_array(batch.num_rows())?;
        debug_assert_eq!(array.data_type(), &self.data_type());
        Ok(array)
    }

    /// For a BOOLEAN expression: which rows it holds for. NULL counts as false.
    pub fn evaluate_filter(&self, batch: &RecordBatch, cx: &EvalContext) -> Result<BooleanArray, EvalError> {
        let array = self.evaluate(batch, cx)?;
        let mask = array.as_boolean_opt().ok_or_else(|| EvalError::user("a filter must be BOOLEAN"))?;
        Ok(if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) })
    }
}
