//! The connectors kafka and upsert-kafka.

use std::collections::BTreeMap;

use millstream_api::graph::kafka_properties::{self, KafkaClient, PropertyError};
use millstream_api::graph::{
    DeliveryGuarantee, Format, KafkaEnd, KafkaKey, KafkaPartitioner, KafkaSink, KafkaSource, KafkaStart,
    UpsertKafkaSink,
};

use super::options::{Options, bad_value};
use super::{json, kafka_security, offsets};
use crate::ast::{Ident, OptionDef};
use crate::bind::{ColumnSource, TableColumn};
use crate::error::{Position, Result, SqlError};

/// Flink's default of `scan.topic-partition-discovery.interval`.
const DISCOVERY_INTERVAL_MS: u64 = 5 * 60_000;
/// Kafka's own limit.
const TOPIC_CHARS_MAX: usize = 249;

/// A kafka table, for reading and for writing.
#[derive(Debug)]
pub(crate) struct KafkaTable {
    source: KafkaSource,
    partitioner: KafkaPartitioner,
    guarantee: DeliveryGuarantee,
    transactional_id_prefix: Option<String>,
    /// A property that only one of the clients refuses is an error for that use of the table.
    refused_as_source: Option<SqlError>,
    refused_as_sink: Option<SqlError>,
    topic_position: Position,
    /// What reading would need and the table does not have.
    lacks_as_source: Option<SqlError>,
    lacks_as_sink: Option<SqlError>,
}

impl KafkaTable {
    pub(super) fn parse(options: &mut Options<'_>, columns: &[TableColumn]) -> Result<Self> {
        options.refuse("topic-pattern", "list the topics in 'topic', separated by ;")?;
        options.require(&[&["topic"], &["properties.bootstrap.servers"], &["format", "value.format"]])?;
        let position = options.position();
        let (topics, topic_position) = topics(options)?;
        let properties = properties(options, KafkaClient::Consumer)?;
        let value_format = value_format(options)?;
        let (key, value_includes_key) = key(options, columns)?;
        if let (Some(key), false) = (&key, value_includes_key) {
            let physical = columns.iter().filter(|c| c.source == ColumnSource::Physical);
            if physical.count() == key.fields.len() {
                return Err(
                    SqlError::at(position, "no column is left for the value").hint("'value.fields-include' = 'ALL'")
                );
            }
        }
        let (startup, bounded) = (offsets::startup(options)?, offsets::bounded(options)?);
        let has_group = properties.values.contains_key("group.id");
        let lacks_as_source = lacking_as_source(options, (&startup, bounded.as_ref()), topics.len(), has_group);
        let discovery =
            options.duration_ms("scan.topic-partition-discovery.interval")?.unwrap_or(DISCOVERY_INTERVAL_MS);
        let partitioner = partitioner(options, key.is_some())?;
        let (guarantee, transactional_id_prefix) = delivery(options)?;
        let lacks_as_sink = lacking_as_sink(options, guarantee, transactional_id_prefix.as_deref(), &properties.values);
        Ok(Self {
            source: KafkaSource {
                topics,
                properties: properties.values,
                startup,
                // A bounded source ends at partitions that were there when it started.
                discovery_interval_ms: Some(discovery).filter(|ms| *ms > 0 && bounded.is_none()),
                bounded,
                value_format,
                key,
                value_includes_key,
            },
            partitioner,
            guarantee,
            transactional_id_prefix,
            refused_as_source: properties.refused_as_source,
            refused_as_sink: properties.refused_as_sink,
            topic_position,
            lacks_as_source,
            lacks_as_sink,
        })
    }

    pub fn check_source(&self, name: &Ident) -> Result<()> {
        if self.source.startup == KafkaStart::GroupOffsets && !self.source.properties.contains_key("group.id") {
            let message =
                format!("the table '{}' starts at group offsets and lacks the option 'properties.group.id'", name.text);
            return Err(SqlError::at(name.position, message)
                .hint("'group-offsets' is the default of 'scan.startup.mode'; another is 'earliest-offset'"));
        }
        let refused = self.lacks_as_source.clone().or_else(|| self.refused_as_source.clone());
        refused.map_or(Ok(()), Err)
    }

