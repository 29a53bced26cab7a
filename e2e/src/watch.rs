//! Readers that never stop: they see what is committed, from the first moment to the last.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::kafka::CommittedReader;
use crate::numbers::LIMIT;
use crate::wait_for;

/// A record that no job wrote.
pub const MARKER: &str = "{\"marker\":true}";

pub fn without_markers(reader: &CommittedReader) -> Vec<serde_json::Value> {
    reader.values().into_iter().filter(|v| v.get("marker").is_none()).collect()
}

/// A thread that reads one topic as its records become visible.
pub struct Watch {
    count: Arc<AtomicUsize>,
    /// When records became visible.
    arrivals: Arc<Mutex<Vec<Instant>>>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<CommittedReader>>,
}

impl Watch {
    pub fn start(mut reader: CommittedReader) -> Self {
        let (count, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let (seen, stop, times) = (Arc::clone(&count), Arc::clone(&end), Arc::clone(&arrivals));
        let thread = std::thread::spawn(move || {
            let mut read = 0;
            while !stop.load(Ordering::Relaxed) {
                reader.poll();
                let new = reader.seen[read..].iter().filter(|s| s.value.as_deref() != Some(MARKER)).count();
                read = reader.seen.len();
                if new > 0 {
                    times.lock().unwrap().push(Instant::now());
                }
                seen.fetch_add(new, Ordering::Relaxed);
            }
            while reader.poll() > 0 {}
            reader
        });
        Self { count, arrivals, end, thread: Some(thread) }
    }

    /// Visible records that are not markers.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The longest time from `since` until now in which nothing became visible.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let arrivals = self.arrivals.lock().unwrap();
        let later = &arrivals[arrivals.partition_point(|at| *at <= since)..];
        let moments: Vec<Instant> = [&[since], later, &[Instant::now()]].concat();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
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
