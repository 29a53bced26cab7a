//! The input of the crash test: a producer that never stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::reference::{STEP_MS, numbered, record};
use super::scene::PARTITIONS;
use crate::support::kafka::Broker;

const RATE_PER_S: u64 = 4_000;

/// A thread that appends numbered records at a fixed rate.
pub struct Feeder {
    pub topic: String,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
    broker: Broker,
}

impl Feeder {
    pub fn start(broker: &Broker, topic: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (producer, stop) = (broker.producer(topic), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * RATE_PER_S / 1_000;
                // At most a day of event time.
                while id < due.min(86_000_000 / STEP_MS) {
                    producer.send(i32::try_from(id % 4).unwrap(), &numbered(id));
                    id += 1;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            producer.flush();
            id
        });
        Self { topic: topic.to_owned(), end, thread: Some(thread), broker: broker.clone() }
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
