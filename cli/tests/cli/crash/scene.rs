//! One job of the crash test with its input, its store and its readers, and what may happen to it.

use std::collections::HashSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::feeder::Feeder;
use super::reference::{reference_windows, window_rows};
use super::watch::{MARKER, Watch, without_markers};
use crate::support::kafka::{Broker, rand_id};
use crate::support::process::{Job, Process};
use crate::support::proxy::Proxy;
use crate::support::services::{self, Cluster, S3Server};
use crate::support::{CHECKPOINT_DONE, wait_for};

pub const PARTITIONS: i32 = 4;
pub const LIMIT: Duration = Duration::from_secs(90);
/// What a restart may add to a reader's wait, beside the time in which the process starts.
const READER_WAIT_MAX: Duration = Duration::from_secs(3);
const START_MAX: Duration = Duration::from_secs(2);
/// Of a job that gives no output: what is shown of its log.
const LOG_LINES: usize = 400;
/// Beside windows, which are few, an aggregate with a key per number.
const LARGE_STATE: (&str, &str) = (
    "CREATE TABLE each (id BIGINT, n BIGINT, a BIGINT, b STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'blackhole');",
    "INSERT INTO each SELECT id, COUNT(*), SUM(id * 7919), MAX(CAST(id * 104729 AS STRING)) FROM numbers GROUP BY id;",
);

/// What differs between scenes.
pub struct Setting {
    /// Of both sinks, each followed by a comma.
    pub sink_options: &'static str,
    pub interval: &'static str,
    /// One key of state per number besides.
    pub large_state: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { sink_options: "", interval: "150 ms", large_state: false }
    }
}

/// A job, its topics, a producer that never stops, and readers that never stop.
pub struct Scene {
    name: &'static str,
    setting: Setting,
    broker: Broker,
    storage: Storage,
    pub job: Job,
    input: Feeder,
    numbers: Output,
    windows: Output,
    prefix: u64,
}

struct Output {
    topic: String,
    watch: Watch,
}

struct Storage {
    server: S3Server,
    proxy: Proxy,
    path: String,
}

impl Output {
    fn new(broker: &Broker, name: &str) -> Self {
        let topic = broker.create_topic(name, PARTITIONS, &[]);
        Self { watch: Watch::start(broker.reader(&topic)), topic }
    }
}

impl Scene {
    pub fn new(name: &'static str, setting: Setting) -> Option<Self> {
        Self::on(services::broker(name)?, name, setting)
    }

    pub fn on(broker: Broker, name: &'static str, setting: Setting) -> Option<Self> {
        let server = services::s3(name)?.into_iter().next()?;
        let topic = broker.create_topic("numbers", PARTITIONS, &[]);
        let path = format!("s3://{}/crash-{:016x}", server.bucket, rand_id());
        Some(Self {
            name,
            setting,
            storage: Storage { path, proxy: Proxy::start(&server.endpoint), server },
            job: Job::new(""),
            input: Feeder::start(&broker, &topic),
            numbers: Output::new(&broker, "numbers-out"),
            windows: Output::new(&broker, "windows-out"),
            broker,
            prefix: rand_id(),
        })
    }

    fn manifest(&self, parallelism: u32) -> String {
        let (bootstrap, extra, prefix) = (&self.broker.bootstrap, self.setting.sink_options, self.prefix);
        let (large_table, large_insert) = if self.setting.large_state { LARGE_STATE } else { ("", "") };
        let output = |topic: &str, name: &str| {
            format!(
                "'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json', \
                 {extra}'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'crash-{name}-{prefix:016x}'"
            )
        };
        format!(
            "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: crash
spec:
  parallelism: {parallelism}
  checkpoint:
    interval: {interval}
    timeout: 2 s
    tolerableFailures: 10
    storage: {storage}
    s3:
      endpoint: {endpoint}
      credentials:
        accessKeyIdEnv: CRASH_KEY
        secretAccessKeyEnv: CRASH_SECRET
  sql: |
    CREATE TABLE numbers (id BIGINT, k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '0.5' SECOND)
      WITH ('connector' = 'kafka', 'topic' = '{input}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json',
            'scan.startup.mode' = 'earliest-offset');
    CREATE TABLE copies (id BIGINT) WITH ({numbers});
    CREATE TABLE windows (k BIGINT, window_start TIMESTAMP(3), cnt BIGINT, total BIGINT) WITH ({windows});
    {large_table}
    EXECUTE STATEMENT SET BEGIN
      INSERT INTO copies SELECT id FROM numbers;
      INSERT INTO windows SELECT k, window_start, COUNT(*), SUM(id)
        FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;
      {large_insert}
    END;
",
            storage = self.storage.path,
            endpoint = self.storage.proxy.endpoint,
            interval = self.setting.interval,
            input = self.input.topic,
            numbers = output(&self.numbers.topic, "numbers"),
            windows = output(&self.windows.topic, "windows"),
        )
    }

