//! Rows between workers, as their metrics show them.

use std::time::Duration;

use millstream_e2e::http::get;
use millstream_e2e::process::{Job, Process};
use millstream_e2e::wait_for;

const LIMIT: Duration = Duration::from_secs(60);
const ROWS: u64 = 200_000;

/// Groups by a text that repeats itself within a batch: local combining finds nothing to combine, LZ4 does.
fn manifest(storage: &str, compression: &str) -> String {
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: packed
spec:
  parallelism: 2
  checkpoint:
    interval: 500 ms
    storage: {storage}
{compression}  sql: |
    CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000',
      'fields.a.kind' = 'sequence', 'fields.a.start' = '1', 'fields.a.end' = '{ROWS}');
    CREATE TABLE t (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO t SELECT CONCAT('the same long words before each of the numbers: ', CAST(a AS STRING)), COUNT(*) FROM s
      GROUP BY CONCAT('the same long words before each of the numbers: ', CAST(a AS STRING));
"
    )
}

fn page_of(process: &Process) -> String {
    process.wait_for_log(" on http://", LIMIT);
    let log = process.stderr();
    log.split(" on http://").nth(1).and_then(|rest| rest.split('/').next()).expect("it is in the log").to_owned()
}

/// The value of a metric without further labels.
fn value(page: &str, name: &str) -> u64 {
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {page}"))
}

/// What the two workers of the job sent to each other: bytes, and rows that left their sources.
fn sent(compression: &str) -> u64 {
    let job = Job::new("");
    job.rewrite(&manifest(&job.folder.path().join("checkpoints").display().to_string(), compression));
    let coordinator = job.coordinator("127.0.0.1:0").start();
    coordinator.wait_for_log("listening for workers on ", LIMIT);
    let log = coordinator.stderr();
    let address = log.split("listening for workers on ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let workers = [(); 2].map(|()| job.worker(address, 1).arg("--http").arg("127.0.0.1:0").start());
    let pages = [page_of(&workers[0]), page_of(&workers[1])];
    let read = |metrics: &str| -> u64 {
        let sources = metrics.lines().filter(|l| l.starts_with("flink_taskmanager_job_task_numRecordsIn_total"));
        let of_sources = sources.filter(|line| line.contains("task_id=\"0\""));
        of_sources.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    // A job that has ended shows nothing any more, so one that nearly has is looked at.
    let seen = wait_for("half of the rows", LIMIT, || {
        let metrics = [get(&pages[0], "/metrics"), get(&pages[1], "/metrics")];
        let rows: u64 = metrics.iter().map(|page| read(page)).sum();
        if rows < ROWS / 2 {
            return None;
        }
        for page in &metrics {
            assert_eq!(value(page, "millstream_shuffle_connections"), 1, "one per pair");
        }
        let bytes: u64 = metrics.iter().map(|page| value(page, "millstream_shuffle_sent_bytes_total")).sum();
        Some(bytes * 1_000 / rows)
    });
    for process in [coordinator].into_iter().chain(workers) {
        let ended = process.wait(LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    seen
}

#[test]
fn rows_between_workers_are_packed_as_the_manifest_says() {
    let (plain, packed) = (sent(""), sent("  shuffle:\n    compression: lz4\n"));
    assert!(plain > 10_000, "half of the rows go to the other worker: {plain} bytes for 1,000 of them");
    assert!(packed * 2 < plain, "{packed} bytes for 1,000 rows packed, {plain} as they are");
}

#[test]
fn a_compression_that_there_is_not_is_refused_with_its_place() {
    let job = Job::new(&manifest("/tmp", "  shuffle:\n    compression: zstd\n"));
    let refused = job.coordinator("127.0.0.1:0").finish(LIMIT);
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    let expected = ":11:18: spec.shuffle.compression: unknown variant `zstd`, expected `none` or `lz4`";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
}
