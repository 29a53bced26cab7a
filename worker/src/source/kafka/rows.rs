//! Records to rows: the value, the key and the metadata of a record, joined in the order of the scan.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMillisecondArray,
};
use arrow_schema::{DataType, SchemaRef};
use millstream_api::graph::{Field, Format, JsonOptions, KafkaSource, ScanColumn, Schema};
use millstream_kafka::{Record, TopicPartition};

use crate::format::JsonDecoder;
use crate::source::{SourceError, SplitRun};

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Row,
    /// No value: a delete in a compacted topic, which says nothing to an append-only table. Flink skips it too.
    Tombstone,
    /// It cannot be decoded, and the user wants such records skipped.
    Skipped,
    /// It cannot be decoded: the reason.
    Failed(String),
}

/// Collects rows of one batch.
pub(super) struct Rows {
    schema: SchemaRef,
    columns: Vec<Origin>,
    value: JsonDecoder,
    skip_bad_values: bool,
    key: Option<KeyRows>,
    /// Of each row, where a column asks for it.
    timestamps: Option<Vec<Option<i64>>>,
    offsets: Option<Vec<i64>>,
    rows: usize,
}

/// The record key's columns.
struct KeyRows {
    decoder: JsonDecoder,
    skip_bad: bool,
    /// Rows of the decoder whose record's value could not be decoded.
    dead: Vec<usize>,
}

/// Where a scanned column comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Value(usize),
    Key(usize),
    Timestamp,
    Offset,
    Partition,
    Topic,
}

impl Rows {
    pub(super) fn new(source: &KafkaSource, scan: &[ScanColumn]) -> Result<Self, SourceError> {
        let mut value_fields = Vec::new();
        let mut key_fields: Vec<Field> = Vec::new();
        let mut columns = Vec::with_capacity(scan.len());
        for column in scan {
            let origin = match (&column.metadata, &source.key) {
                (Some(metadata), _) => metadata_origin(metadata, &column.field)?,
                // With the key inside the value, the value's fields count, as in Flink.
                (None, Some(key)) if !source.value_includes_key && key.fields.contains(&column.field.name) => {
                    let name = column.field.name.strip_prefix(key.prefix.as_str()).unwrap_or(&column.field.name);
                    key_fields.push(Field { name: name.to_owned(), ..column.field.clone() });
                    Origin::Key(key_fields.len() - 1)
                }
                (None, _) => {
                    value_fields.push(column.field.clone());
                    Origin::Value(value_fields.len() - 1)
                }
            };
            columns.push(origin);
        }
        let options = json(&source.value_format);
        let key = source.key.as_ref().filter(|_| !key_fields.is_empty()).map(|key| {
            let options = json(&key.format);
            let skip_bad = options.ignore_parse_errors;
            KeyRows { decoder: JsonDecoder::new(&key_fields, options.clone()), skip_bad, dead: Vec::new() }
        });
        let asks = |wanted: fn(&Origin) -> bool| columns.iter().any(wanted);
        Ok(Self {
            schema: Schema::new(scan.iter().map(|c| c.field.clone()).collect()).arrow(),
            timestamps: asks(|o| matches!(o, Origin::Timestamp)).then(Vec::new),
            offsets: asks(|o| matches!(o, Origin::Offset)).then(Vec::new),
            columns,
            value: JsonDecoder::new(&value_fields, options.clone()),
            skip_bad_values: options.ignore_parse_errors,
            key,
            rows: 0,
        })
    }

