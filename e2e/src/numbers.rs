//! The job of numbers: each number is copied, and windows are counted over them, both exactly once.
//!
//! Owns: its manifest, its topics, its store behind a proxy, the input and the readers that never stop, the comparison with
//! the reference. Does not own: which processes run it, and what happens to them.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::feeder::Feeder;
use crate::kafka::{Broker, rand_id};
use crate::process::{Job, Run};
use crate::proxy::Proxy;
use crate::reference::{PARTITIONS, Windows, check_copies, reference_windows, window_rows};
use crate::rights::Resource;
use crate::services::{self, S3Server};
use crate::wait_for;
use crate::watch::{MARKER, Watch};

/// For whatever a scenario waits for.
pub const LIMIT: Duration = Duration::from_secs(90);
/// What a restart may add to a reader's wait, beside the time in which a process starts.
pub const READER_WAIT_MAX: Duration = Duration::from_secs(3);
pub const START_MAX: Duration = Duration::from_secs(2);
/// Beside windows, which are few, an aggregate with a key per number.
const LARGE_STATE: (&str, &str) = (
    "CREATE TABLE each (id BIGINT, n BIGINT, a BIGINT, b STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'blackhole');",
    "INSERT INTO each SELECT id, COUNT(*), SUM(id * 7919), MAX(CAST(id * 104729 AS STRING)) FROM numbers GROUP BY id;",
);

/// What differs between scenarios.
pub struct Setting {
    /// Of both sinks, each followed by a comma.
    pub sink_options: &'static str,
    pub interval: &'static str,
    /// Of a checkpoint.
    pub timeout: &'static str,
    /// One key of state per number besides.
    pub large_state: bool,
    /// Further lines of the spec.
    pub spec: &'static str,
    pub rate_per_s: u64,
}

impl Default for Setting {
    fn default() -> Self {
        Self { sink_options: "", interval: "150 ms", timeout: "2 s", large_state: false, spec: "", rate_per_s: 4_000 }
    }
}

/// What a user changes of the job from start to start.
#[derive(Clone, Debug)]
pub struct Revision {
    pub parallelism: u32,
    /// How often its checkpoints have gone to another place.
    pub moves: u32,
    /// What it goes on from.
    pub savepoint: Option<String>,
    /// There is a statement that has nothing to do with the others.
    pub other_statement: bool,
}

impl Revision {
    /// The first one.
    #[must_use]
    pub fn new(parallelism: u32) -> Self {
        Self { parallelism, moves: 0, savepoint: None, other_statement: false }
    }
}

/// Shares only the source with the rest.
const OTHER: (&str, &str) = (
    "CREATE TABLE other (k BIGINT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'blackhole');",
    "INSERT INTO other SELECT k, COUNT(*) FROM numbers GROUP BY k;",
);

/// A job, its topics, a producer that never stops, and readers that never stop.
pub struct Numbers {
    pub name: &'static str,
    setting: Setting,
    pub broker: Broker,
    storage: Storage,
    pub job: Job,
    input: Feeder,
    copies: Output,
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

/// What is to be visible once all input was read.
pub struct Expected {
    copies: u64,
    windows: Windows,
}

impl Output {
    fn new(broker: &Broker, name: &str) -> Self {
        let topic = broker.create_topic(name, PARTITIONS, &[]);
        Self { watch: Watch::start(broker.reader(&topic)), topic }
    }
}

impl Numbers {
    /// `None` after the line that a service is missing.
    pub fn new(name: &'static str, broker: Broker, setting: Setting) -> Option<Self> {
        let server = services::s3(name)?.into_iter().next()?;
        let topic = broker.create_topic("numbers", PARTITIONS, &[]);
        let path = format!("s3://{}/numbers-{:016x}", server.bucket, rand_id());
        Some(Self {
            name,
            storage: Storage { path, proxy: Proxy::start(&server.endpoint), server },
            job: Job::new(""),
            input: Feeder::start(&broker, &topic, setting.rate_per_s),
            copies: Output::new(&broker, "copies-out"),
            windows: Output::new(&broker, "windows-out"),
            prefix: rand_id(),
            broker,
            setting,
        })
    }

    /// Writes the manifest, for so many tasks per chain.
    pub fn write_manifest(&self, parallelism: u32) {
        self.write_revision(&Revision::new(parallelism));
    }

    /// Writes the manifest as the user has it now.
    pub fn write_revision(&self, revision: &Revision) {
        self.job.rewrite(&self.manifest(revision));
    }

