//! What a manifest says, through `validate` and `run`: places of errors, options in Flink's words, placeholders.

use std::time::Duration;

use millstream_e2e::process::{Job, binary};

const LIMIT: Duration = Duration::from_secs(60);

const HEAD: &str = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: front
spec:
";

const TABLES: &str = "CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '5');
    CREATE TABLE t (a BIGINT) WITH ('connector' = 'blackhole');";

/// What `validate` says about a manifest with these lines of its spec; empty: it is valid.
fn validate(spec: &str) -> String {
    let job = Job::new(&format!("{HEAD}{spec}"));
    let output = binary().arg("validate").arg(&job.manifest).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(if text.is_empty() { 0 } else { 3 }), "{text}");
    text.replace(&job.manifest.display().to_string(), "job.yaml")
}

#[track_caller]
fn refused(spec: &str, begin: &str, part: &str) {
    let text = validate(spec);
    assert!(text.starts_with(&format!("error: job.yaml:{begin}: ")) && text.contains(part), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn options_of_the_manifest_are_scalars_and_their_errors_have_a_place() {
    let script = format!("  sql: |\n    {TABLES}\n    INSERT INTO t SELECT a FROM s\n");
    let mini_batch = "    table.exec.mini-batch.enabled: true\n    table.exec.mini-batch.size: 100\n";
    let options = |lines: &str| format!("  options:\n{lines}{script}");
    assert_eq!(validate(&options(&format!("{mini_batch}    table.exec.mini-batch.allow-latency: 1 s\n"))), "");
    refused(&options(mini_batch), "7:5", "table.exec.mini-batch.allow-latency");
    refused(&options("    parallelism.default: 0\n"), "7:5", "'0' is no value of 'parallelism.default'");
    refused(&options("    'table.exec.stat.ttl': 1 h\n"), "7:5", "did you mean 'table.exec.state.ttl'?");
}

#[test]
fn a_value_from_set_that_fails_later_is_placed_at_the_set() {
    let script = |set: &str| format!("  sql: |\n    {TABLES}\n    {set}\n    INSERT INTO t SELECT a FROM s\n");
    refused(&script("SET 'execution.checkpointing.interval' = '1 ms';"), "9:5", "at least 10 ms (set by 'execution.");
    refused(&script("SET 'pipeline.max-parallelism' = '2'; SET 'parallelism.default' = '3';"), "9:43", "which is 2");
    refused(&script("SET 'table.exec.mini-batch.enabled' = 'true';"), "9:5", "table.exec.mini-batch.size");
}

#[test]
fn positions_mean_the_manifest_only_where_its_lines_are_the_scripts() {
    refused("  sql: SELEC 1\n", "6:8", "SELEC");
    refused("  sql: >\n    SELEC\n    1\n", "6:3", "line 1, column 1 of spec.sql");
    refused("  sql: |\n\n    SELEC 1\n", "8:5", "SELEC");
}

#[test]
fn a_transaction_time_out_that_cannot_hold_is_found_by_validate_at_the_table() {
    let table = "CREATE TABLE o (a BIGINT) WITH ('connector' = 'kafka', 'topic' = 'o', 'format' = 'json',
      'properties.bootstrap.servers' = 'b:1', 'sink.delivery-guarantee' = 'exactly-once',
      'sink.transactional-id-prefix' = 'p', 'properties.transaction.timeout.ms' = '15000');";
    let spec = format!("  sql: |\n    {TABLES}\n    {table}\n    INSERT INTO o SELECT a FROM s\n");
    refused(&spec, "9:5", "transaction.timeout.ms = 15000 is too short");
}

#[test]
fn a_path_takes_a_placeholder_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.json"), "{\"a\":1}\n{\"a\":2}\n").unwrap();
    let job = Job::new(&format!(
        "{HEAD}  sql: |
    CREATE TABLE s (a BIGINT) WITH ('connector' = 'filesystem', 'path' = '${{ROWS}}/rows.json', 'format' = 'json');
    CREATE TABLE t (a BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO t SELECT a FROM s
"
    ));
    let missing = job.run().finish(LIMIT);
    assert_ne!(missing.code(), 0);
    assert!(missing.stderr.contains("option 'path' takes ${ROWS}"), "{}", missing.stderr);
    let ended = job.run().env("ROWS", folder.path().to_str().unwrap()).finish(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}
