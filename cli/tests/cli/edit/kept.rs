//! Statements that did not change keep their state, wherever they stand now; what is gone is dropped on request, and said.

use std::collections::BTreeMap;

use millstream_e2e::http::get;
use millstream_e2e::kafka::Broker;
use millstream_e2e::process::Job;
use millstream_e2e::{services, wait_for};
use serde_json::{Value, json};

use super::{LIMIT, PLAIN, Settings, Topics, against, manifest, newest, stored};
use crate::golden::{read_until, sorted, wait_for_checkpoints};

const BEFORE: &str = "
CREATE TABLE s (id BIGINT, k INT, price INT) WITH (@in s);
CREATE TABLE counts (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert counts);
CREATE TABLE sums (k INT, total INT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert sums);
CREATE TABLE per_id (id BIGINT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (@upsert per_id);
CREATE TABLE labelled (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert labelled);
INSERT INTO counts SELECT k, COUNT(*) FROM s GROUP BY k;
INSERT INTO per_id SELECT id, COUNT(*) FROM s GROUP BY id;
INSERT INTO labelled /*+ LABEL('odd') */ SELECT k, COUNT(*) FROM s WHERE MOD(id, 2) = 1 GROUP BY k;
INSERT INTO labelled /*+ LABEL('even') */ SELECT k + 100, COUNT(*) FROM s WHERE MOD(id, 2) = 0 GROUP BY k + 100;
INSERT INTO sums SELECT k, SUM(price) FROM s GROUP BY k;
";

/// Another order; a statement is gone, one is new and reads a new column, which moves the others; of two into one table the
/// first is gone.
const AFTER: &str = "
SET 'pipeline.name' = 'edited by hand';
CREATE TABLE s (channel STRING, id BIGINT, k INT, price INT) WITH (@in s);
CREATE TABLE sums (k INT, total INT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert sums);
CREATE TABLE counts (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert counts);
CREATE TABLE channels (channel STRING, n BIGINT, PRIMARY KEY (channel) NOT ENFORCED) WITH (@upsert channels);
CREATE TABLE labelled (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert labelled);
INSERT INTO sums SELECT k, SUM(price) FROM s GROUP BY k;
INSERT INTO labelled /*+ LABEL('even') */ SELECT k + 100, COUNT(*) FROM s WHERE MOD(id, 2) = 0 GROUP BY k + 100;
INSERT INTO channels SELECT channel, COUNT(*) FROM s GROUP BY channel;
INSERT INTO counts SELECT k, COUNT(*) FROM s GROUP BY k;
";

const FIRST: std::ops::Range<i64> = 0..4_000;
const SECOND: std::ops::Range<i64> = 4_000..6_000;

fn key(id: i64) -> i64 {
    id % 7
}

fn price(id: i64) -> i64 {
    id % 100
}

pub(super) fn records(ids: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    ids.map(|id| json!({ "id": id, "k": key(id), "price": price(id), "channel": format!("c{}", id % 3) }).to_string())
}

/// What the tables hold after these records, counted by hand.
pub(super) fn rows(key_column: &str, value_column: &str, pairs: impl Iterator<Item = (Value, i64)>) -> Vec<String> {
    let mut sums: BTreeMap<String, (Value, i64)> = BTreeMap::new();
    for (key, value) in pairs {
        sums.entry(key.to_string()).or_insert((key, 0)).1 += value;
    }
    let row = |(key, sum): (Value, i64)| json!({ key_column: key, value_column: sum });
    sorted(&sums.into_values().map(row).collect::<Vec<_>>())
}

pub(super) fn expect(broker: &Broker, topics: &Topics, table: &str, expected: &[String]) {
    let mut reader = broker.reader(&topics.by_table[table]);
    assert_eq!(sorted(&read_until(&mut reader, expected)), expected, "table {table}");
}

#[test]
fn statements_that_did_not_change_keep_their_state_and_what_is_gone_is_dropped_on_request() {
    let Some(broker) = services::broker("edited statements") else { return };
    let topics = Topics::create(&broker, "edit", ["s", "counts", "sums", "per_id", "labelled", "channels"]);
    let (before, after) = (topics.fill(BEFORE), topics.fill(AFTER));
    let job = Job::new(&manifest(PLAIN, &before));
    topics.feed(&broker, "s", records(FIRST));
    let process = job.run().start();
    expect(&broker, &topics, "per_id", &rows("id", "n", FIRST.map(|id| (id.into(), 1))));
    wait_for_checkpoints(&process, 1);
    // What its sinks had prepared for the next epoch is left behind, also that of statements which will be gone.
    process.kill();
    let kept_by_nobody: Vec<std::path::PathBuf> = {
        let manifest = newest(&job);
        let tables = manifest.tables.iter().filter(|t| t.uid.0.starts_with("per_id/")).cloned().collect();
        let only = millstream_api::log::Manifest { tables, ..manifest.clone() };
        only.objects().map(|object| stored(&job).join(&object.path)).collect()
    };
    assert!(!kept_by_nobody.is_empty() && kept_by_nobody.iter().all(|path| path.is_file()), "{kept_by_nobody:?}");

    job.rewrite(&manifest(PLAIN, &after));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!(code, 6, "{told}{errors}");
    assert!(told.contains("refused  per_id/aggregate/0  4000 rows, "), "{told}");
    let refused = job.run().finish(LIMIT);
    assert_eq!(refused.code(), 6, "{}", refused.stderr);
    let told = "per_id/aggregate/0: it has state and is no longer in the job";
    assert!(refused.stderr.contains(told) && errors.contains(told), "{}{errors}", refused.stderr);

    job.rewrite(&manifest(Settings { restore: "allowNonRestoredState: true", ..PLAIN }, &after));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!(code, 0, "{told}{errors}");
    for line in [
        "kept     counts/aggregate/0  ",
        "kept     even/aggregate/0  ",
        "kept     s  3 splits",
        "kept     sums/aggregate/0  ",
        "dropped  odd/aggregate/0  ",
        "dropped  per_id/aggregate/0  4000 rows, ",
        "new      channels/aggregate/0",
        "accepted: another graph, going on from checkpoint ",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let process = job.run().arg("--http").arg("127.0.0.1:0").start();
    process.wait_for_log("state of per_id/aggregate/0 is dropped (4000 rows, ", LIMIT);
    assert!(!process.stderr().contains("state of counts"), "{}", process.stderr());
    topics.feed(&broker, "s", records(SECOND));
    let all = || FIRST.start..SECOND.end;
    expect(&broker, &topics, "counts", &rows("k", "n", all().map(|id| (key(id).into(), 1))));
    expect(&broker, &topics, "sums", &rows("k", "total", all().map(|id| (key(id).into(), price(id)))));
    expect(&broker, &topics, "per_id", &rows("id", "n", FIRST.map(|id| (id.into(), 1))));
    expect(&broker, &topics, "channels", &rows("channel", "n", SECOND.map(|id| (format!("c{}", id % 3).into(), 1))));
    let odd = FIRST.filter(|id| id % 2 == 1).map(|id| (key(id).into(), 1));
    let even = all().filter(|id| id % 2 == 0).map(|id| ((key(id) + 100).into(), 1));
    expect(&broker, &topics, "labelled", &rows("k", "n", odd.chain(even)));

    let log = process.stderr();
    let address =
        log.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("the address is in the log");
    let page = get(address, "/v1/status");
    let status: Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    let told = status["checkpoints"]["restoredStates"].as_array().unwrap();
    let dropped: Vec<&str> = told.iter().map(|state| state["uid"].as_str().unwrap()).collect();
    assert_eq!(dropped, ["odd/aggregate/0", "per_id/aggregate/0"], "{status}");
    assert!(told.iter().all(|state| state["fate"] == "DROPPED"), "{status}");
    wait_for("the objects of what was dropped to go", LIMIT, || {
        kept_by_nobody.iter().all(|path| !path.exists()).then_some(())
    });
    assert_eq!(process.stop(LIMIT).code(), 0);
}
