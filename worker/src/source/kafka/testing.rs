//! What the tests of Kafka sources and sinks share: the broker, topics, waiting by the waker with a deadline.

#![allow(clippy::unwrap_used)]

#[path = "../../../../kafka/tests/kafka/support/topics.rs"]
pub(crate) mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use millstream_kafka::{
    ClientConfig, Consumer, Producer, ProducerEvent, ProducerOptions, RecordBuffer, Sent, Throttle,
};

use crate::source::SlotWaker;

/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The broker's address; `None` after saying what is missing. In CI nothing may be missing.
pub(crate) fn broker(test: &str) -> Option<String> {
    let name = "MILLSTREAM_TEST_KAFKA";
    let value = std::env::var(name).ok().filter(|v| !v.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{test}: {name} is not set, and in CI nothing is skipped");
        eprintln!("SKIPPED {test}: {name} is not set: cargo xtask services up kafka");
    }
    value
}

pub(crate) fn properties(bootstrap: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = [("bootstrap.servers", bootstrap)];
    own.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A slot that only waits.
pub(crate) struct Parked {
    pub(crate) waker: SlotWaker,
    woken: Receiver<()>,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Parked {
    pub(crate) fn new() -> Self {
        let (sender, woken) = mpsc::channel();
        let waker = move || {
            // The receiver may be gone while a client still closes.
            let _ = sender.send(());
        };
        Self { waker: Arc::new(waker), woken, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    /// Polls until there is something, parked in between until the waker is called.
    pub(crate) fn wait_for<T>(&self, mut poll: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = poll() {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.woken.recv_timeout(left).expect("woken in time");
        }
    }
}

/// Writes records to one partition and waits until the broker has them.
pub(crate) fn write(bootstrap: &str, topic: &str, partition: i32, records: &[(Option<&str>, Option<&str>)]) {
    let parked = Parked::new();
    let options = ProducerOptions {
        topic: topic.to_owned(),
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        throttle: Throttle::default(),
        waker: parked.waker.clone(),
    };
    let mut producer = Producer::open(&client(bootstrap), options).unwrap();
    let mut buffer = RecordBuffer::default();
    for (key, value) in records {
        let key = key.map(str::as_bytes);
        match value {
            Some(value) => buffer.append(key, |out| out.extend_from_slice(value.as_bytes())),
            None => buffer.append_tombstone(key),
        }
    }
    assert_eq!(producer.send(partition, &mut buffer).unwrap(), Sent::All);
    producer.flush();
    parked.wait_for(|| producer.poll().unwrap().filter(|e| *e == ProducerEvent::Flushed));
}

/// Key and value of committed records in the order of one partition, once there are at least `count`.
pub(crate) fn read_committed(bootstrap: &str, topic: &str, count: usize) -> Vec<(Option<String>, Option<String>)> {
    let parked = Parked::new();
    let mut consumer = Consumer::open(&client(bootstrap), parked.waker.clone()).unwrap();
    consumer.assign(topic, None, 0, 0).unwrap();
    let mut records = Vec::new();
    let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
    parked.wait_for(|| {
        while !consumer.poll(1000, |r| records.push((text(r.key()), text(r.value())))).unwrap().drained {}
        (records.len() >= count).then_some(())
    });
    records
}

fn client(bootstrap: &str) -> ClientConfig {
    ClientConfig {
        bootstrap_servers: bootstrap.to_owned(),
        client_id: "test".to_owned(),
        settings: BTreeMap::from([("isolation.level".to_owned(), "read_committed".to_owned())]),
        ..ClientConfig::default()
    }
}