    pub fn check_sink(&self, name: &Ident) -> Result<()> {
        if self.source.topics.len() != 1 {
            let message = format!(
                "the table '{}' has {} topics: a table that is written has one",
                name.text,
                self.source.topics.len()
            );
            return Err(SqlError::at(self.topic_position, message));
        }
        let refused = self.lacks_as_sink.clone().or_else(|| self.refused_as_sink.clone());
        refused.map_or(Ok(()), Err)
    }

    pub fn source(&self) -> KafkaSource {
        self.source.clone()
    }

    pub fn sink(&self) -> KafkaSink {
        KafkaSink {
            topic: self.source.topics[0].clone(),
            properties: self.source.properties.clone(),
            value_format: self.source.value_format.clone(),
            key: self.source.key.clone(),
            value_includes_key: self.source.value_includes_key,
            partitioner: self.partitioner,
            guarantee: self.guarantee,
            transactional_id_prefix: self.transactional_id_prefix.clone(),
        }
    }
}

/// An upsert-kafka table, for writing.
#[derive(Debug)]
pub(crate) struct UpsertKafkaTable {
    sink: UpsertKafkaSink,
    pub value_includes_key: bool,
}

impl UpsertKafkaTable {
    pub(super) fn parse(options: &mut Options<'_>) -> Result<Self> {
        options.require(&[&["topic"], &["properties.bootstrap.servers"], &["key.format"], &["value.format"]])?;
        let (mut topics, topic_position) = topics(options)?;
        if topics.len() != 1 {
            return Err(SqlError::at(topic_position, "the connector 'upsert-kafka' writes one topic"));
        }
        let properties = properties(options, KafkaClient::Producer)?;
        if let Some(error) = properties.refused_as_sink {
            return Err(error);
        }
        let position = options.position();
        let lacking =
            |key: &str| SqlError::at(position, format!("the connector 'upsert-kafka' lacks the option '{key}'"));
        let key_format = json::format(options, "key.format", "key.")?.ok_or_else(|| lacking("key.format"))?;
        let value_format = json::format(options, "value.format", "value.")?.ok_or_else(|| lacking("value.format"))?;
        let value_includes_key = value_includes_key(options)?;
        let key_prefix = options.text("key.fields-prefix").unwrap_or_default();
        if !key_prefix.is_empty() && value_includes_key {
            return Err(SqlError::at(position, "'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'"));
        }
        refuse_buffering(options)?;
        let (guarantee, transactional_id_prefix) = delivery(options)?;
        if let Some(error) = lacking_as_sink(options, guarantee, transactional_id_prefix.as_deref(), &properties.values)
        {
            return Err(error);
        }
        let sink = UpsertKafkaSink {
            topic: topics.remove(0),
            properties: properties.values,
            key_format,
            key_prefix,
            value_format,
            value_includes_key,
            guarantee,
            transactional_id_prefix,
        };
        Ok(Self { sink, value_includes_key })
    }

    pub fn sink(&self) -> UpsertKafkaSink {
        self.sink.clone()
    }
}

/// `sink.buffer-flush.*`: read as Flink reads them, and refused where they would turn buffering on.
fn refuse_buffering(options: &mut Options<'_>) -> Result<()> {
    const KEYS: [&str; 2] = ["sink.buffer-flush.max-rows", "sink.buffer-flush.interval"];
    let rows: u64 = options.number(KEYS[0], "a number of rows")?.unwrap_or(0);
    let interval_ms = options.duration_ms(KEYS[1])?.unwrap_or(0);
    match (rows, interval_ms) {
        (0, 0) => Ok(()),
        (0, _) | (_, 0) => {
            let (given, other) = if rows > 0 { (KEYS[0], KEYS[1]) } else { (KEYS[1], KEYS[0]) };
            let message = format!("the option '{given}' needs '{other}' above 0 too");
            Err(SqlError::at(options.position_of(given), message))
        }
        _ => Err(SqlError::unsupported(options.position_of(KEYS[0]), format!("the option '{}'", KEYS[0]))
            .hint("table.exec.mini-batch.* combines changes of a key before they are written")),
    }
}

