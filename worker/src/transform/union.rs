//! UNION ALL: every input's rows under the names of the output.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, RecordBatch};
use millstream_api::graph::{RowKind, Transform};

use super::output::Output;
use super::{Collector, TransformContext, TransformError};

/// Forwards the rows of all inputs.
#[derive(Debug)]
pub struct Union {
    output: Output,
}

impl Union {
    #[must_use]
    pub fn new(transform: &Transform) -> Self {
        Self { output: Output::new(transform) }
    }
}

impl super::Transform for Union {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        _cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let rows = batch.num_rows();
        let mut columns = batch.columns().to_vec();
        // An append-only input beside one with updates: its rows are inserts.
        if columns.len() + 1 == self.output.schema().fields().len() {
            let kinds: ArrayRef = Arc::new(Int8Array::from(vec![RowKind::Insert as i8; rows]));
            columns.push(kinds);
        }
        out.emit(self.output.batch(columns, rows)?);
        Ok(())
    }
}
