//! The `FlinkJob` resource: what a user applies, as types, and reading it from YAML text.
//!
//! Owns: the schema, defaults and the checks that need nothing but the manifest. Does not own: what the SQL in it means.

mod checkpoint;
mod duration;
pub mod options;
mod parse;
mod place;
mod restart;
mod spec;

#[cfg(test)]
mod corpus_tests;

pub use checkpoint::{CheckpointSpec, S3Credentials, S3Spec};
pub use duration::{DURATION_EXPECTED, Duration, DurationError, parse_duration_ms};
pub use parse::{ManifestError, check, parse};
pub use place::{find_key, sql_offset};
pub use restart::{ExpiredTransactions, RestartSpec, RestartStrategy, RestoreSpec};
pub use spec::{
    API_VERSION, FlinkJob, FlinkJobSpec, KIND, Metadata, ShuffleCompression, ShuffleSpec, StateBackend, StateSpec,
};
