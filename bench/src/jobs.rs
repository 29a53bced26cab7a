//! Bounded jobs over a filled topic, each run as a process of its own.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::json;

use crate::arguments::JobsArguments;
use crate::{machine, measure, topics};

/// A job and what makes its output topic.
struct Job {
    name: &'static str,
    sink_columns: &'static str,
    sink: Sink,
    query: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Sink {
    Kafka,
    Upsert,
    Blackhole,
}

const ALL_COLUMNS: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, dateTime TIMESTAMP(3), sentMs BIGINT, extra STRING";
const ALL: &str = "SELECT auction, bidder, price, channel, url, dateTime, sentMs, extra FROM bids";

const JOBS: [Job; 4] = [
    Job {
        name: "tumble",
        sink_columns: "auction BIGINT, ws TIMESTAMP(3), we TIMESTAMP(3), cnt BIGINT, total BIGINT, sentMs BIGINT",
        sink: Sink::Kafka,
        query: "SELECT auction, window_start, window_end, COUNT(*), SUM(price), MAX(sentMs) \
                FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end",
    },
    Job { name: "pass", sink_columns: ALL_COLUMNS, sink: Sink::Kafka, query: ALL },
    Job {
        name: "count",
        sink_columns: "auction BIGINT, cnt BIGINT, total BIGINT, PRIMARY KEY (auction) NOT ENFORCED",
        sink: Sink::Upsert,
        query: "SELECT auction, COUNT(*), SUM(price) FROM bids GROUP BY auction",
    },
    Job { name: "read", sink_columns: ALL_COLUMNS, sink: Sink::Blackhole, query: ALL },
];

pub fn run(bootstrap: &str, arguments: &JobsArguments) -> anyhow::Result<()> {
    let names: Vec<&str> = JOBS.iter().map(|j| j.name).collect();
    for wanted in &arguments.jobs {
        anyhow::ensure!(names.contains(&wanted.as_str()), "there is no job {wanted}: there are {}", names.join(", "));
    }
    let events = topics::digest(bootstrap, &arguments.topic)?.records;
    for job in JOBS.iter().filter(|j| arguments.jobs.is_empty() || arguments.jobs.iter().any(|w| w == j.name)) {
        for _ in 0..arguments.runs {
            run_one(bootstrap, arguments, job, events)?;
        }
    }
    Ok(())
}

fn run_one(bootstrap: &str, arguments: &JobsArguments, job: &Job, events: u64) -> anyhow::Result<()> {
    let output = format!("bench-{}", job.name);
    if job.sink != Sink::Blackhole {
        topics::create(bootstrap, &output, 4, &[])?;
    }
    let folder = tempfile::tempdir()?;
    let manifest = folder.path().join("job.yaml");
    std::fs::write(&manifest, manifest_text(bootstrap, arguments, job, &output))?;
    let broker_before = arguments.broker_pid.and_then(measure::processor_time);
    let started = Instant::now();
    let child = Command::new(&arguments.binary)
        .arg("run")
        .arg(&manifest)
        .env("MILLSTREAM_STATE_DIR", folder.path().join("state"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path().join("log"))?)
        .spawn()
        .with_context(|| format!("failed to start {}", arguments.binary.display()))?;
    let cost = measure::wait(child, started)?;
    if !cost.status.success() {
        bail!("the job {} failed: {}", job.name, std::fs::read_to_string(folder.path().join("log"))?);
    }
    let broker = broker_before.and_then(|before| Some(measure::processor_time(arguments.broker_pid?)? - before));
    let digest = if job.sink == Sink::Blackhole { None } else { Some(topics::digest(bootstrap, &output)?) };
    let (wall, processor) = (cost.wall.as_secs_f64(), cost.processor.as_secs_f64());
    let line = json!({
        "engine": "millstream", "job": job.name, "events": events, "parallelism": arguments.parallelism,
        "checkpoint_interval": arguments.interval,
        "wall_s": wall, "processor_s": processor, "broker_processor_s": broker.map(|b| b.as_secs_f64()),
        "thousand_events_per_processor_s": events as f64 / 1e3 / processor,
        "thousand_events_per_s": events as f64 / 1e3 / wall,
        "resident_mb_max": cost.resident_bytes_max as f64 / 1e6,
        "output": digest, "machine": machine::facts(),
    });
    println!("{line}");
    Ok(())
}

fn manifest_text(bootstrap: &str, arguments: &JobsArguments, job: &Job, output: &str) -> String {
    let (parallelism, interval, topic) = (arguments.parallelism, &arguments.interval, &arguments.topic);
    let connection = format!("'topic' = '{output}', 'properties.bootstrap.servers' = '{bootstrap}'");
    let guarantee = format!(
        "'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{output}', 'properties.transaction.timeout.ms' = '600000'"
    );
    let sink = match job.sink {
        Sink::Kafka => format!("'connector' = 'kafka', {connection}, 'format' = 'json', {guarantee}"),
        Sink::Upsert => format!(
            "'connector' = 'upsert-kafka', {connection}, 'key.format' = 'json', 'value.format' = 'json', {guarantee}"
        ),
        Sink::Blackhole => "'connector' = 'blackhole'".to_owned(),
    };
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: bench-{name}
spec:
  parallelism: {parallelism}
  checkpoint:
    interval: {interval}
  options:
    table.exec.mini-batch.enabled: 'true'
    table.exec.mini-batch.allow-latency: 1 s
    table.exec.mini-batch.size: '20000'
  sql: |
    CREATE TABLE bids ({ALL_COLUMNS}, WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND)
      WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json',
            'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset');
    CREATE TABLE result ({columns}) WITH ({sink});
    INSERT INTO result {query};
",
        name = job.name,
        columns = job.sink_columns,
        query = job.query,
    )
}
