//! WITH options to typed connector settings.
//!
//! Owns: Flink's option names, defaults, required options, and their error texts. Does not own: how a connector works.
//! Values keep their `${NAME}` placeholders; they are filled in where the job runs.

mod datagen;
mod filesystem;
mod json;
mod kafka;
mod kafka_security;
mod offsets;
mod options;
mod print;

use millstream_api::graph::{PrintSink, SinkConnector, SourceConnector, SqlType};

use crate::ast::{CreateTable, Ident};
use crate::bind::{ColumnSource, TableColumn};
use crate::error::{Result, SqlError, did_you_mean};
use kafka::{KafkaTable, UpsertKafkaTable};
use options::Options;

/// A connector with its settings, for reading and for writing.
#[derive(Debug)]
pub(crate) enum Connector {
    Kafka(Box<KafkaTable>),
    UpsertKafka(Box<UpsertKafkaTable>),
    Filesystem(millstream_api::graph::FilesystemSource),
    Datagen(millstream_api::graph::DatagenSource),
    Print(PrintSink),
    Blackhole,
}

const NAMES: &[&str] = &["kafka", "upsert-kafka", "filesystem", "datagen", "print", "blackhole"];

pub(crate) struct Parsed {
    pub connector: Connector,
    pub idle_timeout_ms: Option<u64>,
}

