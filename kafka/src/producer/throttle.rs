//! Until when brokers do not listen to a client that is over its quota.
//!
//! Such a broker answers at once, says for how long (`throttle_time_ms`), and leaves the connection unread until then. The
//! quota is a client's, whatever its connections: so producers that write by turns under one client id know the pause
//! together. By itself each would find its own connection free, go on past the quota, and be paused for longer.
//! Owns: the end of the pause, by broker. Does not own: who waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The pauses of one client id, shared by its producers.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<Mutex<BTreeMap<i32, Instant>>>);

impl Throttle {
    /// Until when the last broker of all listens again, or did.
    #[must_use]
    pub fn latest(&self) -> Option<Instant> {
        self.pauses().values().max().copied()
    }

    pub(super) fn note(&self, node: i32, until: Instant) {
        let mut pauses = self.pauses();
        let pause = pauses.entry(node).or_insert(until);
        *pause = until.max(*pause);
    }

    pub(super) fn until(&self, node: i32) -> Option<Instant> {
        self.pauses().get(&node).copied()
    }

    fn pauses(&self) -> MutexGuard<'_, BTreeMap<i32, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
