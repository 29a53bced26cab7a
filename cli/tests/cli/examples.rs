//! Every example under `examples/`: its manifest as it stands, its input, its expected output.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_e2e::process::Job;
use millstream_e2e::services;

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
    let mut expected: Vec<serde_json::Value> =
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
