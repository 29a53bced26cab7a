//! The coordinator comes back with edited SQL, and its workers never went away: what they hold in memory is of the old graph.

use millstream_e2e::process::{Job, Process};
use millstream_e2e::services;

use super::kept::{expect, records, rows};
use super::{LIMIT, PLAIN, Settings, Topics, manifest};
use crate::golden::wait_for_checkpoints;

const BEFORE: &str = "
CREATE TABLE s (id BIGINT, k INT, price INT) WITH (@in s);
CREATE TABLE counts (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert counts);
CREATE TABLE gone (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert gone);
CREATE TABLE sums (k INT, total INT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert sums);
INSERT INTO gone SELECT k, MAX(id) FROM s GROUP BY k;
INSERT INTO counts SELECT k, COUNT(*) FROM s GROUP BY k;
INSERT INTO sums SELECT k, SUM(price) FROM s GROUP BY k;
";

/// What is left stands in another order, one of them with wider columns.
const AFTER: &str = "
CREATE TABLE s (id BIGINT, k INT, price BIGINT) WITH (@in s);
CREATE TABLE counts (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert counts);
CREATE TABLE sums (k INT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert sums);
INSERT INTO sums SELECT k, SUM(price) FROM s GROUP BY k;
INSERT INTO counts SELECT k, COUNT(*) FROM s GROUP BY k;
";

fn coordinator(job: &Job, listen: &str) -> (Process, String) {
    let process = job.coordinator(listen).start();
    process.wait_for_log("listening for workers on ", LIMIT);
    let log = process.stderr();
    let after = log.split("listening for workers on ").nth(1).unwrap();
    (process, after.split(',').next().unwrap().to_owned())
}

#[test]
fn a_coordinator_with_edited_sql_takes_over_workers_that_run_the_old_graph() {
    let Some(broker) = services::broker("edit under living workers") else { return };
    for backend in ["memory", "disk"] {
        println!("{backend}");
        let topics = Topics::create(&broker, "edit", ["s", "counts", "gone", "sums"]);
        let job = Job::new("");
        let storage =
            format!("    interval: 50 ms\n    storage: {}\n", job.folder.path().join("checkpoints").display());
        let write = |sql: &str| {
            let settings = Settings { backend, restore: "allowNonRestoredState: true", ..PLAIN };
            job.rewrite(&manifest(settings, &topics.fill(sql)).replace("    interval: 50 ms\n", &storage));
        };
        write(BEFORE);
        let (first, address) = coordinator(&job, "127.0.0.1:0");
        let worker = job.worker(&address, 2).start();
        topics.feed(&broker, "s", records(0..2_000));
        expect(&broker, &topics, "counts", &rows("k", "n", (0..2_000).map(|id| ((id % 7).into(), 1))));
        wait_for_checkpoints(&first, 1);
        // Read, and perhaps in no checkpoint.
        topics.feed(&broker, "s", records(2_000..3_000));
        first.kill();

        write(AFTER);
        let (second, _) = coordinator(&job, &address);
        second.wait_for_log("state of gone/aggregate/0 is dropped", LIMIT);
        topics.feed(&broker, "s", records(3_000..4_000));
        expect(&broker, &topics, "counts", &rows("k", "n", (0..4_000).map(|id| ((id % 7).into(), 1))));
        expect(&broker, &topics, "sums", &rows("k", "total", (0..4_000).map(|id| ((id % 7).into(), id % 100))));
        assert_eq!(second.stop(LIMIT).code(), 0);
        assert_eq!(worker.wait(LIMIT).code(), 0);
    }
}
