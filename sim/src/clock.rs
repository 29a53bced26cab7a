//! The clocks of a process: a wall clock that is set by others, and a monotonic one that rests while its machine sleeps.

use millstream_coordinator::job::Millis;

/// What the store's clock says when the world begins. Far enough from zero for clocks that are days behind.
const WORLD_BEGAN_MS: Millis = 8_640_000_000;

/// The time of the store and the broker: nothing sets it.
#[must_use]
pub fn true_time(now: Millis) -> Millis {
    WORLD_BEGAN_MS + now
}

/// The clocks of one process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// How far the wall clock is ahead of the true time.
    ahead_ms: i64,
    /// What the wall clock said when the process started, in the world's time.
    began_at: Millis,
    began_wall: Millis,
    /// How long the machine slept since.
    slept_ms: Millis,
}

impl Clock {
    #[must_use]
    pub fn start(now: Millis, ahead_ms: i64) -> Self {
        let began_wall = true_time(now).saturating_add_signed(ahead_ms);
        Self { ahead_ms, began_at: now, began_wall, slept_ms: 0 }
    }

    /// Somebody sets the wall clock forwards or back.
    pub fn set(&mut self, by_ms: i64) {
        self.ahead_ms = self.ahead_ms.saturating_add(by_ms);
    }

    /// The machine slept, and its monotonic clock did not count.
    pub fn slept(&mut self, for_ms: Millis) {
        self.slept_ms += for_ms;
    }

    #[must_use]
    pub fn wall(&self, now: Millis) -> Millis {
        true_time(now).saturating_add_signed(self.ahead_ms)
    }

    /// What decisions go by. `counts`: the wall clock as it was once, and from there the monotonic one; otherwise the wall
    /// clock every time.
    #[must_use]
    pub fn read(&self, now: Millis, counts: bool) -> Millis {
        if counts { self.began_wall + now.saturating_sub(self.began_at + self.slept_ms) } else { self.wall(now) }
    }

    /// When `read` will say `at`, as far as is known now.
    #[must_use]
    pub fn when(&self, at: Millis, counts: bool) -> Millis {
        if counts {
            return at.saturating_sub(self.began_wall) + self.began_at + self.slept_ms;
        }
        at.saturating_add_signed(self.ahead_ms.saturating_neg()).saturating_sub(WORLD_BEGAN_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, true_time};

    #[test]
    fn a_time_that_is_counted_goes_on_from_the_wall_clock_and_follows_nobody() {
        let mut clock = Clock::start(100, -40);
        assert_eq!(clock.read(100, true), clock.wall(100));
        clock.set(5_000);
        assert_eq!((clock.read(150, true), clock.wall(150)), (true_time(110), true_time(5_110)));
        clock.slept(30);
        assert_eq!(clock.read(150, true), true_time(80));
        for counts in [true, false] {
            assert_eq!(clock.when(clock.read(150, counts), counts), 150);
        }
    }
}
