//! A cluster whose processes have certificates.

use std::time::Duration;

use crate::cluster::{Copying, address_of, assert_exact, wait_until_seen};
use millstream_e2e::certificates::{Authority, Certificate};
use millstream_e2e::http::get;
use millstream_e2e::process::{Job, Process, binary};
use millstream_e2e::{CHECKPOINT_DONE, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// Each number once, by a group of its own: rows cross from worker to worker.
pub fn grouping(manifest: &str) -> String {
    let (source, target) = manifest.split_once("CREATE TABLE target").expect("the job has one");
    let target = target
        .replace("(id BIGINT)", "(id BIGINT, times BIGINT, PRIMARY KEY (id) NOT ENFORCED)")
        .replace("'connector' = 'kafka'", "'connector' = 'upsert-kafka'")
        .replace("'format' = 'json'", "'key.format' = 'json', 'value.format' = 'json'")
        .replace("SELECT id FROM source", "SELECT id, COUNT(*) FROM source GROUP BY id");
    format!("{source}CREATE TABLE target{target}")
}

/// Where the page of a process is.
fn page_of(process: &Process) -> String {
    let log = process.stderr();
    log.split(" on http://").nth(1).and_then(|r| r.split('/').next()).expect("it is in the log").to_owned()
}

/// The sum of the refused connections in a page of metrics.
fn refused(page: &str) -> f64 {
    let metrics = get(page, "/metrics");
    let samples = metrics.lines().filter(|line| line.starts_with("millstream_refused_connections_total{"));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn a_job_over_mutual_tls_is_exact_although_workers_are_killed_and_strangers_come() {
    let Some(copying) = Copying::new("cluster over TLS", false) else { return };
    let (authority, other) = (Authority::found(), Authority::found());
    copying.job.rewrite(&grouping(&copying.manifest(false, "")));
    let of_coordinator = authority.issue("copy/coordinator", &authority);
    let of_workers = authority.issue("copy/worker", &authority);
    let coordinator = of_coordinator.given_to(copying.job.coordinator("127.0.0.1:0")).arg("--http").arg("127.0.0.1:0");
    let coordinator = coordinator.start();
    let address = address_of(&coordinator);
    let worker = || of_workers.given_to(copying.job.worker(&address, 1)).start();

    // Nobody of these may register, though there is room for them.
    let of_strangers = [
        other.issue("copy/worker", &other),
        other.issue("copy/worker", &authority),
        authority.issue("returns/worker", &authority),
    ];
    let plain = copying.job.worker(&address, 2).start();
    let certified = of_strangers.iter().map(|of| of.given_to(copying.job.worker(&address, 2)).start());
    let strangers: Vec<Process> = [plain].into_iter().chain(certified).collect();
    for stranger in &strangers {
        stranger.wait_for_log("is not reached", LIMIT);
    }
    coordinator.wait_for_log("refused a connection from", LIMIT);
    let page = page_of(&coordinator);
    wait_for("each stranger to be counted", LIMIT, || (refused(&page) >= 4.0).then_some(()));
    assert!(!coordinator.stderr().contains("registered"), "{}", coordinator.stderr());

    let (first, _second) = (worker(), worker());
    let mut reader = copying.reader();
    copying.produce(0..1_000);
    wait_until_seen(&mut reader, 500);
    first.kill();
    let _third = worker();
    copying.produce(1_000..2_000);
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    drop(strangers);
    let stopped = coordinator.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
}

/// `millstream <command>` of a person with these certificates, or without any.
fn ask(command: &str, address: &str, of: Option<&Certificate>, more: &[&str]) -> (i32, String) {
    let mut asking = binary();
    asking.args([command, "--coordinator", address]).args(more);
    if let Some(of) = of {
        for (flag, file) in [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key"), ("--tls-ca", "ca.crt")] {
            asking.arg(flag).arg(of.file(file));
        }
    }
    let output = asking.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned())
}

#[test]
fn only_a_certificate_of_the_job_in_the_right_role_sees_it_and_stops_it() {
    let manifest = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: generated
spec:
  checkpoint:
    interval: 200 ms
    storage: STORAGE
  sql: |
    CREATE TABLE source (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100');
    CREATE TABLE target (id BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO target SELECT id FROM source;
";
    let job = Job::new("");
    job.rewrite(&manifest.replace("STORAGE", &job.folder.path().join("checkpoints").display().to_string()));
    let (authority, other) = (Authority::found(), Authority::found());
    let issue = |role: &str| authority.issue(&format!("generated/{role}"), &authority);
    let (of_coordinator, of_worker, of_operator) = (issue("coordinator"), issue("worker"), issue("operator"));
    let coordinator = of_coordinator.given_to(job.coordinator("127.0.0.1:0")).arg("--http").arg("127.0.0.1:0").start();
    coordinator.wait_for_log("listening for workers on ", LIMIT);
    let log = coordinator.stderr();
    let address = log.split("listening for workers on ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let worker = of_worker.given_to(job.worker(address, 1)).start();
    coordinator.wait_for_log(CHECKPOINT_DONE, LIMIT);

    let strangers = [
        ("another authority", Some(other.issue("generated/operator", &authority))),
        ("another job", Some(authority.issue("returns/operator", &authority))),
        ("no role", Some(authority.issue("generated/nobody", &authority))),
        ("nothing", None),
    ];
    for (who, certificate) in &strangers {
        for (command, more) in [("status", &[][..]), ("stop", &["--drain"]), ("stop", &[])] {
            let (code, told) = ask(command, address, certificate.as_ref(), more);
            assert_eq!(code, 4, "{command} with {who}: {told}");
            assert!(told.starts_with("error: "), "{command} with {who}: {told}");
        }
    }
    let page = page_of(&coordinator);
    wait_for("each of them to be counted", LIMIT, || (refused(&page) >= 9.0).then_some(()));

    let (code, told) = ask("status", address, Some(&of_operator), &[]);
    assert!(code == 0 && told.contains("default/generated  running"), "nobody had stopped it: {code} {told}");
    let (code, told) = ask("stop", address, Some(&of_operator), &[]);
    assert!(code == 0 && told.starts_with("stopped at checkpoint "), "{code} {told}");
    assert_eq!(coordinator.wait(LIMIT).code(), 0);
    assert_eq!(worker.wait(LIMIT).code(), 0);
}

#[test]
fn certificates_that_cannot_be_used_are_told_at_the_start() {
    let manifest = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: generated
spec:
  checkpoint:
    storage: /tmp
  sql: |
    CREATE TABLE source (id BIGINT) WITH ('connector' = 'datagen');
    CREATE TABLE target (id BIGINT) WITH ('connector' = 'blackhole');
    INSERT INTO target SELECT id FROM source;
";
    let job = Job::new(manifest);
    let authority = Authority::found();
    let of_worker = authority.issue("generated/worker", &authority);
    let refusal = |run: millstream_e2e::process::Run, code: i32, text: &str| {
        let refused = run.finish(LIMIT);
        assert_eq!(refused.code(), code, "{}", refused.stderr);
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    };
    let not_ours = "is for millstream://default/generated/worker, but this process is millstream://";
    refusal(of_worker.given_to(job.coordinator("127.0.0.1:0")), 4, not_ours);
    refusal(of_worker.given_to(job.worker("127.0.0.1:1", 1)).arg("--job").arg("default/other"), 4, not_ours);
    let some = job.worker("127.0.0.1:1", 1).arg("--tls-cert").arg("tls.crt");
    refusal(some, 2, "give all of --tls-cert, --tls-key and --tls-ca, or none of them");
    std::fs::write(of_worker.file("tls.key"), "nothing").unwrap();
    refusal(of_worker.given_to(job.worker("127.0.0.1:1", 1)), 4, "tls.key: it holds no unencrypted private key");
}
