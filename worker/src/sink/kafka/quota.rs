//! The quota of a client, as its brokers' pauses tell it.
//!
//! A broker compares the mean of about ten seconds with the quota. While the mean is above it, the broker answers at once and
//! then leaves the connection unread for as long as brings the mean down: 10 s * (mean - quota) / quota. So what was
//! acknowledged in ten seconds, divided by these and the pause together, is the quota.
//! Owns: the estimate, in records. Does not own: what follows from it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Kafka keeps eleven samples of a second (`quota.window.num`, `quota.window.size.seconds`), of which ten are whole.
const MEAN_OVER: Duration = Duration::from_secs(10);
/// So that a hundred samples reach back over that time.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// After so long without a pause the quota may be another one, or gone.
const TRUSTED: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Quota {
    /// When, and how many records were acknowledged by then; the first one is at least as old as the mean reaches.
    samples: VecDeque<(Instant, u64)>,
    paused_until: Option<Instant>,
    /// As of when.
    records_per_s: Option<(f64, Instant)>,
}

impl Quota {
    pub(super) fn new(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]), paused_until: None, records_per_s: None }
    }

    /// Takes in how many records are acknowledged so far, and when the last broker that paused listens again, or did.
    /// Returns the quota, if one is known.
    pub(super) fn look(&mut self, now: Instant, acknowledged: u64, paused_until: Option<Instant>) -> Option<f64> {
        let age = |at: Instant| now.saturating_duration_since(at);
        if self.samples.back().is_none_or(|(at, _)| age(*at) >= SAMPLE_EVERY) {
            self.samples.push_back((now, acknowledged));
        }
        while self.samples.get(1).is_some_and(|(at, _)| age(*at) >= MEAN_OVER) {
            self.samples.pop_front();
        }
        let before = self.samples.front().map_or(acknowledged, |(_, before)| *before);
        let done = acknowledged.saturating_sub(before);
        if let Some(until) = paused_until.filter(|_| done > 0 && paused_until > self.paused_until) {
            self.paused_until = paused_until;
            let seconds = (MEAN_OVER + until.saturating_duration_since(now)).as_secs_f64();
            self.records_per_s = Some((done as f64 / seconds, now));
        }
        self.records_per_s.filter(|(_, since)| age(*since) < TRUSTED).map(|(rate, _)| rate)
    }
}
