//! Counts per key and hour of event time, which nothing closes but the end of the input: what has been read is in the state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use millstream_e2e::kafka::{Broker, CommittedReader};
use millstream_e2e::process::{Job, Process, Run, binary};
use millstream_e2e::{services, wait_for};

pub const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
const KEYS: u64 = 7;
/// Of event time: everything that is sent lies within a few of them.
const WINDOW_MS: u64 = 3_600_000;
const STEP_MS: u64 = 20_000;
/// 2026-01-01T00:00:00Z.
const FIRST_MS: u64 = 1_767_225_600_000;

/// The watermark trails by half a day, so that without the end of input nothing closes.
pub struct Hours {
    broker: Broker,
    input: String,
    output: String,
    pub job: Job,
}

impl Hours {
    pub fn new(test: &str) -> Option<Self> {
        let broker = services::broker(test)?;
        let (input, output) = (broker.create_topic("in", PARTITIONS, &[]), broker.create_topic("out", 2, &[]));
        let job = Job::new("");
        let hours = Self { broker, input, output, job };
        hours.job.rewrite(&hours.manifest());
        Some(hours)
    }

    fn manifest(&self) -> String {
        let Self { broker, input, output, job } = self;
        let (bootstrap, storage) = (&broker.bootstrap, job.folder.path().join("checkpoints"));
        format!(
            "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: hours
spec:
  parallelism: 2
  checkpoint:
    interval: 200 ms
    storage: {}
  sql: |
    CREATE TABLE source (k BIGINT, n BIGINT, at TIMESTAMP_LTZ(3), WATERMARK FOR at AS at - INTERVAL '12' HOUR) WITH (
      'connector' = 'kafka', 'topic' = '{input}', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601',
      'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset');
    CREATE TABLE target (k BIGINT, since TIMESTAMP(3), times BIGINT, total BIGINT) WITH ('connector' = 'kafka',
      'topic' = '{output}', 'format' = 'json', 'properties.bootstrap.servers' = '{bootstrap}',
      'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{output}');
    INSERT INTO target SELECT k, window_start, COUNT(*), SUM(n)
      FROM TABLE(TUMBLE(TABLE source, DESCRIPTOR(at), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end;
",
            storage.display()
        )
    }

    /// Rows of these numbers.
    pub fn produce(&self, rows: std::ops::Range<u64>) {
        let row = |n: u64| {
            let at_ms = FIRST_MS + n * STEP_MS;
            let (hour, minute) = (at_ms / 3_600_000 % 24, at_ms / 60_000 % 60);
            let second = at_ms / 1_000 % 60;
            format!("{{\"k\":{},\"n\":{n},\"at\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}Z\"}}", n % KEYS)
        };
        self.broker.produce(&self.input, PARTITIONS, rows.map(row));
    }

    pub fn reader(&self) -> CommittedReader {
        self.broker.reader(&self.output)
    }

    pub fn run(&self, fault: Option<&str>) -> (Process, String) {
        self.start(self.job.run(), fault)
    }

    /// Starts the process with its operations, and tells where they are.
    pub fn start(&self, run: Run, fault: Option<&str>) -> (Process, String) {
        match fault {
            Some(fault) => listening(run.env("MILLSTREAM_FAULT", fault)),
            None => listening(run),
        }
    }

    /// The same input into another topic, by a job of another name and with checkpoints of its own.
    pub fn again(&self) -> Self {
        let Self { broker, input, .. } = self;
        let output = broker.create_topic("out", 2, &[]);
        let again = Self { broker: broker.clone(), input: input.clone(), output, job: Job::new("") };
        again.job.rewrite(&again.manifest().replace("name: hours", "name: hours-again"));
        again
    }

    /// Everything that the job has of its own.
    pub fn storage(&self) -> PathBuf {
        self.job.folder.path().join("checkpoints")
    }

    /// The result of an operation as the store keeps it.
    pub fn kept_result(&self, id: &str) -> Option<Value> {
        let of_job: PathBuf = ["default", "hours", "operations", id, "result"].iter().collect();
        let text = std::fs::read(self.storage().join(of_job)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Count and sum by key and hour.
fn expected(rows: u64) -> BTreeMap<(u64, u64), (u64, u64)> {
    let mut windows: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for n in 0..rows {
        let window = windows.entry((n % KEYS, n * STEP_MS / WINDOW_MS)).or_default();
        *window = (window.0 + 1, window.1 + n);
    }
    windows
}

/// Every window once, as it should be.
pub fn assert_windows(reader: &mut CommittedReader, sent: u64) {
    let expected = expected(sent);
    reader.read_exactly(expected.len(), LIMIT);
    let hour = |row: &Value| row["since"].as_str().unwrap()[11..13].parse::<u64>().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let rows = reader.values();
    let seen = rows.iter().map(|row| ((number(&row["k"]), hour(row)), (number(&row["times"]), number(&row["total"]))));
    assert_eq!(seen.collect::<BTreeMap<_, _>>(), expected);
}

/// Starts the process with its operations, and tells where they are.
pub fn listening(run: Run) -> (Process, String) {
    let process = run.arg("--listen").arg("127.0.0.1:0").start();
    let address = process.address(LIMIT);
    (process, address)
}

pub fn ask(command: &str, address: &str, arguments: &[&str]) -> Output {
    binary().args([command, "--coordinator", address]).args(arguments).output().unwrap()
}

pub fn wait_until_all_is_read(address: &str, rows: u64) {
    wait_for("all input to be read", LIMIT, || {
        let status: Value = serde_json::from_slice(&ask("status", address, &["-o", "json"]).stdout).ok()?;
        let splits = status["splits"].as_array()?;
        let read: u64 = splits.iter().filter_map(|split| split["position"].as_u64()).sum();
        (read == rows && status["lagRecords"] == 0).then_some(())
    });
}
