//! From YAML text to a checked `FlinkJob`; every refusal says what, where and what to do.

use serde_yaml::Value;
use thiserror::Error;

use super::place::find_key;
use super::{API_VERSION, FlinkJob, KIND};
use crate::ids::MAX_PARALLELISM_LIMIT;

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ManifestError {
    pub message: String,
    /// The field whose value is wrong, as `spec.parallelism`; empty where the shape is.
    pub field: String,
    /// 1-based position in the text, where it is known.
    pub at: Option<(usize, usize)>,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{line}:{column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Reads one manifest and checks what can be checked without its SQL.
///
/// # Errors
/// All that is wrong at the first level that fails: syntax, then shape, then values.
pub fn parse(text: &str) -> Result<FlinkJob, Vec<ManifestError>> {
    let value: Value = serde_yaml::from_str(text).map_err(|e| vec![from_yaml(&e)])?;
    check_kind(&value, text)?;
    check_metadata(&value, text)?;
    let job: FlinkJob = serde_yaml::from_str(text).map_err(|e| vec![from_yaml(&e)])?;
    let errors = check(&job, text);
    if errors.is_empty() { Ok(job) } else { Err(errors) }
}

/// Another kind of resource gets a message about that, not about its fields.
fn check_kind(value: &Value, text: &str) -> Result<(), Vec<ManifestError>> {
    let fail = |message: String, key: &str| {
        Err(vec![ManifestError { message, field: String::new(), at: find_key(text, &[key]) }])
    };
    if !value.is_mapping() {
        return fail(
            format!("a manifest is a mapping with apiVersion: {API_VERSION}, kind: {KIND}, metadata and spec"),
            "",
        );
    }
    match value.get("apiVersion").and_then(Value::as_str) {
        Some(API_VERSION) => {}
        Some(other) => {
            return fail(format!("apiVersion `{other}` is not supported: write {API_VERSION}"), "apiVersion");
        }
        None => return fail(format!("apiVersion is missing: write apiVersion: {API_VERSION}"), ""),
    }
    match value.get("kind").and_then(Value::as_str) {
        Some(KIND) => Ok(()),
        Some(other) => fail(format!("kind `{other}` is not supported: write {KIND}"), "kind"),
        None => fail(format!("kind is missing: write kind: {KIND}"), ""),
    }
}

/// Kubernetes' object metadata: what people write, and what `kubectl` and the API server add to it.
const METADATA_FIELDS: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A slip in `namespace` would be another job, so fields that Kubernetes does not know are refused.
fn check_metadata(value: &Value, text: &str) -> Result<(), Vec<ManifestError>> {
    let Some(metadata) = value.get("metadata").and_then(Value::as_mapping) else { return Ok(()) };
    let unknown = |key: &&str| !METADATA_FIELDS.contains(key);
    let refuse = |key: &str| {
        let hint = nearest_field(key, METADATA_FIELDS).map_or_else(
            || ", expected name, namespace, labels or annotations".to_owned(),
            |n| format!("; did you mean `{n}`?"),
        );
        let message = format!("metadata: unknown field `{key}`{hint}");
        ManifestError { message, field: String::new(), at: find_key(text, &["metadata", key]) }
    };
    let errors: Vec<_> = metadata.keys().filter_map(Value::as_str).filter(unknown).map(refuse).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn from_yaml(error: &serde_yaml::Error) -> ManifestError {
    let at = error.location().map(|l| (l.line(), l.column()));
    let mut message = error.to_string();
    if let Some((line, column)) = at {
        // The position stands in front of our message; once is enough.
        message = message.replace(&format!(" at line {line} column {column}"), "");
    }
    if let Some(hint) = nearest_of_unknown(&message) {
        message.push_str(&hint);
    }
    ManifestError { message, field: String::new(), at }
}

/// For "unknown field `a`, expected one of `b`, `c`": which of them was probably meant.
fn nearest_of_unknown(message: &str) -> Option<String> {
    let quoted: Vec<&str> = message[message.find("unknown ")?..].split('`').skip(1).step_by(2).collect();
    let (unknown, known) = quoted.split_first()?;
    nearest_field(unknown, known).map(|best| format!("; did you mean `{best}`?"))
}

fn nearest_field<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |name: &str| strsim::jaro_winkler(unknown, name);
    known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|best| score(best) > 0.75)
}

/// Checks the values of a manifest whose shape is right. `text` is searched for their places.
#[must_use]
pub fn check(job: &FlinkJob, text: &str) -> Vec<ManifestError> {
    let mut errors = Vec::new();
    let mut fail = |path: &[&str], message: String| {
        errors.push(ManifestError { message, field: path.join("."), at: find_key(text, path) });
    };
    let spec = &job.spec;
    for (field, value) in [("name", &job.metadata.name), ("namespace", &job.metadata.namespace)] {
        if !is_dns_label(value) {
            fail(
                &["metadata", field],
                format!(
                    "metadata.{field} `{value}` is not a DNS label: use at most 63 of a-z, 0-9 and `-`, starting and ending with a letter or digit"
                ),
            );
        }
    }
    match (&spec.sql, &spec.sql_file) {
        (None, None) => {
            fail(&["spec"], "spec.sql is missing: write the script there, or name its file in spec.sqlFile".into())
        }
        (Some(_), Some(_)) => {
            fail(&["spec", "sqlFile"], "spec.sql and spec.sqlFile are both set: keep one of them".into())
        }
        _ => {}
    }
    if spec.max_parallelism == 0 || spec.max_parallelism > MAX_PARALLELISM_LIMIT {
        let value = spec.max_parallelism;
        fail(
            &["spec", "maxParallelism"],
            format!("spec.maxParallelism {value} is out of range: 1 to {MAX_PARALLELISM_LIMIT}"),
        );
    } else if spec.parallelism == 0 || spec.parallelism > spec.max_parallelism {
        let (value, max) = (spec.parallelism, spec.max_parallelism);
        fail(
            &["spec", "parallelism"],
            format!("spec.parallelism {value} is out of range: 1 to spec.maxParallelism, which is {max}"),
        );
    }
    if let Some(value) = spec.min_parallelism
        && (value == 0 || value > spec.parallelism)
    {
        let max = spec.parallelism;
        fail(
            &["spec", "minParallelism"],
            format!("spec.minParallelism {value} is out of range: 1 to spec.parallelism, which is {max}"),
        );
    }
    if spec.slots_per_worker == 0 || spec.slots_per_worker > 1024 {
        let value = spec.slots_per_worker;
        fail(&["spec", "slotsPerWorker"], format!("spec.slotsPerWorker {value} is out of range: 1 to 1024"));
    }
    check_checkpoint(job, &mut fail);
    check_restart(job, &mut fail);
    errors
}

fn check_checkpoint(job: &FlinkJob, fail: &mut impl FnMut(&[&str], String)) {
    let checkpoint = &job.spec.checkpoint;
    if checkpoint.interval.as_millis() < 10 {
        let value = checkpoint.interval;
        fail(
            &["spec", "checkpoint", "interval"],
            format!("spec.checkpoint.interval {value} is too short: at least 10 ms"),
        );
    }
    if checkpoint.timeout.as_millis() < 10 {
        let value = checkpoint.timeout;
        fail(
            &["spec", "checkpoint", "timeout"],
            format!("spec.checkpoint.timeout {value} is too short: at least 10 ms"),
        );
    }
    if checkpoint.tolerable_failures > 16 {
        let value = checkpoint.tolerable_failures;
        fail(
            &["spec", "checkpoint", "tolerableFailures"],
            format!("spec.checkpoint.tolerableFailures {value} is out of range: 0 to 16"),
        );
    }
    if checkpoint.retained == 0 || checkpoint.retained > 100 {
        let value = checkpoint.retained;
        fail(
            &["spec", "checkpoint", "retained"],
            format!("spec.checkpoint.retained {value} is out of range: 1 to 100"),
        );
    }
    if let Some(storage) = &checkpoint.storage
        && let Some((scheme, _)) = storage.split_once("://")
        && !["s3", "file"].contains(&scheme)
    {
        fail(
            &["spec", "checkpoint", "storage"],
            format!(
                "spec.checkpoint.storage `{storage}` is not supported: use s3://bucket/path, file:///path or a path"
            ),
        );
    }
    if let Some(c) = &checkpoint.s3.credentials
        && c.access_key_id_env.is_some() != c.secret_access_key_env.is_some()
    {
        fail(
            &["spec", "checkpoint", "s3", "credentials"],
            "spec.checkpoint.s3.credentials needs accessKeyIdEnv and secretAccessKeyEnv together".into(),
        );
    }
}

fn check_restart(job: &FlinkJob, fail: &mut impl FnMut(&[&str], String)) {
    let restart = &job.spec.restart;
    if !(1.0..=100.0).contains(&restart.backoff_multiplier) {
        let value = restart.backoff_multiplier;
        fail(
            &["spec", "restart", "backoffMultiplier"],
            format!("spec.restart.backoffMultiplier {value} is out of range: 1 to 100"),
        );
    }
    if !(0.0..=1.0).contains(&restart.jitter_factor) {
        let value = restart.jitter_factor;
        fail(
            &["spec", "restart", "jitterFactor"],
            format!("spec.restart.jitterFactor {value} is out of range: 0 to 1"),
        );
    }
    if restart.initial_backoff > restart.max_backoff {
        let (initial, max) = (restart.initial_backoff, restart.max_backoff);
        fail(
            &["spec", "restart", "initialBackoff"],
            format!("spec.restart.initialBackoff {initial} is longer than spec.restart.maxBackoff {max}"),
        );
    }
}

fn is_dns_label(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 63
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
