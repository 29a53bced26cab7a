//! Checkpoints under back-pressure: the broker lets a job write a tenth of what comes in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::json;

use crate::events::{Bids, EPOCH_MS};
use crate::manifest::PassThrough;
use crate::process::Process;
use crate::{fill, machine, measure, topics};

#[derive(Debug, Args)]
pub struct ThrottledArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Folder of Kafka's jars, for its own tool that sets the quota.
    #[arg(long)]
    pub kafka_jars: PathBuf,
    /// Events per second that come in.
    #[arg(long, default_value_t = 50_000)]
    pub rate: u64,
    #[arg(long, default_value_t = 300)]
    pub seconds: u64,
}

const INPUT: &str = "throttled-in";
const OUTPUT: &str = "throttled-out";
/// The feeder has a client id of its own, which the default quota does not bind.
const FEEDER: &str = "bench-feeder";
const EVENT_BYTES: u64 = 284;
const SHARE: u64 = 10;

pub fn run(bootstrap: &str, arguments: &ThrottledArguments) -> anyhow::Result<()> {
    topics::create(bootstrap, INPUT, 4, &[])?;
    topics::create(bootstrap, OUTPUT, 4, &[])?;
    let quota = arguments.rate * EVENT_BYTES / SHARE;
    let quotas = Quotas { bootstrap, jars: &arguments.kafka_jars };
    quotas.set(&["--entity-name", FEEDER], &["--add-config", "producer_byte_rate=1000000000"])?;
    quotas.set(&["--entity-default"], &["--add-config", &format!("producer_byte_rate={quota}")])?;
    let measured = measure_job(bootstrap, arguments);
    quotas.set(&["--entity-default"], &["--delete-config", "producer_byte_rate"])?;
    quotas.set(&["--entity-name", FEEDER], &["--delete-config", "producer_byte_rate"])?;
    println!("{}", measured?);
    Ok(())
}

fn measure_job(bootstrap: &str, arguments: &ThrottledArguments) -> anyhow::Result<serde_json::Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = {
        let (bootstrap, rate, stop) = (bootstrap.to_owned(), arguments.rate, Arc::clone(&stop));
        std::thread::spawn(move || feed(&bootstrap, rate, &stop))
    };
    let pass = PassThrough {
        name: "throttled",
        bootstrap,
        input: INPUT,
        output: OUTPUT,
        guarantee: "exactly-once",
        interval: "1 s",
    };
    let mut job = Process::start(&arguments.binary, &pass.manifest())?;
    job.watch(Duration::from_secs(arguments.seconds))?;
    stop.store(true, Ordering::Relaxed);
    let fed = feeder.join().map_err(|_| anyhow::anyhow!("the feeder panicked"))??;
    let log = job.log()?;
    let resident = measure::resident_bytes(job.pid()?);
    drop(job);
    let written = topics::digest(bootstrap, OUTPUT)?.records;
    let mut durations = completed_ms(&log);
    durations.sort_unstable();
    let at = |share: f64| durations.get((durations.len() as f64 * share) as usize).or(durations.last());
    Ok(json!({
        "engine": "millstream", "measure": "throttled", "seconds": arguments.seconds, "events_in": fed,
        "events_out": written, "checkpoints": durations.len(), "not_completed": log.matches(" aborted: ").count(),
        "checkpoint_ms": { "p50": at(0.5), "p99": at(0.99), "max": durations.last() },
        "resident_mb": resident.map(|b| b as f64 / 1e6), "machine": machine::facts(),
    }))
}

/// Durations that the job's log tells: `checkpoint 7 completed in 2 ms, ...`.
fn completed_ms(log: &str) -> Vec<u64> {
    let number = |rest: &str| rest.split(' ').next()?.parse().ok();
    log.lines().filter_map(|line| number(line.split_once(" completed in ")?.1)).collect()
}

fn feed(bootstrap: &str, rate: u64, stop: &AtomicBool) -> anyhow::Result<u64> {
    let producer: BaseProducer = fill::settings(bootstrap, 5).set("client.id", FEEDER).create()?;
    let (begin, mut bids, mut text, mut number) = (Instant::now(), Bids::new(5), String::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begin.elapsed().as_micros())? * rate / 1_000_000;
        while number < due {
            text.clear();
            bids.append(number, EPOCH_MS + i64::try_from(number / 10)?, 0, &mut text);
            fill::send(&producer, INPUT, i32::try_from(number % 4)?, &text)?;
            number += 1;
        }
        producer.poll(Duration::ZERO);
        std::thread::park_timeout(Duration::from_millis(2));
    }
    producer.flush(topics::TIMEOUT)?;
    Ok(number)
}

/// Kafka's quotas of clients.
struct Quotas<'a> {
    bootstrap: &'a str,
    jars: &'a Path,
}

impl Quotas<'_> {
    fn set(&self, entity: &[&str], change: &[&str]) -> anyhow::Result<()> {
        let output = Command::new("java")
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(self.jars.join("*"))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server", self.bootstrap])
            .args(["--alter", "--entity-type", "clients"])
            .args(entity)
            .args(change)
            .output()
            .context("failed to start java")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "Kafka's ConfigCommand failed: {said}");
        Ok(())
    }
}
