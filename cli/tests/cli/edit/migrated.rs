//! Types that become wider: old rows are read into the new columns, on both backends, at other parallelisms, and again after
//! the next checkpoints and a kill.

use std::collections::BTreeMap;

use millstream_e2e::kafka::Broker;
use millstream_e2e::process::Job;
use millstream_e2e::{services, wait_for};
use serde_json::{Value, json};

use super::{LIMIT, PLAIN, Settings, Topics, against, manifest};
use crate::golden::{last_by_key, wait_for_checkpoints};
use crate::scripts::bounded;

/// Types of a, f, d and v, and of SUM(a). With the wide ones the aggregates stand in another order.
fn script(types: [&str; 4], rows: usize) -> String {
    let [a, f, d, v] = types;
    let columns = [
        ("SUM(a)", format!("total {a}")),
        ("MAX(a)", format!("a {a}")),
        ("MIN(f)", format!("f {f}")),
        ("MAX(d)", format!("d {d}")),
        ("MAX(v)", format!("v {v}")),
        ("COUNT(*)", "n BIGINT".to_owned()),
    ];
    let (mut calls, mut wide_columns): (Vec<&str>, Vec<String>) = columns.into_iter().unzip();
    if types == WIDE {
        calls.rotate_left(2);
        wide_columns.rotate_left(2);
    }
    let (wide, wide_columns) = (calls.join(", "), wide_columns.join(", "));
    format!(
        "CREATE TABLE s (k INT, a {a}, f {f}, d {d}, v {v}, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH (@in s, {});
CREATE TABLE wide (k INT, {wide_columns}, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert wide);
CREATE TABLE hours (k INT, total {a}, a {a}, f {f}, d {d}, n BIGINT) WITH (@out hours);
INSERT INTO wide SELECT k, {wide} FROM s GROUP BY k;
INSERT INTO hours SELECT k, SUM(a), MAX(a), MIN(f), MAX(d), COUNT(*)
  FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, k;
",
        bounded(rows)
    )
}

const NARROW: [&str; 4] = ["INT", "FLOAT", "DECIMAL(10, 2)", "VARCHAR(5)"];
const WIDE: [&str; 4] = ["BIGINT", "DOUBLE", "DECIMAL(16, 2)", "VARCHAR(40)"];

/// One record; those of the first piece fit the narrow types.
struct Record {
    k: i64,
    a: i64,
    f: f64,
    /// Hundredths.
    d: i64,
    v: String,
}

impl Record {
    fn of(i: i64, keys: i64, narrow: bool) -> Self {
        let k = i % keys;
        if narrow {
            return Self { k, a: i - 500, f: (i % 13) as f64 + 0.5, d: i * 25, v: format!("v{}", i % 1000) };
        }
        let v = format!("v a long text of {i}");
        Self { k, a: 3_000_000_000 + i, f: (i % 29) as f64 - 1e300, d: 1_234_567_890_125 + i * 25, v }
    }

    fn json(&self) -> String {
        let Self { k, a, f, d, v } = self;
        json!({ "k": k, "a": a, "f": f, "d": decimal(*d), "v": v, "ts": "2024-01-01 00:10:00" }).to_string()
    }
}

fn decimal(hundredths: i64) -> Value {
    serde_json::from_str(&format!("{}.{:02}", hundredths / 100, hundredths % 100)).unwrap()
}

/// Row of a key: SUM(a), MAX(a), MIN(f), MAX(d), MAX(v), COUNT(*).
type Row = (i64, i64, f64, i64, String, i64);

fn reference(records: &[Record]) -> BTreeMap<i64, Row> {
    let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
    for Record { k, a, f, d, v } in records {
        let row = rows.entry(*k).or_insert((0, i64::MIN, f64::INFINITY, i64::MIN, String::new(), 0));
        *row = (row.0 + a, row.1.max(*a), row.2.min(*f), row.3.max(*d), row.4.clone().max(v.clone()), row.5 + 1);
    }
    rows
}

/// By key, as they stand in a topic; without the column `v` where the table has none.
fn table(rows: &[Value]) -> BTreeMap<i64, Row> {
    let int = |row: &Value, column: &str| row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row}"));
    let float = |row: &Value, column: &str| row[column].as_f64().unwrap_or_else(|| panic!("{column} of {row}"));
    let row = |row: &Value| {
        let hundredths = (float(row, "d") * 100.0).round() as i64;
        let text = row["v"].as_str().unwrap_or_default().to_owned();
        (int(row, "k"), (int(row, "total"), int(row, "a"), float(row, "f"), hundredths, text, int(row, "n")))
    };
    rows.iter().map(row).collect()
}