    /// Appends the record's row, if it has one.
    #[inline]
    pub(super) fn push(&mut self, record: &Record<'_>) -> Pushed {
        // An empty value has no row either, as in Flink.
        let Some(value) = record.value().filter(|value| !value.is_empty()) else { return Pushed::Tombstone };
        if let Some(key) = &mut self.key
            && let Err(e) = key.decoder.decode(record.key().unwrap_or(b"{}"))
        {
            return if key.skip_bad { Pushed::Skipped } else { Pushed::Failed(format!("key: {e}")) };
        }
        if let Err(e) = self.value.decode(value) {
            if let Some(key) = &mut self.key {
                key.dead.push(key.decoder.rows() - 1);
            }
            return if self.skip_bad_values { Pushed::Skipped } else { Pushed::Failed(e.to_string()) };
        }
        if let Some(timestamps) = &mut self.timestamps {
            timestamps.push(record.timestamp_ms());
        }
        if let Some(offsets) = &mut self.offsets {
            offsets.push(record.offset());
        }
        self.rows += 1;
        Pushed::Row
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows as one batch. `runs`: whose rows they are, `partition_of` by split.
    pub(super) fn finish<'a>(
        &mut self,
        runs: &[SplitRun],
        partition_of: impl Fn(usize) -> &'a TopicPartition,
    ) -> Result<RecordBatch, SourceError> {
        let rows = std::mem::take(&mut self.rows);
        let values = self.value.finish();
        let keys = self.key.as_mut().map(KeyRows::finish).transpose()?.unwrap_or_default();
        let timestamps = self.timestamps.as_mut().map(std::mem::take).unwrap_or_default();
        let offsets = self.offsets.as_mut().map(std::mem::take).unwrap_or_default();
        let partitions = || runs.iter().flat_map(|r| std::iter::repeat_n(partition_of(r.split), r.rows));
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (origin, field) in self.columns.iter().zip(self.schema.fields()) {
            let array: ArrayRef = match origin {
                Origin::Value(i) => values[*i].clone(),
                Origin::Key(i) => keys[*i].clone(),
                Origin::Timestamp => Arc::new(TimestampMillisecondArray::from(timestamps.clone()).with_timezone("UTC")),
                Origin::Offset => Arc::new(Int64Array::from(offsets.clone())),
                Origin::Partition => Arc::new(Int32Array::from_iter_values(partitions().map(|p| p.partition))),
                Origin::Topic => Arc::new(StringArray::from_iter_values(partitions().map(|p| &p.topic))),
            };
            arrays.push(fit(array, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| SourceError::User { reason: format!("the columns read do not fit the table's schema: {e}") })
    }
}

impl KeyRows {
    /// The key's columns, without the rows that died.
    fn finish(&mut self) -> Result<Vec<ArrayRef>, SourceError> {
        let rows = self.decoder.rows();
        let arrays = self.decoder.finish();
        let dead = std::mem::take(&mut self.dead);
        if dead.is_empty() {
            return Ok(arrays);
        }
        let mut alive = vec![true; rows];
        dead.into_iter().for_each(|row| alive[row] = false);
        let alive = BooleanArray::from(alive);
        let filter = |array: &ArrayRef| arrow_select::filter::filter(array, &alive);
        arrays.iter().map(filter).collect::<Result<_, _>>().map_err(|e| SourceError::User { reason: e.to_string() })
    }
}

fn json(format: &Format) -> &JsonOptions {
    match format {
        Format::Json(options) => options,
    }
}

/// Flink's metadata keys of a Kafka table that can be read here.
fn metadata_origin(metadata: &str, field: &Field) -> Result<Origin, SourceError> {
    Ok(match metadata {
        "timestamp" => Origin::Timestamp,
        "offset" => Origin::Offset,
        "partition" => Origin::Partition,
        "topic" => Origin::Topic,
        other => {
            return Err(SourceError::User {
                reason: format!(
                    "column '{}': the metadata '{other}' cannot be read; timestamp, offset, partition and topic can",
                    field.name
                ),
            });
        }
    })
}

/// A metadata column may be declared with any type that its own type casts to.
fn fit(array: ArrayRef, wanted: &DataType) -> Result<ArrayRef, SourceError> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    arrow_cast::cast(&array, wanted).map_err(|e| SourceError::User { reason: format!("a metadata column: {e}") })
}
