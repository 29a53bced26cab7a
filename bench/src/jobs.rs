//! Bounded jobs over a filled topic, each run as a process of its own.

use serde_json::json;

use crate::arguments::JobsArguments;
use crate::cluster::Cluster as Processes;
use crate::flink::{Cluster, Installation};
use crate::manifest::COLUMNS;
use crate::measure::Cost;
use crate::process::Process;
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

/// Of Flink.
const SLOTS: u32 = 2;

const ALL: &str = "SELECT auction, bidder, price, channel, url, dateTime, sentMs, extra FROM bids";

const JOBS: [Job; 4] = [
    Job {
        name: "tumble",
        sink_columns: "auction BIGINT, ws TIMESTAMP(3), we TIMESTAMP(3), cnt BIGINT, total BIGINT, sentMs BIGINT",
        sink: Sink::Kafka,
        query: "SELECT auction, window_start, window_end, COUNT(*), SUM(price), MAX(sentMs) \
                FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end",
    },
    Job { name: "pass", sink_columns: COLUMNS, sink: Sink::Kafka, query: ALL },
    Job {
        name: "count",
        sink_columns: "auction BIGINT, cnt BIGINT, PRIMARY KEY (auction) NOT ENFORCED",
        sink: Sink::Upsert,
        query: "SELECT auction, COUNT(*) FROM bids GROUP BY auction",
    },
    Job { name: "read", sink_columns: COLUMNS, sink: Sink::Blackhole, query: ALL },
];

pub fn run(bootstrap: &str, arguments: &JobsArguments) -> anyhow::Result<()> {
    let names: Vec<&str> = JOBS.iter().map(|j| j.name).collect();
    for wanted in &arguments.jobs {
        anyhow::ensure!(names.contains(&wanted.as_str()), "there is no job {wanted}: there are {}", names.join(", "));
    }
    let bench = Bench { bootstrap, arguments, events: topics::digest(bootstrap, &arguments.topic)?.records };
    let flink = if arguments.flink { Some(bench.warm_flink()?) } else { None };
    for job in JOBS.iter().filter(|j| arguments.jobs.is_empty() || arguments.jobs.iter().any(|w| w == j.name)) {
        for _ in 0..arguments.runs {
            let ours = bench.run_millstream(job, &arguments.interval)?;
            if let Some(rare) = &arguments.against_interval {
                let rarely = bench.run_millstream(job, rare)?;
                bench.compare_intervals(job, &ours, rare, &rarely);
            }
            if let Some(workers) = arguments.workers {
                let cluster = bench.run_cluster(job, workers)?;
                bench.compare_layouts(job, &ours, workers, &cluster)?;
            }
            if let Some((installation, cluster)) = &flink {
                let theirs = bench.run_flink(job, installation, cluster)?;
                bench.compare(job, &ours, &theirs)?;
            }
        }
    }
    Ok(())
}

/// One engine's figures for one run of one job.
struct Figures {
    processor_s: f64,
    wall_s: f64,
    resident_bytes: u64,
    output: Option<topics::Digest>,
}

/// What all runs have in common.
struct Bench<'a> {
    bootstrap: &'a str,
    arguments: &'a JobsArguments,
    events: u64,
}

