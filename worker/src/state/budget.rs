//! How large a state may grow: a warning on the way, an error at the limit.

/// A warning at this share of the limit, and again only after it was below the other one in between, so that a state that
/// sways around one of them is told of once.
const WARN_PERCENT: u64 = 80;
const REARM_PERCENT: u64 = 70;

/// The limit of a state.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: u64,
    /// What is looked out for next: the share that is worth a warning, or the limit.
    mark: u64,
}

/// What is to be done about a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Warning,
    Limit,
}

impl Budget {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, mark: share(bytes_max, WARN_PERCENT) }
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// One comparison, until something is to be done.
    #[inline]
    pub(super) fn check(&mut self, bytes: u64) -> Option<Reached> {
        if bytes <= self.mark { None } else { self.reached(bytes) }
    }

    #[cold]
    fn reached(&mut self, bytes: u64) -> Option<Reached> {
        self.mark = self.bytes_max;
        Some(if bytes > self.bytes_max { Reached::Limit } else { Reached::Warning })
    }

    /// Now and then: below the lower mark, the next warning is due again.
    pub(super) fn rearm(&mut self, bytes: u64) {
        if bytes < share(self.bytes_max, REARM_PERCENT) {
            self.mark = share(self.bytes_max, WARN_PERCENT);
        }
    }
}

fn share(bytes: u64, percent: u64) -> u64 {
    (u128::from(bytes) * u128::from(percent) / 100) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_once_until_the_state_has_shrunk() {
        let mut budget = Budget::new(1_000);
        let warned = [500, 800, 801, 900, 1_000].map(|bytes| budget.check(bytes));
        assert_eq!(warned, [None, None, Some(Reached::Warning), None, None]);
        budget.rearm(700);
        assert_eq!(budget.check(900), None);
        budget.rearm(699);
        assert_eq!(budget.check(900), Some(Reached::Warning));
        assert_eq!([budget.check(1_001), budget.check(1_002)], [Some(Reached::Limit); 2]);
    }

    #[test]
    fn a_leap_over_the_limit_is_no_warning() {
        assert_eq!(Budget::new(1_000).check(5_000), Some(Reached::Limit));
        assert_eq!(Budget::new(0).check(1), Some(Reached::Limit));
        assert_eq!(Budget::new(u64::MAX).check(u64::MAX / 2), None);
    }
}
