//! The crash test: numbered records in, the process killed or paused again and again, and a `read_committed` reader that
//! must see each number exactly once and every window equal to a reference computed apart.
//!
//! Parallelism 2 and more, a hash edge, snapshots on a real S3 server, transactions on a real broker.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::kafka::{Broker, CommittedReader, rand_id};
use crate::support::process::{Job, Process};
use crate::support::services::{self, S3Server};
use crate::support::{Random, rounds, wait_for};

const PARTITIONS: i32 = 4;
const KEYS: u64 = 23;
/// Event time moves 10 ms per record, windows are one second: a hundred records a window.
const WINDOW_MS: u64 = 1_000;
const STEP_MS: u64 = 10;
const RATE_PER_S: u64 = 4_000;
const LIMIT: Duration = Duration::from_secs(90);
/// What a restart may add to a reader's wait, beside the time in which the process was down.
const READER_WAIT_MAX: Duration = Duration::from_secs(3);

/// Every named fault point; each is hit once in `./dev test`. An epoch has four commits at parallelism 2 (two sinks of
/// two tasks, all with records), so the fifth commit is the first of its epoch.
const FAULTS: [(&str, u64); 12] = [
    ("before-barrier", 7),
    ("after-barrier", 6),
    ("before-snapshot", 5),
    ("after-snapshot", 6),
    ("before-acknowledgement", 7),
    ("after-acknowledgement", 6),
    ("before-manifest", 4),
    ("after-manifest", 4),
    ("before-commit", 5),
    ("after-commit", 5),
    ("before-last-commit", 2),
    ("after-last-commit", 2),
];

#[test]
fn every_fault_point_is_survived() {
    let Some(mut scene) = Scene::new("crash at fault points", "") else { return };
    for (point, nth) in FAULTS {
        scene.run_until_fault(point, nth, 2);
    }
    let hits = scene.job.fault_hits();
    assert_eq!(hits, FAULTS.map(|(point, _)| point), "each fault was really hit, in this order");
    scene.finish(3);
}

#[test]
fn random_kills_are_survived() {
    let Some(mut scene) = Scene::new("random kills", "") else { return };
    let mut random = Random::from_environment("random kills");
    for _ in 0..rounds(12, 200) {
        let parallelism = u32::try_from(2 + random.below(3)).unwrap();
        scene.run_and_kill_after(Duration::from_millis(200 + random.below(1_500)), parallelism);
    }
    scene.finish(3);
}

#[test]
fn a_paused_process_that_wakes_up_beside_its_successor_harms_nothing() {
    // With the brokers' longest time-out: what the process opens after its successor fenced it, and before it learns
    // that, it has to end itself, or readers would wait for minutes.
    let Some(mut scene) = Scene::new("paused process", "") else { return };
    for point in ["before-manifest", "before-commit", "after-acknowledgement"] {
        scene.run_until_paused_then_replaced(point);
    }
    scene.finish(2);
}

#[test]
fn an_expired_transaction_of_which_nothing_is_visible_is_replayed() {
    let Some(mut scene) = Scene::new("expired transaction", "'properties.transaction.timeout.ms' = '4000', ") else {
        return;
    };
    scene.run_until_fault("after-manifest", 3, 2);
    // The broker aborts what was prepared: a transactional id's time-out, and the check interval of the broker on top.
    scene.wait_until_expired();
    scene.finish(2);
}

/// A job, its topics, a producer that never stops, and a reader that never stops.
struct Scene {
    name: &'static str,
    broker: Broker,
    storage: Storage,
    job: Job,
    numbers: String,
    windows: String,
    input: Feeder,
    watch: Watch,
    extra: &'static str,
    prefix: u64,
}

struct Storage {
    server: S3Server,
    path: String,
}

impl Scene {
    fn new(name: &'static str, extra: &'static str) -> Option<Self> {
        let broker = services::broker(name)?;
        let server = services::s3(name)?.into_iter().next()?;
        let topic = broker.create_topic("numbers", PARTITIONS, &[]);
        let numbers = broker.create_topic("numbers-out", PARTITIONS, &[]);
        let windows = broker.create_topic("windows-out", PARTITIONS, &[]);
        let storage = Storage { path: format!("s3://{}/crash-{:016x}", server.bucket, rand_id()), server };
        let input = Feeder::start(&broker, &topic);
        let watch = Watch::start(broker.reader(&numbers));
        Some(Self {
            name,
            broker,
            storage,
            job: Job::new(""),
            numbers,
            windows,
            input,
            watch,
            extra,
            prefix: rand_id(),
        })
    }

