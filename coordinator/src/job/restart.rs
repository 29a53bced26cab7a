//! The restart strategy: how long to wait after a failure, and when to give up.

use millstream_api::flinkjob::{RestartSpec, RestartStrategy};

use super::message::Millis;
use super::random::Random;

/// Flink's strategies; `exponentialDelay` as in FLIP-364.
#[derive(Clone, Debug)]
pub struct Restarts {
    spec: RestartSpec,
    /// Failures since the count last started over.
    failures: u32,
    backoff_ms: f64,
    last_failure: Option<Millis>,
}

impl Restarts {
    #[must_use]
    pub fn new(spec: RestartSpec) -> Self {
        let backoff_ms = spec.initial_backoff.as_millis() as f64;
        Self { spec, failures: 0, backoff_ms, last_failure: None }
    }

    /// The delay before the restart that answers a failure at `now`; `None`: there is none any more.
    pub fn after_failure(&mut self, now: Millis, random: &mut Random) -> Option<Millis> {
        if self.spec.strategy == RestartStrategy::None {
            return None;
        }
        let exponential = self.spec.strategy == RestartStrategy::ExponentialDelay;
        let quiet = self.last_failure.is_some_and(|at| now.saturating_sub(at) >= self.spec.reset_after.as_millis());
        if exponential && quiet {
            self.failures = 0;
            self.backoff_ms = self.spec.initial_backoff.as_millis() as f64;
        }
        self.last_failure = Some(now);
        self.failures += 1;
        if self.spec.attempts.is_some_and(|attempts| self.failures > attempts) {
            return None;
        }
        if !exponential {
            return Some(self.spec.initial_backoff.as_millis());
        }
        let max_ms = self.spec.max_backoff.as_millis() as f64;
        let delay_ms = self.backoff_ms.min(max_ms);
        self.backoff_ms = (self.backoff_ms * self.spec.backoff_multiplier).min(max_ms);
        // Jitter to both sides, so that jobs that failed together do not come back together.
        let jitter = 1.0 + self.spec.jitter_factor * (2.0 * random.fraction() - 1.0);
        Some((delay_ms * jitter).min(max_ms) as Millis)
    }

    /// Restarts so far, since the count last started over.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_api::flinkjob::Duration;

    fn spec() -> RestartSpec {
        RestartSpec {
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(1_000),
            backoff_multiplier: 2.0,
            jitter_factor: 0.0,
            reset_after: Duration::from_millis(60_000),
            ..RestartSpec::default()
        }
    }

    #[test]
    fn delays_grow_to_the_bound_and_start_over_after_a_quiet_time() {
        let (mut restarts, mut random) = (Restarts::new(spec()), Random::new(1));
        let delays: Vec<_> = (0..6).map(|i| restarts.after_failure(i, &mut random).unwrap()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(restarts.after_failure(5 + 60_000, &mut random), Some(100));
    }

    #[test]
    fn attempts_are_counted() {
        let mut restarts = Restarts::new(RestartSpec { attempts: Some(2), ..spec() });
        let mut random = Random::new(1);
        assert!(restarts.after_failure(0, &mut random).is_some());
        assert!(restarts.after_failure(1, &mut random).is_some());
        assert_eq!(restarts.after_failure(2, &mut random), None);
    }

    #[test]
    fn jitter_stays_in_its_share() {
        let mut random = Random::new(7);
        for _ in 0..100 {
            let mut restarts = Restarts::new(RestartSpec { jitter_factor: 0.1, ..spec() });
            let delay = restarts.after_failure(0, &mut random).unwrap();
            assert!((90..=110).contains(&delay), "{delay}");
        }
    }
}
