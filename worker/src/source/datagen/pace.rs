//! `rows-per-second`: a bucket of rows that fills with time.

use std::time::{Duration, Instant};

/// The bucket holds what this time brings: a reader that was held up does not burst for long.
const BURST: Duration = Duration::from_secs(1);
/// Rows are made in bunches of what this time brings, so that a fast table does not wake its slot for each row.
const TICK: Duration = Duration::from_millis(5);

/// Says how many rows may be made now.
#[derive(Debug)]
pub(super) struct Pace {
    rows_per_second: f64,
    rows: f64,
    filled_at: Instant,
}

impl Pace {
    pub fn new(rows_per_second: f64, now: Instant) -> Self {
        Self { rows_per_second, rows: 1.0, filled_at: now }
    }

    /// Rows that may be made at `now`.
    pub fn allowed(&mut self, now: Instant) -> u64 {
        self.rows = self.filled(now);
        self.filled_at = self.filled_at.max(now);
        self.rows as u64
    }

    /// Rows were made: no more than were allowed.
    pub fn take(&mut self, rows: u64) {
        self.rows -= rows as f64;
    }

    /// How long until the next bunch: at most a second, so that a slow table still looks up now and then.
    pub fn wait(&self, now: Instant) -> Duration {
        let bunch = (self.rows_per_second * TICK.as_secs_f64()).max(1.0);
        let missing = bunch - self.filled(now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(missing / self.rows_per_second).unwrap_or(BURST).min(BURST)
    }

    fn filled(&self, now: Instant) -> f64 {
        let full = (self.rows_per_second * BURST.as_secs_f64()).max(1.0);
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        (self.rows + elapsed * self.rows_per_second).min(full)
    }
}
