//! Output batches of a transform: columns checked against the output schema, long output in pieces.

use std::collections::VecDeque;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef};
use millstream_api::graph::{RowKind, Transform};

use super::{Collector, Emission, TransformError};

/// Rows of a piece of long output: large enough to be efficient, small enough for the outbox.
pub const PIECE_ROWS: usize = 8192;

/// Makes the batches of one transform.
#[derive(Clone, Debug)]
pub struct Output {
    transform: String,
    schema: SchemaRef,
}

impl Output {
    /// The output of `transform`, with the row kind where updates can occur.
    #[must_use]
    pub fn new(transform: &Transform) -> Self {
        let schema = if transform.changelog.is_append() {
            transform.output.arrow()
        } else {
            transform.output.arrow_with_row_kind()
        };
        Self { transform: transform.name.clone(), schema }
    }

    /// The Arrow schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A batch of `rows` rows.
    pub fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, TransformError> {
        if columns.len() != self.schema.fields().len() {
            let (is, wanted) = (columns.len(), self.schema.fields().len());
            return Err(self.bug(format!("{is} columns where the output has {wanted}")));
        }
        for (field, column) in self.schema.fields().iter().zip(&columns) {
            if column.data_type() != field.data_type() {
                let (is, wanted) = (column.data_type(), field.data_type());
                return Err(self.bug(format!("column {} of type {is} where the output has {wanted}", field.name())));
            }
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(self.user_data(format!("NULL in column {}, which is NOT NULL", field.name())));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| self.arrow(&e))
    }

    /// The error for input that fails again the same way.
    pub fn user_data(&self, reason: impl Into<String>) -> TransformError {
        TransformError::UserData { transform: self.transform.clone(), reason: reason.into() }
    }

    /// The error for what the planner or another transform should have excluded.
    pub fn bug(&self, reason: impl Into<String>) -> TransformError {
        TransformError::Bug { transform: self.transform.clone(), reason: reason.into() }
    }

    /// An Arrow kernel refused arrays whose types were checked before.
    pub fn arrow(&self, error: &ArrowError) -> TransformError {
        self.bug(error.to_string())
    }
}

/// Output that waits to be emitted, a piece per call.
#[derive(Debug, Default)]
pub struct Pieces {
    queue: VecDeque<RecordBatch>,
}

impl Pieces {
    /// Adds a batch of any length.
    pub fn push(&mut self, batch: &RecordBatch) {
        self.push_cut(batch, |_| true);
    }

    /// Adds a changelog of any length; `kinds`: its row kinds. A -U stays with its +U.
    pub fn push_changelog(&mut self, batch: &RecordBatch, kinds: &[i8]) {
        self.push_cut(batch, |row| kinds[row - 1] != RowKind::UpdateBefore as i8);
    }

    /// `may_cut`: whether a piece may begin at this row. At least one of two neighbouring rows may.
    fn push_cut(&mut self, batch: &RecordBatch, may_cut: impl Fn(usize) -> bool) {
        let rows = batch.num_rows();
        let mut start = 0;
        // Slices share the buffers: a piece costs nothing until it is emitted.
        while start < rows {
            let full = start + PIECE_ROWS;
            let end = if full >= rows {
                rows
            } else if may_cut(full) {
                full
            } else {
                full - 1
            };
            self.queue.push_back(batch.slice(start, end - start));
            start = end;
        }
    }

    /// Emits the next piece.
    pub fn emit_one(&mut self, out: &mut dyn Collector) -> Emission {
        if let Some(batch) = self.queue.pop_front() {
            out.emit(batch);
        }
        if self.queue.is_empty() { Emission::Done } else { Emission::More }
    }

    /// Emits everything.
    pub fn emit_all(&mut self, out: &mut dyn Collector) {
        self.queue.drain(..).for_each(|batch| out.emit(batch));
    }
}
