//! How long a call may take in all, its retries included.

use std::time::{Duration, Instant};

/// A point in time after which nothing is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

/// First pause before a retry; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Deadline {
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    #[must_use]
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }

    pub(crate) fn retries(self) -> Retries {
        Retries { deadline: self, pause: FIRST_PAUSE }
    }
}

/// Growing pauses until a deadline.
pub(crate) struct Retries {
    deadline: Deadline,
    pause: Duration,
}

impl Retries {
    /// Waits before the next try. False: the deadline has passed, do not try again.
    pub(crate) fn wait(&mut self) -> bool {
        let remaining = self.deadline.remaining();
        if remaining.is_zero() {
            return false;
        }
        #[allow(clippy::disallowed_methods, reason = "a broker that says `retry` sends no event when it is ready")]
        std::thread::sleep(self.pause.min(remaining));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}
