//! Flink's configuration keys that mean something here, for `SET` in SQL and for `options` in the manifest.
//!
//! Owns: the table of keys, their types, the reading of their values. Does not own: what they do. A key that Flink has
//! and that cannot change a result here (object reuse, network buffers) is accepted without effect; a key whose effect
//! is missing is refused, never ignored.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::duration::{DURATION_EXPECTED, parse_duration_ms};
use crate::graph::NotNullEnforcer;
use crate::ids::MAX_PARALLELISM_LIMIT;

/// The options of a job, typed. `None`: not set; the reader has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobOptions {
    /// `pipeline.name`
    pub name: Option<String>,
    /// `parallelism.default`, `table.exec.resource.default-parallelism`
    pub parallelism: Option<u32>,
    /// `pipeline.max-parallelism`
    pub max_parallelism: Option<u32>,
    /// `execution.checkpointing.interval`
    pub checkpoint_interval_ms: Option<u64>,
    /// `execution.checkpointing.timeout`
    pub checkpoint_timeout_ms: Option<u64>,
    /// `execution.checkpointing.min-pause`
    pub checkpoint_min_pause_ms: Option<u64>,
    /// `execution.checkpointing.tolerable-failed-checkpoints`
    pub checkpoint_tolerable_failures: Option<u32>,
    /// `state.checkpoints.num-retained`, `execution.checkpointing.num-retained`
    pub checkpoints_retained: Option<u32>,
    /// `table.exec.source.idle-timeout`; 0 stands for never.
    pub source_idle_timeout_ms: Option<u64>,
    /// `table.exec.mini-batch.enabled`
    pub mini_batch_enabled: Option<bool>,
    /// `table.exec.mini-batch.allow-latency`
    pub mini_batch_allow_latency_ms: Option<u64>,
    /// `table.exec.mini-batch.size`
    pub mini_batch_size: Option<u64>,
    /// `table.exec.state.ttl`; 0 stands for never.
    pub state_ttl_ms: Option<u64>,
    /// `table.exec.sink.not-null-enforcer`
    pub not_null_enforcer: Option<NotNullEnforcer>,
}

/// What a key's value looks like and where it goes.
enum Kind {
    Text(fn(&mut JobOptions, String)),
    /// A whole number from the least to the most.
    Number(u64, u64, fn(&mut JobOptions, u64)),
    Flag(fn(&mut JobOptions, bool)),
    /// `10 s`, `500 ms`, `1 min`.
    Duration(fn(&mut JobOptions, u64)),
    /// One of these values; others exist in Flink or not, and are refused.
    Choice(&'static [&'static str], fn(&mut JobOptions, &str)),
    /// Flink's setting of its own machinery: no value of it changes a result here.
    NoEffect,
}

/// Why a key or its value was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionError {
    #[error("unknown option '{key}'{}", .nearest.map(|n| format!(", did you mean '{n}'?")).unwrap_or_default())]
    UnknownKey { key: String, nearest: Option<&'static str> },
    #[error("'{value}' is no value of '{key}': expected {expected}")]
    BadValue { key: String, value: String, expected: String },
}

