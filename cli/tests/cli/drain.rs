//! `millstream stop --drain`: the input ends where it is, and what waited for more of it comes out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use millstream_e2e::kafka::{Broker, CommittedReader};
use millstream_e2e::process::{Job, Process, binary};
use millstream_e2e::{services, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
const KEYS: u64 = 7;
/// Of event time: everything that is sent lies within a few of them.
const WINDOW_MS: u64 = 3_600_000;
const STEP_MS: u64 = 20_000;
/// 2026-01-01T00:00:00Z.
const FIRST_MS: u64 = 1_767_225_600_000;

/// Counts per key and hour. The watermark trails by half a day, so that without the end of input nothing closes.
struct Hours {
    broker: Broker,
    input: String,
    output: String,
    job: Job,
}

impl Hours {
    fn new(test: &str) -> Option<Self> {
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

    fn produce(&self, rows: u64) {
        let row = |n: u64| {
            let at_ms = FIRST_MS + n * STEP_MS;
            let (hour, minute) = (at_ms / 3_600_000 % 24, at_ms / 60_000 % 60);
            let second = at_ms / 1_000 % 60;
            format!("{{\"k\":{},\"n\":{n},\"at\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}Z\"}}", n % KEYS)
        };
        self.broker.produce(&self.input, PARTITIONS, (0..rows).map(row));
    }

    fn reader(&self) -> CommittedReader {
        self.broker.reader(&self.output)
    }

    fn run(&self, fault: Option<&str>) -> (Process, String) {
        let run = self.job.run().arg("--listen").arg("127.0.0.1:0");
        let process = match fault {
            Some(fault) => run.env("MILLSTREAM_FAULT", fault).start(),
            None => run.start(),
        };
        process.wait_for_log("--coordinator ", LIMIT);
        let log = process.stderr();
        let address = log.split("--coordinator ").nth(1).and_then(|rest| rest.split_whitespace().next());
        (process, address.expect("the address is in the log").to_owned())
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
fn assert_windows(reader: &mut CommittedReader, sent: u64) {
    let expected = expected(sent);
    reader.read_exactly(expected.len(), LIMIT);
    let hour = |row: &Value| row["since"].as_str().unwrap()[11..13].parse::<u64>().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let rows = reader.values();
    let seen = rows.iter().map(|row| ((number(&row["k"]), hour(row)), (number(&row["times"]), number(&row["total"]))));
    assert_eq!(seen.collect::<BTreeMap<_, _>>(), expected);
}

fn ask(command: &str, address: &str, arguments: &[&str]) -> Output {
    binary().args([command, "--coordinator", address]).args(arguments).output().unwrap()
}

fn drain(address: &str, id: &str) -> (i32, String) {
    let output = ask("stop", address, &["--drain", "--operation-id", id]);
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned())
}

fn wait_until_all_is_read(address: &str, rows: u64) {
    wait_for("all input to be read", LIMIT, || {
        let status: Value = serde_json::from_slice(&ask("status", address, &["-o", "json"]).stdout).ok()?;
        let splits = status["splits"].as_array()?;
        let read: u64 = splits.iter().filter_map(|split| split["position"].as_u64()).sum();
        (read == rows && status["lagRecords"] == 0).then_some(())
    });
}

/// The result of the operation as the store keeps it.
fn kept_result(folder: &Path, id: &str) -> Option<Value> {
    let of_job: PathBuf = ["checkpoints", "default", "hours", "operations", id, "result"].iter().collect();
    let text = std::fs::read(folder.join(of_job)).ok()?;
    serde_json::from_slice(&text).ok()
}

#[test]
fn a_drain_closes_every_window_of_a_cluster_and_the_job_has_finished() {
    let Some(hours) = Hours::new("drain") else { return };
    let coordinator = hours.job.coordinator("127.0.0.1:0").start();
    coordinator.wait_for_log("listening for workers on ", LIMIT);
    let log = coordinator.stderr();
    let address = log.split("listening for workers on ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let workers = [(); 2].map(|()| hours.job.worker(address, 1).start());
    let mut reader = hours.reader();
    hours.produce(1_000);
    wait_until_all_is_read(address, 1_000);
    reader.poll();
    assert!(reader.seen.is_empty(), "no window closes before its time: {:?}", reader.values());
    let (code, told) = drain(address, "one");
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with("drained: the job has finished with checkpoint "), "{told}");
    for process in [coordinator].into_iter().chain(workers) {
        let ended = process.wait(LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    assert_windows(&mut reader, 1_000);
    assert_eq!(kept_result(hours.job.folder.path(), "one").expect("it is kept")["state"], "DONE");
    // What comes later is not for this job.
    hours.produce(10);
    let again = hours.job.run().finish(LIMIT);
    assert_eq!(again.code(), 0, "{}", again.stderr);
    assert!(again.stderr.contains("the job had finished before"), "{}", again.stderr);
    reader.poll();
    assert_windows(&mut reader, 1_000);
}

/// The process is killed at places between the question and its answer; asked again with the same id, or started again, the
/// drain comes to its end once.
#[test]
fn a_drain_survives_the_death_of_the_process() {
    for fault in ["after-operation-accepted@1", "before-operation-result@1", "after-operation-result@1"] {
        let Some(hours) = Hours::new("drain and kill") else { return };
        hours.produce(500);
        let (process, address) = hours.run(Some(fault));
        wait_until_all_is_read(&address, 500);
        let (code, told) = drain(&address, "one");
        assert_eq!(code, 4, "{fault}: {told}");
        assert!(told.contains("ask again with --drain --operation-id one"), "{fault}: {told}");
        process.wait(LIMIT);
        if fault.starts_with("after-operation-accepted") {
            let (process, address) = hours.run(None);
            process.wait_for_log("going on from checkpoint", LIMIT);
            let (code, told) = drain(&address, "one");
            assert_eq!(code, 0, "{fault}: {told}");
            assert_eq!(process.wait(LIMIT).code(), 0, "{fault}");
        } else {
            let again = hours.job.run().finish(LIMIT);
            assert_eq!(again.code(), 0, "{fault}: {}", again.stderr);
            assert!(again.stderr.contains("the job had finished before"), "{fault}: {}", again.stderr);
        }
        assert_eq!(kept_result(hours.job.folder.path(), "one").expect("it is kept")["state"], "DONE", "{fault}");
        assert_windows(&mut hours.reader(), 500);
    }
}
