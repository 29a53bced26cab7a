//! The golden suite: every `.sql` file under `tests/golden` with its input and its expected output.
//!
//! A file is a Flink SQL script. `WITH (@input)` and `WITH (@output)` stand for the connection of a table to a topic of
//! its own (`@upsert` for upsert-kafka). Comment lines carry the data: `-- input <table> {json}`, `-- expect <table> {json}`.
//! Every file runs plain, and again with its input in pieces that are cut at random: checkpoints, `kill -9` and a restore
//! at another parallelism between the pieces, on each state backend; and once more with a savepoint between the pieces, from
//! which another job goes on that has its checkpoints elsewhere and a statement more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream_e2e::kafka::{Broker, CommittedReader};
use millstream_e2e::process::{Job, Process};
use millstream_e2e::{CHECKPOINT_DONE, Random, rounds, services, wait_for};

use crate::scripts::{PARTITIONS, Topics, bounded, manifest};

const LIMIT: Duration = Duration::from_secs(60);

/// A golden file, taken apart.
struct Golden {
    name: String,
    sql: String,
    /// By table, in file order.
    input: BTreeMap<String, Vec<String>>,
    expected: BTreeMap<String, Vec<serde_json::Value>>,
}

#[derive(Clone, Copy, Debug)]
struct Variant {
    backend: &'static str,
    /// Parallelism of each run; one kill between two of them.
    parallelism: &'static [u32],
    between: Between,
}

/// What happens between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Kill,
    /// The job ends with a savepoint, and the next one starts from it.
    Savepoint,
}

const PLAIN: Variant = Variant { backend: "memory", parallelism: &[2], between: Between::Kill };
const BROKEN: [Variant; 2] = [
    Variant { backend: "memory", parallelism: &[2, 3, 1], between: Between::Kill },
    Variant { backend: "disk", parallelism: &[1, 3, 2], between: Between::Kill },
];
const MOVED: [Variant; 2] = [
    Variant { backend: "memory", parallelism: &[2, 3], between: Between::Savepoint },
    Variant { backend: "disk", parallelism: &[3, 1], between: Between::Savepoint },
];
/// Has nothing to do with any other statement, and ends.
const UNRELATED: (&str, &str) = (
    "CREATE TABLE unrelated_rows (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '9');
CREATE TABLE unrelated_counts (n BIGINT, times BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'blackhole');",
    "INSERT INTO unrelated_counts SELECT n, COUNT(*) FROM unrelated_rows GROUP BY n;",
);

#[test]
fn every_golden_file_gives_its_expected_output_plain() {
    let mut random = Random::from_environment("golden plain");
    run_all("golden plain", &[PLAIN], &mut random);
}

#[test]
fn every_golden_file_survives_kills_and_restores_at_other_parallelisms() {
    let mut random = Random::from_environment("golden with kills");
    for _ in 0..rounds(1, 3) {
        run_all("golden with kills", &BROKEN, &mut random);
    }
}

#[test]
fn every_golden_file_goes_on_from_a_savepoint_with_a_statement_more() {
    let mut random = Random::from_environment("golden from savepoints");
    for _ in 0..rounds(1, 3) {
        run_all("golden from savepoints", &MOVED, &mut random);
    }
}

fn run_all(suite: &str, variants: &[Variant], random: &mut Random) {
    let Some(broker) = services::broker(suite) else { return };
    for golden in load_all() {
        for variant in variants {
            run(&broker, &golden, *variant, random);
        }
    }
}

fn load_all() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let only = std::env::var("MILLSTREAM_GOLDEN").ok();
    let files: Vec<Golden> = paths
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "sql"))
        .filter(|p| only.as_ref().is_none_or(|o| p.to_string_lossy().contains(o.as_str())))
        .map(|p| load(p))
        .collect();
    assert!(!files.is_empty(), "no golden files");
    files
}

