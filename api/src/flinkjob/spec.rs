//! The resource and its spec.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::{CheckpointSpec, Duration, RestartSpec, RestoreSpec};

/// The one `apiVersion` of this binary.
pub const API_VERSION: &str = "millstream.dev/v1alpha1";
/// The one `kind`.
pub const KIND: &str = "FlinkJob";

/// A streaming job, as a Kubernetes resource and as a file for `millstream run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlinkJob {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub spec: FlinkJobSpec,
}

impl FlinkJob {
    /// `namespace/name`: what tells it from any other job, and its folder in the store.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }
}

/// The parts of Kubernetes' object metadata that a file may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// A DNS label: it names the job in the store, in metrics and in Kubernetes.
    pub name: String,
    /// Default `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// What to run and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlinkJobSpec {
    /// The Flink SQL script. Either this or `sqlFile`.
    #[serde(default)]
    pub sql: Option<String>,
    /// For local runs: a file beside the manifest that holds the script.
    #[serde(default)]
    pub sql_file: Option<String>,
    /// Tasks per chain of transforms. Default 1.
    #[serde(default = "one")]
    pub parallelism: u32,
    /// Number of key groups: the most that `parallelism` can ever be. Frozen with the first checkpoint. Default 720.
    #[serde(default = "default_max_parallelism")]
    pub max_parallelism: u32,
    /// With slots for so many tasks per chain the job starts, or goes on after a worker is lost, once `slotTimeout` is over; it
    /// grows when more come. Default: `parallelism`.
    #[serde(default)]
    pub min_parallelism: Option<u32>,
    /// How long to wait for slots for `parallelism` before `minParallelism` will do. Default 10 s.
    #[serde(default = "default_slot_timeout")]
    pub slot_timeout: Duration,
    /// Threads per worker that run tasks, in a cluster; `millstream run` has one per task. Default 1.
    #[serde(default = "one")]
    pub slots_per_worker: u32,
    #[serde(default)]
    pub state: StateSpec,
    #[serde(default)]
    pub shuffle: ShuffleSpec,
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    #[serde(default)]
    pub restart: RestartSpec,
    #[serde(default)]
    pub restore: RestoreSpec,
    /// Flink's `table.*` and `pipeline.*` keys, with text, numbers and flags as values; a SET in the script wins.
    #[serde(default, deserialize_with = "scalars")]
    #[schemars(schema_with = "scalars_schema")]
    pub options: BTreeMap<String, String>,
}

/// A mapping of scalars as text: YAML reads `true` and `4` as a flag and a number, and both are what is meant.
fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
    Ok(map.into_iter().map(|(key, Scalar(text))| (key, text)).collect())
}

fn scalars_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "x-kubernetes-preserve-unknown-fields": true } })
}

/// Text, a number or a flag, as text.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true or false")
            }
            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

fn one() -> u32 {
    1
}

fn default_max_parallelism() -> u32 {
    720
}

/// As long as Flink's adaptive scheduler waits for more resources once the least are there
/// (`jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout`): workers that start together differ by seconds.
fn default_slot_timeout() -> Duration {
    Duration::from_millis(10_000)
}

/// Rows between workers; within a process they are handed over as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ShuffleSpec {
    /// Default none.
    pub compression: ShuffleCompression,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ShuffleCompression {
    /// The least work: right where the network is faster than a core compresses.
    #[default]
    None,
    /// LZ4 blocks: fewer bytes for some work on both sides, where the network is the limit or is paid for.
    Lz4,
}

/// Where keyed state lives between checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StateSpec {
    /// Default memory.
    pub backend: StateBackend,
    /// Folder for the disk backend and for spill files. Default: the system's temporary folder.
    pub directory: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StateBackend {
    /// Packed rows in memory: the fastest, bounded by memory.
    #[default]
    Memory,
    /// An embedded LSM tree: state larger than memory.
    Disk,
}