impl OptionError {
    /// Whether the value, and not the key, was at fault.
    #[must_use]
    pub fn concerns_value(&self) -> bool {
        matches!(self, OptionError::BadValue { .. })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the bounds in the table are below u32::MAX")]
const fn to_u32(n: u64) -> u32 {
    n as u32
}

const COUNT_MAX: u64 = u32::MAX as u64;

/// Every key that is accepted.
const OPTIONS: &[(&str, Kind)] = &[
    ("pipeline.name", Kind::Text(|o, v| o.name = Some(v))),
    ("parallelism.default", Kind::Number(1, MAX_PARALLELISM_LIMIT as u64, |o, n| o.parallelism = Some(to_u32(n)))),
    (
        "table.exec.resource.default-parallelism",
        Kind::Number(1, MAX_PARALLELISM_LIMIT as u64, |o, n| o.parallelism = Some(to_u32(n))),
    ),
    (
        "pipeline.max-parallelism",
        Kind::Number(1, MAX_PARALLELISM_LIMIT as u64, |o, n| o.max_parallelism = Some(to_u32(n))),
    ),
    ("execution.checkpointing.interval", Kind::Duration(|o, ms| o.checkpoint_interval_ms = Some(ms))),
    ("execution.checkpointing.timeout", Kind::Duration(|o, ms| o.checkpoint_timeout_ms = Some(ms))),
    ("execution.checkpointing.min-pause", Kind::Duration(|o, ms| o.checkpoint_min_pause_ms = Some(ms))),
    (
        "execution.checkpointing.tolerable-failed-checkpoints",
        Kind::Number(0, COUNT_MAX, |o, n| o.checkpoint_tolerable_failures = Some(to_u32(n))),
    ),
    ("execution.checkpointing.num-retained", Kind::Number(1, 10_000, |o, n| o.checkpoints_retained = Some(to_u32(n)))),
    ("state.checkpoints.num-retained", Kind::Number(1, 10_000, |o, n| o.checkpoints_retained = Some(to_u32(n)))),
    ("execution.checkpointing.mode", Kind::Choice(&["EXACTLY_ONCE"], |_, _| {})),
    ("execution.checkpointing.unaligned.enabled", Kind::Choice(&["false"], |_, _| {})),
    ("execution.checkpointing.max-concurrent-checkpoints", Kind::Number(1, 1, |_, _| {})),
    ("execution.runtime-mode", Kind::Choice(&["STREAMING"], |_, _| {})),
    ("table.exec.source.idle-timeout", Kind::Duration(|o, ms| o.source_idle_timeout_ms = Some(ms))),
    ("table.exec.mini-batch.enabled", Kind::Flag(|o, on| o.mini_batch_enabled = Some(on))),
    ("table.exec.mini-batch.allow-latency", Kind::Duration(|o, ms| o.mini_batch_allow_latency_ms = Some(ms))),
    ("table.exec.mini-batch.size", Kind::Number(1, i64::MAX as u64, |o, n| o.mini_batch_size = Some(n))),
    ("table.exec.state.ttl", Kind::Duration(|o, ms| o.state_ttl_ms = Some(ms))),
    (
        "table.exec.sink.not-null-enforcer",
        Kind::Choice(&["ERROR", "DROP"], |o, v| {
            o.not_null_enforcer = Some(if v == "DROP" { NotNullEnforcer::Drop } else { NotNullEnforcer::Error });
        }),
    ),
    ("table.exec.sink.type-length-enforcer", Kind::Choice(&["IGNORE"], |_, _| {})),
    ("table.exec.legacy-cast-behaviour", Kind::Choice(&["DISABLED"], |_, _| {})),
    ("table.local-time-zone", Kind::Choice(&["UTC", "Etc/UTC", "GMT", "Z", "+00:00", "default"], |_, _| {})),
    ("table.sql-dialect", Kind::Choice(&["default"], |_, _| {})),
    ("table.optimizer.agg-phase-strategy", Kind::NoEffect),
    ("table.optimizer.reuse-source-enabled", Kind::NoEffect),
    ("table.optimizer.reuse-sub-plan-enabled", Kind::NoEffect),
    ("table.optimizer.source.predicate-pushdown-enabled", Kind::NoEffect),
    ("table.exec.sink.upsert-materialize", Kind::Choice(&["AUTO", "NONE"], |_, _| {})),
    ("table.exec.uid.generation", Kind::NoEffect),
    ("table.dml-sync", Kind::NoEffect),
    ("table.plan.force-recompile", Kind::NoEffect),
    ("pipeline.object-reuse", Kind::NoEffect),
    ("pipeline.operator-chaining.enabled", Kind::NoEffect),
    ("pipeline.auto-watermark-interval", Kind::NoEffect),
    ("pipeline.generic-types", Kind::NoEffect),
    ("execution.attached", Kind::NoEffect),
    ("execution.buffer-timeout", Kind::NoEffect),
    // Checkpoints outlive the job here: the next run goes on from them.
    ("execution.checkpointing.externalized-checkpoint-retention", Kind::Choice(&["RETAIN_ON_CANCELLATION"], |_, _| {})),
    ("execution.checkpointing.incremental", Kind::NoEffect),
    ("sql-client.execution.result-mode", Kind::NoEffect),
    ("sql-client.verbose", Kind::NoEffect),
];

impl JobOptions {
    /// Sets one key.
    ///
    /// # Errors
    /// The key is unknown, or the value is none of the key's.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), OptionError> {
        let Some((_, kind)) = OPTIONS.iter().find(|(name, _)| *name == key) else {
            return Err(OptionError::UnknownKey { key: key.to_owned(), nearest: nearest(key) });
        };
        let value = value.trim();
        let bad = |expected: String| OptionError::BadValue { key: key.to_owned(), value: value.to_owned(), expected };
        match kind {
            Kind::Text(set) => set(self, value.to_owned()),
            Kind::Number(least, most, set) => {
                let number = value.parse().ok().filter(|n| (least..=most).contains(&n));
                set(self, number.ok_or_else(|| bad(number_range(*least, *most)))?);
            }
            Kind::Flag(set) => set(self, parse_flag(value).ok_or_else(|| bad("true or false".to_owned()))?),
            Kind::Duration(set) => {
                set(self, parse_duration_ms(value).ok_or_else(|| bad(DURATION_EXPECTED.to_owned()))?)
            }
            Kind::Choice(choices, set) => {
                let choice = choices.iter().find(|c| c.eq_ignore_ascii_case(value));
                set(self, choice.ok_or_else(|| bad(format!("{} (others are not supported)", choices.join(" or "))))?);
            }
            Kind::NoEffect => {}
        }
        Ok(())
    }

    /// What does not go together, once all keys are set: the key to look at, and what is wrong.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        if self.mini_batch_enabled == Some(true)
            && (self.mini_batch_allow_latency_ms.unwrap_or(0) == 0 || self.mini_batch_size.is_none())
        {
            errors.push((
                "table.exec.mini-batch.enabled",
                "'table.exec.mini-batch.enabled' needs 'table.exec.mini-batch.allow-latency' above 0 and \
                 'table.exec.mini-batch.size'"
                    .to_owned(),
            ));
        }
        errors
    }

