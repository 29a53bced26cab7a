//! One queue from one task to another, bounded by how long it takes to drain.
//!
//! Rows need credit, control elements do not: they only keep their place. Credit is a budget of bytes that follows
//! what the receiver drains in [`IN_FLIGHT_TARGET`], measured as the time that rows wait in the queue, so that a
//! barrier is never further behind than that (protocol section 2). A refused sender is woken when half is drained, so
//! that two slots do not wake each other for every batch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::size::batch_bytes;
use crate::element::Element;
use crate::slot::Wake;

/// How long rows may wait in a channel before its budget shrinks.
const IN_FLIGHT_TARGET: Duration = Duration::from_millis(200);
/// A channel may always hold this much: a few network frames, drained by a slow sink in well under a second.
const BUDGET_BYTES_MIN: usize = 32 * 1024;
/// No receiver needs more to stay busy until its sender's slot runs again.
const BUDGET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Before anything is known about the receiver.
const BUDGET_BYTES_START: usize = 512 * 1024;

/// Makes the channel from a task on the slot behind `wake_sender` to one on the slot behind `wake_receiver`.
#[must_use]
pub fn channel(wake_sender: Wake, wake_receiver: Wake) -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(VecDeque::new()),
        queued: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        budget_bytes: AtomicUsize::new(BUDGET_BYTES_START),
        sender_refused: AtomicBool::new(false),
        wake_sender,
        wake_receiver,
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, settling_bytes: 0 })
}

/// The end that a task pushes to.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The end that a task pops from.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    /// Bytes still to be popped that were queued under an older budget and say nothing about the present one.
    settling_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<VecDeque<Queued>>,
    /// Length of the queue, to look at it without the lock.
    queued: AtomicUsize,
    bytes: AtomicUsize,
    budget_bytes: AtomicUsize,
    /// The sender found no room and waits to be woken.
    sender_refused: AtomicBool,
    wake_sender: Wake,
    wake_receiver: Wake,
}

#[derive(Debug)]
struct Queued {
    element: Element,
    bytes: usize,
    /// When rows were queued; nothing for control elements.
    since: Option<Instant>,
}

impl Sender {
    /// True when rows may be pushed. An empty channel always has room, so one batch of any size gets through.
    #[must_use]
    pub fn has_room(&self) -> bool {
        if self.shared.has_room() {
            return true;
        }
        self.shared.sender_refused.store(true, Ordering::SeqCst);
        // Once more: the receiver may have drained between the look and the flag, and then nobody would wake us.
        self.shared.has_room()
    }

    /// Queues an element. Rows are to be pushed only after `has_room`; what one call of a transform emits may overshoot.
    pub fn push(&self, element: Element) {
        let (bytes, since) = match &element {
            Element::Batch(batch) => (batch_bytes(batch).max(1), Some(Instant::now())),
            _ => (0, None),
        };
        let shared = &self.shared;
        shared.bytes.fetch_add(bytes, Ordering::SeqCst);
        let was_empty = {
            let mut queue = shared.queue.lock().expect("nothing panics while it holds the lock");
            queue.push_back(Queued { element, bytes, since });
            shared.queued.store(queue.len(), Ordering::Release);
            queue.len() == 1
        };
        if was_empty {
            shared.wake_receiver.wake();
        }
    }
}

impl Receiver {
    /// The oldest element, if there is one.
    pub fn pop(&mut self) -> Option<Element> {
        let shared = &self.shared;
        if shared.queued.load(Ordering::Acquire) == 0 {
            return None;
        }
        let queued = {
            let mut queue = shared.queue.lock().expect("nothing panics while it holds the lock");
            let queued = queue.pop_front();
            shared.queued.store(queue.len(), Ordering::Release);
            queued
        }?;
        if let Some(since) = queued.since {
            self.drained(queued.bytes, since.elapsed());
        }
        Some(queued.element)
    }

    /// True when there is nothing to pop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.queued.load(Ordering::Acquire) == 0
    }

    /// Bytes of rows that wait in the queue.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    fn drained(&mut self, bytes: usize, waited: Duration) {
        let shared = &self.shared;
        let left = shared.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        let budget = shared.budget_bytes.load(Ordering::Relaxed);
        self.settling_bytes = self.settling_bytes.saturating_sub(bytes);
        let refused = shared.sender_refused.load(Ordering::SeqCst);
        if self.settling_bytes == 0
            && let Some(budget) = adapted_budget(budget, waited, refused)
        {
            shared.budget_bytes.store(budget, Ordering::Relaxed);
            self.settling_bytes = left;
        }
        if refused && left <= shared.budget_bytes.load(Ordering::Relaxed) / 2 {
            shared.sender_refused.store(false, Ordering::SeqCst);
            shared.wake_sender.wake();
        }
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        let bytes = self.bytes.load(Ordering::SeqCst);
        bytes == 0 || bytes < self.budget_bytes.load(Ordering::Relaxed)
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
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};

    use super::*;
    use crate::element::Barrier;

    fn rows(n: usize) -> Element {
        let column: arrow_array::ArrayRef = Arc::new(Int64Array::from(vec![7; n]));
        Element::Batch(RecordBatch::try_from_iter([("n", column)]).expect("one column"))
    }

    #[test]
    fn rows_need_credit_and_control_elements_keep_their_place_without() {
        let (tx, mut rx) = channel(Wake::default(), Wake::default());
        assert!(tx.has_room());
        tx.push(rows(BUDGET_BYTES_START / 8));
        assert!(!tx.has_room());
        tx.push(Element::Barrier(Barrier::default()));
        assert!(matches!(rx.pop(), Some(Element::Batch(_))));
        assert!(tx.has_room());
        assert!(matches!(rx.pop(), Some(Element::Barrier(_))));
        assert!(rx.pop().is_none());
    }

    #[test]
    fn one_batch_larger_than_any_budget_passes() {
        let (tx, mut rx) = channel(Wake::default(), Wake::default());
        tx.push(rows(BUDGET_BYTES_MAX));
        assert!(!tx.has_room());
        assert!(rx.pop().is_some());
        assert!(tx.has_room());
    }

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
    fn everything_pushed_is_popped_once_and_in_order_over_two_threads() {
        let (receiver_wake, sender_wake) = (Wake::default(), Wake::default());
        let (tx, mut rx) = channel(sender_wake.clone(), receiver_wake.clone());
        let count = 2_000i64;
        let sender = std::thread::spawn(move || {
            sender_wake.bind_to_this_thread();
            for n in 0..count {
                loop {
                    sender_wake.begin_pass();
                    if tx.has_room() {
                        break;
                    }
                    sender_wake.park(None);
                }
                let column: arrow_array::ArrayRef = Arc::new(Int64Array::from(vec![n; 4096]));
                tx.push(RecordBatch::try_from_iter([("n", column)]).expect("one column").into());
            }
        });
        receiver_wake.bind_to_this_thread();
        let mut next = 0;
        while next < count {
            receiver_wake.begin_pass();
            while let Some(element) = rx.pop() {
                let Element::Batch(batch) = element else { panic!("only rows were sent") };
                let column = batch.column(0).as_any().downcast_ref::<Int64Array>().expect("as sent");
                assert_eq!(column.value(0), next);
                next += 1;
            }
            if next < count {
                receiver_wake.park(None);
            }
        }
        sender.join().expect("the sender ended");
    }
}