/// What reading from these offsets needs.
fn lacking_as_source(
    options: &Options<'_>,
    (startup, bounded): (&KafkaStart, Option<&KafkaEnd>),
    topics: usize,
    has_group: bool,
) -> Option<SqlError> {
    if bounded == Some(&KafkaEnd::GroupOffsets) && !has_group {
        let at = options.position_of("scan.bounded.mode");
        return Some(SqlError::at(at, "'scan.bounded.mode' = 'group-offsets' needs the option 'properties.group.id'"));
    }
    let starts = matches!(startup, KafkaStart::SpecificOffsets { .. }).then_some("scan.startup.specific-offsets");
    let ends = matches!(bounded, Some(KafkaEnd::SpecificOffsets { .. })).then_some("scan.bounded.specific-offsets");
    let specific = starts.or(ends).filter(|_| topics > 1)?;
    let message = format!("'{specific}' names partitions only, so the table must read exactly one topic");
    Some(SqlError::at(options.position_of(specific), message))
}

/// What writing with this guarantee needs.
fn lacking_as_sink(
    options: &Options<'_>,
    guarantee: DeliveryGuarantee,
    prefix: Option<&str>,
    properties: &BTreeMap<String, String>,
) -> Option<SqlError> {
    if guarantee == DeliveryGuarantee::ExactlyOnce && prefix.is_none() {
        let at = options.position_of("sink.delivery-guarantee");
        let message = "'sink.delivery-guarantee' = 'exactly-once' needs the option 'sink.transactional-id-prefix'";
        return Some(SqlError::at(at, message).hint("a name that no other job on these brokers uses"));
    }
    let (key, message) = kafka_security::idempotence(properties, guarantee)?;
    Some(SqlError::at(options.position_of(&format!("properties.{key}")), message))
}

fn topics(options: &mut Options<'_>) -> Result<(Vec<String>, Position)> {
    let position = options.position();
    let Some(option) = options.take("topic") else {
        return Err(SqlError::at(position, "the option 'topic' is missing"));
    };
    let topics: Vec<String> = option.value.split(';').map(|t| t.trim().to_owned()).collect();
    let legal = |t: &String| {
        let chars = t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        t.contains("${") || (!t.is_empty() && t.len() <= TOPIC_CHARS_MAX && chars && t != "." && t != "..")
    };
    if !topics.iter().all(legal) {
        return Err(bad_value(option, "topics of letters, digits, '.', '_' and '-', separated by ;"));
    }
    Ok((topics, option.value_position))
}

struct Properties {
    values: BTreeMap<String, String>,
    refused_as_source: Option<SqlError>,
    refused_as_sink: Option<SqlError>,
}

/// `properties.*`; what neither client can take, or what is no property at all, is an error at once.
fn properties(options: &mut Options<'_>, first: KafkaClient) -> Result<Properties> {
    let second = if first == KafkaClient::Consumer { KafkaClient::Producer } else { KafkaClient::Consumer };
    let mut properties = Properties { values: BTreeMap::new(), refused_as_source: None, refused_as_sink: None };
    let mut found = options.take_prefix("properties.");
    found.sort_by_key(|(_, option)| option.position);
    for (name, option) in found {
        for client in [first, second] {
            let Err(error) = kafka_properties::check(client, name, &option.value) else { continue };
            let error = property_error(option, &error);
            match client {
                KafkaClient::Consumer if properties.refused_as_source.is_none() => {
                    properties.refused_as_source = Some(error)
                }
                KafkaClient::Producer if properties.refused_as_sink.is_none() => {
                    properties.refused_as_sink = Some(error)
                }
                _ => {}
            }
        }
        if let (Some(error), Some(_)) = (&properties.refused_as_source, &properties.refused_as_sink) {
            return Err(error.clone());
        }
        properties.values.insert(name.to_owned(), option.value.clone());
    }
    match kafka_security::check(&properties.values) {
        Some((key, message)) => Err(SqlError::at(options.position_of(&format!("properties.{key}")), message)),
        None => Ok(properties),
    }
}

fn property_error(option: &OptionDef, error: &PropertyError) -> SqlError {
    let position = match error {
        PropertyError::BadValue { .. } => option.value_position,
        _ => option.position,
    };
    SqlError::at(position, error.to_string())
}

