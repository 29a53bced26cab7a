//! From YAML text to a checked `FlinkJob`; every refusal says what, where and what to do.

use serde_yaml::Value;
use thiserror::Error;

use super::{API_VERSION, FlinkJob, KIND};
use crate::ids::MAX_PARALLELISM_LIMIT;

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ManifestError {
    pub message: String,
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
    check_kind(text)?;
    let job: FlinkJob = serde_yaml::from_str(text).map_err(|e| vec![from_yaml(&e)])?;
    let errors = check(&job, text);
    if errors.is_empty() { Ok(job) } else { Err(errors) }
}

/// Another kind of resource gets a message about that, not about its fields.
fn check_kind(text: &str) -> Result<(), Vec<ManifestError>> {
    let value: Value = serde_yaml::from_str(text).map_err(|e| vec![from_yaml(&e)])?;
    let fail = |message: String, key: &str| Err(vec![ManifestError { message, at: find_key(text, &[key]) }]);
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
    ManifestError { message, at }
}

/// For "unknown field `a`, expected one of `b`, `c`": which of them was probably meant.
fn nearest_of_unknown(message: &str) -> Option<String> {
    let quoted: Vec<&str> = message[message.find("unknown ")?..].split('`').skip(1).step_by(2).collect();
    let (unknown, known) = quoted.split_first()?;
    let best =
        known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)))?;
    (strsim::jaro_winkler(unknown, best) > 0.75).then(|| format!("; did you mean `{best}`?"))
}

/// Checks the values of a manifest whose shape is right. `text` is searched for their places.
#[must_use]
pub fn check(job: &FlinkJob, text: &str) -> Vec<ManifestError> {
    let mut errors = Vec::new();
    let mut fail = |path: &[&str], message: String| errors.push(ManifestError { message, at: find_key(text, path) });
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

/// 1-based position of the last key of `path` in block-style YAML; of the nearest parent where the key is not written.
fn find_key(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let mut found = None;
    let mut depth = 0;
    let mut indent_min = 0;
    for (number, line) in text.lines().enumerate() {
        let Some(&key) = path.get(depth) else { break };
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if depth > 0 && !trimmed.is_empty() && indent < indent_min {
            break;
        }
        if trimmed.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')) && !key.is_empty() {
            found = Some((number + 1, indent + 1));
            depth += 1;
            indent_min = indent + 1;
        }
    }
    found
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
