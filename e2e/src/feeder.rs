//! The input of a job of numbers: a producer that never stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kafka::Broker;
use crate::reference::{PARTITIONS, STEP_MS, numbered, record};

/// A thread that appends numbered records at a fixed rate.
pub struct Feeder {
    pub topic: String,
    fed: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
    broker: Broker,
}

impl Feeder {
    pub fn start(broker: &Broker, topic: &str, rate_per_s: u64) -> Self {
        let (end, fed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (producer, stop, sent) = (broker.producer(topic), Arc::clone(&end), Arc::clone(&fed));
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * rate_per_s / 1_000;
                // At most a day of event time.
                while id < due.min(86_000_000 / STEP_MS) {
                    let (partition, number) = numbered(id);
                    producer.send(partition, &number);
                    id += 1;
                }
                sent.store(id, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(5));
            }
            producer.flush();
            id
        });
        Self { topic: topic.to_owned(), fed, end, thread: Some(thread), broker: broker.clone() }
    }

    /// Numbers so far.
    pub fn fed(&self) -> u64 {
        self.fed.load(Ordering::Relaxed)
    }

    /// Ends the input with one record per partition that closes all windows before it. Returns how many numbered
    /// records there are, and how many records in all.
    pub fn stop(&mut self) -> (u64, u64) {
        self.end.store(true, Ordering::Relaxed);
        let total = self.thread.take().expect("stopped once").join().unwrap();
        let producer = self.broker.producer(&self.topic);
        for partition in 0..PARTITIONS {
            let id = total + u64::try_from(partition).unwrap();
            producer.send(partition, &record(id, 86_390_000, 1_000_000 + id));
        }
        producer.flush();
        (total, total + u64::try_from(PARTITIONS).unwrap())
    }
}

/// As for the readers.
impl Drop for Feeder {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}
