//! Stopping, going on, finishing again, and the HTTP page.

use std::time::Duration;

use millstream_e2e::http::get;
use millstream_e2e::kafka::{Broker, rand_id};
use millstream_e2e::process::{Job, binary};
use millstream_e2e::proxy::Proxy;
use millstream_e2e::{CHECKPOINT_DONE, services, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

fn pass_through(broker: &Broker, input: &str, output: &str, bounded: bool) -> String {
    let bootstrap = &broker.bootstrap;
    let end = if bounded { ", 'scan.bounded.mode' = 'latest-offset'" } else { "" };
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: copy
spec:
  parallelism: 2
  checkpoint:
    interval: 200 ms
  sql: |
    CREATE TABLE source (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{input}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset'{end});
    CREATE TABLE target (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{output}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'sink.delivery-guarantee' = 'exactly-once',
      'sink.transactional-id-prefix' = '{output}');
    INSERT INTO target SELECT id FROM source;
"
    )
}

fn ids(range: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    range.map(|id| format!("{{\"id\":{id}}}"))
}

#[test]
fn sigterm_takes_a_last_checkpoint_and_the_next_run_goes_on_from_there() {
    let Some(broker) = services::broker("stop and go on") else { return };
    let (input, output) = (broker.create_topic("in", 3, &[]), broker.create_topic("out", 2, &[]));
    let job = Job::new(&pass_through(&broker, &input, &output, false));
    let mut reader = broker.reader(&output);
    broker.produce(&input, 3, ids(0..1_000));
    let process = job.run().start();
    wait_for("the first half", LIMIT, || {
        reader.poll();
        (reader.seen.len() == 1_000).then_some(())
    });
    let stopped = process.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("stopped") && stopped.stderr.contains("/log/"), "says where: {}", stopped.stderr);
    broker.produce(&input, 3, ids(1_000..2_000));
    let process = job.run().start();
    process.wait_for_log("going on from checkpoint", LIMIT);
    reader.read_exactly(2_000, LIMIT);
    process.stop(LIMIT);
}

#[test]
fn a_finished_job_that_is_run_again_says_so_and_writes_nothing() {
    let Some(broker) = services::broker("finished job") else { return };
    let (input, output) = (broker.create_topic("in", 3, &[]), broker.create_topic("out", 2, &[]));
    broker.produce(&input, 3, ids(0..500));
    let job = Job::new(&pass_through(&broker, &input, &output, true));
    let first = job.run().finish(LIMIT);
    assert_eq!(first.code(), 0, "{}", first.stderr);
    let again = job.run().finish(LIMIT);
    assert_eq!(again.code(), 0, "{}", again.stderr);
    assert!(again.stderr.contains("finished"), "{}", again.stderr);
    broker.reader(&output).read_exactly(500, LIMIT);
}

#[test]
fn a_second_process_of_a_running_job_is_refused() {
    let Some(broker) = services::broker("two processes") else { return };
    let (input, output) = (broker.create_topic("in", 3, &[]), broker.create_topic("out", 2, &[]));
    let job = Job::new(&pass_through(&broker, &input, &output, false));
    let first = job.run().start();
    first.wait_for_log(CHECKPOINT_DONE, LIMIT);
    let second = Job::new(&pass_through(&broker, &input, &output, false));
    let state = job.folder.path().join("state");
    let refused = second.run().env("MILLSTREAM_STATE_DIR", state.to_str().unwrap()).finish(LIMIT);
    assert_eq!(refused.code(), 6, "{}", refused.stderr);
    assert!(refused.stderr.contains("process"), "names the process: {}", refused.stderr);
    first.stop(LIMIT);
}

#[test]
fn the_http_page_has_metrics_health_and_status() {
    let Some(broker) = services::broker("http page") else { return };
    let (input, output) = (broker.create_topic("in", 3, &[]), broker.create_topic("out", 2, &[]));
    broker.produce(&input, 3, ids(0..100));
    let job = Job::new(&pass_through(&broker, &input, &output, false));
    let process = job.run().arg("--http").arg("127.0.0.1:0").start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    let log = process.stderr();
    let address =
        log.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("the address is in the log");
    wait_for("the records in the metrics", LIMIT, || get(address, "/metrics").contains("numRecordsIn").then_some(()));
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/v1/status").contains("\"epoch\""));
    process.stop(LIMIT);
}

