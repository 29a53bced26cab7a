//! One queue from one task to another, bounded by how long it takes to drain (`credit`).
//!
//! A channel is within the process, or it has one of its ends here and the other in another worker (`remote`). Its tasks
//! see no difference.

use std::sync::Arc;
use std::time::Instant;

use super::ExchangeError;
use super::credit::{Credit, Settling};
use super::queue::{Queue, Queued};
use super::remote::{Inlet, Outlet};
use super::size::batch_bytes;
use crate::element::Element;
use crate::slot::Wake;

/// Makes the channel from a task on the slot behind `wake_sender` to one on the slot behind `wake_receiver`.
#[must_use]
pub fn channel(wake_sender: Wake, wake_receiver: Wake) -> (Sender, Receiver) {
    let credit = Arc::new(Credit::new(wake_sender));
    let queue = Arc::new(Queue::new(wake_receiver));
    let target = Target::Local { credit: Arc::clone(&credit), queue: Arc::clone(&queue) };
    (Sender(target), Receiver(Source::Local { credit, queue, settling: Settling::default() }))
}

/// The end that a task pushes to.
#[derive(Debug)]
pub struct Sender(Target);

#[derive(Debug)]
enum Target {
    Local { credit: Arc<Credit>, queue: Arc<Queue> },
    Remote(Box<Outlet>),
}

/// The end that a task pops from.
#[derive(Debug)]
pub struct Receiver(Source);

#[derive(Debug)]
enum Source {
    Local { credit: Arc<Credit>, queue: Arc<Queue>, settling: Settling },
    Remote(Inlet),
}

impl Sender {
    /// True when rows may be pushed. An empty channel always has room, so one batch of any size gets through.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match &self.0 {
            Target::Local { credit, .. } => credit.has_room(),
            Target::Remote(outlet) => outlet.has_room(),
        }
    }

    /// Queues an element. Rows are to be pushed only after `has_room`; what one call of a transform emits may overshoot.
    ///
    /// # Errors
    /// Rows that cannot be sent to another worker.
    pub fn push(&mut self, element: Element) -> Result<(), ExchangeError> {
        match &mut self.0 {
            Target::Local { credit, queue } => {
                let (bytes, since) = match &element {
                    Element::Batch(batch) => (batch_bytes(batch).max(1), Some(Instant::now())),
                    _ => (0, None),
                };
                credit.pushed(bytes);
                queue.push(Queued { element, bytes, since });
                Ok(())
            }
            Target::Remote(outlet) => outlet.push(element),
        }
    }
}

impl From<Outlet> for Sender {
    fn from(outlet: Outlet) -> Self {
        Self(Target::Remote(Box::new(outlet)))
    }
}

impl From<Inlet> for Receiver {
    fn from(inlet: Inlet) -> Self {
        Self(Source::Remote(inlet))
    }
}

impl Receiver {
    /// The oldest element, if there is one.
    pub fn pop(&mut self) -> Option<Element> {
        match &mut self.0 {
            Source::Local { credit, queue, settling } => {
                let Queued { element, bytes, since } = queue.pop()?;
                credit.consumed(settling, bytes, since.map(|s| s.elapsed()));
                Some(element)
            }
            Source::Remote(inlet) => inlet.pop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};

    use super::super::credit::{BUDGET_BYTES_MAX, BUDGET_BYTES_START};
    use super::*;
    use crate::element::Barrier;

    fn rows(n: usize) -> Element {
        let column: arrow_array::ArrayRef = Arc::new(Int64Array::from(vec![7; n]));
        Element::Batch(RecordBatch::try_from_iter([("n", column)]).expect("one column"))
    }

    #[test]
    fn rows_need_credit_and_control_elements_keep_their_place_without() {
        let (mut tx, mut rx) = channel(Wake::default(), Wake::default());
        assert!(tx.has_room());
        tx.push(rows(BUDGET_BYTES_START / 8)).expect("a channel of this process");
        assert!(!tx.has_room());
        tx.push(Element::Barrier(Barrier::default())).expect("a channel of this process");
        assert!(matches!(rx.pop(), Some(Element::Batch(_))));
        assert!(tx.has_room());
        assert!(matches!(rx.pop(), Some(Element::Barrier(_))));
        assert!(rx.pop().is_none());
    }

    #[test]
    fn one_batch_larger_than_any_budget_passes() {
        let (mut tx, mut rx) = channel(Wake::default(), Wake::default());
        tx.push(rows(BUDGET_BYTES_MAX)).expect("a channel of this process");
        assert!(!tx.has_room());
        assert!(rx.pop().is_some());
        assert!(tx.has_room());
    }

    #[test]
    fn everything_pushed_is_popped_once_and_in_order_over_two_threads() {
        let (receiver_wake, sender_wake) = (Wake::default(), Wake::default());
        let (mut tx, mut rx) = channel(sender_wake.clone(), receiver_wake.clone());
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
                tx.push(RecordBatch::try_from_iter([("n", column)]).expect("one column").into())
                    .expect("a channel of this process");
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