fn load(path: &Path) -> Golden {
    let text = std::fs::read_to_string(path).unwrap();
    let mut golden = Golden {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        sql: text.clone(),
        input: BTreeMap::new(),
        expected: BTreeMap::new(),
    };
    for line in text.lines() {
        if let Some((table, json)) = line.strip_prefix("-- input ").and_then(|l| l.split_once(' ')) {
            golden.input.entry(table.to_owned()).or_default().push(json.trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("-- expect ") {
            let (table, json) = rest.split_once(' ').unwrap_or((rest, ""));
            let rows = golden.expected.entry(table.to_owned()).or_default();
            if !json.trim().is_empty() {
                rows.push(serde_json::from_str(json).unwrap_or_else(|e| panic!("{}: {json}: {e}", path.display())));
            }
        }
    }
    golden
}

fn run(broker: &Broker, golden: &Golden, variant: Variant, random: &mut Random) {
    // Places in the input, in thousandths of each table's rows; the last row is left for the last piece: jobs end by it.
    let mut cuts: Vec<u64> = variant.parallelism.iter().skip(1).map(|_| random.below(1000)).collect();
    cuts.sort_unstable();
    println!("golden {} {variant:?}, cut at {cuts:?}", golden.name);
    let tables = golden.input.keys().chain(golden.expected.keys()).map(String::as_str);
    let topics = Topics::create(broker, "golden", tables);
    let sql = substitute(&topics, golden);
    let mut job = Job::new("");
    let savepoints = tempfile::tempdir().unwrap();
    let mut from: Option<String> = None;
    let pieces = variant.parallelism.len();
    for (piece, parallelism) in variant.parallelism.iter().enumerate() {
        let sql = if from.is_some() { with_an_unrelated_statement(&sql) } else { sql.clone() };
        job.rewrite(&manifest("golden", variant.backend, *parallelism, "", &sql));
        feed(&topics, broker, golden, piece, &cuts);
        let run = job.run().arg("--listen").arg("127.0.0.1:0");
        let process = match &from {
            Some(savepoint) => run.arg("--from-savepoint").arg(savepoint).start(),
            None => run.start(),
        };
        if piece + 1 == pieces {
            let ended = process.wait(LIMIT);
            assert_eq!(ended.code(), 0, "{}: {}", golden.name, ended.stderr);
            continue;
        }
        wait_for_checkpoints(&process, 2);
        match variant.between {
            Between::Kill => process.kill(),
            Between::Savepoint => {
                from = Some(process.end_with_savepoint(&savepoints.path().to_string_lossy(), LIMIT));
                job = Job::new("");
            }
        }
    }
    compare(&topics, broker, golden);
}

/// It stands before the others where they are a set, and after them otherwise.
fn with_an_unrelated_statement(sql: &str) -> String {
    let (tables, insert) = UNRELATED;
    const SET: &str = "EXECUTE STATEMENT SET BEGIN";
    match sql.split_once(SET) {
        Some((before, statements)) => format!("{before}\n{tables}\n{SET}\n{insert}\n{statements}"),
        None => format!("{sql}\n{tables}\n{insert}\n"),
    }
}

/// Waits until `count` checkpoints that began after this call are complete: they hold all that was fed.
pub(crate) fn wait_for_checkpoints(process: &Process, count: usize) {
    let sealed = |text: &str| text.matches(CHECKPOINT_DONE).count();
    let before = sealed(&process.stderr());
    wait_for("checkpoints", LIMIT, || (sealed(&process.stderr()) > before + count).then_some(()));
}

/// Which rows of a table go to which partition: row i to partition i modulo their number.
fn feed(topics: &Topics, broker: &Broker, golden: &Golden, piece: usize, cuts: &[u64]) {
    for (table, rows) in &golden.input {
        let producer = broker.producer(&topics.by_table[table]);
        let at = |cut: u64| rows.len() * usize::try_from(cut).unwrap() / 1000;
        let begin = piece.checked_sub(1).map_or(0, |before| at(cuts[before]));
        let range = begin..cuts.get(piece).map_or(rows.len(), |cut| at(*cut));
        for (i, row) in rows.iter().enumerate().filter(|(i, _)| range.contains(i)) {
            producer.send(i32::try_from(i).unwrap() % PARTITIONS, row);
        }
        producer.flush();
    }
}

/// The script with the options of its tables, and without the data.
fn substitute(topics: &Topics, golden: &Golden) -> String {
    let mut sql = String::new();
    let mut table = String::new();
    for line in golden.sql.lines().filter(|l| !l.starts_with("-- input") && !l.starts_with("-- expect")) {
        if let Some(rest) = line.trim_start().strip_prefix("CREATE TABLE ") {
            table = rest.split([' ', '(']).next().unwrap().trim_matches('`').to_owned();
        }
        let rows = golden.input.get(&table).map_or(0, Vec::len);
        let line = match line {
            _ if !topics.by_table.contains_key(&table) => line.to_owned(),
            _ if line.contains("@input") => {
                line.replace("@input", &format!("{}, {}", topics.input(&table), bounded(rows)))
            }
            _ if line.contains("@output") => line.replace("@output", &topics.output(&table)),
            _ => line.replace("@upsert", &topics.upsert(&table)),
        };
        sql.push_str(&line);
        sql.push('\n');
    }
    sql
}

fn compare(topics: &Topics, broker: &Broker, golden: &Golden) {
    for (table, expected) in &golden.expected {
        let mut reader = broker.reader(&topics.by_table[table]);
        let actual = if golden.sql.contains("@upsert") {
            read_until(&mut reader, &sorted(expected))
        } else {
            reader.read_exactly(expected.len(), LIMIT);
            reader.values()
        };
        assert_eq!(sorted(&actual), sorted(expected), "{}: table {table}", golden.name);
    }
}

/// Reads an upsert topic until it describes the expected table, or gives up and returns what it describes.
pub(crate) fn read_until(reader: &mut CommittedReader, expected: &[String]) -> Vec<serde_json::Value> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        reader.poll();
        let table = last_by_key(&reader.seen);
        if sorted(&table) == expected || Instant::now() > end {
            return table;
        }
    }
}

/// The table that an upsert topic describes.
pub(crate) fn last_by_key(seen: &[millstream_e2e::kafka::Seen]) -> Vec<serde_json::Value> {
    let mut rows = BTreeMap::new();
    for record in seen {
        let key = record.key.clone().expect("upsert records have a key");
        match &record.value {
            Some(value) => rows.insert(key, serde_json::from_str(value).unwrap()),
            None => rows.remove(&key),
        };
    }
    rows.into_values().collect()
}

pub(crate) fn sorted(rows: &[serde_json::Value]) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}
