//! `table.exec.sink.not-null-enforcer`: what happens to a NULL on its way into a NOT NULL column.

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use millstream_api::graph::{NotNullEnforcer, Schema};

use super::error::TaskError;

/// Checks the rows of one sink.
pub(crate) struct NotNull {
    /// Position and name of the columns that are NOT NULL.
    columns: Vec<(usize, String)>,
    enforcer: NotNullEnforcer,
    dropped_rows: u64,
}

impl NotNull {
    pub(crate) fn new(schema: &Schema, enforcer: NotNullEnforcer) -> Self {
        let columns = schema.fields.iter().enumerate().filter(|(_, f)| !f.nullable);
        Self { columns: columns.map(|(at, f)| (at, f.name.clone())).collect(), enforcer, dropped_rows: 0 }
    }

    /// The rows that may be written; `None`: none of them.
    pub(super) fn check(&mut self, batch: RecordBatch, table: &str) -> Result<Option<RecordBatch>, TaskError> {
        let with_null = self.columns.iter().find(|(at, _)| batch.column(*at).null_count() > 0);
        let Some((_, column)) = with_null else { return Ok(Some(batch)) };
        if self.enforcer == NotNullEnforcer::Error {
            return Err(TaskError::NullInSink { table: table.to_owned(), column: column.clone() });
        }
        let keep = |row: usize| self.columns.iter().all(|(at, _)| batch.column(*at).is_valid(row));
        let kept: BooleanArray = (0..batch.num_rows()).map(|row| Some(keep(row))).collect();
        let filtered = filter_record_batch(&batch, &kept)?;
        self.dropped_rows += (batch.num_rows() - filtered.num_rows()) as u64;
        Ok(Some(filtered).filter(|b| b.num_rows() > 0))
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        if self.columns.is_empty() {
            Vec::new()
        } else {
            vec![("numRecordsDroppedByNotNullEnforcer", self.dropped_rows)]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use millstream_api::graph::{Field, SqlType};

    use super::*;

    fn batch() -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        RecordBatch::try_from_iter([("n", column)]).expect("one column")
    }

    #[test]
    fn a_null_fails_or_is_dropped_and_counted_as_the_user_set() {
        let schema = Schema::new(vec![Field::new("n", SqlType::BigInt, false)]);
        let error = NotNull::new(&schema, NotNullEnforcer::Error).check(batch(), "t").expect_err("a NULL");
        assert!(error.to_string().contains("table t: column n is NOT NULL"));
        let mut dropping = NotNull::new(&schema, NotNullEnforcer::Drop);
        let kept = dropping.check(batch(), "t").expect("dropped").expect("two rows stay");
        assert_eq!(kept.num_rows(), 2);
        assert_eq!(dropping.counters(), [("numRecordsDroppedByNotNullEnforcer", 1)]);
        assert!(dropping.check(batch().slice(1, 1), "t").expect("dropped").is_none());
    }

    #[test]
    fn nullable_columns_are_not_looked_at() {
        let schema = Schema::new(vec![Field::new("n", SqlType::BigInt, true)]);
        let kept = NotNull::new(&schema, NotNullEnforcer::Error).check(batch(), "t");
        assert_eq!(kept.expect("no rule").expect("all rows").num_rows(), 3);
    }
}
