//! Keyed state on both backends.

mod bounds;
mod checkpoints;
mod harness;

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use arrow_cast::cast;
use millstream_api::graph::{Field, Schema, SqlType};

use super::*;
use crate::keys::KeyEncoder;

pub(crate) const MAX_PARALLELISM: u32 = 32;

/// BIGINT key, three BIGINTs.
pub(crate) fn counts(name: &str) -> TableSpec {
    let value = ["count", "sum", "max"].map(|name| Field::new(name, SqlType::BigInt, name != "count"));
    TableSpec {
        name: name.into(),
        key: Schema::new(vec![Field::new("k", SqlType::BigInt, false)]),
        value: Schema::new(value.to_vec()),
        ttl_ms: None,
    }
}

pub(crate) fn memory_config() -> StateConfig {
    StateConfig {
        owner: "count/0 in task 1/0".into(),
        backend: BackendConfig::Memory,
        bytes_max: 1 << 30,
        undo_bytes_max: 1 << 30,
    }
}

pub(crate) fn open(spec: TableSpec) -> (State, TableId) {
    let mut state = State::open(&memory_config(), 0..MAX_PARALLELISM as u16).unwrap();
    let table = state.register(spec).unwrap();
    (state, table)
}

pub(crate) fn keys(values: impl IntoIterator<Item = i64>) -> KeyBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let fields = [Field::new("k", SqlType::BigInt, false)];
    KeyEncoder::new(&fields).unwrap().encode(&[Arc::clone(&column)], column.len(), MAX_PARALLELISM).unwrap()
}

pub(crate) fn add(state: &mut State, table: TableId, namespace: i64, values: impl IntoIterator<Item = i64>) {
    state
        .update::<StateError>(table, Namespaces::One(namespace), &keys(values), |_, row| {
            let count = row.i64(0);
            row.set_i64(0, count + 1);
            Ok(Change::Keep)
        })
        .unwrap();
}

pub(crate) fn count_of(state: &State, table: TableId, namespace: i64, key: i64) -> Option<i64> {
    let mut found = None;
    state
        .get_many::<StateError>(table, Namespaces::One(namespace), &keys([key]), |_, row| {
            found = row.map(|row| row.i64(0));
            Ok(())
        })
        .unwrap();
    found
}

pub(crate) fn drain(state: &mut State, epoch: Epoch) -> Vec<ChangeBatch> {
    std::iter::from_fn(|| state.snapshot_piece(epoch, 7).unwrap()).collect()
}

fn ops(pieces: &[ChangeBatch]) -> Vec<i8> {
    use arrow_array::cast::AsArray;
    pieces
        .iter()
        .flat_map(|p| p.batch.column(2).as_primitive::<arrow_array::types::Int8Type>().values().to_vec())
        .collect()
}

/// A schema with one column of every SQL type, and these numbers cast to each (-100 to 100).
pub(crate) fn every_type(numbers: &[Option<i64>]) -> (Schema, Vec<ArrayRef>) {
    let types = vec![
        SqlType::Boolean,
        SqlType::TinyInt,
        SqlType::SmallInt,
        SqlType::Int,
        SqlType::BigInt,
        SqlType::Float,
        SqlType::Double,
        SqlType::Decimal { precision: 38, scale: 4 },
        SqlType::STRING,
        SqlType::BYTES,
        SqlType::Date,
        SqlType::Time { precision: 3 },
        SqlType::Timestamp { precision: 3 },
        SqlType::Timestamp { precision: 6 },
        SqlType::TimestampLtz { precision: 9 },
        SqlType::IntervalDayTime,
        SqlType::IntervalYearMonth,
    ];
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    let arrays = types
        .iter()
        .map(|ty| match ty.arrow() {
            arrow_schema::DataType::Binary => {
                cast(&cast(&numbers, &arrow_schema::DataType::Utf8).unwrap(), &ty.arrow())
            }
            arrow_schema::DataType::Date32 | arrow_schema::DataType::Time32(_) => {
                cast(&cast(&numbers, &arrow_schema::DataType::Int32).unwrap(), &ty.arrow())
            }
            arrow => cast(&numbers, &arrow),
        })
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let fields = types.into_iter().enumerate().map(|(i, ty)| Field::new(format!("c{i}"), ty, true)).collect();
    (Schema::new(fields), arrays)
}
