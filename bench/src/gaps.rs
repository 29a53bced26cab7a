//! How long the output of a running job stays away, for a reader of either isolation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::BaseConsumer;
use serde_json::{Value, json};

use crate::topics;

/// A gap that is worth keeping.
const KEPT_MIN: Duration = Duration::from_millis(20);

/// Readers of each isolation.
pub struct Readers {
    uncommitted: Watch,
    committed: Watch,
}

impl Readers {
    /// They read `topic` from now on.
    pub fn start(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let uncommitted = Watch::start(bootstrap, topic, "read_uncommitted")?;
        Ok(Self { uncommitted, committed: Watch::start(bootstrap, topic, "read_committed")? })
    }

    /// Records that were committed.
    pub fn committed(&self) -> u64 {
        self.committed.seen().records
    }

    /// Records so far, committed or not.
    pub fn written(&self) -> u64 {
        self.uncommitted.seen().records
    }

    /// The longest time without a record for each, of which some lies after `begin`.
    pub fn longest_gaps(&self, begin: Instant) -> Value {
        json!({
            "gap_at_least_once_ms": self.uncommitted.longest_gap(begin).as_millis() as u64,
            "gap_committed_ms": self.committed.longest_gap(begin).as_millis() as u64,
        })
    }
}

/// A reader that never stops.
struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Seen {
    records: u64,
    last: Instant,
    gaps: Vec<(Instant, Instant)>,
}

impl Watch {
    /// Reads `topic` from now on, with `read_committed` or `read_uncommitted`.
    fn start(bootstrap: &str, topic: &str, isolation: &str) -> anyhow::Result<Self> {
        let (consumer, _) = topics::reader(bootstrap, topic, isolation, Offset::End)?;
        let seen = Arc::new(Mutex::new(Seen { records: 0, last: Instant::now(), gaps: Vec::new() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                poll(&consumer, &shared);
            }
        });
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest time without a record of which some lies after `begin`, up to now.
    fn longest_gap(&self, begin: Instant) -> Duration {
        let seen = self.seen();
        let open = (seen.last, Instant::now());
        let gaps = seen.gaps.iter().chain([&open]).filter(|(_, end)| *end > begin);
        gaps.map(|(start, end)| *end - *start).max().unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there is told there.
            let _ = thread.join();
        }
    }
}

fn poll(consumer: &BaseConsumer, shared: &Mutex<Seen>) {
    let Some(Ok(_)) = consumer.poll(Duration::from_millis(10)) else { return };
    let now = Instant::now();
    let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
    seen.records += 1;
    if now - seen.last > KEPT_MIN {
        let gap = (seen.last, now);
        seen.gaps.push(gap);
    }
    seen.last = now;
}
