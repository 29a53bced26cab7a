//! A job whose state has a known size: a running count per key, with a text of each key beside it.
//!
//! Owns: its input, its manifest, where its checkpoints lie. Does not own: which processes run it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::producer::Producer;

use crate::{fill, topics};

const INPUT: &str = "keyed-in";
pub const OUTPUT: &str = "keyed-out";
const PARTITIONS: i32 = 8;
/// Bytes of each key's text, which no compression makes shorter than half.
const TEXT_BYTES: usize = 96;

/// Where checkpoints lie.
pub struct Storage {
    uri: String,
    endpoint: Option<String>,
    /// For the processes that reach it.
    pub environment: Vec<(&'static str, String)>,
}

impl Storage {
    /// The first S3 server that `MILLSTREAM_TEST_S3` tells of.
    pub fn of_services(path: &str) -> anyhow::Result<Self> {
        let told = std::env::var("MILLSTREAM_TEST_S3").context("MILLSTREAM_TEST_S3 tells of no S3 server")?;
        let servers: serde_json::Value = serde_json::from_str(&told)?;
        let text =
            |name: &str| servers[0][name].as_str().map(str::to_owned).context(format!("no {name} of the server"));
        Ok(Self {
            uri: format!("s3://{}/{path}-{}", text("bucket")?, std::process::id()),
            endpoint: Some(text("endpoint")?),
            environment: vec![("KEYED_KEY", text("access_key_id")?), ("KEYED_SECRET", text("secret_access_key")?)],
        })
    }

    /// A folder of this machine.
    pub fn local(folder: &std::path::Path) -> Self {
        Self { uri: format!("file://{}", folder.display()), endpoint: None, environment: Vec::new() }
    }

    fn manifest_lines(&self) -> String {
        let uri = &self.uri;
        let s3 = self.endpoint.as_ref().map_or_else(String::new, |endpoint| {
            format!(
                "    s3:
      endpoint: {endpoint}
      credentials:
        accessKeyIdEnv: KEYED_KEY
        secretAccessKeyEnv: KEYED_SECRET
"
            )
        });
        format!("    storage: {uri}\n{s3}")
    }
}

pub fn manifest(bootstrap: &str, parallelism: u32, interval: &str, storage: &Storage) -> String {
    let storage = storage.manifest_lines();
    let sql: String = statements(bootstrap).lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: keyed
spec:
  parallelism: {parallelism}
  restart:
    strategy: fixedDelay
    initialBackoff: 100 ms
  checkpoint:
    interval: {interval}
{storage}  sql: |
{sql}"
    )
}

/// For either engine.
pub fn statements(bootstrap: &str) -> String {
    format!(
        "CREATE TABLE source (id BIGINT, t STRING) WITH ('connector' = 'kafka', 'topic' = '{INPUT}', 'format' = 'json',
  'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset');
CREATE TABLE target (id BIGINT, n BIGINT, t STRING, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'upsert-kafka', 'topic' = '{OUTPUT}', 'properties.bootstrap.servers' = '{bootstrap}',
  'key.format' = 'json', 'value.format' = 'json', 'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'keyed', 'properties.transaction.timeout.ms' = '900000');
INSERT INTO target SELECT id, COUNT(*), MAX(t) FROM source GROUP BY id;
"
    )
}

/// Makes the topics, and gives each key one event.
pub fn fill(bootstrap: &str, keys: u64) -> anyhow::Result<()> {
    topics::create(bootstrap, INPUT, PARTITIONS, &[])?;
    topics::create(bootstrap, OUTPUT, PARTITIONS, &[])?;
    let (producer, mut event) = (fill::producer(bootstrap, 20)?, Event::default());
    for key in 0..keys {
        event.send(&producer, key)?;
    }
    Ok(producer.flush(topics::TIMEOUT)?)
}

/// Keeps sending events of all keys at a rate, until it is dropped.
pub struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Feeder {
    pub fn start(bootstrap: &str, keys: u64, rate: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (bootstrap, stopped) = (bootstrap.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || feed(&bootstrap, keys, rate, &stopped));
        Self { stop, thread: Some(thread) }
    }

    pub fn end(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow::anyhow!("the feeder panicked"))?
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn feed(bootstrap: &str, keys: u64, rate: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let producer = fill::producer(bootstrap, 1)?;
    let (begin, mut number, mut event) = (Instant::now(), 0u64, Event::default());
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begin.elapsed().as_micros())? * rate / 1_000_000;
        while number < due {
            // A prime step visits all keys in turn, far from each other.
            event.send(&producer, number * 7_919 % keys)?;
            number += 1;
        }
        producer.poll(Duration::ZERO);
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(producer.flush(topics::TIMEOUT)?)
}

#[derive(Default)]
struct Event {
    text: String,
}

impl Event {
    fn send(&mut self, producer: &rdkafka::producer::BaseProducer, key: u64) -> anyhow::Result<()> {
        use std::fmt::Write as _;
        self.text.clear();
        write!(self.text, "{{\"id\":{key},\"t\":\"")?;
        for part in 0..TEXT_BYTES / 16 {
            write!(self.text, "{:016x}", xxhash_rust::xxh3::xxh3_64_with_seed(&key.to_le_bytes(), part as u64))?;
        }
        self.text.push_str("\"}");
        fill::send(producer, INPUT, i32::try_from(key % PARTITIONS.unsigned_abs() as u64)?, &self.text)
    }
}
