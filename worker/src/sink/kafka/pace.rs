//! How many records a sink may have under way: what the brokers acknowledge in a fifth of a second, on top of the time
//! that an acknowledgement takes anyway.
//!
//! A barrier waits for everything before it, so whatever is queued in front of a slow broker makes checkpoints slow
//! (protocol section 2: credit follows drain time). Queueing and plain latency look the same from here, but for one
//! thing: with less under way, a queue gives the same rate and a long way a lower one. So a bound that was lowered and
//! took the rate down with it is raised again, and the drain time before is taken for latency. The bound begins low and
//! doubles as long as that raises the rate, for a slow broker shows itself only once the records are out.
//!
//! A broker that enforces a quota shows neither: it takes what comes at once, and then pauses for what was too much. So a
//! known quota is a bound of its own: no more is under way than it lets through in the same fifth of a second, and no pause is
//! much longer.
//! Owns: the measured rate and the bound that follows from it. Does not own: the queues themselves.

use std::time::{Duration, Instant};

use super::quota::Quota;

/// What is under way should be acknowledged within this time and the latency.
const IN_FLIGHT_TARGET: Duration = Duration::from_millis(200);
/// The rate is measured over this time, or that in which what is under way drains, whichever is longer.
const WINDOW: Duration = Duration::from_millis(250);
const WINDOW_MAX: Duration = Duration::from_secs(5);
/// Weight of the newest window.
const NEWEST: f64 = 0.5;
/// A window lowers the bound to this share at most, so that its effect can be seen.
const LOWER_BY_MAX: f64 = 0.5;
/// The rate has followed the bound down when it fell by more than this share of what the bound fell by.
const FOLLOWED: f64 = 0.6;
/// After so long the latency is looked for anew.
const LATENCY_TRUSTED: Duration = Duration::from_secs(60);
/// Enough for a batch of the client at any rate.
const RECORDS_MIN: f64 = 1_024.0;
/// At the start the bound doubles while each doubling raises the rate by so much.
const STARTUP_GAIN: f64 = 1.25;
/// Before anything is known about the brokers.
const RECORDS_START: f64 = 2_048.0;
/// The producers' own queues hold no more.
const RECORDS_MAX: f64 = 1_000_000.0;

/// The bound, adapted while it holds the task back. A task that is never held back says nothing about the brokers.
#[derive(Debug)]
pub(super) struct Pace {
    records_max: f64,
    rate_per_s: Option<f64>,
    /// The rate before the bound was last doubled; `None`: the start is over.
    startup: Option<f64>,
    /// Bound and rate before the bound was lowered.
    before: Option<(f64, f64)>,
    latency: Option<Latency>,
    window: Window,
    quota: Quota,
    /// When the task last asked, and was allowed: from then on it had something, or nothing, to send.
    allowed_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Latency {
    seconds: f64,
    known_since: Instant,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    length: Duration,
    /// Records acknowledged before it.
    acknowledged: u64,
    held_back: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let window = Window { since: now, length: WINDOW, acknowledged: 0, held_back: false };
        Self {
            records_max: RECORDS_START,
            rate_per_s: None,
            startup: Some(0.0),
            before: None,
            latency: None,
            window,
            quota: Quota::new(now),
            allowed_at: None,
        }
    }

    /// True when more may be taken. `acknowledged`: records so far; `under_way`: taken, and not acknowledged;
    /// `paused_until`: when the last broker that enforced a quota listens again, or did.
    pub(super) fn allows(
        &mut self,
        now: Instant,
        acknowledged: u64,
        under_way: usize,
        paused_until: Option<Instant>,
    ) -> bool {
        let quota = self.quota.look(now, acknowledged, paused_until);
        if self.allowed_at.is_some_and(|at| now.saturating_duration_since(at) >= WINDOW) {
            // It had nothing to send for a while: the rate over that time says nothing about the brokers.
            self.window = Window { since: now, length: WINDOW, acknowledged, held_back: false };
        }
        let elapsed = now.saturating_duration_since(self.window.since);
        if elapsed >= self.window.length && self.turned_over(acknowledged) {
            let done = acknowledged.saturating_sub(self.window.acknowledged) as f64;
            let mut length = WINDOW;
            if self.window.held_back && done > 0.0 {
                let drain = self.adapt(now, done / elapsed.as_secs_f64());
                length = drain.clamp(WINDOW, WINDOW_MAX);
            }
            self.window = Window { since: now, length, acknowledged, held_back: false };
        }
        let within_quota = quota.map_or(f64::MAX, |rate| (rate * IN_FLIGHT_TARGET.as_secs_f64()).max(RECORDS_MIN));
        let allowed = (under_way as f64) < self.records_max.min(within_quota);
        self.window.held_back |= !allowed;
        self.allowed_at = allowed.then_some(now);
        allowed
    }