const GENERATED: &str = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: generated
spec:
  restart:
    strategy: none
  checkpoint:
    interval: 200 ms
    timeout: 1 s
  sql: |
    CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '50000', 'fields.a.min' = '0',
      'fields.a.max' = '1000000');
    CREATE TABLE t (a BIGINT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO t SELECT a, COUNT(*) FROM s GROUP BY a;
";

#[test]
fn sigint_stops_like_sigterm_and_the_log_is_json_on_request() {
    let job = Job::new(GENERATED);
    let process = job.run_with_log("json").start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    process.signal(libc::SIGINT);
    let stopped = process.wait(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("stopped at checkpoint "), "{}", stopped.stderr);
    let lines = stopped.stderr.lines().filter(|line| line.starts_with('{'));
    let entries: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(entries.iter().all(|e| e["level"].is_string() && e["timestamp"].is_string()), "{entries:?}");
    assert!(entries.iter().any(|e| e["message"].as_str().is_some_and(|m| m.contains(CHECKPOINT_DONE))), "{entries:?}");
}

/// The generated job with its checkpoints on S3, behind a proxy.
fn behind_a_proxy(suite: &str) -> Option<(Job, Proxy, [String; 2])> {
    let server = services::s3(suite)?.into_iter().next()?;
    let proxy = Proxy::start(&server.endpoint);
    let storage = format!(
        "    timeout: 1 s\n    storage: s3://{}/operation-{:016x}\n    s3:\n      endpoint: {}\n",
        server.bucket,
        rand_id(),
        proxy.endpoint
    );
    let job = Job::new(&GENERATED.replace("    timeout: 1 s\n", &storage));
    Some((job, proxy, [server.access_key_id, server.secret_access_key]))
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let Some((job, proxy, [id, secret])) = behind_a_proxy("second signal") else { return };
    let process = job.run().env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret).start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    // The last checkpoint cannot be written.
    proxy.hold("");
    process.signal(libc::SIGTERM);
    process.wait_for_log("stopping with a last checkpoint", LIMIT);
    process.signal(libc::SIGTERM);
    let ended = process.wait(LIMIT);
    proxy.release();
    assert_eq!(ended.code(), 130, "{}", ended.stderr);
    assert!(ended.stderr.contains("goes on from the last sealed checkpoint"), "{}", ended.stderr);
}

#[test]
fn a_job_whose_restarts_are_used_up_has_its_own_exit_code() {
    let Some((job, proxy, [id, secret])) = behind_a_proxy("restarts used up") else { return };
    let process = job.run().env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret).start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    // Uploads take longer than a checkpoint may.
    proxy.hold("/state/");
    let ended = process.wait(LIMIT);
    proxy.release();
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    assert!(ended.stderr.contains("\nerror: "), "{}", ended.stderr);
}

#[test]
fn a_wrong_command_line_has_its_own_exit_code() {
    for arguments in [&["run"][..], &["run", "job.yaml", "--nonsense"], &["run", "job.yaml", "--log-format", "xml"]] {
        let output = binary().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn explain_prints_text_json_and_mermaid() {
    let job = Job::new(GENERATED);
    let explained = |form: &[&str]| {
        let output = binary().arg("explain").arg(&job.manifest).args(form).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(explained(&[]).contains("blackhole"));
    let json: serde_json::Value = serde_json::from_str(&explained(&["-o", "json"])).unwrap();
    assert!(json.is_object(), "{json}");
    assert!(explained(&["--output", "mermaid"]).starts_with("flowchart TB\n"));
}

#[test]
fn mistakes_in_an_sql_file_have_their_place_there() {
    let (head, _) = GENERATED.split_once("  sql: |").unwrap();
    let job = Job::new(&format!("{head}  sqlFile: job.sql\n"));
    std::fs::write(
        job.folder.path().join("job.sql"),
        "CREATE TABLE t (a INT) WITH ('connector' = 'print');\n\n  SELEC 1;",
    )
    .unwrap();
    let output = binary().arg("validate").arg(&job.manifest).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("job.sql:3:3"), "{told}");
}
