//! What the scenarios share: the broker, producers and consumers that wait for a condition with a deadline.

pub mod fake;
pub mod topics;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use millstream_kafka::{
    ClientConfig, Consumer, KafkaError, Producer, ProducerEvent, ProducerIdentity, ProducerOptions, RecordBuffer, Sent,
    Throttle, Waker,
};

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The broker's address; `None` after saying what is missing. In CI nothing may be missing.
pub fn broker(test: &str) -> Option<String> {
    variable(test, "MILLSTREAM_TEST_KAFKA", "kafka")
}

pub fn variable(test: &str, name: &str, service: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|v| !v.is_empty());
    if value.is_none() {
        let missing = format!("{name} is not set: cargo xtask services up {service}");
        assert!(std::env::var_os("CI").is_none(), "{test}: {missing}");
        eprintln!("SKIPPED {test}: {missing}");
    }
    value
}

pub fn config(bootstrap: &str) -> ClientConfig {
    ClientConfig { bootstrap_servers: bootstrap.to_owned(), client_id: "test".to_owned(), ..ClientConfig::default() }
}

/// A waker, and where its calls arrive.
pub fn waker() -> (Waker, Receiver<()>) {
    let (sender, receiver) = mpsc::channel();
    let waker = move || {
        // The receiver may be gone while the client still closes.
        let _ = sender.send(());
    };
    (Arc::new(waker), receiver)
}

/// A producer with the calls of its waker.
pub struct TestProducer {
    pub producer: Producer,
    woken: Receiver<()>,
}

impl TestProducer {
    pub fn open(config: &ClientConfig, topic: &str, transactional_id: Option<&str>, timeout_ms: u32) -> Self {
        let (waker, woken) = waker();
        let options = ProducerOptions {
            topic: topic.to_owned(),
            transactional_id: transactional_id.map(str::to_owned),
            transaction_timeout_ms: timeout_ms,
            throttle: Throttle::default(),
            waker,
        };
        let producer = Producer::open(config, options).expect("a producer");
        Self { producer, woken }
    }

    /// A transactional producer that can take records.
    pub fn transactional(config: &ClientConfig, topic: &str, id: &str) -> Self {
        let mut producer = Self::open(config, topic, Some(id), 60_000);
        producer.wait_for(|e| *e == ProducerEvent::Ready).expect("ready");
        producer
    }

    /// The first event that is wanted, or the producer's failure. Waits by the waker alone.
    pub fn wait_for(&mut self, wanted: impl Fn(&ProducerEvent) -> bool) -> Result<ProducerEvent, KafkaError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.producer.poll()? {
                if wanted(&event) {
                    return Ok(event);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.woken.recv_timeout(left).expect("an event in time");
        }
    }

    /// Sends all, waiting for room where it must.
    pub fn send(&mut self, partition: i32, records: &[(Option<&str>, Option<&str>)]) -> Result<(), KafkaError> {
        let mut buffer = RecordBuffer::default();
        for (key, value) in records {
            let key = key.map(str::as_bytes);
            match value {
                Some(value) => buffer.append(key, |out| out.extend_from_slice(value.as_bytes())),
                None => buffer.append_tombstone(key),
            }
        }
        while self.producer.send(partition, &mut buffer)? == Sent::QueueFull {
            self.wait_for(|e| *e == ProducerEvent::Room)?;
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), KafkaError> {
        self.producer.flush();
        self.wait_for(|e| *e == ProducerEvent::Flushed).map(drop)
    }

    /// Flushes an open transaction.
    pub fn prepare(&mut self) -> Result<ProducerIdentity, KafkaError> {
        self.producer.flush();
        match self.wait_for(|e| matches!(e, ProducerEvent::Identified(_)))? {
            ProducerEvent::Identified(identity) => Ok(identity),
            other => panic!("waited for Identified, got {other:?}"),
        }
    }

    pub fn commit(&mut self) -> Result<(), KafkaError> {
        self.producer.commit();
        self.wait_for(|e| *e == ProducerEvent::Committed).map(drop)
    }
}

/// A record as it was read.
pub type Owned = (usize, i64, Option<String>, Option<String>);

/// Reads until every partition's position reaches its end, or something fails.
pub fn read_to(consumer: &mut Consumer, woken: &Receiver<()>, ends: &[i64]) -> Result<Vec<Owned>, KafkaError> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    loop {
        let own = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        let taken = consumer.poll(1000, |r| records.push((r.index(), r.offset(), own(r.key()), own(r.value()))))?;
        if ends.iter().enumerate().all(|(index, end)| consumer.position(index) >= *end) {
            return Ok(records);
        }
        if taken.drained {
            let left = deadline.saturating_duration_since(Instant::now());
            woken.recv_timeout(left).expect("a record or the end of a partition in time");
        }
    }
}

/// A consumer from the beginning of partitions 0 to `partitions`.
pub fn consumer(config: &ClientConfig, topic: &str, partitions: i32, committed: bool) -> (Consumer, Receiver<()>) {
    let mut config = config.clone();
    let isolation = if committed { "read_committed" } else { "read_uncommitted" };
    config.settings.insert("isolation.level".to_owned(), isolation.to_owned());
    let (waker, woken) = waker();
    let mut consumer = Consumer::open(&config, waker).expect("a consumer");
    for partition in 0..partitions {
        consumer.assign(topic, None, partition, 0).expect("assigned");
    }
    (consumer, woken)
}
