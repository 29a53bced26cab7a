//! Stopping, going on, finishing again, and the HTTP page.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::kafka::Broker;
use crate::support::process::Job;
use crate::support::{CHECKPOINT_DONE, services, wait_for};

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
    assert!(get(address, "/status").contains("\"epoch\""));
    process.stop(LIMIT);
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