    fn manifest(&self, parallelism: u32) -> String {
        let (bootstrap, extra, prefix) = (&self.broker.bootstrap, self.extra, self.prefix);
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
    interval: 150 ms
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
    EXECUTE STATEMENT SET BEGIN
      INSERT INTO copies SELECT id FROM numbers;
      INSERT INTO windows SELECT k, window_start, COUNT(*), SUM(id)
        FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;
    END;
",
            storage = self.storage.path,
            endpoint = self.storage.server.endpoint,
            input = self.input.topic,
            numbers = output(&self.numbers, "numbers"),
            windows = output(&self.windows, "windows"),
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

    fn run_until_fault(&mut self, point: &str, nth: u64, parallelism: u32) {
        let process = self.start(parallelism, Some(&format!("{point}@{nth}")));
        let ended = process.wait(LIMIT);
        assert_eq!(ended.code(), -libc::SIGKILL, "{}: {point} was not reached: {}", self.name, ended.stderr);
    }

    /// Kills the process this long after its output became visible, so that every cycle makes progress.
    fn run_and_kill_after(&mut self, delay: Duration, parallelism: u32) {
        let before = self.watch.count();
        let mut process = self.start(parallelism, None);
        self.watch.wait_beyond(before, || process.ended().map(|s| format!("ended with {s}: {}", process.stderr())));
        let waited = process.started.elapsed();
        assert!(
            waited < READER_WAIT_MAX + Duration::from_secs(2),
            "{}: visible only {waited:?} after the restart",
            self.name
        );
        wait_until(Instant::now() + delay);
        process.kill();
    }

    fn run_until_paused_then_replaced(&mut self, point: &str) {
        let before = self.job.fault_hits().len();
        let paused = self.start(2, Some(&format!("{point}@4:stop")));
        wait_for("the pause", LIMIT, || (self.job.fault_hits().len() > before).then_some(()));
        // On one host a stopped process still holds its job; a successor has to say that it takes over.
        let successor = self.start_taking_over();
        let visible = self.watch.count();
        self.watch.wait_beyond(visible, || None);
        paused.signal(libc::SIGCONT);
        let ended = paused.wait(LIMIT);
        assert_ne!(ended.code(), 0, "the old process was fenced: {}", ended.stderr);
        let visible = self.watch.count();
        self.watch.wait_beyond(visible, || None);
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
    fn wait_until_expired(&self) {
        for topic in [&self.numbers, &self.windows] {
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
    fn finish(mut self, parallelism: u32) {
        let (total, closed) = self.input.stop();
        let process = self.start(parallelism, None);
        let mut windows = self.broker.reader(&self.windows);
        let expected = reference_windows(total);
        let end = Instant::now() + LIMIT;
        while without_markers(&windows).len() < expected.len() || self.watch.count() < closed {
            windows.poll();
            let (rows, numbers) = (without_markers(&windows).len(), self.watch.count());
            let wanted = expected.len();
            assert!(Instant::now() < end, "{}: {rows} of {wanted} windows, {numbers} of {closed} numbers", self.name);
        }
        let ended = process.stop(LIMIT);
        assert_eq!(ended.code(), 0, "{}: {}", self.name, ended.stderr);
        let numbers = self.watch.stop();
        let distinct: HashSet<u64> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), distinct.len(), "{}: doubled numbers", self.name);
        assert_eq!(u64::try_from(distinct.len()).unwrap(), closed, "{}: lost numbers", self.name);
        windows.poll();
        assert_eq!(window_rows(&windows), expected, "{}: windows", self.name);
    }
}

/// A record that no job wrote.
const MARKER: &str = "{\"marker\":true}";

fn without_markers(reader: &CommittedReader) -> Vec<serde_json::Value> {
    reader.values().into_iter().filter(|v| v.get("marker").is_none()).collect()
}

/// (key, window start) -> (count, sum of ids)
type Windows = BTreeMap<(u64, u64), (u64, u64)>;

/// The windows of the numbers below `total`, computed without Millstream. The closing records have keys of their own
/// far in the future, whose windows never close.
fn reference_windows(total: u64) -> Windows {
    let mut windows = Windows::new();
    for id in 0..total {
        let window = windows.entry((id % KEYS, id * STEP_MS / WINDOW_MS * WINDOW_MS)).or_default();
        window.0 += 1;
        window.1 += id;
    }
    windows
}

fn window_rows(reader: &CommittedReader) -> Windows {
    let mut windows = Windows::new();
    for row in without_markers(reader) {
        let number = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{name} in {row}"));
        let start = event_millis(row["window_start"].as_str().unwrap());
        let before = windows.insert((number("k"), start), (number("cnt"), number("total")));
        assert_eq!(before, None, "window twice: {row}");
    }
    windows
}

/// `2026-01-01 HH:MM:SS[.fff]` to milliseconds since the start of that day (the test stays below a day of event time).
fn event_millis(text: &str) -> u64 {
    let time = text.strip_prefix("2026-01-01 ").unwrap_or_else(|| panic!("window start {text}"));
    let mut parts = time.split(':');
    let hours: u64 = parts.next().unwrap().parse().unwrap();
    let minutes: u64 = parts.next().unwrap().parse().unwrap();
    let seconds: f64 = parts.next().unwrap_or("0").parse().unwrap();
    (hours * 3_600 + minutes * 60) * 1_000 + (seconds * 1_000.0).round() as u64
}

fn event_time(millis: u64) -> String {
    let (seconds, fraction) = (millis / 1_000, millis % 1_000);
    format!("2026-01-01 {:02}:{:02}:{:02}.{fraction:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A thread that appends numbered records at a fixed rate.
struct Feeder {
    topic: String,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
    broker: Broker,
}

impl Feeder {
    fn start(broker: &Broker, topic: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (producer, stop) = (broker.producer(topic), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * RATE_PER_S / 1_000;
                // At most a day of event time.
                while id < due.min(86_000_000 / STEP_MS) {
                    producer.send(i32::try_from(id % 4).unwrap(), &record(id, id % KEYS, id * STEP_MS));
                    id += 1;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            producer.flush();
            id
        });
        Self { topic: topic.to_owned(), end, thread: Some(thread), broker: broker.clone() }
    }

    /// Ends the input with one record per partition that closes all windows before it. Returns how many numbered
    /// records there are, and how many records in all.
    fn stop(&mut self) -> (u64, u64) {
        self.end.store(true, Ordering::Relaxed);
        let total = self.thread.take().expect("stopped once").join().unwrap();
        let producer = self.broker.producer(&self.topic);
        for partition in 0..PARTITIONS {
            let id = total + u64::try_from(partition).unwrap();
            producer.send(partition, &record(id, 1_000_000 + id, 86_390_000));
        }
        producer.flush();
        (total, total + u64::try_from(PARTITIONS).unwrap())
    }
}

fn record(id: u64, key: u64, millis: u64) -> String {
    format!("{{\"id\":{id},\"k\":{key},\"ts\":\"{}\"}}", event_time(millis))
}

/// A thread that reads the numbers as they become visible.
struct Watch {
    count: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<CommittedReader>>,
}

impl Watch {
    fn start(mut reader: CommittedReader) -> Self {
        let (count, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&count), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                reader.poll();
                let numbers = reader.seen.iter().filter(|s| s.value.as_deref() != Some(MARKER)).count();
                seen.store(u64::try_from(numbers).unwrap(), Ordering::Relaxed);
            }
            while reader.poll() > 0 {}
            reader
        });
        Self { count, end, thread: Some(thread) }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits for a record beyond the first `count`; `broken` tells why it will not come.
    fn wait_beyond(&self, count: u64, mut broken: impl FnMut() -> Option<String>) {
        wait_for("visible output", LIMIT, || {
            if let Some(reason) = broken() {
                panic!("no output will come: {reason}");
            }
            (self.count() > count).then_some(())
        });
    }

    fn stop(&mut self) -> Vec<u64> {
        self.end.store(true, Ordering::Relaxed);
        let reader = self.thread.take().expect("stopped once").join().unwrap();
        without_markers(&reader).iter().map(|v| v["id"].as_u64().unwrap()).collect()
    }
}

fn wait_until(time: Instant) {
    while Instant::now() < time {
        std::thread::park_timeout(time - Instant::now());
    }
}
