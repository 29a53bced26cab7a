//! The time of a coordinator's process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::job::Millis;

/// Wall-clock milliseconds that never fall: the wall clock once, then the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at_ms: Millis,
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime's one reading of the clocks; the core gets times as arguments"
    )]
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at_ms: Millis::try_from(wall.as_millis()).unwrap_or_default() }
    }

    pub(crate) fn now(&self) -> Millis {
        self.started_at_ms + Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX / 2)
    }

    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.started + Duration::from_millis(at.saturating_sub(self.started_at_ms))
    }
}
