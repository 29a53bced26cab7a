//! Savepoints and logs that versions of this product have written, in `tests/corpus/<version>/`: every later one reads them.
//!
//! ```text
//! job.yaml     the job that wrote them
//! savepoint/   that it ended with
//! state/       its state directory: the log, and the objects that its checkpoints name
//! ```
//! `MILLSTREAM_WRITE_CORPUS=<version>` writes a folder with this version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_e2e::process::{Finished, Job, Run};

const LIMIT: Duration = Duration::from_secs(60);
const WRITE: &str = "MILLSTREAM_WRITE_CORPUS";
const ROWS: i64 = 20_000;
const KEYS: i64 = 1_000;
const WINDOW_KEYS: i64 = 10;
/// Of event time, in which a row follows the other after 100 ms.
const WINDOW_ROWS: i64 = 6_000;
/// State of many types, whose changes and whose end are printed.
const MANIFEST: &str = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: corpus
spec:
  parallelism: 2
  checkpoint:
    interval: 200 ms
  sql: |
    CREATE TABLE numbers (n BIGINT, at AS TO_TIMESTAMP_LTZ(n * 100, 3), WATERMARK FOR at AS at - INTERVAL '1' SECOND)
      WITH ('connector' = 'datagen', 'rows-per-second' = '5000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0',
            'fields.n.end' = '19999');
    CREATE TABLE totals (k BIGINT, times BIGINT, total BIGINT, first_text STRING, largest DECIMAL(20, 3), middle DOUBLE)
      WITH ('connector' = 'print', 'print-identifier' = 'totals');
    CREATE TABLE windows (k BIGINT, since TIMESTAMP(3), times BIGINT, total BIGINT)
      WITH ('connector' = 'print', 'print-identifier' = 'windows');
    EXECUTE STATEMENT SET BEGIN
      INSERT INTO totals SELECT MOD(n, 1000), COUNT(*), SUM(n), MIN(CAST(n AS STRING)), MAX(CAST(n AS DECIMAL(20, 3))),
        AVG(CAST(n AS DOUBLE)) FROM numbers GROUP BY MOD(n, 1000);
      INSERT INTO windows SELECT MOD(n, 10), window_start, COUNT(*), SUM(n)
        FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(at), INTERVAL '10' MINUTES)) GROUP BY MOD(n, 10), window_start, window_end;
    END;
";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Stops the job with a savepoint, when it has read a part of its input.
fn write(version: &str) {
    let job = Job::new(MANIFEST);
    let process = job.run().arg("--listen").arg("127.0.0.1:0").start();
    process.wait_for_log("checkpoint 6 completed", LIMIT);
    let place = process.end_with_savepoint(&job.folder.path().join("savepoints").to_string_lossy(), LIMIT);
    let folder = corpus().join(version);
    copy(Path::new(&place), &folder.join("savepoint"));
    copy(&job.folder.path().join("state"), &folder.join("state"));
    std::fs::write(folder.join("job.yaml"), MANIFEST).unwrap();
}

/// The last row of each key, and every row of a window, without what was printed before their identifier.
fn printed(finished: &Finished, identifier: &str) -> Vec<Vec<String>> {
    // Of several tasks each says its number.
    let rows = finished.stdout.lines().filter_map(|line| Some(line.strip_prefix(identifier)?.split_once("> ")?.1));
    let added = rows.filter_map(|row| row.strip_prefix("+I[").or_else(|| row.strip_prefix("+U[")));
    added.map(|row| row.trim_end_matches(']').split(", ").map(str::to_owned).collect()).collect()
}

/// What a key has in the end: times, total, smallest text, largest number, mean.
fn totals(key: i64) -> Vec<String> {
    let rows: Vec<i64> = (0..ROWS).filter(|n| n % KEYS == key).collect();
    let total: i64 = rows.iter().sum();
    let (times, least) = (rows.len(), rows.iter().map(ToString::to_string).min().unwrap());
    let (largest, mean) = (rows.iter().max().unwrap(), total as f64 / times as f64);
    vec![times.to_string(), total.to_string(), least, format!("{largest}.000"), format!("{mean:?}")]
}

fn check(finished: &Finished, what: &str) {
    assert_eq!(finished.code(), 0, "{what}: {}", finished.stderr);
    let last: BTreeMap<i64, Vec<String>> =
        printed(finished, "totals").into_iter().map(|row| (row[0].parse().unwrap(), row[1..].to_vec())).collect();
    let expected: BTreeMap<i64, Vec<String>> = (0..KEYS).map(|key| (key, totals(key))).collect();
    assert_eq!(last, expected, "{what}");
    let windows = printed(finished, "windows");
    // Those that were closed before are not printed again; the last one was open for certain.
    assert!(windows.len() >= usize::try_from(WINDOW_KEYS).unwrap(), "{what}: {windows:?}");
    for row in windows {
        let key: i64 = row[0].parse().unwrap();
        let minute: i64 = row[1][14..16].parse().unwrap();
        let first = minute / 10 * WINDOW_ROWS;
        let rows: Vec<i64> = (first..ROWS.min(first + WINDOW_ROWS)).filter(|n| n % WINDOW_KEYS == key).collect();
        let expected = [rows.len().to_string(), rows.iter().sum::<i64>().to_string()];
        assert_eq!(row[2..], expected, "{what}: window {row:?}");
    }
}

fn run(version: &Path, job: &Job, more: impl FnOnce(Run) -> Run) -> Finished {
    let manifest = std::fs::read_to_string(version.join("job.yaml")).unwrap();
    job.rewrite(&manifest);
    more(job.run()).finish(LIMIT)
}

#[test]
fn what_earlier_versions_wrote_is_read() {
    if let Ok(version) = std::env::var(WRITE) {
        write(&version);
    }
    let versions: Vec<PathBuf> = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in versions {
        let name = version.display();
        for parallelism in ["1", "3"] {
            let from = version.join("savepoint");
            let run = run(&version, &Job::new(""), |run| {
                run.arg("--from-savepoint").arg(&from.to_string_lossy()).arg("--parallelism").arg(parallelism)
            });
            check(&run, &format!("{name}: savepoint at {parallelism}"));
            let job = Job::new("");
            copy(&version.join("state"), &job.folder.path().join("state"));
            let run = self::run(&version, &job, |run| run.arg("--parallelism").arg(parallelism));
            assert!(run.stderr.contains("going on from checkpoint"), "{name}: {}", run.stderr);
            check(&run, &format!("{name}: log at {parallelism}"));
        }
    }
}
