//! The readers of the crash test: they see what is committed, from the first moment to the last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::kafka::CommittedReader;

/// A record that no job wrote.
pub const MARKER: &str = "{\"marker\":true}";

pub fn without_markers(reader: &CommittedReader) -> Vec<serde_json::Value> {
    reader.values().into_iter().filter(|v| v.get("marker").is_none()).collect()
}

/// A thread that reads one topic as its records become visible.
pub struct Watch {
    count: Arc<AtomicUsize>,
    /// By partition: the last record's offset.
    offsets: Arc<Mutex<BTreeMap<i32, i64>>>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<CommittedReader>>,
}

impl Watch {
    pub fn start(mut reader: CommittedReader) -> Self {
        let (count, end) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let offsets = Arc::<Mutex<BTreeMap<i32, i64>>>::default();
        let (seen, last, stop) = (Arc::clone(&count), Arc::clone(&offsets), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut read = 0;
            while !stop.load(Ordering::Relaxed) {
                reader.poll();
                let new = reader.seen[read..].iter().filter(|s| s.value.as_deref() != Some(MARKER)).count();
                last.lock().unwrap().extend(reader.seen[read..].iter().map(|s| (s.partition, s.offset)));
                read = reader.seen.len();
                seen.fetch_add(new, Ordering::Relaxed);
            }
            while reader.poll() > 0 {}
            reader
        });
        Self { count, offsets, end, thread: Some(thread) }
    }

    /// Visible records that are not markers.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// By partition: the offset of the last record that became visible.
    pub fn offsets(&self) -> BTreeMap<i32, i64> {
        self.offsets.lock().unwrap().clone()
    }

    pub fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.is_finished())
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