impl Bench<'_> {
    fn prepare(&self, engine: &str, job: &Job) -> anyhow::Result<String> {
        let output = format!("bench-{engine}-{}", job.name);
        if job.sink != Sink::Blackhole {
            topics::create(self.bootstrap, &output, 4, &[])?;
        }
        Ok(output)
    }

    fn digest(&self, job: &Job, output: &str) -> anyhow::Result<Option<topics::Digest>> {
        Ok(match job.sink {
            Sink::Kafka => Some(topics::digest(self.bootstrap, output)?),
            Sink::Upsert => Some(topics::digest_of_table(self.bootstrap, output)?),
            Sink::Blackhole => None,
        })
    }

    fn broker_time(&self) -> Option<std::time::Duration> {
        self.arguments.broker_pid.and_then(measure::processor_time)
    }

    fn run_millstream(&self, job: &Job, interval: &str) -> anyhow::Result<Figures> {
        let output = self.prepare("millstream", job)?;
        let manifest = manifest_text(self.bootstrap, self.arguments, interval, "", job, &output);
        self.measure("millstream", job, interval, &output, || Process::start(&self.arguments.binary, &manifest)?.wait())
    }

    /// The same job in a coordinator's process and those of workers.
    fn run_cluster(&self, job: &Job, workers: u32) -> anyhow::Result<Figures> {
        let output = self.prepare("cluster", job)?;
        let interval = &self.arguments.interval;
        let folder = tempfile::tempdir()?;
        let storage = format!("    storage: {}\n", folder.path().display());
        let manifest = manifest_text(self.bootstrap, self.arguments, interval, &storage, job, &output);
        self.measure(&format!("millstream, {workers} workers"), job, interval, &output, || {
            let mut cluster = Processes::start(&self.arguments.binary, &manifest, &[])?;
            for _ in 0..workers {
                cluster.add_worker(self.arguments.parallelism.div_ceil(workers))?;
            }
            cluster.wait()
        })
    }

    fn measure(
        &self,
        engine: &str,
        job: &Job,
        interval: &str,
        output: &str,
        run: impl FnOnce() -> anyhow::Result<Cost>,
    ) -> anyhow::Result<Figures> {
        let broker = self.broker_time();
        let cost = run()?;
        let broker = broker.and_then(|before| Some(self.broker_time()? - before));
        let figures = Figures {
            processor_s: cost.processor.as_secs_f64(),
            wall_s: cost.wall.as_secs_f64(),
            resident_bytes: cost.resident_bytes_max,
            output: self.digest(job, output)?,
        };
        self.print(engine, job, interval, &figures, broker);
        Ok(figures)
    }

    /// A first, small job is not counted: the JVM compiles while it runs.
    fn warm_flink(&self) -> anyhow::Result<(Installation, Cluster)> {
        let installation = Installation::obtain()?;
        let cluster = Cluster::start(&installation, SLOTS, "")?;
        for job in &JOBS {
            let output = self.prepare("flink", job)?;
            cluster.run_sql(&installation, &flink_script(self.bootstrap, self.arguments, job, &output))?;
        }
        Ok((installation, cluster))
    }

    fn run_flink(&self, job: &Job, installation: &Installation, cluster: &Cluster) -> anyhow::Result<Figures> {
        let output = self.prepare("flink", job)?;
        let broker = self.broker_time();
        let run = cluster.run_sql(installation, &flink_script(self.bootstrap, self.arguments, job, &output))?;
        let broker = broker.and_then(|before| Some(self.broker_time()? - before));
        let figures = Figures {
            processor_s: run.processor.as_secs_f64(),
            wall_s: run.wall.as_secs_f64(),
            resident_bytes: run.resident_bytes,
            output: self.digest(job, &output)?,
        };
        self.print("flink", job, &self.arguments.interval, &figures, broker);
        Ok(figures)
    }

    fn print(&self, engine: &str, job: &Job, interval: &str, figures: &Figures, broker: Option<std::time::Duration>) {
        let thousand = self.events as f64 / 1e3;
        let line = json!({
            "engine": engine, "job": job.name, "events": self.events, "parallelism": self.arguments.parallelism,
            "checkpoint_interval": interval,
            "wall_s": figures.wall_s, "processor_s": figures.processor_s,
            "broker_processor_s": broker.map(|b| b.as_secs_f64()),
            "thousand_events_per_processor_s": thousand / figures.processor_s,
            "thousand_events_per_s": thousand / figures.wall_s,
            "resident_mb": figures.resident_bytes as f64 / 1e6,
            "output": figures.output, "machine": machine::facts(),
        });
        println!("{line}");
    }

    /// What checkpoints cost: the same job with rare ones.
    fn compare_intervals(&self, job: &Job, often: &Figures, rare: &str, rarely: &Figures) {
        let line = json!({
            "job": job.name, "checkpoint_interval": self.arguments.interval, "against_interval": rare,
            "cost_by_processor_s": often.processor_s / rarely.processor_s - 1.0,
            "cost_by_wall_s": often.wall_s / rarely.wall_s - 1.0,
        });
        println!("{line}");
    }

    /// What the network between processes costs.
    fn compare_layouts(&self, job: &Job, one: &Figures, workers: u32, cluster: &Figures) -> anyhow::Result<()> {
        let (ours, theirs) = (&one.output, &cluster.output);
        anyhow::ensure!(ours == theirs, "the outputs of {} differ: {ours:?}, {theirs:?}", job.name);
        let line = json!({
            "job": job.name, "workers": workers,
            "lost_by_processor_s": 1.0 - one.processor_s / cluster.processor_s,
            "lost_by_wall_s": 1.0 - one.wall_s / cluster.wall_s,
        });
        println!("{line}");
        Ok(())
    }

    /// The ratio counts, and only where both wrote the same.
    fn compare(&self, job: &Job, ours: &Figures, theirs: &Figures) -> anyhow::Result<()> {
        let (our_output, their_output) = (&ours.output, &theirs.output);
        anyhow::ensure!(
            our_output == their_output,
            "the outputs of {} differ: {our_output:?}, {their_output:?}",
            job.name
        );
        let line = json!({
            "job": job.name,
            "ratio_by_processor_s": theirs.processor_s / ours.processor_s,
            "ratio_by_wall_s": theirs.wall_s / ours.wall_s,
            "ratio_of_memory": theirs.resident_bytes as f64 / ours.resident_bytes as f64,
        });
        println!("{line}");
        Ok(())
    }
}

