//! `spec.restart` and `spec.restore`: what happens after a failure, and what a job starts from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How often and how fast a failed job is restarted. Names follow Flink's `restart-strategy.*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestartSpec {
    /// Default exponentialDelay.
    pub strategy: RestartStrategy,
    /// Restarts before the job fails for good; none: no limit. exponentialDelay counts anew after `resetAfter`.
    pub attempts: Option<u32>,
    /// First delay (the only one of fixedDelay). Default 100 ms.
    pub initial_backoff: Duration,
    /// Longest delay. Default 1 min.
    pub max_backoff: Duration,
    /// Growth of the delay. Default 1.5; between 1 and 100.
    pub backoff_multiplier: f64,
    /// Random share of the delay, between 0 and 1. Default 0.1.
    pub jitter_factor: f64,
    /// The delay starts over after this long without a failure. Default 1 h.
    pub reset_after: Duration,
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self {
            strategy: RestartStrategy::ExponentialDelay,
            attempts: None,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(60_000),
            backoff_multiplier: 1.5,
            jitter_factor: 0.1,
            reset_after: Duration::from_millis(3_600_000),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RestartStrategy {
    #[default]
    ExponentialDelay,
    FixedDelay,
    /// The first failure is final.
    None,
}

/// What a job starts from, and what it may leave behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestoreSpec {
    /// Sequence number of a retained checkpoint's log entry. Default: the job's last sealed checkpoint.
    pub from: Option<u64>,
    /// A savepoint to start from, `s3://bucket/path` or a folder. It counts once: later starts go on from the job's own
    /// checkpoints. Default: the job's last sealed checkpoint.
    pub savepoint: Option<String>,
    /// Another number restores the same savepoint once more.
    pub savepoint_nonce: Option<u64>,
    /// Start without the state of transforms that the new SQL no longer has. Default false.
    pub allow_non_restored_state: bool,
    /// Take the job over from another owner, named here as the refusal names it.
    pub take_over: Option<String>,
    /// What to do when the broker gave up a part of an epoch whose other part is already visible. Default fail.
    pub expired_transactions: ExpiredTransactions,
}

impl RestoreSpec {
    /// What tells this restore of a savepoint from any other one.
    #[must_use]
    pub fn savepoint_name(&self) -> Option<String> {
        let uri = self.savepoint.as_ref()?.trim_end_matches('/');
        Some(self.savepoint_nonce.map_or_else(|| uri.to_owned(), |nonce| format!("{uri}#{nonce}")))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExpiredTransactions {
    /// Stop, and name the topic, the epoch and the two ways on.
    #[default]
    Fail,
    /// Replay the epoch: what was visible appears again.
    AcceptDuplicates,
    /// Go on after the epoch: what was not visible is lost.
    AcceptLoss,
}
