//! A coordinator and workers in processes of their own, as a user starts them by hand.

use std::net::TcpListener;
use std::time::Duration;

use millstream_e2e::http::get;
use millstream_e2e::kafka::{Broker, CommittedReader};
use millstream_e2e::process::{Job, Process, binary};
use millstream_e2e::{CHECKPOINT_DONE, services, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

/// Copies numbers, exactly once, with its checkpoints in a folder that all processes see.
pub struct Copying {
    broker: Broker,
    input: String,
    output: String,
    pub job: Job,
}

impl Copying {
    pub fn new(test: &str, bounded: bool) -> Option<Self> {
        let broker = services::broker(test)?;
        let (input, output) = (broker.create_topic("in", PARTITIONS, &[]), broker.create_topic("out", 2, &[]));
        let job = Job::new("");
        let copying = Self { broker, input, output, job };
        copying.job.rewrite(&copying.manifest(bounded, ""));
        Some(copying)
    }

    /// `more`: further lines of the spec.
    pub fn manifest(&self, bounded: bool, more: &str) -> String {
        let Self { broker, input, output, job } = self;
        let (bootstrap, storage) = (&broker.bootstrap, job.folder.path().join("checkpoints"));
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
    storage: {}
{more}  sql: |
    CREATE TABLE source (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{input}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset'{end});
    CREATE TABLE target (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{output}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'sink.delivery-guarantee' = 'exactly-once',
      'sink.transactional-id-prefix' = '{output}');
    INSERT INTO target SELECT id FROM source;
",
            storage.display()
        )
    }

    pub fn produce(&self, ids: std::ops::Range<u64>) {
        self.broker.produce(&self.input, PARTITIONS, ids.map(|id| format!("{{\"id\":{id}}}")));
    }

    pub fn reader(&self) -> CommittedReader {
        self.broker.reader(&self.output)
    }

    /// A coordinator that takes workers, and where.
    fn coordinator(&self) -> (Process, String) {
        let process = self.job.coordinator("127.0.0.1:0").start();
        let address = address_of(&process);
        (process, address)
    }
}

/// Where a coordinator takes workers.
pub fn address_of(coordinator: &Process) -> String {
    coordinator.wait_for_log("listening for workers on ", LIMIT);
    let log = coordinator.stderr();
    let after = log.split("listening for workers on ").nth(1).expect("it is in the log");
    after.split(',').next().expect("the address comes first").to_owned()
}

/// An address that nobody listens on.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub fn wait_until_seen(reader: &mut CommittedReader, count: usize) {
    wait_for("output", LIMIT, || {
        reader.poll();
        (reader.seen.len() >= count).then_some(())
    });
}

/// Every number below `count`, each once.
pub fn assert_exact(reader: &CommittedReader, count: u64) {
    let mut ids: Vec<u64> = reader.values().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..count), "each number once");
}

#[test]
fn a_bounded_job_finishes_and_every_process_ends_with_success() {
    let Some(copying) = Copying::new("cluster finishes", true) else { return };
    copying.produce(0..1_000);
    let (coordinator, address) = copying.coordinator();
    let worker = copying.job.worker(&address, 2).start();
    let finished = coordinator.wait(LIMIT);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    let ended = worker.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let mut reader = copying.reader();
    reader.read_exactly(1_000, LIMIT);
    assert_exact(&reader, 1_000);
}

#[test]
fn a_killed_worker_is_replaced_by_another_one_and_the_output_stays_exact() {
    let Some(copying) = Copying::new("cluster loses a worker", false) else { return };
    let (coordinator, address) = copying.coordinator();
    let mut reader = copying.reader();
    let mut worker = copying.job.worker(&address, 2).start();
    for round in 0..4u64 {
        copying.produce(round * 1_000..(round + 1) * 1_000);
        wait_until_seen(&mut reader, usize::try_from(round * 1_000 + 1).unwrap());
        worker.kill();
        worker = copying.job.worker(&address, 2).start();
    }
    reader.read_exactly(4_000, LIMIT);
    assert_exact(&reader, 4_000);
    let log = coordinator.stderr();
    assert!(log.contains("lost worker"), "the reason of each restart is told: {log}");
    let stopped = coordinator.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    assert_eq!(worker.wait(LIMIT).code(), 0);
}

