//! Changes as Arrow batches: what a snapshot hands out and a restore takes in.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type, UInt16Type};
use arrow_array::{Array, ArrayRef, Int8Array, Int64Array, RecordBatch, UInt16Array};
use arrow_row::Rows;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::row::{RowArrays, RowRef};
use super::table::TableDef;
use super::{StateError, TableSpec};

/// Key group of the entry.
pub const GROUP_COLUMN: &str = "$group";
/// Namespace of the entry.
pub const NAMESPACE_COLUMN: &str = "$namespace";
/// A [`ChangeOp`].
pub const OP_COLUMN: &str = "$op";
/// Time of the last write, epoch ms; tables with TTL only.
pub const WRITTEN_COLUMN: &str = "$written_ms";

/// `$op`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ChangeOp {
    Put = 0,
    Delete = 1,
    /// Every entry of the (group, namespace) goes.
    DropNamespace = 2,
}

impl ChangeOp {
    #[must_use]
    pub fn from_byte(byte: i8) -> Option<Self> {
        Some(match byte {
            0 => Self::Put,
            1 => Self::Delete,
            2 => Self::DropNamespace,
            _ => return None,
        })
    }
}

/// The columns of a table's change batches.
#[must_use]
pub fn change_schema(spec: &TableSpec) -> SchemaRef {
    let mut fields = vec![
        Field::new(GROUP_COLUMN, DataType::UInt16, false),
        Field::new(NAMESPACE_COLUMN, DataType::Int64, false),
        Field::new(OP_COLUMN, DataType::Int8, false),
    ];
    if spec.ttl_ms.is_some() {
        fields.push(Field::new(WRITTEN_COLUMN, DataType::Int64, false));
    }
    fields.extend(spec.key.fields.iter().chain(&spec.value.fields).map(|f| Field::new(&f.name, f.ty.arrow(), true)));
    Arc::new(Schema::new(fields))
}

/// Collects changes of one table.
#[derive(Debug)]
pub(crate) struct ChangeBuilder {
    groups: Vec<u16>,
    namespaces: Vec<i64>,
    ops: Vec<i8>,
    written_ms: Vec<i64>,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    values: RowArrays,
}

impl ChangeBuilder {
    pub fn new(table: &TableDef) -> Self {
        Self {
            groups: Vec::new(),
            namespaces: Vec::new(),
            ops: Vec::new(),
            written_ms: Vec::new(),
            keys: Vec::new(),
            key_ends: Vec::new(),
            values: RowArrays::of(&table.layout),
        }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn put(&mut self, group: u16, namespace: i64, key: &[u8], row: &RowRef<'_>) {
        self.push(group, namespace, ChangeOp::Put, key, row.layout.written_ms(row.cells));
        self.values.push(row);
    }

    pub fn delete(&mut self, group: u16, namespace: i64, key: &[u8]) {
        self.push(group, namespace, ChangeOp::Delete, key, 0);
        self.values.push_nulls();
    }

    pub fn drop_namespace(&mut self, table: &TableDef, group: u16, namespace: i64) {
        self.push(group, namespace, ChangeOp::DropNamespace, table.encoder.null_key(), 0);
        self.values.push_nulls();
    }

    fn push(&mut self, group: u16, namespace: i64, op: ChangeOp, key: &[u8], written_ms: i64) {
        self.groups.push(group);
        self.namespaces.push(namespace);
        self.ops.push(op as i8);
        self.written_ms.push(written_ms);
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
    }

    pub fn finish(mut self, table: &TableDef) -> Result<RecordBatch, StateError> {
        let mut start = 0;
        let keys = self.key_ends.iter().map(|end| &self.keys[std::mem::replace(&mut start, *end)..*end]);
        let bug = |reason: String| StateError::Bug { verb: "snapshot", reason };
        let keys = table.encoder.decode(keys).map_err(|e| bug(e.to_string()))?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from(self.groups)),
            Arc::new(Int64Array::from(self.namespaces)),
            Arc::new(Int8Array::from(self.ops)),
        ];
        if table.spec.ttl_ms.is_some() {
            columns.push(Arc::new(Int64Array::from(self.written_ms)));
        }
        columns.extend(keys);
        columns.extend(self.values.finish());
        RecordBatch::try_new(Arc::clone(&table.change_schema), columns).map_err(|e| bug(e.to_string()))
    }
}

/// A change batch, taken apart for loading.
pub(crate) struct Changes<'a> {
    pub groups: &'a [u16],
    pub namespaces: &'a [i64],
    pub ops: &'a [i8],
    /// `None`: the snapshot was taken when the table had no TTL.
    pub written_ms: Option<&'a [i64]>,
    pub hashes: Vec<u64>,
    pub keys: Rows,
    pub values: &'a [ArrayRef],
}

impl<'a> Changes<'a> {
    pub fn parse(table: &TableDef, batch: &'a RecordBatch) -> Result<Self, StateError> {
        let mismatch = |reason: String| StateError::Mismatch { table: table.spec.name.clone(), reason };
        let schema = batch.schema_ref();
        let has_written = schema.fields().get(3).is_some_and(|f| f.name() == WRITTEN_COLUMN);
        let fixed = 3 + usize::from(has_written);
        let stored: Vec<&DataType> = schema.fields().iter().skip(fixed).map(|f| f.data_type()).collect();
        let keys = table.spec.key.fields.len();
        let expected: Vec<DataType> =
            table.spec.key.fields.iter().chain(&table.spec.value.fields).map(|f| f.ty.arrow()).collect();
        let fixed_types = [DataType::UInt16, DataType::Int64, DataType::Int8, DataType::Int64];
        let fixed_fit = schema.fields().len() >= fixed
            && schema.fields().iter().take(fixed).zip(&fixed_types).all(|(f, ty)| f.data_type() == ty)
            && (0..fixed).all(|i| batch.column(i).null_count() == 0);
        if !fixed_fit || stored.len() != expected.len() || stored.iter().zip(&expected).any(|(a, b)| *a != b) {
            let found = schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>();
            return Err(mismatch(format!(
                "its columns are ({}), the job's are of types {expected:?}",
                found.join(", ")
            )));
        }
        let ops = batch.column(2).as_primitive::<Int8Type>().values();
        if let Some(op) = ops.iter().find(|op| ChangeOp::from_byte(**op).is_none()) {
            return Err(mismatch(format!("it holds a change of unknown kind {op}")));
        }
        let (hashes, rows) = table
            .encoder
            .hash_and_encode(&batch.columns()[fixed..fixed + keys], batch.num_rows())
            .map_err(|e| mismatch(e.to_string()))?;
        Ok(Self {
            groups: batch.column(0).as_primitive::<UInt16Type>().values(),
            namespaces: batch.column(1).as_primitive::<Int64Type>().values(),
            ops,
            written_ms: has_written.then(|| &**batch.column(3).as_primitive::<Int64Type>().values()),
            hashes,
            keys: rows,
            values: &batch.columns()[fixed + keys..],
        })
    }

    pub fn op(&self, row: usize) -> ChangeOp {
        ChangeOp::from_byte(self.ops[row]).expect("checked by parse")
    }
}
