//! Typed connector settings, as the planner makes them from a table's WITH options.
//!
//! Secrets stay as `${NAME}` placeholders; the worker resolves them from its environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a source table reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "connector", rename_all = "kebab-case")]
pub enum SourceConnector {
    Kafka(KafkaSource),
    Filesystem(FilesystemSource),
    Datagen(DatagenSource),
}

/// Where a sink table writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "connector", rename_all = "kebab-case")]
pub enum SinkConnector {
    Kafka(KafkaSink),
    UpsertKafka(UpsertKafkaSink),
    Print(PrintSink),
    Blackhole,
}

/// Flink's kafka connector, reading. Option names stand in each field's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KafkaSource {
    /// `topic`: one or several, separated by `;`.
    pub topics: Vec<String>,
    /// `properties.*` without the prefix, Flink's (Java client) names and values.
    pub properties: BTreeMap<String, String>,
    /// `scan.startup.mode`
    pub startup: KafkaStart,
    /// `scan.bounded.mode`
    pub bounded: Option<KafkaEnd>,
    /// `scan.topic-partition-discovery.interval`; `None`: off. Default 5 min.
    pub discovery_interval_ms: Option<u64>,
    /// `value.format` or `format`.
    pub value_format: Format,
    /// `key.format`, with `key.fields` and `key.fields-prefix`.
    pub key: Option<KafkaKey>,
    /// `value.fields-include` = ALL (true) or EXCEPT_KEY (false).
    pub value_includes_key: bool,
}

/// Where a Kafka source starts when there is no state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum KafkaStart {
    EarliestOffset,
    LatestOffset,
    /// Falls back to `properties.auto.offset.reset` where the group has no offset; without it that is an error.
    GroupOffsets,
    Timestamp {
        millis: i64,
    },
    /// Partition -> offset.
    SpecificOffsets {
        #[serde(with = "super::stored::pairs")]
        offsets: BTreeMap<i32, i64>,
    },
}

/// Where a bounded Kafka source ends (exclusive), resolved when the job starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum KafkaEnd {
    LatestOffset,
    GroupOffsets,
    Timestamp {
        millis: i64,
    },
    SpecificOffsets {
        #[serde(with = "super::stored::pairs")]
        offsets: BTreeMap<i32, i64>,
    },
}

/// The record key as columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KafkaKey {
    pub format: Format,
    /// Table columns (with the prefix, where one is set).
    pub fields: Vec<String>,
    /// `key.fields-prefix`, cut from the column name inside the key.
    pub prefix: String,
}

/// Flink's kafka connector, writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KafkaSink {
    pub topic: String,
    pub properties: BTreeMap<String, String>,
    pub value_format: Format,
    pub key: Option<KafkaKey>,
    pub value_includes_key: bool,
    /// `sink.partitioner`
    pub partitioner: KafkaPartitioner,
    /// `sink.delivery-guarantee`
    pub guarantee: DeliveryGuarantee,
    /// `sink.transactional-id-prefix`
    pub transactional_id_prefix: Option<String>,
}

/// `sink.partitioner`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KafkaPartitioner {
    /// By murmur2 of the key where there is one, sticky batches otherwise (the Java client's rule).
    #[default]
    Default,
    /// Each task writes one partition: task index modulo partitions.
    Fixed,
    /// Partition by partition, batch by batch.
    RoundRobin,
}

/// `sink.delivery-guarantee`; the default is at-least-once, as in Flink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryGuarantee {
    None,
    #[default]
    AtLeastOnce,
    ExactlyOnce,
}

/// Flink's upsert-kafka connector, writing: an upsert per key, a delete is a record without value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpsertKafkaSink {
    pub topic: String,
    pub properties: BTreeMap<String, String>,
    pub key_format: Format,
    pub key_prefix: String,
    pub value_format: Format,
    /// `value.fields-include`
    pub value_includes_key: bool,
    pub guarantee: DeliveryGuarantee,
    pub transactional_id_prefix: Option<String>,
}

/// `format` and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "kebab-case")]
pub enum Format {
    Json(JsonOptions),
}

/// `json.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonOptions {
    pub fail_on_missing_field: bool,
    /// Skip (and count) records that cannot be decoded. Otherwise they fail the job.
    pub ignore_parse_errors: bool,
    pub timestamp_format: TimestampFormat,
    pub map_null_key: MapNullKey,
    /// `json.encode.decimal-as-plain-number`
    pub decimal_as_plain_number: bool,
    /// `json.encode.ignore-null-fields`
    pub ignore_null_fields: bool,
}

/// `json.timestamp-format.standard`: `2026-01-02 03:04:05.123` or `2026-01-02T03:04:05.123`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampFormat {
    #[default]
    Sql,
    Iso8601,
}

/// `json.map-null-key.mode`, kept for the day MAP is supported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum MapNullKey {
    #[default]
    Fail,
    Drop,
    Literal {
        key: String,
    },
}

/// Flink's filesystem connector, reading bounded files of JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemSource {
    /// A file or a folder, `file://` or plain.
    pub path: String,
    pub format: Format,
}

/// Flink's datagen connector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatagenSource {
    /// `rows-per-second`, of the whole job. Default 10,000.
    pub rows_per_second: u64,
    /// `number-of-rows`: bounded after that many.
    pub number_of_rows: Option<u64>,
    /// `fields.<name>.*` by column.
    pub fields: BTreeMap<String, DatagenField>,
}

/// How one column is generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DatagenField {
    /// `min` and `max` as text of the column's type; `length` for strings; `max-past` for timestamps; `null-rate`.
    Random {
        min: Option<String>,
        max: Option<String>,
        length: Option<u32>,
        max_past_ms: Option<u64>,
        #[serde(with = "super::stored::float_text")]
        null_rate: f64,
    },
    Sequence {
        start: i64,
        end: i64,
    },
}

/// Flink's print connector: a line per row on standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrintSink {
    /// `print-identifier`
    pub identifier: Option<String>,
    /// `standard-error`
    pub standard_error: bool,
}
