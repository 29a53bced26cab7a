//! The readers of the crash test: they see what is committed, from the first moment to the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::scene::LIMIT;
use crate::support::kafka::CommittedReader;
use crate::support::wait_for;

/// A record that no job wrote.
pub const MARKER: &str = "{\"marker\":true}";

pub fn without_markers(reader: &CommittedReader) -> Vec<serde_json::Value> {
    reader.values().into_iter().filter(|v| v.get("marker").is_none()).collect()
}

/// A thread that reads one topic as its records become visible.
pub struct Watch {
    count: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<CommittedReader>>,
}

impl Watch {
    pub fn start(mut reader: CommittedReader) -> Self {
        let (count, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&count), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut read = 0;
            while !stop.load(Ordering::Relaxed) {
                reader.poll();
                let new = reader.seen[read..].iter().filter(|s| s.value.as_deref() != Some(MARKER)).count();
                read = reader.seen.len();
                seen.fetch_add(new, Ordering::Relaxed);
            }
            while reader.poll() > 0 {}
            reader
        });
        Self { count, end, thread: Some(thread) }
    }

    /// Visible records that are not markers.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits for a record beyond the first `count`; `broken` tells why it will not come.
    pub fn wait_beyond(&self, count: usize, mut broken: impl FnMut() -> Option<String>) {
        wait_for("visible output", LIMIT, || {
            if let Some(reason) = broken() {
                panic!("no output will come: {reason}");
            }
            assert!(!self.thread.as_ref().is_some_and(|thread| thread.is_finished()), "the reader has failed");
            (self.count() > count).then_some(())
        });
    }

    pub fn stop(&mut self) -> CommittedReader {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().unwrap()
    }
}

/// After a failure: no reader loads the machine while the other scenes run.
impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}
