//! Filter and projection.
//!
//! The filter looks at rows one by one. On a changelog an update of which it keeps only one half is no update any more:
//! the old row alone is a deletion, the new row alone an insertion. Only columns that the projection reads are filtered.
//! Owns: which rows and columns go on. Does not own: what an expression means (`expr`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_array::{ArrayRef, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions};
use arrow_schema::ArrowError;
use arrow_select::filter::{FilterBuilder, filter_record_batch};
use millstream_api::graph::{Expr, ExprKind, RowKind, Schema, Transform};

use super::aggregate::true_bits;
use super::build::BuildError;
use super::output::Output;
use super::{Collector, TransformContext, TransformError};
use crate::expr::{CompiledExpr, EvalContext, EvalError};

/// See the module.
#[derive(Debug)]
pub struct Calc {
    output: Output,
    filter: Option<CompiledExpr>,
    /// Input columns that the projection reads; its expressions count from here.
    used: Vec<usize>,
    projection: Vec<CompiledExpr>,
    is_changelog: bool,
}

impl Calc {
    /// `input`: the columns of the input, without the row kind.
    pub fn new(
        transform: &Transform,
        filter: Option<&Expr>,
        projection: &[Expr],
        input: &Schema,
    ) -> Result<Self, BuildError> {
        let mut position: BTreeMap<usize, usize> = BTreeMap::new();
        projection.iter().for_each(|expr| {
            expr.visit_columns(&mut |column| {
                position.insert(column, 0);
            });
        });
        position.values_mut().enumerate().for_each(|(at, position)| *position = at);
        let used: Vec<usize> = position.keys().copied().collect();
        let reduced = Schema::new(used.iter().map(|column| input.fields[*column].clone()).collect());
        let compile = |expr: &Expr, schema: &Schema| {
            CompiledExpr::compile(expr, schema).map_err(|e| BuildError::new(transform, e.to_string()))
        };
        Ok(Self {
            output: Output::new(transform),
            filter: filter.map(|filter| compile(filter, input)).transpose()?,
            projection: projection
                .iter()
                .map(|expr| compile(&renumbered(expr, &position), &reduced))
                .collect::<Result<_, _>>()?,
            used,
            is_changelog: !transform.changelog.is_append(),
        })
    }

    /// The rows that the filter keeps; `None`: all of them.
    fn kept(&self, batch: &RecordBatch, cx: &EvalContext) -> Result<Option<BooleanArray>, TransformError> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let answers = filter.evaluate(batch, cx).map_err(|e| self.failed(&e))?;
        let kept = BooleanArray::from(true_bits(&answers));
        Ok((kept.true_count() < batch.num_rows()).then_some(kept))
    }

    fn failed(&self, error: &EvalError) -> TransformError {
        match error {
            EvalError::UserData(reason) => self.output.user_data(reason),
            other => self.output.bug(other.to_string()),
        }
    }
}

/// The expression over the columns that are used alone.
fn renumbered(expr: &Expr, position: &BTreeMap<usize, usize>) -> Expr {
    let again = |e: &Expr| renumbered(e, position);
    let kind = match &expr.kind {
        ExprKind::Column { index } => ExprKind::Column { index: position[index] },
        ExprKind::Literal { value } => ExprKind::Literal { value: value.clone() },
        ExprKind::Call { function, args } => {
            ExprKind::Call { function: function.clone(), args: args.iter().map(again).collect() }
        }
        ExprKind::Cast { arg, try_cast } => ExprKind::Cast { arg: Box::new(again(arg)), try_cast: *try_cast },
        ExprKind::Case { branches, otherwise } => ExprKind::Case {
            branches: branches.iter().map(|(when, then)| (again(when), again(then))).collect(),
            otherwise: otherwise.as_ref().map(|e| Box::new(again(e))),
        },
    };
    Expr { ty: expr.ty.clone(), nullable: expr.nullable, kind }
}

impl super::Transform for Calc {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let arrow = |e| self.output.arrow(&e);
        let eval = EvalContext { processing_time_ms: cx.processing_time_ms };
        let kept = self.kept(&batch, &eval)?;
        let row_kind = self.is_changelog.then(|| batch.num_columns() - 1);
        let wanted: Vec<usize> = self.used.iter().copied().chain(row_kind).collect();
        let rows = kept.as_ref().map_or(batch.num_rows(), BooleanArray::true_count);
        if rows == 0 {
            return Ok(());
        }
        let mut reduced = batch.project(&wanted).map_err(arrow)?;
        if let Some(kept) = &kept {
            if row_kind.is_some() {
                reduced = with_halved_updates(&reduced, kept).map_err(arrow)?;
            }
            reduced = filtered(&reduced, kept, rows).map_err(arrow)?;
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projection.len() + 1);
        for expr in &self.projection {
            columns.push(expr.evaluate(&reduced, &eval).map_err(|e| self.failed(&e))?);
        }
        if row_kind.is_some() {
            columns.push(reduced.column(reduced.num_columns() - 1).clone());
        }
        out.emit(self.output.batch(columns, rows)?);
        Ok(())
    }
}

/// The batch, whose last column is the row kind, with the updates of which one half is dropped as what they are now.
/// A -U stands right before its +U in one batch (the contract of changelog edges).
fn with_halved_updates(batch: &RecordBatch, kept: &BooleanArray) -> Result<RecordBatch, ArrowError> {
    let last = batch.num_columns() - 1;
    let mut kinds = batch.column(last).as_primitive::<Int8Type>().values().to_vec();
    let (before, after) = (RowKind::UpdateBefore as i8, RowKind::UpdateAfter as i8);
    for at in 1..kinds.len() {
        if kinds[at - 1] == before && kinds[at] == after {
            match (kept.value(at - 1), kept.value(at)) {
                (true, false) => kinds[at - 1] = RowKind::Delete as i8,
                (false, true) => kinds[at] = RowKind::Insert as i8,
                _ => {}
            }
        }
    }
    let mut columns = batch.columns().to_vec();
    columns[last] = Arc::new(Int8Array::from(kinds));
    RecordBatch::try_new(batch.schema(), columns)
}

/// Also right for a batch without columns, which has nothing but its number of rows.
fn filtered(batch: &RecordBatch, kept: &BooleanArray, rows: usize) -> Result<RecordBatch, ArrowError> {
    if batch.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        return RecordBatch::try_new_with_options(batch.schema(), Vec::new(), &options);
    }
    if batch.num_columns() == 1 {
        return filter_record_batch(batch, kept);
    }
    // The selection is worked out once for all columns.
    FilterBuilder::new(kept).optimize().build().filter_record_batch(batch)
}
