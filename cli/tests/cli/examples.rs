//! Every example under `examples/`: its manifest as it stands, its input, its expected output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_e2e::process::{Job, Run, binary};
use millstream_e2e::{services, wait_for};
use serde_json::Value;

use crate::hours::{ask, listening, wait_until_all_is_read};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs `examples/<name>/job.yaml` with topics of its own on the test broker and compares with `expected.jsonl`.
/// Only the names of its two topics are replaced.
fn run(name: &str, input_topic: &str, output_topic: &str) {
    let Some(broker) = services::broker(name) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let (input, output) = (broker.create_topic("example-in", 2, &[]), broker.create_topic("example-out", 2, &[]));
    broker.produce(&input, 2, lines(&folder.join("input.jsonl")));
    let own_topics = |text: String| {
        let topic = |name: &str| format!("'topic' = '{name}'");
        assert!(
            text.contains("sqlFile") || (text.contains(&topic(input_topic)) && text.contains(&topic(output_topic)))
        );
        text.replace(&topic(input_topic), &topic(&input)).replace(&topic(output_topic), &topic(&output))
    };
    let job = Job::new(&own_topics(std::fs::read_to_string(folder.join("job.yaml")).unwrap()));
    if let Ok(sql) = std::fs::read_to_string(folder.join("job.sql")) {
        std::fs::write(job.folder.path().join("job.sql"), own_topics(sql)).unwrap();
    }
    let process = job.run().env("KAFKA_BOOTSTRAP_SERVERS", &broker.bootstrap).start();
    let mut expected: Vec<Value> =
        lines(&folder.join("expected.jsonl")).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut reader = broker.reader(&output);
    reader.read_exactly(expected.len(), LIMIT);
    assert_eq!(process.stop(LIMIT).code(), 0);
    let mut actual = reader.values();
    actual.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(actual, expected);
}

fn lines(path: &PathBuf) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn clicks_per_user() {
    run("clicks-per-user", "clicks", "clicks-per-user");
}

#[test]
fn pipeline() {
    run("pipeline", "orders", "large-orders");
}

/// The morning is read by the job with the mistake, the afternoon by both; the corrected one goes on from the savepoint between.
#[test]
fn reprocess() {
    let Some(broker) = services::broker("reprocess") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/reprocess");
    let topics = ["sales", "revenue", "revenue-corrected"].map(|name| (name, broker.create_topic(name, 2, &[])));
    let produce = |file: &str| broker.produce(&topics[0].1, 2, lines(&folder.join(file)));
    let job = |file: &str| {
        let own_topics = |text: String, (name, own): &(&str, String)| {
            text.replace(&format!("'topic' = '{name}'"), &format!("'topic' = '{own}'"))
        };
        let manifest = std::fs::read_to_string(folder.join(file)).unwrap();
        Job::new(&topics.iter().fold(manifest, own_topics))
    };
    let start = |run: Run| listening(run.env("KAFKA_BOOTSTRAP_SERVERS", &broker.bootstrap));

    let (mistaken, places) = (job("job.yaml"), tempfile::tempdir().unwrap());
    produce("morning.jsonl");
    let (process, address) = start(mistaken.run());
    wait_until_all_is_read(&address, 4);
    let place = places.path().to_string_lossy();
    assert!(ask("savepoint", &address, &["--path", &place, "--operation-id", "noon"]).status.success());
    produce("afternoon.jsonl");
    wait_until_all_is_read(&address, 8);
    assert_eq!(process.stop(LIMIT).code(), 0);

    let corrected = job("corrected.yaml");
    let savepoint = places.path().join("savepoint-noon");
    let explained = binary()
        .args(["explain", &corrected.folder.path().join("job.yaml").to_string_lossy(), "--against"])
        .arg(&savepoint)
        .env("KAFKA_BOOTSTRAP_SERVERS", &broker.bootstrap)
        .output()
        .unwrap();
    let explained = [explained.stdout, explained.stderr].concat();
    let explained = String::from_utf8_lossy(&explained);
    assert!(!explained.contains("dropped") && explained.contains("kept"), "{explained}");

    let (process, address) = start(corrected.run().arg("--from-savepoint").arg(&savepoint.to_string_lossy()));
    wait_until_all_is_read(&address, 8);
    assert_eq!(process.stop(LIMIT).code(), 0);
    let expected: Vec<Value> =
        lines(&folder.join("expected.jsonl")).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut reader = broker.reader(&topics[2].1);
    wait_for("the corrected figures", LIMIT, || {
        reader.poll();
        let newest: BTreeMap<String, Value> =
            reader.values().into_iter().map(|row| (row["shop"].to_string(), row)).collect();
        newest.into_values().eq(expected.iter().cloned()).then_some(())
    });
}
