//! How many records a sink may have under way: as many as the brokers acknowledge in a fifth of a second.
//!
//! A barrier waits for everything before it, so whatever is queued in front of a slow broker makes checkpoints slow
//! (protocol section 2: credit follows drain time). Owns: the measured rate and the bound that follows from it. Does
//! not own: the queues themselves.

use std::time::{Duration, Instant};

/// What is under way should be acknowledged within this time.
const IN_FLIGHT_TARGET: Duration = Duration::from_millis(200);
/// The rate is measured over at least this time.
const WINDOW: Duration = Duration::from_millis(250);
/// Weight of the newest window. A broker that enforces a quota answers in bursts of about a second.
const NEWEST: f64 = 0.3;
/// Enough for a batch of the client at any rate.
const RECORDS_MIN: usize = 1_024;
/// Before anything is known about the brokers.
const RECORDS_START: usize = 65_536;

/// The bound, adapted while it holds the task back. A task that is never held back says nothing about the brokers.
#[derive(Debug)]
pub(super) struct Pace {
    records_max: usize,
    rate_per_s: Option<f64>,
    window: Window,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    /// Records acknowledged before it.
    acknowledged: u64,
    held_back: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let window = Window { since: now, acknowledged: 0, held_back: false };
        Self { records_max: RECORDS_START, rate_per_s: None, window }
    }

    /// True when more may be taken. `acknowledged`: records so far; `under_way`: taken, and not acknowledged.
    pub(super) fn allows(&mut self, now: Instant, acknowledged: u64, under_way: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.window.since);
        if elapsed >= WINDOW {
            if self.window.held_back {
                self.adapt(acknowledged.saturating_sub(self.window.acknowledged) as f64 / elapsed.as_secs_f64());
            }
            self.window = Window { since: now, acknowledged, held_back: false };
        }
        let allowed = under_way < self.records_max;
        self.window.held_back |= !allowed;
        allowed
    }

    fn adapt(&mut self, rate_per_s: f64) {
        let rate = self.rate_per_s.map_or(rate_per_s, |known| known + NEWEST * (rate_per_s - known));
        self.rate_per_s = Some(rate);
        self.records_max = ((rate * IN_FLIGHT_TARGET.as_secs_f64()) as usize).max(RECORDS_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that always has more, and a broker that acknowledges `rate_per_s`; what is under way in the end.
    fn settle(pace: &mut Pace, begin: Instant, seconds: u64, rate_per_s: u64) -> u64 {
        let (mut taken, mut acknowledged) = (pace.window.acknowledged, pace.window.acknowledged);
        for tick in 0..seconds * 1_000 {
            let now = begin + Duration::from_millis(tick);
            acknowledged = taken.min(acknowledged + rate_per_s / 1_000);
            while pace.allows(now, acknowledged, usize::try_from(taken - acknowledged).unwrap()) {
                taken += 500;
            }
        }
        taken - acknowledged
    }

    #[test]
    fn what_is_under_way_follows_the_rate_of_the_brokers() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let fast = settle(&mut pace, begin, 10, 1_000_000);
        assert!((150_000..250_000).contains(&fast), "{fast}");
        let slow = settle(&mut pace, begin + Duration::from_secs(10), 20, 20_000);
        assert!((3_000..6_000).contains(&slow), "{slow}");
        let fast_again = settle(&mut pace, begin + Duration::from_secs(30), 20, 1_000_000);
        assert!((150_000..250_000).contains(&fast_again), "{fast_again}");
    }

    #[test]
    fn a_task_that_is_never_held_back_keeps_its_bound() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        for tick in 0..10_000 {
            assert!(pace.allows(begin + Duration::from_millis(tick), tick, 10));
        }
        assert!(pace.allows(begin + Duration::from_secs(10), 10_000, RECORDS_START - 1));
    }
}
