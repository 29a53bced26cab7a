//! Pauses between tries, the same for producers and consumers.

use std::time::Duration;

/// The most of a pause that is added or left out by chance.
const CHANCE: f64 = 0.2;

/// The first pause before something is tried again, and the longest; it doubles in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// A longest pause that is shorter than the first counts as that.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first) }
    }

    /// The pause after so many failures in a row (at least one), a fifth longer or shorter by chance, so that many
    /// clients do not come back at once.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest);
        // Without randomness the pause is the middle one.
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        doubled.mul_f64(1.0 - CHANCE + 2.0 * CHANCE * f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (failures, millis) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (1_000, 1_000), (1_000_000, 1_000)] {
            let pause = backoff.pause(failures);
            let range = Duration::from_millis(millis * 79 / 100)..=Duration::from_millis(millis * 121 / 100);
            assert!(range.contains(&pause), "{failures}: {pause:?}");
        }
    }
}