#[test]
fn a_killed_coordinator_is_started_again_and_its_worker_comes_back_to_it() {
    let Some(copying) = Copying::new("cluster loses its coordinator", false) else { return };
    let address = free_address();
    let start = || copying.job.coordinator(&address).start();
    let coordinator = start();
    let worker = copying.job.worker(&address, 2).start();
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 1);
    coordinator.kill();
    copying.produce(1_000..2_000);
    let coordinator = start();
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    assert_eq!(coordinator.stop(LIMIT).code(), 0);
    let ended = worker.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn a_worker_may_be_started_before_its_coordinator() {
    let Some(copying) = Copying::new("cluster in the wrong order", true) else { return };
    copying.produce(0..100);
    let address = free_address();
    let worker = copying.job.worker(&address, 2).arg("--job").arg("default/copy").start();
    worker.wait_for_log("is not reached", LIMIT);
    let coordinator = copying.job.coordinator(&address).start();
    assert_eq!(coordinator.wait(LIMIT).code(), 0);
    let ended = worker.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let tries = ended.stderr.matches("is not reached").count();
    assert_eq!(tries, 1, "tries without end are one line: {}", ended.stderr);
    copying.reader().read_exactly(100, LIMIT);
}

#[test]
fn a_job_with_too_few_slots_says_how_many_are_missing_and_goes_on_when_they_come() {
    let Some(copying) = Copying::new("cluster waits for slots", true) else { return };
    copying.produce(0..100);
    let (coordinator, address) = copying.coordinator();
    coordinator.wait_for_log("2 slots are needed, 0 are there, 2 are missing", LIMIT);
    let first = copying.job.worker(&address, 1).start();
    first.wait_for_log("registered", LIMIT);
    let second = copying.job.worker(&address, 1).start();
    let finished = coordinator.wait(LIMIT);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    for worker in [first, second] {
        let ended = worker.wait(LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    copying.reader().read_exactly(100, LIMIT);
}

#[test]
fn a_worker_that_is_stopped_hands_its_tasks_over_and_ends_with_success() {
    let Some(copying) = Copying::new("cluster worker leaves", false) else { return };
    let (coordinator, address) = copying.coordinator();
    let leaving = copying.job.worker(&address, 2).start();
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 1_000);
    let staying = copying.job.worker(&address, 2).start();
    staying.wait_for_log("registered", LIMIT);
    let left = leaving.stop(LIMIT);
    assert_eq!(left.code(), 0, "{}", left.stderr);
    assert!(left.stderr.contains("nothing of the job runs here any more"), "{}", left.stderr);
    copying.produce(1_000..2_000);
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    assert!(!coordinator.stderr().contains("lost worker"), "it was released: {}", coordinator.stderr());
    assert_eq!(coordinator.stop(LIMIT).code(), 0);
    assert_eq!(staying.wait(LIMIT).code(), 0);
}

/// Asks for another parallelism, and waits for the answer: exit code, and what was said.
pub fn rescale(address: &str, parallelism: u32, id: &str) -> (i32, String) {
    let number = parallelism.to_string();
    let arguments = ["rescale", "--coordinator", address, "--parallelism", &number, "--operation-id", id];
    let output = binary().args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn the_parallelism_changes_while_the_job_runs_and_stays_after_a_crash() {
    let Some(copying) = Copying::new("cluster rescales", false) else { return };
    let (coordinator, address) = copying.coordinator();
    let workers = [copying.job.worker(&address, 2).start(), copying.job.worker(&address, 2).start()];
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 1);
    let (code, said) = rescale(&address, 4, "grow");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the parallelism is 4") && said.contains("(operation grow)"), "{said}");
    copying.produce(1_000..2_000);
    let again = rescale(&address, 4, "grow");
    assert_eq!(again, (0, said), "the same operation is done once");
    let (code, said) = rescale(&address, 2, "grow");
    assert!(code != 0 && said.contains("was used for another operation"), "{said}");
    let (code, said) = rescale(&address, 4_096, "much");
    assert!(code != 0 && said.contains("maxParallelism"), "{said}");
    wait_until_seen(&mut reader, 2_000);
    // Whoever follows the coordinator finds in the log what was asked for, not in its manifest.
    coordinator.kill();
    let coordinator = copying.job.coordinator(&address).start();
    copying.produce(2_000..3_000);
    wait_until_seen(&mut reader, 3_000);
    let (code, said) = rescale(&address, 4, "same");
    assert!(code == 0 && said.contains("was 4 already"), "{said}");
    let (code, said) = rescale(&address, 1, "shrink");
    assert_eq!(code, 0, "{said}");
    copying.produce(3_000..4_000);
    reader.read_exactly(4_000, LIMIT);
    assert_exact(&reader, 4_000);
    assert!(!coordinator.stderr().contains("restart "), "nothing restarted: {}", coordinator.stderr());
    assert_eq!(coordinator.stop(LIMIT).code(), 0);
    for worker in workers {
        assert_eq!(worker.wait(LIMIT).code(), 0);
    }
}

#[test]
fn a_standby_takes_over_from_a_killed_coordinator() {
    let Some(copying) = Copying::new("cluster with a standby", false) else { return };
    let (first, one) = copying.coordinator();
    first.wait_for_log("are missing", LIMIT);
    let (second, other) = copying.coordinator();
    let worker = copying.job.worker(&format!("{one},{other}"), 2).start();
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 1_000);
    first.kill();
    copying.produce(1_000..2_000);
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    assert_eq!(second.stop(LIMIT).code(), 0);
    let ended = worker.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn a_job_that_may_be_smaller_starts_with_the_slots_that_are_there() {
    let Some(copying) = Copying::new("cluster starts smaller", true) else { return };
    copying.produce(0..100);
    copying.job.rewrite(&copying.manifest(true, "  minParallelism: 1\n  slotTimeout: 300 ms\n"));
    let (coordinator, address) = copying.coordinator();
    let worker = copying.job.worker(&address, 1).start();
    coordinator.wait_for_log("starting with parallelism 1", LIMIT);
    assert_eq!(coordinator.wait(LIMIT).code(), 0);
    assert_eq!(worker.wait(LIMIT).code(), 0);
    copying.reader().read_exactly(100, LIMIT);
}

#[test]
fn a_worker_that_hangs_is_replaced_and_comes_back_when_it_wakes_up() {
    let Some(copying) = Copying::new("cluster with a hanging worker", false) else { return };
    let (coordinator, address) = copying.coordinator();
    let hanging = copying.job.worker(&address, 2).start();
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 1_000);
    let other = copying.job.worker(&address, 2).start();
    other.wait_for_log("registered", LIMIT);
    hanging.signal(libc::SIGSTOP);
    copying.produce(1_000..2_000);
    wait_until_seen(&mut reader, 2_000);
    assert!(coordinator.stderr().contains("said nothing for 3s"), "{}", coordinator.stderr());
    // Its tasks are another one's now, whatever they still do.
    hanging.signal(libc::SIGCONT);
    hanging.wait_for_log("lost the coordinator", LIMIT);
    wait_for("the second registration", LIMIT, || {
        (hanging.stderr().matches("registered with").count() == 2).then_some(())
    });
    copying.produce(2_000..3_000);
    reader.read_exactly(3_000, LIMIT);
    assert_exact(&reader, 3_000);
    assert_eq!(coordinator.stop(LIMIT).code(), 0);
    for worker in [hanging, other] {
        let ended = worker.wait(LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

#[test]
fn a_coordinator_that_hangs_and_wakes_up_goes_on_with_its_worker() {
    let Some(copying) = Copying::new("cluster with a hanging coordinator", false) else { return };
    let (coordinator, address) = copying.coordinator();
    let worker = copying.job.worker(&address, 2).start();
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 1_000);
    coordinator.signal(libc::SIGSTOP);
    worker.wait_for_log("lost the coordinator", LIMIT);
    copying.produce(1_000..2_000);
    coordinator.signal(libc::SIGCONT);
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    let ended = coordinator.stop(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let went_on = ended.stderr.contains("this coordinator stood still") && ended.stderr.contains("running tasks go on");
    assert!(went_on && !ended.stderr.contains("restart 1"), "nothing was restored: {}", ended.stderr);
    let ended = worker.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn sigterm_of_the_coordinator_takes_a_last_checkpoint_and_ends_its_workers() {
    let Some(copying) = Copying::new("cluster stops", false) else { return };
    copying.produce(0..1_000);
    let (coordinator, address) = copying.coordinator();
    let worker = copying.job.worker(&address, 2).start();
    let mut reader = copying.reader();
    wait_until_seen(&mut reader, 1_000);
    let stopped = coordinator.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("stopped at checkpoint"), "{}", stopped.stderr);
    let ended = worker.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    copying.produce(1_000..2_000);
    let (coordinator, address) = copying.coordinator();
    let _worker = copying.job.worker(&address, 2).start();
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    coordinator.stop(LIMIT);
}

#[test]
fn a_worker_of_another_job_is_turned_away() {
    let Some(copying) = Copying::new("cluster with a stranger", false) else { return };
    let (_coordinator, address) = copying.coordinator();
    let refused = copying.job.worker(&address, 1).arg("--job").arg("shop/orders").finish(LIMIT);
    assert_eq!(refused.code(), 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("shop/orders") && refused.stderr.contains("default/copy"), "{}", refused.stderr);
}

#[test]
fn a_coordinator_needs_storage_that_workers_reach_and_an_address_that_it_can_have() {
    let manifest = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: generated
spec:
  sql: |
    CREATE TABLE source (id BIGINT) WITH ('connector' = 'datagen');
    CREATE TABLE target (id BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO target SELECT id FROM source;
";
    let job = Job::new(manifest);
    let refused = job.coordinator("127.0.0.1:0").finish(LIMIT);
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("spec.checkpoint.storage is not set"), "{}", refused.stderr);
    let storage = format!("spec:\n  checkpoint:\n    storage: {}\n", job.folder.path().join("checkpoints").display());
    job.rewrite(&manifest.replace("spec:\n", &storage));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = job.coordinator(&address).finish(LIMIT);
    assert_eq!(refused.code(), 4, "{}", refused.stderr);
    assert!(refused.stderr.contains(&address), "{}", refused.stderr);
}

#[test]
fn each_process_has_metrics_and_health_of_its_own() {
    let Some(copying) = Copying::new("cluster pages", false) else { return };
    copying.produce(0..100);
    let address = free_address();
    let coordinator = copying.job.coordinator(&address).arg("--http").arg("127.0.0.1:0").start();
    let worker = copying.job.worker(&address, 2).arg("--http").arg("127.0.0.1:0").start();
    coordinator.wait_for_log(CHECKPOINT_DONE, LIMIT);
    let page_of = |process: &Process| {
        let log = process.stderr();
        log.split(" on http://").nth(1).and_then(|r| r.split('/').next()).expect("it is in the log").to_owned()
    };
    let (job, tasks) = (page_of(&coordinator), page_of(&worker));
    wait_for("rows in the worker's metrics", LIMIT, || get(&tasks, "/metrics").contains("numRecordsIn").then_some(()));
    assert!(!get(&tasks, "/metrics").contains("numberOfCompletedCheckpoints"), "the job's are its coordinator's");
    assert!(get(&job, "/metrics").contains("numberOfCompletedCheckpoints"));
    assert!(get(&job, "/metrics").contains("millstream_coordinator_refused_registrations_total"));
    for page in [&job, &tasks] {
        assert!(get(page, "/healthz").starts_with("HTTP/1.1 200"));
    }
    assert!(!get(&job, "/metrics").contains("millstream_shuffle"), "rows do not pass a coordinator");
    for reason in ["length", "header", "truncated", "channel", "payload", "credit"] {
        let none = format!("millstream_shuffle_refused_frames_total{{job_name=\"copy\",reason=\"{reason}\"}} 0\n");
        assert!(get(&tasks, "/metrics").contains(&none), "{none}");
    }
    assert!(get(&job, "/v1/status").contains("\"slots\":2"));
}
