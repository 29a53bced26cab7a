//! Rows to records: key, value, and the partition each goes to.

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_array::{Int8Array, RecordBatch};
use millstream_api::graph::{
    ChangelogMode, Format, JsonOptions, KafkaPartitioner, KafkaSink, RowKind, Schema, UpsertKafkaSink,
};
use millstream_kafka::{RecordBuffer, partition_of_key};

use crate::format::JsonEncoder;
use crate::sink::SinkError;

/// As much goes to one partition before records without a key go to the next: the Java client's batch size.
const STICKY_BYTES: usize = 16 << 10;

/// Encodes the rows of one table.
pub(super) struct Encoder {
    value: JsonEncoder,
    key: Option<JsonEncoder>,
    /// Batches end with the row-kind column: a deleted row becomes a tombstone. Otherwise every row is an insert.
    changes: bool,
    partitions: u32,
    choice: Choice,
    scratch: Vec<u8>,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// By its key.
    Key,
    Fixed(u32),
    /// One partition after the other, with so many bytes each; it holds the current one and what went there.
    Turn {
        partition: u32,
        bytes: usize,
        bytes_each: usize,
    },
}

impl Encoder {
    /// For the `kafka` connector, which takes inserts only.
    pub(super) fn append(
        sink: &KafkaSink,
        schema: &Schema,
        changelog: &ChangelogMode,
        index: u32,
        partitions: u32,
    ) -> Result<Self, SinkError> {
        if !changelog.is_append() {
            return Err(SinkError::User {
                reason: "connector 'kafka' cannot write updates and deletes; use connector 'upsert-kafka'".to_owned(),
            });
        }
        let all = || schema.fields.iter().enumerate();
        let key = sink.key.as_ref().map(|key| {
            let columns = key.fields.iter().filter_map(|name| {
                let column = schema.index_of(name)?;
                Some((column, name.strip_prefix(key.prefix.as_str()).unwrap_or(name).to_owned()))
            });
            JsonEncoder::with_columns(schema, columns, json(&key.format))
        });
        let in_key = |name: &String| sink.key.as_ref().is_some_and(|key| key.fields.contains(name));
        let value = all()
            .filter(|(_, field)| sink.value_includes_key || !in_key(&field.name))
            .map(|(at, field)| (at, field.name.clone()));
        let start = index % partitions;
        let choice = match sink.partitioner {
            KafkaPartitioner::Fixed => Choice::Fixed(start),
            KafkaPartitioner::Default if key.is_some() => Choice::Key,
            KafkaPartitioner::Default => Choice::Turn { partition: start, bytes: 0, bytes_each: STICKY_BYTES },
            KafkaPartitioner::RoundRobin => Choice::Turn { partition: start, bytes: 0, bytes_each: 0 },
        };
        let value = JsonEncoder::with_columns(schema, value, json(&sink.value_format));
        Ok(Self { value, key, changes: false, partitions, choice, scratch: Vec::new() })
    }

    /// For the `upsert-kafka` connector: the primary key is the record's key.
    pub(super) fn upsert(
        sink: &UpsertKafkaSink,
        primary_key: &[usize],
        schema: &Schema,
        changelog: &ChangelogMode,
        partitions: u32,
    ) -> Result<Self, SinkError> {
        if primary_key.is_empty() {
            return Err(SinkError::User { reason: "connector 'upsert-kafka' needs a PRIMARY KEY".to_owned() });
        }
        let name = |column: usize| schema.fields[column].name.clone();
        let key = primary_key.iter().map(|column| {
            let name = name(*column);
            (*column, name.strip_prefix(sink.key_prefix.as_str()).unwrap_or(&name).to_owned())
        });
        let key = JsonEncoder::with_columns(schema, key, json(&sink.key_format));
        let value = (0..schema.fields.len())
            .filter(|column| sink.value_includes_key || !primary_key.contains(column))
            .map(|column| (column, name(column)));
        let value = JsonEncoder::with_columns(schema, value, json(&sink.value_format));
        let changes = !changelog.is_append();
        Ok(Self { value, key: Some(key), changes, partitions, choice: Choice::Key, scratch: Vec::new() })
    }

    /// Appends all rows to the buffers, which are one per partition. Returns how many records that made.
    pub(super) fn encode(&mut self, batch: &RecordBatch, buffers: &mut [RecordBuffer]) -> usize {
        let kinds = self.changes.then(|| row_kinds(batch));
        let Self { value, key, partitions, choice, scratch, .. } = self;
        let value = value.bind(batch);
        let key = key.as_ref().map(|key| key.bind(batch));
        let mut records = 0;
        for row in 0..batch.num_rows() {
            let kind = kinds.map_or(RowKind::Insert as i8, |kinds| kinds.value(row));
            // Its +U follows and overwrites by key.
            if kind == RowKind::UpdateBefore as i8 {
                continue;
            }
            let key_bytes = key.as_ref().map(|key| {
                scratch.clear();
                key.encode(row, scratch);
                scratch.as_slice()
            });
            let partition = match choice {
                Choice::Key => partition_of_key(key_bytes.unwrap_or_default(), *partitions),
                Choice::Fixed(partition) | Choice::Turn { partition, .. } => *partition,
            };
            let buffer = &mut buffers[partition as usize];
            let before = buffer.pending_bytes();
            if kind == RowKind::Delete as i8 {
                buffer.append_tombstone(key_bytes);
            } else {
                buffer.append(key_bytes, |out| value.encode(row, out));
            }
            records += 1;
            if let Choice::Turn { bytes, .. } = choice {
                *bytes += buffer.pending_bytes() - before;
            }
        }
        self.take_turn();
        records
    }

    /// The next batch may go to the next partition.
    fn take_turn(&mut self) {
        if let Choice::Turn { partition, bytes, bytes_each } = &mut self.choice
            && *bytes > *bytes_each
        {
            *partition = (*partition + 1) % self.partitions;
            *bytes = 0;
        }
    }
}

/// The row-kind column, the last one of a changelog batch.
fn row_kinds(batch: &RecordBatch) -> &Int8Array {
    let last = batch.columns().last().expect("a changelog batch ends with the row-kind column");
    last.as_primitive::<Int8Type>()
}

fn json(format: &Format) -> JsonOptions {
    match format {
        Format::Json(options) => options.clone(),
    }
}

#[cfg(test)]
mod tests;