fn sink_options(bootstrap: &str, job: &Job, output: &str) -> String {
    let connection = format!("'topic' = '{output}', 'properties.bootstrap.servers' = '{bootstrap}'");
    let guarantee = format!(
        "'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{output}', 'properties.transaction.timeout.ms' = '900000'"
    );
    match job.sink {
        Sink::Kafka => format!("'connector' = 'kafka', {connection}, 'format' = 'json', {guarantee}"),
        Sink::Upsert => {
            format!(
                "'connector' = 'upsert-kafka', {connection}, 'key.format' = 'json', 'value.format' = 'json', {guarantee}"
            )
        }
        Sink::Blackhole => "'connector' = 'blackhole'".to_owned(),
    }
}

/// The same tables and the same query for both engines.
fn statements(bootstrap: &str, arguments: &JobsArguments, job: &Job, output: &str) -> String {
    format!(
        "CREATE TABLE bids ({COLUMNS}, WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND)
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json',
'properties.group.id' = '{output}', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset');
CREATE TABLE results ({columns}) WITH ({sink});
INSERT INTO results {query};
",
        topic = arguments.topic,
        columns = job.sink_columns,
        sink = sink_options(bootstrap, job, output),
        query = job.query,
    )
}

fn flink_script(bootstrap: &str, arguments: &JobsArguments, job: &Job, output: &str) -> String {
    let settings = [
        ("parallelism.default", arguments.parallelism.to_string()),
        ("execution.checkpointing.interval", arguments.interval.clone()),
        ("pipeline.object-reuse", "true".to_owned()),
        ("table.exec.mini-batch.enabled", "true".to_owned()),
        ("table.exec.mini-batch.allow-latency", "1 s".to_owned()),
        ("table.exec.mini-batch.size", "20000".to_owned()),
    ];
    let mut script: String = settings.iter().map(|(key, value)| format!("SET '{key}' = '{value}';\n")).collect();
    // `dateTime` is a reserved word of Flink's parser.
    script.push_str(&statements(bootstrap, arguments, job, output).replace("dateTime", "`dateTime`"));
    script
}

/// `storage`: further lines of `spec.checkpoint`.
fn manifest_text(
    bootstrap: &str,
    arguments: &JobsArguments,
    interval: &str,
    storage: &str,
    job: &Job,
    output: &str,
) -> String {
    let (parallelism, name) = (arguments.parallelism, job.name);
    let sql: String = statements(bootstrap, arguments, job, output).lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: bench-{name}
spec:
  parallelism: {parallelism}
  checkpoint:
    interval: {interval}
{storage}  options:
    table.exec.mini-batch.enabled: 'true'
    table.exec.mini-batch.allow-latency: 1 s
    table.exec.mini-batch.size: '20000'
  sql: |
{sql}"
    )
}
