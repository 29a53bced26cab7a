//! What a small job costs: its start, its idle hours, its memory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use rdkafka::Offset;
use rdkafka::producer::Producer;
use serde_json::json;

use crate::events::{Bids, EPOCH_MS};
use crate::manifest::{COLUMNS, PassThrough};
use crate::process::Process;
use crate::{fill, machine, measure, topics};

#[derive(Debug, Args)]
pub struct FootprintArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// The filled topic, for the job with many keys.
    #[arg(long, default_value = "bids")]
    pub topic: String,
    /// Starts of each kind.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
}

const EVENTS: u64 = 1_000;
/// Bidders of the generator.
const KEYS: u32 = 100_000;
const SETTLE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(bootstrap: &str, arguments: &FootprintArguments) -> anyhow::Result<()> {
    fill_small(bootstrap)?;
    for guarantee in ["at-least-once", "exactly-once"] {
        for _ in 0..arguments.runs {
            start(bootstrap, arguments, guarantee)?;
        }
        idle(bootstrap, arguments, guarantee)?;
    }
    memory(bootstrap, arguments)
}

fn fill_small(bootstrap: &str) -> anyhow::Result<()> {
    topics::create(bootstrap, "footprint-in", 4, &[])?;
    let producer = fill::producer(bootstrap, 5)?;
    let (mut bids, mut text) = (Bids::new(11), String::new());
    for number in 0..EVENTS {
        text.clear();
        bids.append(number, EPOCH_MS + i64::try_from(number)?, 0, &mut text);
        fill::send(&producer, "footprint-in", i32::try_from(number % 4)?, &text)?;
    }
    Ok(producer.flush(topics::TIMEOUT)?)
}

/// From the start of the process to the first record that a reader sees.
fn start(bootstrap: &str, arguments: &FootprintArguments, guarantee: &str) -> anyhow::Result<()> {
    let (_job, first) = started(bootstrap, arguments, guarantee)?;
    let line = json!({
        "engine": "millstream", "measure": "start", "guarantee": guarantee, "checkpoint_interval": "250 ms",
        "first_output_ms": first.as_secs_f64() * 1e3, "machine": machine::facts(),
    });
    println!("{line}");
    Ok(())
}

/// Processor time and memory of a job without input.
fn idle(bootstrap: &str, arguments: &FootprintArguments, guarantee: &str) -> anyhow::Result<()> {
    let (mut job, _) = started(bootstrap, arguments, guarantee)?;
    job.watch(SETTLE)?;
    let pid = job.pid()?;
    let (before, began) = (measure::processor_time(pid), Instant::now());
    job.watch(IDLE)?;
    let (after, wall) = (measure::processor_time(pid), began.elapsed());
    let used = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    let line = json!({
        "engine": "millstream", "measure": "idle", "guarantee": guarantee, "checkpoint_interval": "250 ms",
        "processor_percent": used.map(|u| u.as_secs_f64() / wall.as_secs_f64() * 100.0),
        "resident_mb": measure::resident_bytes(pid).map(|b| b as f64 / 1e6), "machine": machine::facts(),
    });
    println!("{line}");
    Ok(())
}

fn started(bootstrap: &str, arguments: &FootprintArguments, guarantee: &str) -> anyhow::Result<(Process, Duration)> {
    topics::create(bootstrap, "footprint-out", 4, &[])?;
    let isolation = if guarantee == "exactly-once" { "read_committed" } else { "read_uncommitted" };
    let (consumer, _) = topics::reader(bootstrap, "footprint-out", isolation, Offset::Beginning)?;
    let pass = PassThrough {
        name: "footprint",
        bootstrap,
        input: "footprint-in",
        output: "footprint-out",
        guarantee,
        interval: "250 ms",
    };
    let mut job = Process::start(&arguments.binary, &pass.manifest())?;
    loop {
        job.check()?;
        ensure!(job.started.elapsed() < PATIENCE, "no output: {}", job.log()?);
        if let Some(Ok(_)) = consumer.poll(Duration::from_millis(5)) {
            let first = job.started.elapsed();
            return Ok((job, first));
        }
    }
}

/// Largest resident memory of a bounded job with so many keys of state.
fn memory(bootstrap: &str, arguments: &FootprintArguments) -> anyhow::Result<()> {
    topics::create(bootstrap, "footprint-keys", 4, &[])?;
    let cost = Process::start(&arguments.binary, &keys_manifest(bootstrap, &arguments.topic))?.wait()?;
    let line = json!({
        "engine": "millstream", "measure": "memory", "keys": KEYS,
        "resident_mb": cost.resident_bytes_max as f64 / 1e6, "wall_s": cost.wall.as_secs_f64(),
        "machine": machine::facts(),
    });
    println!("{line}");
    Ok(())
}

fn keys_manifest(bootstrap: &str, topic: &str) -> String {
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: keys
spec:
  parallelism: 2
  checkpoint:
    interval: 1 s
  options:
    table.exec.mini-batch.enabled: 'true'
    table.exec.mini-batch.allow-latency: 1 s
    table.exec.mini-batch.size: '20000'
  sql: |
    CREATE TABLE source ({COLUMNS}) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset',
      'scan.bounded.mode' = 'latest-offset');
    CREATE TABLE target (bidder BIGINT, bids BIGINT, total BIGINT, PRIMARY KEY (bidder) NOT ENFORCED) WITH (
      'connector' = 'upsert-kafka', 'topic' = 'footprint-keys', 'properties.bootstrap.servers' = '{bootstrap}',
      'key.format' = 'json', 'value.format' = 'json', 'sink.delivery-guarantee' = 'exactly-once',
      'sink.transactional-id-prefix' = 'keys', 'properties.transaction.timeout.ms' = '900000');
    INSERT INTO target SELECT bidder, COUNT(*), SUM(price) FROM source GROUP BY bidder;
"
    )
}