/// A metadata key, its type, whether it can be NULL.
type Metadata = (&'static str, SqlType, bool);

impl Connector {
    pub fn parse(def: &CreateTable, columns: &[TableColumn]) -> Result<Parsed> {
        let mut options = Options::new(def)?;
        let Some(named) = options.take("connector") else {
            return Err(SqlError::at(
                def.options_position,
                format!("the table '{}' has no option 'connector'", def.name.text),
            )
            .hint(format!("the connectors are {}", NAMES.join(", "))));
        };
        options.connector.clone_from(&named.value);
        let connector = match named.value.as_str() {
            "kafka" => Connector::Kafka(Box::new(KafkaTable::parse(&mut options, columns)?)),
            "upsert-kafka" => Connector::UpsertKafka(Box::new(UpsertKafkaTable::parse(&mut options)?)),
            "filesystem" => Connector::Filesystem(filesystem::parse(&mut options)?),
            "datagen" => Connector::Datagen(datagen::parse(&mut options, columns)?),
            "print" => Connector::Print(print::parse(&mut options)?),
            "blackhole" => Connector::Blackhole,
            other => {
                let message = format!("the connector '{other}' is not supported");
                let hint = did_you_mean(other, NAMES.iter().copied());
                return Err(SqlError::at(named.value_position, message)
                    .hint(hint.unwrap_or_else(|| format!("the connectors are {}", NAMES.join(", ")))));
            }
        };
        options.refuse("sink.parallelism", "spec.parallelism sets the parallelism of the job")?;
        options.refuse("scan.parallelism", "spec.parallelism sets the parallelism of the job")?;
        let idle_timeout_ms = options.duration_ms("scan.watermark.idle-timeout")?;
        options.finish()?;
        Ok(Parsed { connector, idle_timeout_ms })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Connector::Kafka(_) => "kafka",
            Connector::UpsertKafka(_) => "upsert-kafka",
            Connector::Filesystem(_) => "filesystem",
            Connector::Datagen(_) => "datagen",
            Connector::Print(_) => "print",
            Connector::Blackhole => "blackhole",
        }
    }

    /// The metadata that columns can be taken from.
    pub fn metadata(&self) -> Vec<Metadata> {
        match self {
            Connector::Kafka(_) => vec![
                ("topic", SqlType::STRING, false),
                ("partition", SqlType::Int, false),
                ("offset", SqlType::BigInt, false),
                ("timestamp", SqlType::TimestampLtz { precision: 3 }, false),
            ],
            _ => Vec::new(),
        }
    }

    /// Refuses a table in FROM that cannot be read.
    pub fn check_source(&self, name: &Ident) -> Result<()> {
        match self {
            Connector::Kafka(kafka) => kafka.check_source(name),
            Connector::Filesystem(_) | Connector::Datagen(_) => Ok(()),
            Connector::UpsertKafka(_) => {
                Err(SqlError::unsupported(name.position, "reading from the connector 'upsert-kafka'"))
            }
            Connector::Print(_) | Connector::Blackhole => {
                let message =
                    format!("the table '{}' cannot be read: the connector '{}' only writes", name.text, self.name());
                Err(SqlError::at(name.position, message))
            }
        }
    }

    /// Refuses a table in INSERT INTO that cannot be written.
    pub fn check_sink(&self, name: &Ident) -> Result<()> {
        match self {
            Connector::Kafka(kafka) => kafka.check_sink(name),
            Connector::UpsertKafka(_) | Connector::Print(_) | Connector::Blackhole => Ok(()),
            Connector::Filesystem(_) => {
                Err(SqlError::unsupported(name.position, "writing to the connector 'filesystem'"))
            }
            Connector::Datagen(_) => Err(SqlError::at(
                name.position,
                format!("the table '{}' cannot be written: the connector 'datagen' only reads", name.text),
            )),
        }
    }

    /// Refuses a PRIMARY KEY that the connector cannot have, or the lack of one.
    pub fn check_key(&self, def: &CreateTable, columns: &[TableColumn], key: &[usize]) -> Result<()> {
        match self {
            Connector::UpsertKafka(_) if key.is_empty() => Err(SqlError::at(
                def.name.position,
                format!("the table '{}' needs a PRIMARY KEY: the connector 'upsert-kafka' writes by it", def.name.text),
            )),
            Connector::UpsertKafka(upsert) if !upsert.value_includes_key => {
                let physical = columns.iter().filter(|c| c.source == ColumnSource::Physical).count();
                if physical > key.len() {
                    return Ok(());
                }
                Err(SqlError::at(
                    def.name.position,
                    format!("the table '{}' has no column left for the value", def.name.text),
                )
                .hint("'value.fields-include' = 'ALL'"))
            }
            Connector::Kafka(_) if !key.is_empty() => {
                let position = def.primary_key.as_ref().map_or(def.name.position, |k| k.position);
                Err(SqlError::at(position, "the connector 'kafka' has no PRIMARY KEY: its rows are inserts only")
                    .hint("use the connector 'upsert-kafka'"))
            }
            _ => Ok(()),
        }
    }

    pub fn takes_updates(&self) -> bool {
        matches!(self, Connector::UpsertKafka(_) | Connector::Print(_) | Connector::Blackhole)
    }

    /// Whether rows are written by their key, so that the key must identify them.
    pub fn needs_key(&self) -> bool {
        matches!(self, Connector::UpsertKafka(_))
    }

    /// For reading; [`Connector::check_source`] has passed.
    pub fn source(&self) -> Option<SourceConnector> {
        match self {
            Connector::Kafka(kafka) => Some(SourceConnector::Kafka(kafka.source())),
            Connector::Filesystem(source) => Some(SourceConnector::Filesystem(source.clone())),
            Connector::Datagen(source) => Some(SourceConnector::Datagen(source.clone())),
            Connector::UpsertKafka(_) | Connector::Print(_) | Connector::Blackhole => None,
        }
    }

    /// For writing; [`Connector::check_sink`] has passed.
    pub fn sink(&self) -> Option<SinkConnector> {
        match self {
            Connector::Kafka(kafka) => Some(SinkConnector::Kafka(kafka.sink())),
            Connector::UpsertKafka(upsert) => Some(SinkConnector::UpsertKafka(upsert.sink())),
            Connector::Print(print) => Some(SinkConnector::Print(print.clone())),
            Connector::Blackhole => Some(SinkConnector::Blackhole),
            Connector::Filesystem(_) | Connector::Datagen(_) => None,
        }
    }
}
