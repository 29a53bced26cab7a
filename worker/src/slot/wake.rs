//! Parking and waking of a slot's thread.
//!
//! A flag and a parked thread: `wake` is cheap when the slot is awake anyway, and a wake between the last look at the
//! work and the parking is never lost, because the flag is taken before the look.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::source::SlotWaker;

/// Wakes one slot. Cloned into everything that the slot's tasks may wait for.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    called: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Wake {
    /// Makes the slot look at all of its work once more.
    pub fn wake(&self) {
        if !self.shared.called.swap(true, Ordering::SeqCst)
            && let Some(thread) = self.shared.thread.get()
        {
            thread.unpark();
        }
    }

    /// The same as a closure, for connectors.
    #[must_use]
    pub fn waker(&self) -> SlotWaker {
        let wake = self.clone();
        Arc::new(move || wake.wake())
    }

    /// The calling thread is the slot's.
    pub fn bind_to_this_thread(&self) {
        let _ = self.shared.thread.set(std::thread::current());
    }

    /// Forgets earlier wakes. To be called before looking for work, never between looking and parking.
    pub fn begin_pass(&self) {
        self.shared.called.store(false, Ordering::SeqCst);
    }

    /// Parks until `wake` is called, which may have been since `begin_pass`, or until the time-out.
    pub fn park(&self, timeout: Option<Duration>) {
        let deadline = timeout.map(|t| Instant::now() + t);
        while !self.shared.called.load(Ordering::SeqCst) {
            match deadline {
                None => std::thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_parking_is_not_lost_and_one_while_parked_ends_it() {
        let wake = Wake::default();
        let from_outside = wake.clone();
        let (parked, seen) = std::sync::mpsc::channel();
        let slot = std::thread::spawn(move || {
            wake.bind_to_this_thread();
            wake.begin_pass();
            wake.wake();
            wake.park(None);
            wake.begin_pass();
            parked.send(()).expect("the test listens");
            wake.park(None);
        });
        seen.recv().expect("the first park returned");
        from_outside.wake();
        slot.join().expect("the second park returned");
    }

    #[test]
    fn a_timeout_ends_the_parking() {
        let wake = Wake::default();
        wake.bind_to_this_thread();
        wake.begin_pass();
        wake.park(Some(Duration::from_millis(1)));
    }
}