    fn start(&self, parallelism: u32, fault: Option<&str>) -> Process {
        self.job.rewrite(&self.manifest(parallelism));
        let run = self.job.run().env("CRASH_KEY", &self.storage.server.access_key_id);
        let run = run.env("CRASH_SECRET", &self.storage.server.secret_access_key);
        match fault {
            Some(fault) => run.env("MILLSTREAM_FAULT", fault).start(),
            None => run.start(),
        }
    }

    pub fn run_until_fault(&mut self, point: &str, nth: u64, parallelism: u32) {
        let process = self.start(parallelism, Some(&format!("{point}@{nth}")));
        let ended = process.wait(LIMIT);
        assert_eq!(ended.code(), -libc::SIGKILL, "{}: {point} was not reached: {}", self.name, ended.stderr);
    }

    /// Partitions of the outputs that hold a transaction which is neither committed nor aborted.
    pub fn pending_partitions(&self) -> usize {
        self.outputs().map(|output| self.broker.pending_partitions(&output.topic)).iter().sum()
    }

    fn outputs(&self) -> [&Output; 2] {
        [&self.numbers, &self.windows]
    }

    fn visible(&self) -> [usize; 2] {
        self.outputs().map(|output| output.watch.count())
    }

    /// Waits until more than `before` is visible of both outputs.
    fn wait_beyond(&self, before: [usize; 2], process: &mut Process) {
        let end = Instant::now() + LIMIT;
        while self.visible().iter().zip(before).any(|(visible, before)| *visible <= before) {
            assert!(!self.outputs().iter().any(|o| o.watch.has_failed()), "{}: a reader has failed", self.name);
            assert!(!self.input.has_failed(), "{}: the feeder has failed", self.name);
            if let Some(status) = process.ended() {
                panic!("{}: no output will come: ended with {status}: {}", self.name, process.stderr());
            }
            if Instant::now() > end {
                panic!("{}: no output beyond {before:?} within {LIMIT:?}\n{}", self.name, self.state(process));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Everything that tells why no output comes: how far input, job, outputs and readers are.
    fn state(&self, process: &Process) -> String {
        let mut text = format!("input: {}; ends {:?}\n", self.input.state(), self.broker.ends(&self.input.topic));
        for Output { topic, watch } in self.outputs() {
            let (count, offsets, ends) = (watch.count(), watch.offsets(), self.broker.ends(topic));
            let _ =
                writeln!(text, "{topic}: {count} visible, last offsets {offsets:?}; ends (committed, all) {ends:?}");
        }
        let log = process.stderr();
        let lines: Vec<_> = log.lines().collect();
        text + "the log's end:\n" + &lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Kills the process this long after its outputs became visible, so that every cycle makes progress.
    pub fn run_and_kill_after(&mut self, delay: Duration, parallelism: u32) {
        let before = self.visible();
        let mut process = self.start(parallelism, None);
        self.wait_beyond(before, &mut process);
        let waited = process.started.elapsed();
        assert!(waited < READER_WAIT_MAX + START_MAX, "{}: visible only {waited:?} after the restart", self.name);
        wait_until(Instant::now() + delay);
        process.kill();
    }

    /// Kills the brokers that lead an output, one after the other, while the job runs; each comes back before the next.
    /// Returns which were killed.
    pub fn run_and_kill_brokers(&mut self, cluster: &Cluster, kills: usize) -> Vec<i32> {
        let before = self.visible();
        let mut process = self.start(2, None);
        self.wait_beyond(before, &mut process);
        let mut killed = Vec::new();
        for _ in 0..kills {
            let leader = self.broker.leader(&self.numbers.topic);
            cluster.kill(leader);
            killed.push(leader);
            // The two that are left go on.
            let gone = Instant::now();
            self.wait_beyond(self.visible(), &mut process);
            let without = gone.elapsed();
            cluster.start(leader);
            let back = Instant::now();
            self.wait_beyond(self.visible(), &mut process);
            println!("broker {leader}: output {without:?} after its end, {:?} after its return", back.elapsed());
        }
        process.kill();
        killed
    }

    /// Holds back uploads until `epochs` were given up; kills the process before they arrive, or after output came.
    pub fn run_without_uploads_until_aborted(&mut self, epochs: usize, killed_while_away: bool) {
        let before = self.visible();
        let mut process = self.start(2, None);
        self.wait_beyond(before, &mut process);
        self.storage.proxy.hold("/state/");
        let end = Instant::now() + LIMIT;
        loop {
            let log = process.stderr();
            if aborted_in_a_row(&log) >= epochs {
                break;
            }
            let goes_on = process.ended().is_none() && Instant::now() < end;
            assert!(goes_on, "{}: {epochs} epochs in a row were not given up; the log:\n{log}", self.name);
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let before = self.visible();
        if !killed_while_away {
            self.storage.proxy.release();
            self.wait_beyond(before, &mut process);
        }
        process.kill();
        self.storage.proxy.release();
    }

    /// Holds back everything for so long, then lets the job go on for a moment.
    pub fn run_without_store(&mut self, away: Duration) {
        let before = self.visible();
        let mut process = self.start(2, None);
        self.wait_beyond(before, &mut process);
        self.storage.proxy.hold("");
        wait_until(Instant::now() + away);
        self.storage.proxy.release();
        let before = self.visible();
        self.wait_beyond(before, &mut process);
        process.kill();
    }

    pub fn run_until_paused_then_replaced(&mut self, point: &str) {
        let before = self.job.fault_hits().len();
        let paused = self.start(2, Some(&format!("{point}@4:stop")));
        wait_for("the pause", LIMIT, || (self.job.fault_hits().len() > before).then_some(()));
        // On one host a stopped process still holds its job; a successor has to say that it takes over.
        let mut successor = self.start_taking_over();
        // What the readers see until then may still be of the stopped process.
        successor.wait_for_log("taken over from", LIMIT);
        self.wait_beyond(self.visible(), &mut successor);
        paused.signal(libc::SIGCONT);
        let ended = paused.wait(LIMIT);
        assert_ne!(ended.code(), 0, "the old process was fenced: {}", ended.stderr);
        self.wait_beyond(self.visible(), &mut successor);
        successor.kill();
    }

    fn start_taking_over(&self) -> Process {
        self.job.rewrite(&self.manifest(3));
        let owner = std::fs::read_to_string(self.job.folder.path().join("state/owner")).unwrap();
        self.job
            .run()
            .env("CRASH_KEY", &self.storage.server.access_key_id)
            .env("CRASH_SECRET", &self.storage.server.secret_access_key)
            .arg("--take-over")
            .arg(owner.trim())
            .start()
    }

    /// A pending transaction holds back readers: once it was aborted, markers that were written behind it are visible.
    pub fn wait_until_expired(&self) {
        for topic in self.outputs().map(|output| &output.topic) {
            let producer = self.broker.producer(topic);
            (0..PARTITIONS).for_each(|partition| producer.send(partition, MARKER));
            producer.flush();
            let mut reader = self.broker.reader(topic);
            wait_for("the markers behind the expired transaction", LIMIT, || {
                reader.poll();
                let markers = reader.seen.iter().filter(|s| s.value.as_deref() == Some(MARKER)).count();
                (markers == usize::try_from(PARTITIONS).unwrap()).then_some(())
            });
        }
    }

    /// Stops the input, runs to the end, and compares with the reference.
    pub fn finish(mut self, parallelism: u32) {
        let (total, closed) = self.input.stop();
        let process = self.start(parallelism, None);
        let expected = reference_windows(total);
        let wanted = [usize::try_from(closed).unwrap(), expected.len()];
        let end = Instant::now() + LIMIT;
        while self.visible().iter().zip(wanted).any(|(visible, wanted)| *visible < wanted) {
            let visible = self.visible();
            assert!(Instant::now() < end, "{}: {visible:?} of {wanted:?} numbers and windows", self.name);
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let ended = process.stop(LIMIT);
        assert_eq!(ended.code(), 0, "{}: {}", self.name, ended.stderr);
        let numbers = self.numbers.watch.stop();
        let numbers: Vec<_> = without_markers(&numbers).iter().map(|v| v["id"].as_u64().unwrap()).collect();
        let distinct: HashSet<u64> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), distinct.len(), "{}: doubled numbers", self.name);
        assert_eq!(u64::try_from(distinct.len()).unwrap(), closed, "{}: lost numbers", self.name);
        assert_eq!(window_rows(&self.windows.watch.stop()), expected, "{}: windows", self.name);
    }
}

/// Epochs given up since the last one that was completed.
fn aborted_in_a_row(log: &str) -> usize {
    let since = log.rfind(CHECKPOINT_DONE).map_or(log, |at| &log[at..]);
    since.matches(" aborted: ").count()
}

fn wait_until(time: Instant) {
    while Instant::now() < time {
        std::thread::park_timeout(time - Instant::now());
    }
}