fn run(broker: &Broker, backend: &str, keys: i64, rows: i64) {
    println!("{backend}, {keys} keys, {rows} rows");
    let topics = Topics::create(broker, "edit", ["s", "wide", "hours"]);
    let all: Vec<Record> = (0..rows * 3).map(|i| Record::of(i, keys, i < rows)).collect();
    let sql = |types| topics.fill(&script(types, all.len()));
    let settings = |parallelism| Settings { backend, parallelism, ..PLAIN };
    // The producer spreads a call's rows over the partitions from the first one on: pieces of a multiple of them fit the ends.
    let mut pieces = all.chunks(usize::try_from(rows).unwrap());
    let mut feed = || topics.feed(broker, "s", pieces.next().unwrap().iter().map(Record::json));

    let narrow = sql(NARROW);
    let job = Job::new(&manifest(settings(2), &narrow));
    feed();
    let process = job.run().start();
    process.wait_for_log("checkpoint 1 completed", LIMIT);
    let piece = usize::try_from(rows).unwrap();
    wait_for_rows("the first piece", &topics, broker, &reference(&all[..piece]));
    wait_for_checkpoints(&process, 2);
    process.kill();

    let wide = sql(WIDE);
    job.rewrite(&manifest(settings(3), &wide));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!(code, 0, "{told}{errors}");
    for change in [
        "count_all$count stands elsewhere",
        "migrated hours/window-aggregate/0",
        "migrated wide/aggregate/0",
        "max_a$value INT -> BIGINT",
        "FLOAT -> DOUBLE",
    ] {
        assert!(told.contains(change), "{change}: {told}");
    }
    feed();
    // Whoever dies before a manifest has the new columns, and right after, is followed by one that finds what it needs.
    for fault in ["before-manifest@1", "after-manifest@1"] {
        let died = job.run().env("MILLSTREAM_FAULT", fault).finish(LIMIT);
        assert_eq!(died.code(), -libc::SIGKILL, "{fault}: {}", died.stderr);
        assert!(
            died.stderr.contains("state of wide/aggregate/0 is read into other columns"),
            "{fault}: {}",
            died.stderr
        );
    }
    let process = job.run().start();
    wait_for_rows("the second piece", &topics, broker, &reference(&all[..piece * 2]));
    assert!(!process.stderr().contains("read into other columns"), "a manifest has the new ones: {}", process.stderr());
    wait_for_checkpoints(&process, 2);
    process.kill();

    job.rewrite(&manifest(settings(1), &wide));
    feed();
    let ended = job.run().finish(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains("read into other columns"), "it is in the new columns by now: {}", ended.stderr);
    let mut result = reference(&all);
    wait_for_rows("the whole", &topics, broker, &result);
    let mut reader = broker.reader(&topics.by_table["hours"]);
    reader.read_exactly(result.len(), LIMIT);
    result.values_mut().for_each(|row| row.4.clear());
    assert_eq!(table(&reader.values()), result, "{backend}: windows");

    // And back: what was wide does not fit.
    job.rewrite(&manifest(settings(1), &narrow));
    let (code, _, errors) = against(&job, &[]);
    assert_eq!(code, 6, "{errors}");
    assert!(errors.contains("max_a$value: was BIGINT, is INT"), "{errors}");
}

/// Waits until the upsert table holds these rows.
fn wait_for_rows(what: &str, topics: &Topics, broker: &Broker, rows: &BTreeMap<i64, Row>) {
    let mut reader = broker.reader(&topics.by_table["wide"]);
    wait_for(what, LIMIT, || {
        reader.poll();
        (table(&last_by_key(&reader.seen)) == *rows).then_some(())
    });
}

#[test]
fn types_that_become_wider_are_migrated() {
    let Some(broker) = services::broker("wider types") else { return };
    // Many keys make objects, few ride in the manifest.
    for (backend, keys, rows) in
        [("memory", 6_000, 9_000), ("disk", 6_000, 9_000), ("memory", 20, 300), ("disk", 20, 300)]
    {
        run(&broker, backend, keys, rows);
    }
}
