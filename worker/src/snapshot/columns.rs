//! Rows of stored columns as rows of the job's: a statement may have been edited since they were written.
//!
//! A segment keeps the columns that it was written with; the manifest says what its table has now. So every batch is fitted by
//! what stands in itself, and segments of several ages lie on each other. Owns: the check of a table and the fitting of batches.
//! Does not own: which change of columns loses nothing (`api::graph`).

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use millstream_api::graph::Schema;
use millstream_api::log::TableManifest;

use super::SnapshotError;
use crate::state::{TableSpec, WRITTEN_COLUMN};

/// Columns of a segment before its keys: group, namespace, kind of change.
const FIXED_COLUMNS: usize = 3;

/// The stored table must have the job's key, and columns that can be read as the job's.
pub(super) fn check(table: &TableManifest, spec: &TableSpec) -> Result<(), SnapshotError> {
    if table.segments.is_empty() {
        return Ok(());
    }
    let mismatch = |what: &str, stored: &Schema, wanted: &Schema| {
        let reason = format!("its {what} columns were ({}), the job's are ({})", listed(stored), listed(wanted));
        Err(SnapshotError::Mismatch { uid: table.uid.clone(), table: table.table.clone(), reason })
    };
    if !table.key.differences(&spec.key).is_empty() {
        return mismatch("key", &table.key, &spec.key);
    }
    if table.value.migration_to(&spec.value).is_err() {
        return mismatch("value", &table.value, &spec.value);
    }
    Ok(())
}

fn listed(schema: &Schema) -> String {
    schema.fields.iter().map(|f| format!("{} {}", f.name, f.ty)).collect::<Vec<_>>().join(", ")
}

/// The batch with the job's columns.
///
/// # Errors
/// Why it cannot be read so: it is not of this table.
pub(super) fn fit(batch: RecordBatch, spec: &TableSpec) -> Result<RecordBatch, String> {
    let schema = batch.schema();
    let fields = schema.fields();
    let fixed = FIXED_COLUMNS + usize::from(fields.get(FIXED_COLUMNS).is_some_and(|f| f.name() == WRITTEN_COLUMN));
    let wanted = || spec.key.fields.iter().chain(&spec.value.fields);
    let same = |(stored, wanted): (&Arc<Field>, &millstream_api::graph::Field)| {
        *stored.name() == wanted.name && *stored.data_type() == wanted.ty.arrow()
    };
    if fields.len() == fixed + wanted().count() && fields.iter().skip(fixed).zip(wanted()).all(same) {
        return Ok(batch);
    }
    let values = fixed + spec.key.fields.len();
    let keys_fit = fields.len() >= values && fields.iter().skip(fixed).zip(&spec.key.fields).all(same);
    if !keys_fit {
        return Err(format!("its columns are ({}), which are not of this table", names(&schema)));
    }
    let mut columns: Vec<ArrayRef> = batch.columns()[..values].to_vec();
    let mut fitted: Vec<Arc<Field>> = fields.iter().take(values).cloned().collect();
    let mut found = 0;
    for field in &spec.value.fields {
        let ty = field.ty.arrow();
        let stored = (values..fields.len()).find(|i| *fields[*i].name() == field.name);
        found += usize::from(stored.is_some());
        columns.push(match stored {
            Some(stored) => widen(batch.column(stored), &ty).map_err(|e| format!("column {}: {e}", field.name))?,
            None => new_null_array(&ty, batch.num_rows()),
        });
        fitted.push(Arc::new(Field::new(&field.name, ty, true)));
    }
    if found < fields.len() - values {
        return Err(format!("its columns are ({}), of which the job lacks some", names(&schema)));
    }
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fitted)), columns).map_err(|e| e.to_string())
}

fn names(schema: &ArrowSchema) -> String {
    schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
}

/// The same values in a type that has all of them.
fn widen(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == ty {
        return Ok(Arc::clone(array));
    }
    if !widens(array.data_type(), ty) {
        return Err(format!("it was written as {}, and is {ty}", array.data_type()));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, ty, &options).map_err(|e| e.to_string())
}

/// As `SqlType::widens_to`, of what is left of the types in a segment.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) | (Float32, Float64) => true,
        (Decimal128(precision, scale), Decimal128(wider, wider_scale)) => {
            let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            scale <= wider_scale && whole(*precision, *scale) <= whole(*wider, *wider_scale)
        }
        _ => false,
    }
}
