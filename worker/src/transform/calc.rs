//! Filter and projection.
//!
//! The filter looks at rows one by one, also on a changelog; the row-kind column passes through, but for pairs that the
//! filter parts: a -U whose +U does not pass deletes its row, a +U whose -U does not pass inserts its own (`parted`).
//! Only columns that the projection reads are filtered. Owns: which rows and columns go on. Does not own: what an expression means (`expr`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_array::{ArrayRef, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions};
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
                reduced = with_parted_kinds(&reduced, kept).map_err(arrow)?;
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

/// The batch with the row kinds, its last column, as they are once only the rows `kept` are left.
fn with_parted_kinds(batch: &RecordBatch, kept: &BooleanArray) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut columns = batch.columns().to_vec();
    let kinds = columns.last_mut().expect("a changelog has a row-kind column");
    *kinds = Arc::new(Int8Array::from(parted(kinds.as_primitive::<Int8Type>().values(), kept)));
    RecordBatch::try_new(batch.schema(), columns)
}

/// A -U stands right before its +U. Where only one of the two is kept, a sink by key would take the -U for overwritten
/// and leave a row behind that no longer passes; so the one that is left says what it does: delete, or insert.
fn parted(kinds: &[i8], kept: &BooleanArray) -> Vec<i8> {
    let mut kinds = kinds.to_vec();
    for row in 1..kinds.len() {
        if kinds[row - 1] != RowKind::UpdateBefore as i8 || kinds[row] != RowKind::UpdateAfter as i8 {
            continue;
        }
        match (kept.value(row - 1), kept.value(row)) {
            (true, false) => kinds[row - 1] = RowKind::Delete as i8,
            (false, true) => kinds[row] = RowKind::Insert as i8,
            _ => {}
        }
    }
    kinds
}

/// Also right for a batch without columns, which has nothing but its number of rows.
fn filtered(batch: &RecordBatch, kept: &BooleanArray, rows: usize) -> Result<RecordBatch, arrow_schema::ArrowError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_the_filter_parts_becomes_a_delete_or_an_insert() {
        // +I, then -U +U three times, then -D: both pass, only the old passes, only the new passes.
        let kinds = [0, 1, 2, 1, 2, 1, 2, 3];
        let kept = BooleanArray::from(vec![true, true, true, true, false, false, true, true]);
        assert_eq!(parted(&kinds, &kept), [0, 1, 2, 3, 2, 1, 0, 3]);
    }
}