    /// At the start a window lasts until as much came back as may be under way: a long way answers in bursts.
    fn turned_over(&self, acknowledged: u64) -> bool {
        let done = acknowledged.saturating_sub(self.window.acknowledged) as f64;
        self.startup.is_none() || !self.window.held_back || done >= self.records_max
    }

    /// Returns the time in which what is under way drains.
    fn adapt(&mut self, now: Instant, rate_per_s: f64) -> Duration {
        if let Some(before) = self.startup.take() {
            // With so little under way, most of its time is the way.
            let seconds = self.latency.map_or(f64::MAX, |l| l.seconds).min(self.records_max / rate_per_s);
            self.latency = Some(Latency { seconds, known_since: now });
            if rate_per_s > before * STARTUP_GAIN {
                self.startup = Some(rate_per_s);
                self.records_max = (self.records_max * 2.0).min(RECORDS_MAX);
                return Duration::from_secs_f64(seconds);
            }
        }
        let rate = self.rate_per_s.map_or(rate_per_s, |known| known + NEWEST * (rate_per_s - known));
        self.rate_per_s = Some(rate);
        let bound = self.records_max;
        if let Some((bound_before, rate_before)) = self.before.take() {
            let (bound_fell, rate_fell) = (1.0 - bound / bound_before, 1.0 - rate_per_s / rate_before);
            if rate_fell > bound_fell * FOLLOWED {
                self.records_max = bound_before;
                self.latency = Some(Latency { seconds: bound_before / rate_before, known_since: now });
                return Duration::from_secs_f64(bound_before / rate_before);
            }
        }
        let drain_s = bound / rate;
        self.latency = self.latency.filter(|l| now.saturating_duration_since(l.known_since) < LATENCY_TRUSTED);
        if let Some(latency) = &mut self.latency {
            latency.seconds = latency.seconds.min(drain_s);
        }
        let allowed_s = IN_FLIGHT_TARGET.as_secs_f64() + self.latency.map_or(0.0, |l| l.seconds);
        self.records_max = (rate * allowed_s).max(bound * LOWER_BY_MAX).clamp(RECORDS_MIN, RECORDS_MAX);
        if self.records_max < bound {
            self.before = Some((bound, rate_per_s));
        }
        Duration::from_secs_f64((self.records_max / rate).max(drain_s))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A source that always has more, and brokers behind a way of some length.
    struct Brokers {
        now: Instant,
        taken: u64,
        acknowledged: u64,
        on_the_way: VecDeque<(Instant, u64)>,
        arrived: u64,
    }

    impl Brokers {
        fn new(now: Instant) -> Self {
            Self { now, taken: 0, acknowledged: 0, on_the_way: VecDeque::new(), arrived: 0 }
        }

        /// Returns the rate and what was under way on average over the last third.
        fn run(&mut self, pace: &mut Pace, seconds: u64, rate_per_s: u64, latency: Duration) -> (u64, u64) {
            let (ticks, mut under_way, mut begun) = (seconds * 1_000, 0, 0);
            for tick in 0..ticks {
                self.now += Duration::from_millis(1);
                while self.on_the_way.front().is_some_and(|(at, _)| *at + latency <= self.now) {
                    self.arrived += self.on_the_way.pop_front().unwrap().1;
                }
                self.acknowledged = self.arrived.min(self.acknowledged + rate_per_s / 1_000);
                while pace.allows(
                    self.now,
                    self.acknowledged,
                    usize::try_from(self.taken - self.acknowledged).unwrap(),
                    None,
                ) {
                    self.taken += 500;
                    self.on_the_way.push_back((self.now, 500));
                }
                if tick == ticks * 2 / 3 {
                    begun = self.acknowledged;
                }
                if tick >= ticks * 2 / 3 {
                    under_way += self.taken - self.acknowledged;
                }
            }
            ((self.acknowledged - begun) * 3 / seconds, under_way * 3 / ticks)
        }
    }

    #[test]
    fn what_is_under_way_follows_the_rate_of_the_brokers() {
        let mut pace = Pace::new(Instant::now());
        let mut brokers = Brokers::new(Instant::now());
        let (_, fast) = brokers.run(&mut pace, 20, 1_000_000, Duration::ZERO);
        assert!((150_000..250_000).contains(&fast), "{fast}");
        let (_, slow) = brokers.run(&mut pace, 180, 20_000, Duration::ZERO);
        assert!((3_000..6_000).contains(&slow), "{slow}");
        let (_, fast_again) = brokers.run(&mut pace, 60, 1_000_000, Duration::ZERO);
        assert!((150_000..250_000).contains(&fast_again), "{fast_again}");
    }

    #[test]
    fn a_long_way_does_not_slow_the_sink_down() {
        for (rate_per_s, latency_ms) in [(100_000, 250), (100_000, 1_000), (300_000, 50)] {
            let mut pace = Pace::new(Instant::now());
            let mut brokers = Brokers::new(Instant::now());
            let latency = Duration::from_millis(latency_ms);
            let (rate, under_way) = brokers.run(&mut pace, 120, rate_per_s, latency);
            assert!(rate > rate_per_s * 8 / 10, "{rate} of {rate_per_s} at {latency_ms} ms");
            let most = rate_per_s * (latency_ms + 400) / 1_000;
            assert!(under_way < most * 3 / 2, "{under_way}, not {most}, at {latency_ms} ms");
        }
    }

    #[test]
    fn a_task_that_is_never_held_back_keeps_its_bound() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        for tick in 0..10_000 {
            assert!(pace.allows(begin + Duration::from_millis(tick), tick, 10, None));
        }
        assert!(pace.allows(begin + Duration::from_secs(10), 10_000, 2_047, None));
    }