    /// Every key that [`JobOptions::set`] takes.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        OPTIONS.iter().map(|(key, _)| *key)
    }
}

fn number_range(least: u64, most: u64) -> String {
    if least == most { least.to_string() } else { format!("a whole number from {least} to {most}") }
}

fn nearest(key: &str) -> Option<&'static str> {
    OPTIONS
        .iter()
        .map(|(name, _)| (strsim::jaro_winkler(key, name), *name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// `true` or `false`, in any case.
#[must_use]
pub fn parse_flag(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_and_bad_ones_say_what_is_expected() {
        let mut options = JobOptions::default();
        options.set("table.exec.mini-batch.allow-latency", "1 s").unwrap();
        options.set("table.exec.mini-batch.enabled", "TRUE").unwrap();
        options.set("parallelism.default", "2").unwrap();
        options.set("table.exec.sink.not-null-enforcer", "drop").unwrap();
        options.set("pipeline.object-reuse", "true").unwrap();
        assert_eq!(options.mini_batch_allow_latency_ms, Some(1000));
        assert_eq!(options.mini_batch_enabled, Some(true));
        assert_eq!(options.parallelism, Some(2));
        assert_eq!(options.not_null_enforcer, Some(NotNullEnforcer::Drop));
        let error = options.set("parallelism.default", "0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "'0' is no value of 'parallelism.default': expected a whole number from 1 to 32768"
        );
        let error = options.set("execution.checkpointing.mode", "AT_LEAST_ONCE").unwrap_err();
        assert!(error.to_string().ends_with("expected EXACTLY_ONCE (others are not supported)"), "{error}");
        let retention = "execution.checkpointing.externalized-checkpoint-retention";
        assert_eq!(options.set(retention, "RETAIN_ON_CANCELLATION"), Ok(()));
        assert!(options.set(retention, "DELETE_ON_CANCELLATION").is_err());
    }

    #[test]
    fn mini_batch_needs_its_latency_and_its_size() {
        let mut options = JobOptions::default();
        options.set("table.exec.mini-batch.enabled", "true").unwrap();
        options.set("table.exec.mini-batch.size", "100").unwrap();
        assert_eq!(options.check()[0].0, "table.exec.mini-batch.enabled");
        options.set("table.exec.mini-batch.allow-latency", "5").unwrap();
        assert_eq!(options.check(), []);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let error = JobOptions::default().set("table.exec.minibatch.enabled", "true").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown option 'table.exec.minibatch.enabled', did you mean 'table.exec.mini-batch.enabled'?"
        );
        assert_eq!(JobOptions::default().set("foo", "1").unwrap_err().to_string(), "unknown option 'foo'");
    }
}
