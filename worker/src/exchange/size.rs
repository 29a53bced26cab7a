//! How many bytes the rows of a batch hold, without the slack of the buffers they are slices of.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

/// Bytes of the batch's rows. Cheap: it reads lengths and offsets only.
#[must_use]
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| column_bytes(c.as_ref())).sum()
}

fn column_bytes(column: &dyn Array) -> usize {
    let rows = column.len();
    match column.data_type() {
        DataType::Utf8 => span(column.as_string::<i32>().value_offsets()) + 4 * rows,
        DataType::Binary => span(column.as_binary::<i32>().value_offsets()) + 4 * rows,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Null => 0,
        other => match other.primitive_width() {
            Some(width) => width * rows,
            None => column.get_array_memory_size(),
        },
    }
}

fn span(offsets: &[i32]) -> usize {
    match offsets {
        [first, .., last] => usize::try_from(last - first).expect("offsets never fall"),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_slice_counts_its_own_rows_only() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
            ("s", Arc::new(StringArray::from(vec!["a", "bb", "ccc", "dddd"]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns are of one length");
        assert_eq!(batch_bytes(&batch), 32 + (10 + 16) + 1);
        assert_eq!(batch_bytes(&batch.slice(1, 2)), 16 + (5 + 8) + 1);
        assert_eq!(batch_bytes(&batch.slice(0, 0)), 0);
    }
}
