//! A table of state as people see it: its name, its columns, what a row weighs.
//!
//! Owns: aliases, and the names of columns where key and value have one in common. Does not own: the stored form
//! (`worker::state::change_schema`).

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_api::log::TableManifest;
use millstream_worker::state::{GROUP_COLUMN, NAMESPACE_COLUMN, TableSpec, WRITTEN_COLUMN, change_schema};

use crate::Stored;

/// The key group of a row.
pub const KEY_GROUP: &str = "key_group";
/// What tells the rows of one key apart: the end of a window's slice, epoch ms; 0 where a key has one row.
pub const NAMESPACE: &str = "namespace";
/// Time of the last write, epoch ms; where entries expire.
pub const WRITTEN_MS: &str = "written_ms";

/// A table of a checkpoint or savepoint.
#[derive(Clone, Debug)]
pub struct StoredTable {
    pub manifest: TableManifest,
    pub spec: TableSpec,
    /// A name without quotes, unique in the checkpoint.
    pub alias: String,
    /// `key_group`, `namespace`, `written_ms` where there is one, the key's columns, the value's.
    pub schema: SchemaRef,
    /// Where those columns are in a stored batch.
    places: Vec<usize>,
    keys: Range<usize>,
}

impl StoredTable {
    /// The tables of a checkpoint, in its order.
    #[must_use]
    pub fn all(stored: &Stored) -> Vec<Self> {
        let mut taken = HashSet::new();
        let table = |manifest: &TableManifest| {
            let alias = unique(&alias_of(&manifest.uid.0, &manifest.table), &mut taken);
            Self::new(manifest.clone(), stored.spec(manifest), alias)
        };
        stored.manifest.tables.iter().map(table).collect()
    }

    fn new(manifest: TableManifest, spec: TableSpec, alias: String) -> Self {
        let kept = change_schema(&spec);
        let mut taken = HashSet::new();
        let (mut fields, mut places) = (Vec::new(), Vec::new());
        for (place, field) in kept.fields().iter().enumerate() {
            let name = match field.name().as_str() {
                GROUP_COLUMN => KEY_GROUP,
                NAMESPACE_COLUMN => NAMESPACE,
                WRITTEN_COLUMN => WRITTEN_MS,
                // Every row that is shown is a put.
                millstream_worker::state::OP_COLUMN => continue,
                name => name,
            };
            let nullable = place >= first_key(&spec);
            // An aggregate's columns have a $ in them, which a shell would take for its own.
            let name = unique(name.trim_start_matches('$').replace('$', "_").as_str(), &mut taken);
            fields.push(Field::new(name, field.data_type().clone(), nullable));
            places.push(place);
        }
        let keys = first_key(&spec)..first_key(&spec) + spec.key.fields.len();
        Self { manifest, spec, alias, schema: Arc::new(Schema::new(fields)), places, keys }
    }

    /// The columns that people see with their types, as SQL would declare them: `user STRING`.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let stored = self.spec.key.fields.iter().chain(&self.spec.value.fields);
        let mut types = stored.map(|field| field.ty.to_string());
        let column = |(place, field): (&usize, &Arc<Field>)| {
            let ty = if *place < self.keys.start { None } else { types.next() };
            let own = if field.name() == KEY_GROUP { "INT" } else { "BIGINT" };
            format!("{} {}", field.name(), ty.as_deref().unwrap_or(own))
        };
        self.places.iter().zip(self.schema.fields()).map(column).collect()
    }

    /// The columns of a stored batch that people see.
    #[must_use]
    pub fn shown(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.places.iter().map(|place| Arc::clone(batch.column(*place))).collect()
    }

    /// The key's columns of a stored batch.
    #[must_use]
    pub fn keys<'a>(&self, batch: &'a RecordBatch) -> &'a [ArrayRef] {
        &batch.columns()[self.keys.clone()]
    }

    /// What each row of a stored batch weighs: the bytes of its key and value, as they would be one after the other.
    #[must_use]
    pub fn row_bytes(&self, batch: &RecordBatch) -> Vec<u64> {
        let mut bytes = vec![0; batch.num_rows()];
        for column in &batch.columns()[self.keys.start..] {
            add_bytes(column, &mut bytes);
        }
        bytes
    }
}

/// Group, namespace and kind of change stand before, and the time of the last write where entries expire.
fn first_key(spec: &TableSpec) -> usize {
    3 + usize::from(spec.ttl_ms.is_some())
}

fn add_bytes(column: &ArrayRef, bytes: &mut [u64]) {
    let variable = |ends: &[i32], bytes: &mut [u64]| {
        for (row, pair) in ends.windows(2).enumerate() {
            bytes[row] += u64::try_from(pair[1] - pair[0]).unwrap_or_default();
        }
    };
    match column.data_type() {
        DataType::Utf8 => variable(column.as_string::<i32>().value_offsets(), bytes),
        DataType::Binary => variable(column.as_binary::<i32>().value_offsets(), bytes),
        fixed => {
            // A BOOLEAN takes a byte in a row; NULL has no width.
            let width = fixed.primitive_width().unwrap_or(usize::from(*fixed == DataType::Boolean)) as u64;
            bytes.iter_mut().for_each(|row| *row += width);
        }
    }
}

/// A column of TIMESTAMP_LTZ as TIMESTAMP in UTC, which its values are; any other as it is. Printing a named zone would need
/// a table of zones.
pub(crate) fn without_zone(column: &ArrayRef) -> ArrayRef {
    fn plain<T: ArrowTimestampType>(column: &ArrayRef) -> ArrayRef {
        Arc::new(column.as_primitive::<T>().clone().with_timezone_opt(None::<Arc<str>>))
    }
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, Some(_)) => plain::<TimestampSecondType>(column),
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => plain::<TimestampMillisecondType>(column),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => plain::<TimestampMicrosecondType>(column),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => plain::<TimestampNanosecondType>(column),
        _ => Arc::clone(column),
    }
}

/// `totals/aggregate/0` and `groups`: `totals_groups`.
fn alias_of(uid: &str, table: &str) -> String {
    let statement = uid.split('/').next().unwrap_or(uid);
    let simple = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let alias: String = format!("{statement}_{table}").chars().map(simple).collect();
    // A name that begins with a digit would need quotes.
    if alias.starts_with(|c: char| c.is_ascii_digit()) { format!("t_{alias}") } else { alias }
}

/// The name, or the name with the first number that makes it one of a kind. Case does not count: SQL folds it.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let candidates = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}_{n}")));
    let mut free = candidates.filter(|candidate| !taken.contains(&candidate.to_lowercase()));
    let found = free.next().expect("numbers do not end");
    taken.insert(found.to_lowercase());
    found
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Int32Array, StringArray};

    use super::*;

    #[test]
    fn names_are_simple_and_unique() {
        assert_eq!(alias_of("totals/aggregate/0", "groups"), "totals_groups");
        assert_eq!(alias_of("2 Ü.x", "slices"), "t_2___x_slices");
        let mut taken = HashSet::new();
        let names = ["a", "A", "a", "b"].map(|name| unique(name, &mut taken));
        assert_eq!(names, ["a", "A_2", "a_3", "b"]);
    }

    #[test]
    fn a_row_weighs_what_its_columns_take() {
        let columns: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec![Some("four"), None])),
            Arc::new(BooleanArray::from(vec![true, false])),
        ];
        let mut bytes = vec![0; 2];
        columns.iter().for_each(|column| add_bytes(column, &mut bytes));
        assert_eq!(bytes, [9, 5]);
    }
}
