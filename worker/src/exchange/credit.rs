//! How much a channel may hold: a budget of bytes that follows how fast the receiver drains it.
//!
//! Rows need credit, control elements do not: they only keep their place. The budget follows what the receiver drains
//! in [`IN_FLIGHT_TARGET`], measured as the time between an element's push and its consumption, so that a barrier is
//! never further behind than that (protocol section 2). A refused sender is woken when half is drained, so that two
//! slots do not wake each other for every batch.
//! Owns: what is in flight, and the budget. Does not own: where the elements are, or how their consumption is heard of: a
//! receiver in the process tells it as it pops, one in another process by its reports (`remote`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::slot::Wake;

/// How long rows may wait in a channel before its budget shrinks.
const IN_FLIGHT_TARGET: Duration = Duration::from_millis(200);
/// A channel may always hold this much: a few network frames, drained by a slow sink in well under a second.
pub(super) const BUDGET_BYTES_MIN: usize = 32 * 1024;
/// No receiver needs more to stay busy until its sender's slot runs again.
pub(super) const BUDGET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Before anything is known about the receiver.
pub(super) const BUDGET_BYTES_START: usize = 512 * 1024;
/// Elements, control elements included: a stream of watermarks without rows must not grow a queue that nobody reads.
pub(super) const ELEMENTS_MAX: usize = 4_096;

/// What is in flight on one channel, and what may be.
#[derive(Debug)]
pub(super) struct Credit {
    /// Bytes of rows that were pushed and not consumed.
    bytes: AtomicUsize,
    elements: AtomicUsize,
    budget_bytes: AtomicUsize,
    /// The sender found no room and waits to be woken.
    sender_refused: AtomicBool,
    wake_sender: Wake,
}

/// Kept by whoever tells the credit what was consumed.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Bytes still to be consumed that were pushed under an older budget and say nothing about the present one.
    bytes: usize,
}

impl Credit {
    pub(super) fn new(wake_sender: Wake) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            elements: AtomicUsize::new(0),
            budget_bytes: AtomicUsize::new(BUDGET_BYTES_START),
            sender_refused: AtomicBool::new(false),
            wake_sender,
        }
    }

    /// True when rows may be pushed; otherwise the sender's slot is woken once there is room. An empty channel always has
    /// room, so one batch of any size gets through.
    pub(super) fn has_room(&self) -> bool {
        if self.room() {
            return true;
        }
        self.sender_refused.store(true, Ordering::SeqCst);
        // Once more: the receiver may have drained between the look and the flag, and then nobody would wake us.
        self.room()
    }

    pub(super) fn budget_bytes(&self) -> usize {
        self.budget_bytes.load(Ordering::Relaxed)
    }

    /// An element was pushed; `bytes`: of its rows, 0 for a control element.
    pub(super) fn pushed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.elements.fetch_add(1, Ordering::SeqCst);
    }

    /// The element was consumed. `waited`: since its push, for rows.
    pub(super) fn consumed(&self, settling: &mut Settling, bytes: usize, waited: Option<Duration>) {
        let elements_left = self.elements.fetch_sub(1, Ordering::SeqCst) - 1;
        let left = self.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        let refused = self.sender_refused.load(Ordering::SeqCst);
        if let Some(waited) = waited {
            settling.bytes = settling.bytes.saturating_sub(bytes);
            if settling.bytes == 0
                && let Some(budget) = adapted_budget(self.budget_bytes(), waited, refused)
            {
                self.budget_bytes.store(budget, Ordering::Relaxed);
                settling.bytes = left;
            }
        }
        if refused && left <= self.budget_bytes() / 2 && elements_left <= ELEMENTS_MAX / 2 {
            self.sender_refused.store(false, Ordering::SeqCst);
            self.wake_sender.wake();
        }
    }

    fn room(&self) -> bool {
        let bytes = self.bytes.load(Ordering::SeqCst);
        let fits = bytes == 0 || bytes < self.budget_bytes();
        fits && self.elements.load(Ordering::SeqCst) < ELEMENTS_MAX
    }
}

/// The budget that follows when rows waited for `waited`; `None`: the present one is right.
fn adapted_budget(budget: usize, waited: Duration, sender_refused: bool) -> Option<usize> {
    let adapted = if waited > IN_FLIGHT_TARGET {
        let share = IN_FLIGHT_TARGET.as_secs_f64() / waited.as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let shrunk = (budget as f64 * share) as usize;
        shrunk.max(BUDGET_BYTES_MIN)
    } else if sender_refused && waited < IN_FLIGHT_TARGET / 2 {
        (budget * 2).min(BUDGET_BYTES_MAX)
    } else {
        budget
    };
    (adapted != budget).then_some(adapted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_the_time_that_rows_wait() {
        let ms = Duration::from_millis;
        assert_eq!(adapted_budget(1 << 20, ms(400), true), Some(1 << 19));
        assert_eq!(adapted_budget(BUDGET_BYTES_MIN, ms(4000), true), None);
        assert_eq!(adapted_budget(1 << 20, ms(10), true), Some(1 << 21));
        assert_eq!(adapted_budget(1 << 20, ms(10), false), None);
        assert_eq!(adapted_budget(BUDGET_BYTES_MAX, ms(10), true), None);
        assert_eq!(adapted_budget(1 << 20, ms(150), true), None);
    }

    #[test]
    fn many_elements_without_rows_are_refused_too_until_half_is_consumed() {
        let credit = Credit::new(Wake::default());
        (0..ELEMENTS_MAX).for_each(|_| credit.pushed(0));
        assert!(!credit.has_room());
        let mut settling = Settling::default();
        credit.consumed(&mut settling, 0, None);
        assert!(credit.has_room());
    }
}
