//! `spec.checkpoint`: when checkpoints are taken and where they go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// When checkpoints are taken and where they are kept. Each checkpoint is also when exactly-once output becomes visible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// `s3://bucket/path`, `file:///path` or a plain path. Local runs default to the user's state directory.
    pub storage: Option<String>,
    /// From trigger to trigger. Flink: `execution.checkpointing.interval`. Default 10 s, at least 10 ms.
    pub interval: Duration,
    /// A checkpoint that takes longer is aborted. Default 10 min.
    pub timeout: Duration,
    /// Least time between the end of a checkpoint and the start of the next. Default 0.
    pub min_pause: Duration,
    /// Checkpoints in a row that may fail before the job does. Default 0, as in Flink; at most 16.
    pub tolerable_failures: u32,
    /// Completed checkpoints that are kept. Default 1, as in Flink; at least 1, at most 100.
    pub retained: u32,
    /// How to reach S3, where `storage` is `s3://`.
    pub s3: S3Spec,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            storage: None,
            interval: Duration::from_millis(10_000),
            timeout: Duration::from_millis(600_000),
            min_pause: Duration::from_millis(0),
            tolerable_failures: 0,
            retained: 1,
            s3: S3Spec::default(),
        }
    }
}

/// Connection to S3 or a server that speaks its protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3Spec {
    /// URL of the server; none for AWS itself.
    pub endpoint: Option<String>,
    /// Default: the environment's (AWS_REGION, profile), then `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name. Default: true where an endpoint is set.
    pub path_style: Option<bool>,
    /// PEM file of the authority that signed the server's certificate.
    pub ca_file: Option<String>,
    /// Default: the AWS chain (environment, profile, container, instance).
    pub credentials: Option<S3Credentials>,
}

/// Where the S3 credentials are found; never the credentials themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3Credentials {
    /// Name of the environment variable that holds the access key id.
    pub access_key_id_env: Option<String>,
    /// Name of the environment variable that holds the secret access key.
    pub secret_access_key_env: Option<String>,
    /// A file in the format of `~/.aws/credentials`.
    pub file: Option<String>,
    /// Profile within the file. Default `default`.
    pub profile: Option<String>,
}