fn value_format(options: &mut Options<'_>) -> Result<Format> {
    let short = json::format(options, "format", "")?;
    let position = options.position();
    match (short, json::format(options, "value.format", "value.")?) {
        (Some(_), Some(_)) => Err(SqlError::at(position, "'format' and 'value.format' cannot both be given")),
        (Some(format), None) | (None, Some(format)) => Ok(format),
        (None, None) => Err(SqlError::at(position, "the option 'format' is missing")),
    }
}

fn value_includes_key(options: &mut Options<'_>) -> Result<bool> {
    Ok(options.choice("value.fields-include", &[("ALL", true), ("EXCEPT_KEY", false)])?.unwrap_or(true))
}

/// `key.format`, `key.fields`, `key.fields-prefix`, `value.fields-include`.
fn key(options: &mut Options<'_>, columns: &[TableColumn]) -> Result<(Option<KafkaKey>, bool)> {
    let format = json::format(options, "key.format", "key.")?;
    let fields = options.take("key.fields");
    let prefix = options.take("key.fields-prefix");
    let includes_key = value_includes_key(options)?;
    let Some(format) = format else {
        return match fields {
            Some(option) => Err(SqlError::at(option.position, "'key.fields' needs 'key.format'")),
            None => Ok((None, includes_key)),
        };
    };
    let Some(option) = fields else {
        return Err(SqlError::at(options.position(), "'key.format' needs 'key.fields'"));
    };
    let prefix_text = prefix.map(|p| p.value.clone()).unwrap_or_default();
    if let (Some(prefix), false, true) = (prefix, prefix_text.is_empty(), includes_key) {
        return Err(SqlError::at(prefix.position, "'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'"));
    }
    let mut names: Vec<String> = Vec::new();
    for name in option.value.split(';').map(str::trim) {
        let known = columns.iter().any(|c| c.name == name && c.source == ColumnSource::Physical);
        if !known {
            return Err(SqlError::at(
                option.value_position,
                format!("'key.fields' names '{name}', which is no physical column"),
            ));
        }
        if !name.starts_with(&prefix_text) {
            return Err(SqlError::at(
                option.value_position,
                format!("the key column '{name}' lacks the prefix '{prefix_text}'"),
            ));
        }
        if names.iter().any(|n| n == name) {
            return Err(SqlError::at(option.value_position, format!("'key.fields' names '{name}' twice")));
        }
        names.push(name.to_owned());
    }
    Ok((Some(KafkaKey { format, fields: names, prefix: prefix_text }), includes_key))
}

fn partitioner(options: &mut Options<'_>, has_key: bool) -> Result<KafkaPartitioner> {
    let Some(option) = options.take("sink.partitioner") else { return Ok(KafkaPartitioner::Default) };
    match option.value.as_str() {
        "default" => Ok(KafkaPartitioner::Default),
        "fixed" => Ok(KafkaPartitioner::Fixed),
        "round-robin" if has_key => Err(SqlError::at(
            option.value_position,
            "'round-robin' cannot be the partitioner of a table with 'key.fields'",
        )),
        "round-robin" => Ok(KafkaPartitioner::RoundRobin),
        _ => Err(bad_value(option, "default, fixed or round-robin (partitioners of your own are not supported)")),
    }
}

fn delivery(options: &mut Options<'_>) -> Result<(DeliveryGuarantee, Option<String>)> {
    options.refuse("sink.semantic", "use 'sink.delivery-guarantee'")?;
    let guarantees = [
        ("none", DeliveryGuarantee::None),
        ("at-least-once", DeliveryGuarantee::AtLeastOnce),
        ("exactly-once", DeliveryGuarantee::ExactlyOnce),
    ];
    let guarantee = options.choice("sink.delivery-guarantee", &guarantees)?.unwrap_or_default();
    // How Flink counts its transactional ids; ours are counted by the log.
    options.choice("sink.transaction-naming-strategy", &[("INCREMENTING", ()), ("POOLING", ())])?;
    // No placeholder: the checkpoints name the ids, and a restart under another environment must find them.
    let prefix = options.typed("sink.transactional-id-prefix", "a prefix that is not empty", |text| {
        (!text.trim().is_empty() && !text.contains("${")).then(|| text.to_owned())
    })?;
    Ok((guarantee, prefix))
}
