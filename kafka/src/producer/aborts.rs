//! Aborts of this process that are under way on producers' threads, so that its end can wait for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static UNDER_WAY: Mutex<usize> = Mutex::new(0);
static DONE: Condvar = Condvar::new();

/// One abort, from its request until the broker has answered or is given up.
#[derive(Debug)]
pub(super) struct AbortUnderWay(());

impl AbortUnderWay {
    pub(super) fn begin() -> Self {
        *count() += 1;
        Self(())
    }
}

impl Drop for AbortUnderWay {
    fn drop(&mut self) {
        *count() -= 1;
        DONE.notify_all();
    }
}

/// Blocks until no abort is under way, at most so long. To be called before the process ends: an abort that is cut off
/// leaves its transaction to the broker's time-out.
pub fn finish_aborts(timeout: Duration) {
    let waited = DONE.wait_timeout_while(count(), timeout, |count| *count > 0);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

fn count() -> MutexGuard<'static, usize> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}