    fn manifest(&self, revision: &Revision) -> String {
        let Revision { parallelism, moves, savepoint, other_statement } = revision;
        let (other_table, other_insert) = if *other_statement { OTHER } else { ("", "") };
        let savepoint = savepoint.as_ref().map_or(String::new(), |savepoint| format!("    savepoint: {savepoint}\n"));
        let storage = if *moves == 0 { self.storage.path.clone() } else { format!("{}/{moves}", self.storage.path) };
        let (bootstrap, extra) = (&self.broker.bootstrap, self.setting.sink_options);
        let (large_table, large_insert) = if self.setting.large_state { LARGE_STATE } else { ("", "") };
        let output = |topic: &str, name: &str| {
            format!(
                "'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json', \
                 {extra}'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{}'",
                self.transactional_ids(name)
            )
        };
        format!(
            "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: numbers
spec:
  parallelism: {parallelism}
{spec}  restore:
    allowNonRestoredState: true
{savepoint}  checkpoint:
    interval: {interval}
    timeout: {timeout}
    tolerableFailures: 10
    storage: {storage}
    s3:
      endpoint: {endpoint}
      credentials:
        accessKeyIdEnv: NUMBERS_KEY
        secretAccessKeyEnv: NUMBERS_SECRET
  sql: |
    CREATE TABLE numbers (id BIGINT, k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '0.5' SECOND)
      WITH ('connector' = 'kafka', 'topic' = '{input}', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json',
            'scan.startup.mode' = 'earliest-offset');
    CREATE TABLE copies (k BIGINT, id BIGINT) WITH ('key.format' = 'json', 'key.fields' = 'k', {copies});
    CREATE TABLE windows (k BIGINT, window_start TIMESTAMP(3), cnt BIGINT, total BIGINT) WITH ({windows});
    {large_table}
    {other_table}
    EXECUTE STATEMENT SET BEGIN
      {other_insert}
      INSERT INTO copies SELECT k, id FROM numbers;
      INSERT INTO windows SELECT k, window_start, COUNT(*), SUM(id)
        FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;
      {large_insert}
    END;
",
            endpoint = self.storage.proxy.endpoint,
            interval = self.setting.interval,
            timeout = self.setting.timeout,
            spec = self.setting.spec,
            input = self.input.topic,
            copies = output(&self.copies.topic, "copies"),
            windows = output(&self.windows.topic, "windows"),
        )
    }

    /// With what any process of the job needs to reach its store.
    pub fn with_credentials(&self, run: Run) -> Run {
        let server = &self.storage.server;
        run.env("NUMBERS_KEY", &server.access_key_id).env("NUMBERS_SECRET", &server.secret_access_key)
    }

    /// Between every process and the store.
    pub fn store(&self) -> &Proxy {
        &self.storage.proxy
    }

    fn outputs(&self) -> [&Output; 2] {
        [&self.copies, &self.windows]
    }

    pub fn output_topics(&self) -> [&str; 2] {
        self.outputs().map(|output| output.topic.as_str())
    }

    /// What the transactional ids of an output begin with.
    fn transactional_ids(&self, name: &str) -> String {
        format!("numbers-{name}-{:016x}", self.prefix)
    }

    /// What each number's copy needs to be written, beside the records.
    pub fn rights_to_copy(&self) -> [Resource; 2] {
        [Resource::topic(&self.copies.topic), Resource::transactional_ids(&self.transactional_ids("copies"))]
    }

    /// Visible records of each output.
    pub fn visible(&self) -> [usize; 2] {
        self.outputs().map(|output| output.watch.count())
    }

    /// Waits until more than `before` is visible of both outputs; `broken` tells why it will not come.
    ///
    /// # Errors
    /// When it does not come: how far input, outputs and readers are.
    pub fn wait_beyond(&self, before: [usize; 2], broken: impl FnMut() -> Option<String>) -> Result<(), String> {
        self.wait_until_visible(before.map(|count| count + 1), broken)
    }

    /// Waits until every number that has been fed by now is visible, likewise.
    pub fn wait_until_caught_up(&self, broken: impl FnMut() -> Option<String>) -> Result<(), String> {
        self.wait_until_visible([usize::try_from(self.input.fed()).unwrap(), 0], broken)
    }

    fn wait_until_visible(&self, wanted: [usize; 2], mut broken: impl FnMut() -> Option<String>) -> Result<(), String> {
        let end = Instant::now() + LIMIT;
        while self.visible().iter().zip(wanted).any(|(visible, wanted)| *visible < wanted) {
            assert!(!self.outputs().iter().any(|o| o.watch.has_failed()), "{}: a reader has failed", self.name);
            assert!(!self.input.has_failed(), "{}: the feeder has failed", self.name);
            if let Some(reason) = broken() {
                panic!("{}: no output will come: {reason}", self.name);
            }
            if Instant::now() > end {
                let visible = self.visible();
                return Err(format!("{}: {visible:?} of {wanted:?} copies and windows\n{}", self.name, self.state()));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What tells why no output comes.
    fn state(&self) -> String {
        let mut text = format!("input: {}; ends {:?}\n", self.input.state(), self.broker.ends(&self.input.topic));
        for Output { topic, watch } in self.outputs() {
            let (count, offsets, ends) = (watch.count(), watch.offsets(), self.broker.ends(topic));
            let _ =
                writeln!(text, "{topic}: {count} visible, last offsets {offsets:?}; ends (committed, all) {ends:?}");
        }
        text
    }

    /// The longest time from `since` until now in which one of the readers saw nothing new.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        self.outputs().map(|output| output.watch.longest_gap(since)).into_iter().max().unwrap_or_default()
    }

    /// Partitions of the outputs that hold a transaction which is neither committed nor aborted.
    pub fn pending_partitions(&self) -> usize {
        self.output_topics().map(|topic| self.broker.pending_partitions(topic)).iter().sum()
    }

    /// A pending transaction holds back readers: once it was aborted, markers that were written behind it are visible.
    pub fn wait_until_expired(&self) {
        for topic in self.output_topics() {
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

    /// Ends the input.
    pub fn end_input(&mut self) -> Expected {
        let (total, closed) = self.input.stop();
        Expected { copies: closed, windows: reference_windows(total) }
    }

    /// Waits until all is visible.
    pub fn wait_for_all(&self, expected: &Expected) {
        let wanted = [usize::try_from(expected.copies).unwrap(), expected.windows.len()];
        self.wait_until_visible(wanted, || None).unwrap_or_else(|late| panic!("{late}"));
    }

    /// Compares all that is visible with the reference.
    pub fn check(&mut self, expected: &Expected) {
        check_copies(self.name, &self.copies.watch.stop(), expected.copies);
        assert_eq!(window_rows(&self.windows.watch.stop()), expected.windows, "{}: windows", self.name);
    }
}