    #[test]
    fn time_without_anything_to_send_is_not_taken_for_slow_brokers() {
        let mut pace = Pace::new(Instant::now());
        let mut brokers = Brokers::new(Instant::now());
        brokers.run(&mut pace, 10, 1_000_000, Duration::ZERO);
        let (known, bound) = (pace.rate_per_s.unwrap(), pace.records_max);
        for _ in 0..20 {
            let taken = brokers.taken;
            brokers.acknowledged = taken;
            assert!(pace.allows(brokers.now, taken, 0, None));
            brokers.now += Duration::from_secs(60);
            assert!(pace.allows(brokers.now, taken, 0, None));
            assert!(!pace.allows(brokers.now, taken, usize::MAX, None), "the bound holds it back");
            brokers.now += Duration::from_millis(1);
        }
        assert!((pace.rate_per_s.unwrap() - known).abs() < 1.0 && pace.records_max >= bound);
    }

    /// A broker with a quota: it takes what comes, and pauses until the mean of ten seconds is within the quota.
    struct Strict {
        records_per_s: u64,
        taken: VecDeque<(Instant, u64)>,
        sum: u64,
        paused_until: Option<Instant>,
    }

    impl Strict {
        const OVER: Duration = Duration::from_secs(10);

        /// Returns how many it acknowledges.
        fn take(&mut self, now: Instant, offered: u64) -> u64 {
            if offered == 0 || self.paused_until.is_some_and(|until| until > now) {
                return 0;
            }
            self.taken.push_back((now, offered));
            self.sum += offered;
            while self.taken.front().is_some_and(|(at, _)| now.duration_since(*at) >= Self::OVER) {
                self.sum -= self.taken.pop_front().unwrap().1;
            }
            let allowed = self.records_per_s * Self::OVER.as_secs();
            let over = self.sum.saturating_sub(allowed);
            if over > 0 {
                self.paused_until = Some(now + Self::OVER.mul_f64(over as f64 / allowed as f64));
            }
            offered
        }
    }

    #[test]
    fn behind_a_quota_no_flush_waits_long_and_the_quota_is_used() {
        for (quota, begun_s) in [(5_000, 15), (20_000, 15), (5_000, 40)] {
            let begin = Instant::now();
            let mut pace = Pace::new(begin);
            let mut broker = Strict { records_per_s: quota, taken: VecDeque::new(), sum: 0, paused_until: None };
            let (mut taken, mut acknowledged, mut at_begin, mut longest) = (0, 0, 0, Duration::ZERO);
            let ticks = (begun_s + 60) * 1_000;
            for tick in 0..ticks {
                let now = begin + Duration::from_millis(tick);
                let under_way = |taken: u64, acknowledged: u64| usize::try_from(taken - acknowledged).unwrap();
                while taken < tick * quota / 100
                    && pace.allows(now, acknowledged, under_way(taken, acknowledged), broker.paused_until)
                {
                    taken += 500;
                }
                acknowledged += broker.take(now, taken - acknowledged);
                if tick == begun_s * 1_000 {
                    at_begin = acknowledged;
                }
                if tick > begun_s * 1_000 {
                    let pause = broker.paused_until.map(|until| until.saturating_duration_since(now));
                    longest = longest.max(pause.unwrap_or_default());
                }
            }
            assert!(longest < Duration::from_millis(1_500), "a flush would wait for {longest:?} at {quota}");
            let rate = (acknowledged - at_begin) / 60;
            assert!((quota * 8 / 10..=quota * 11 / 10).contains(&rate), "{rate} of {quota} per second");
        }
    }
}
