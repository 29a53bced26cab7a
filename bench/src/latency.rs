//! Latency of a running pass-through job: paced input, and a reader that compares clocks of one machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use rdkafka::producer::Producer;
use rdkafka::{Message, Offset};
use serde_json::json;

use crate::events::Bids;
use crate::manifest::PassThrough;
use crate::process::Process;
use crate::{fill, machine, topics};

#[derive(Debug, Args)]
pub struct LatencyArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// Events per second.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// How long to measure, after two seconds that do not count.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// `at-least-once` or `exactly-once`.
    #[arg(long, default_value = "at-least-once")]
    pub guarantee: String,
    #[arg(long, default_value = "1 s")]
    pub interval: String,
}

const WARM_UP: Duration = Duration::from_secs(2);
const PARTITIONS: u64 = 4;

pub fn run(bootstrap: &str, arguments: &LatencyArguments) -> anyhow::Result<()> {
    let append_time = [("message.timestamp.type", "LogAppendTime")];
    topics::create(bootstrap, "latency-in", i32::try_from(PARTITIONS)?, &append_time)?;
    topics::create(bootstrap, "latency-out", i32::try_from(PARTITIONS)?, &append_time)?;
    let pass = PassThrough {
        name: "latency",
        bootstrap,
        input: "latency-in",
        output: "latency-out",
        guarantee: &arguments.guarantee,
        interval: &arguments.interval,
    };
    let mut job = Process::start(&arguments.binary, &pass.manifest())?;
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = {
        let (bootstrap, stop, rate) = (bootstrap.to_owned(), Arc::clone(&stop), arguments.rate);
        std::thread::spawn(move || feed(&bootstrap, rate, &stop))
    };
    let samples = collect(bootstrap, arguments);
    stop.store(true, Ordering::Relaxed);
    let fed = feeder.join().map_err(|_| anyhow::anyhow!("the feeder panicked"))?;
    job.check()?;
    fed?;
    let (mut append, mut visible) = samples?;
    let line = json!({
        "engine": "millstream", "measure": "latency", "guarantee": arguments.guarantee, "rate": arguments.rate,
        "checkpoint_interval": arguments.interval, "samples": append.len(),
        "append_ms": percentiles(&mut append), "visible_ms": percentiles(&mut visible), "machine": machine::facts(),
    });
    println!("{line}");
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn feed(bootstrap: &str, rate: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    // Without lingering each event would be a request of its own, and the broker the thing that is measured.
    let producer = fill::producer(bootstrap, 1)?;
    let (begin, mut bids, mut text, mut number) = (Instant::now(), Bids::new(7), String::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begin.elapsed().as_micros())? * rate / 1_000_000;
        while number < due {
            text.clear();
            let now = now_ms();
            bids.append(number, now, now, &mut text);
            fill::send(&producer, "latency-in", i32::try_from(number % PARTITIONS)?, &text)?;
            number += 1;
        }
        producer.poll(Duration::ZERO);
        std::thread::park_timeout(Duration::from_micros(500));
    }
    producer.flush(topics::TIMEOUT)?;
    Ok(())
}

/// Milliseconds from the event's sending to its append in the output, and to its being read.
fn collect(bootstrap: &str, arguments: &LatencyArguments) -> anyhow::Result<(Vec<i64>, Vec<i64>)> {
    let isolation = if arguments.guarantee == "exactly-once" { "read_committed" } else { "read_uncommitted" };
    let (consumer, _) = topics::reader(bootstrap, "latency-out", isolation, Offset::Beginning)?;
    let (mut append, mut visible) = (Vec::new(), Vec::new());
    let mut first = None;
    loop {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else {
            if first.is_some_and(|f: Instant| f.elapsed() > WARM_UP + Duration::from_secs(arguments.seconds)) {
                return Ok((append, visible));
            }
            continue;
        };
        let elapsed = first.get_or_insert_with(Instant::now).elapsed();
        if elapsed > WARM_UP + Duration::from_secs(arguments.seconds) {
            return Ok((append, visible));
        }
        let sent = message.payload().and_then(sent_ms);
        if let (Some(sent), Some(appended)) = (sent, message.timestamp().to_millis())
            && elapsed > WARM_UP
        {
            append.push(appended - sent);
            visible.push(now_ms() - sent);
        }
    }
}

fn sent_ms(payload: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(payload).ok()?;
    let rest = &text[text.find("\"sentMs\":")? + 9..];
    rest[..rest.find(',')?].parse().ok()
}

fn percentiles(samples: &mut [i64]) -> serde_json::Value {
    samples.sort_unstable();
    let at = |share: f64| samples.get(((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1)));
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": samples.last() })
}
