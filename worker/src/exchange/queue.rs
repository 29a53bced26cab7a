//! Where the elements of a channel wait for the task that reads them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::element::Element;
use crate::slot::Wake;

/// The inbox of one channel. Its bound is the credit of whoever pushes.
#[derive(Debug)]
pub(super) struct Queue {
    elements: Mutex<VecDeque<Queued>>,
    /// Length of the queue, to look at it without the lock.
    queued: AtomicUsize,
    wake_receiver: Wake,
}

/// An element in its queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) element: Element,
    /// Bytes of its rows; 0 for control elements.
    pub(super) bytes: usize,
    /// When rows were queued; nothing for control elements.
    pub(super) since: Option<Instant>,
}

impl Queue {
    pub(super) fn new(wake_receiver: Wake) -> Self {
        Self { elements: Mutex::new(VecDeque::new()), queued: AtomicUsize::new(0), wake_receiver }
    }

    pub(super) fn push(&self, queued: Queued) {
        let was_empty = {
            let mut elements = self.elements.lock().expect("nothing panics while it holds the lock");
            elements.push_back(queued);
            self.queued.store(elements.len(), Ordering::Release);
            elements.len() == 1
        };
        if was_empty {
            self.wake_receiver.wake();
        }
    }

    pub(super) fn pop(&self) -> Option<Queued> {
        if self.is_empty() {
            return None;
        }
        let mut elements = self.elements.lock().expect("nothing panics while it holds the lock");
        let queued = elements.pop_front();
        self.queued.store(elements.len(), Ordering::Release);
        queued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }
}
