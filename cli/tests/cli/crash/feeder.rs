//! The input of the crash test: a producer that never stops.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::reference::{STEP_MS, numbered, record};
use super::scene::PARTITIONS;
use crate::support::kafka::Broker;

const RATE_PER_S: u64 = 4_000;

/// A thread that appends numbered records at a fixed rate.
pub struct Feeder {
    pub topic: String,
    end: Arc<AtomicBool>,
    progress: Arc<Progress>,
    thread: Option<std::thread::JoinHandle<u64>>,
    broker: Broker,
}

/// What the feeder has done, for whoever wants to know why nothing comes out.
#[derive(Default)]
struct Progress {
    given: AtomicU64,
    /// What its producer last said.
    producer: Mutex<(i32, Option<String>)>,
}

impl Feeder {
    pub fn start(broker: &Broker, topic: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let progress = Arc::<Progress>::default();
        let (producer, stop, told) = (broker.producer(topic), Arc::clone(&end), Arc::clone(&progress));
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * RATE_PER_S / 1_000;
                // At most a day of event time.
                while id < due.min(86_000_000 / STEP_MS) {
                    producer.send(i32::try_from(id % 4).unwrap(), &numbered(id));
                    id += 1;
                    told.given.store(id, Ordering::Relaxed);
                }
                *told.producer.lock().unwrap() = producer.state();
                std::thread::park_timeout(Duration::from_millis(5));
            }
            producer.flush();
            id
        });
        Self { topic: topic.to_owned(), end, progress, thread: Some(thread), broker: broker.clone() }
    }

    pub fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.is_finished())
    }

    /// How far it is.
    pub fn state(&self) -> String {
        let (unacknowledged, failure) = self.progress.producer.lock().unwrap().clone();
        let given = self.progress.given.load(Ordering::Relaxed);
        format!("{given} numbers given to the producer, {unacknowledged} not acknowledged, failure {failure:?}")
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
