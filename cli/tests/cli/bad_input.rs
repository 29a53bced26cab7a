//! Bad input of every kind: one clear message, a stable exit code, no panic, nothing lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millstream_e2e::kafka::{Broker, rand_id};
use millstream_e2e::process::{Finished, Job, binary};
use millstream_e2e::{CHECKPOINT_DONE, services, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const INVALID_JOB: i32 = 3;
const ENVIRONMENT: i32 = 4;
const DATA: i32 = 5;
const STATE: i32 = 6;

const HEAD: &str = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: bad
spec:
  checkpoint:
    interval: 100 ms
";

fn manifest(sql: &str) -> String {
    let indented: Vec<String> = sql.lines().map(|l| format!("    {}", l.trim_start())).collect();
    format!("{HEAD}  sql: |\n{}\n", indented.join("\n"))
}

/// The run ended with this code and one message that holds every part, and without a trace of a panic.
fn assert_refused(ended: &Finished, code: i32, parts: &[&str]) {
    assert_eq!(ended.code(), code, "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "`{part}` is missing in: {}", ended.stderr);
    }
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(errors, 1, "one message: {}", ended.stderr);
    for trace in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!ended.stderr.contains(trace), "{}", ended.stderr);
    }
}

fn run(text: &str) -> Finished {
    Job::new(text).run().finish(LIMIT)
}

fn validate(text: &str) -> Finished {
    let job = Job::new(text);
    let output = binary().arg("validate").arg(&job.manifest).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
fn malformed_yaml() {
    assert_refused(&validate("apiVersion: [\n"), INVALID_JOB, &["job.yaml:"]);
    assert_refused(
        &validate(&format!("{HEAD}  sqll: x\n")),
        INVALID_JOB,
        &["job.yaml:8:3", "unknown field `sqll`", "`sql`"],
    );
    let missing = binary().args(["validate", "/nowhere/job.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(INVALID_JOB));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/job.yaml"));
}

#[test]
fn malformed_sql_has_the_line_and_column_of_the_manifest() {
    assert_refused(&validate(&manifest("SELEC 1;")), INVALID_JOB, &["job.yaml:9:5"]);
    assert_refused(
        &validate(&manifest("CREATE TABLE t (a INT) WITH ('connector' = 'blackhole')\nINSERT")),
        INVALID_JOB,
        &["job.yaml:10:"],
    );
}

const TABLES: &str = "CREATE TABLE s (a INT, b STRING) WITH ('connector' = 'datagen');
CREATE TABLE t (a INT) WITH ('connector' = 'blackhole');
";

#[test]
fn unknown_options_name_the_nearest_known_one() {
    let sql = "CREATE TABLE s (a INT) WITH ('connector' = 'datagen', 'rows-per-secnd' = '1');";
    assert_refused(&validate(&manifest(sql)), INVALID_JOB, &["job.yaml:9:", "rows-per-secnd", "rows-per-second"]);
    let sql = format!("SET 'table.exec.mini-batch.enable' = 'true';\n{TABLES}INSERT INTO t SELECT a FROM s;");
    assert_refused(
        &validate(&manifest(&sql)),
        INVALID_JOB,
        &["table.exec.mini-batch.enable", "table.exec.mini-batch.enabled"],
    );
}

#[test]
fn a_missing_column_and_a_wrong_type_are_named_with_their_place() {
    let sql = format!("{TABLES}INSERT INTO t SELECT c FROM s;");
    assert_refused(&validate(&manifest(&sql)), INVALID_JOB, &["job.yaml:11:26", "c"]);
    let sql = format!("{TABLES}INSERT INTO t SELECT b FROM s;");
    assert_refused(&validate(&manifest(&sql)), INVALID_JOB, &["job.yaml:11:", "STRING", "INT"]);
}

#[test]
fn unsupported_constructs_are_named_with_their_place() {
    let sql = format!("{TABLES}INSERT INTO t SELECT s.a FROM s JOIN s AS u ON s.a = u.a;");
    assert_refused(&validate(&manifest(&sql)), INVALID_JOB, &["job.yaml:11:", "JOIN"]);
}

#[test]
fn an_unknown_key_in_the_options_names_the_nearest_known_one() {
    let sql = format!("{TABLES}INSERT INTO t SELECT a FROM s;");
    let options = "  options:\n    table.exec.mini-batch.enable: \"true\"\n  sql: |";
    let text = manifest(&sql).replace("  sql: |", options);
    assert_refused(
        &validate(&text),
        INVALID_JOB,
        &["job.yaml:", "'table.exec.mini-batch.enable'", "'table.exec.mini-batch.enabled'"],
    );
}

fn copy(bootstrap: &str, input: &str, output: &str) -> String {
    manifest(&format!(
        "CREATE TABLE s (id BIGINT, text STRING) WITH ('connector' = 'kafka', 'topic' = '{input}', 'format' = 'json',
         'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE t (id BIGINT, text STRING) WITH ('connector' = 'kafka', 'topic' = '{output}', 'format' = 'json',
         'properties.bootstrap.servers' = '{bootstrap}', 'sink.delivery-guarantee' = 'exactly-once',
         'sink.transactional-id-prefix' = 'bad-{:016x}');
         INSERT INTO t SELECT id, text FROM s;",
        rand_id()
    ))
}

/// A job that copies `input` to `output` on the broker.
struct Copy {
    broker: Broker,
    input: String,
    output: String,
    job: Job,
}

impl Copy {
    fn new(suite: &str, output_settings: &[(&str, &str)]) -> Option<Self> {
        let broker = services::broker(suite)?;
        let input = broker.create_topic("in", 2, &[]);
        let output = broker.create_topic("out", 2, output_settings);
        let job = Job::new(&copy(&broker.bootstrap, &input, &output));
        Some(Self { broker, input, output, job })
    }

    /// Copies `count` records and stops.
    fn copied(&self, count: u64) {
        let values = (0..count).map(|id| format!("{{\"id\":{id},\"text\":\"x\"}}"));
        self.broker.produce(&self.input, 2, values);
        let process = self.job.run().start();
        let mut reader = self.broker.reader(&self.output);
        reader.read_exactly(usize::try_from(count).unwrap(), LIMIT);
        assert_eq!(process.stop(LIMIT).code(), 0);
    }
}

/// Files of the job in the default store, by part of their path.
fn stored(job: &Job, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![job.folder.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(part) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_unreachable_broker() {
    assert_refused(&run(&copy("127.0.0.1:1", "in", "out")), ENVIRONMENT, &["127.0.0.1:1"]);
}

#[test]
fn wrong_kafka_credentials() {
    let Some(secured) = services::secure_broker("wrong Kafka credentials") else { return };
    let open = Broker { bootstrap: secured.plaintext.clone(), copies: 1 };
    let (input, output) = (open.create_topic("in", 2, &[]), open.create_topic("out", 2, &[]));
    open.produce(&input, 2, ["{\"id\":1,\"text\":\"a\"}".to_owned()]);
    let manifest = copy(&secured.sasl_ssl, &input, &output).replace(
        "'properties.bootstrap.servers'",
        &format!(
            "'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = 'SCRAM-SHA-512',
    'properties.sasl.jaas.config' = 'org.apache.kafka.common.security.scram.ScramLoginModule required \
             username=\"{}\" password=\"${{PASSWORD}}\";',
    'properties.ssl.truststore.type' = 'PEM', 'properties.ssl.truststore.location' = '{}',
    'properties.bootstrap.servers'",
            secured.username, secured.ca_file
        ),
    );
    let job = Job::new(&manifest);
    let ended = job.run().env("PASSWORD", "not-the-password").finish(LIMIT);
    assert_refused(&ended, ENVIRONMENT, &[&secured.sasl_ssl, "uthentication"]);
    let process = job.run().env("PASSWORD", &secured.password).start();
    open.reader(&output).read_exactly(1, LIMIT);
    assert_eq!(process.stop(LIMIT).code(), 0, "with the right ones nothing is lost");
}

#[test]
fn a_missing_topic() {
    let Some(broker) = services::broker("missing topic") else { return };
    let topic = format!("nowhere-{:016x}", rand_id());
    let output = broker.create_topic("out", 1, &[]);
    assert_refused(&run(&copy(&broker.bootstrap, &topic, &output)), ENVIRONMENT, &[&topic]);
    let input = broker.create_topic("in", 1, &[]);
    assert_refused(&run(&copy(&broker.bootstrap, &input, &topic)), ENVIRONMENT, &[&topic]);
}

#[test]
fn an_unreachable_store_and_wrong_credentials() {
    let sql = format!("{TABLES}INSERT INTO t SELECT a FROM s;");
    let with =
        |storage: &str| manifest(&sql).replace("    interval: 100 ms\n", &format!("    interval: 100 ms\n{storage}"));
    let nowhere = with("    storage: s3://bucket/x\n    s3:\n      endpoint: http://127.0.0.1:1\n");
    let ended = Job::new(&nowhere).run().env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").finish(LIMIT);
    assert_refused(&ended, ENVIRONMENT, &["http://127.0.0.1:1"]);
    let Some(servers) = services::s3("wrong credentials") else { return };
    // A server that takes any credentials cannot show this.
    for server in servers.iter().filter(|s| s.name != "moto") {
        let storage = format!("    storage: s3://{}/x\n    s3:\n      endpoint: {}\n", server.bucket, server.endpoint);
        let run = Job::new(&with(&storage));
        let ended = run.run().env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing").finish(LIMIT);
        assert_refused(&ended, ENVIRONMENT, &[&server.bucket]);
    }
}

#[test]
fn a_record_that_cannot_be_decoded_stops_the_job_with_its_place() {
    let Some(copy) = Copy::new("undecodable record", &[]) else { return };
    copy.broker.produce(
        &copy.input,
        2,
        ["{\"id\":1,\"text\":\"a\"}", "{\"id\":", "{\"id\":2,\"text\":\"b\"}"].map(str::to_owned),
    );
    let ended = copy.job.run().finish(LIMIT);
    assert_refused(&ended, DATA, &[&copy.input, "partition 1", "offset 0"]);
}

#[test]
fn a_record_that_cannot_be_decoded_is_skipped_and_counted_on_request() {
    let Some(copy) = Copy::new("skipped record", &[]) else { return };
    let text = std::fs::read_to_string(&copy.job.manifest).unwrap();
    copy.job.rewrite(&text.replacen(
        "'format' = 'json',",
        "'format' = 'json', 'json.ignore-parse-errors' = 'true',",
        1,
    ));
    copy.broker.produce(
        &copy.input,
        2,
        ["{\"id\":1,\"text\":\"a\"}", "nonsense", "{\"id\":2,\"text\":\"b\"}"].map(str::to_owned),
    );
    let process = copy.job.run().start();
    copy.broker.reader(&copy.output).read_exactly(2, LIMIT);
    assert_eq!(process.stop(LIMIT).code(), 0);
}

#[test]
fn an_oversized_record_that_the_broker_rejects() {
    let Some(copy) = Copy::new("oversized record", &[("max.message.bytes", "2000")]) else { return };
    let value = format!("{{\"id\":1,\"text\":\"{}\"}}", "x".repeat(10_000));
    copy.broker.produce(&copy.input, 2, [value]);
    assert_refused(&copy.job.run().finish(LIMIT), DATA, &[&copy.output, "max.message.bytes"]);
}

#[test]
fn a_topic_that_was_deleted_and_made_again() {
    let Some(copy) = Copy::new("topic made again", &[]) else { return };
    copy.copied(10);
    copy.broker.delete_topic(&copy.input);
    wait_for("the topic made again", LIMIT, || {
        std::panic::catch_unwind(|| copy.broker.create_topic_named(&copy.input, 2, &[])).ok()
    });
    assert_refused(&copy.job.run().finish(LIMIT), STATE, &[&copy.input, "made again"]);
}

#[test]
fn a_checkpoint_of_another_graph() {
    let Some(copy) = Copy::new("another graph", &[]) else { return };
    copy.copied(10);
    let text = std::fs::read_to_string(&copy.job.manifest).unwrap();
    let other = text.replace("CREATE TABLE s (", "CREATE TABLE other (").replace("FROM s;", "FROM other;");
    copy.job.rewrite(&other);
    assert_refused(&copy.job.run().finish(LIMIT), STATE, &["other"]);
}

#[test]
fn altered_and_truncated_objects_in_the_store() {
    let Some(copy) = Copy::new("altered object", &[]) else { return };
    copy.copied(10);
    let log = stored(&copy.job, "/log/");
    let manifest = log.iter().rev().find(|p| std::fs::read_to_string(p).unwrap().contains("\"manifest\"")).unwrap();
    let good = std::fs::read(manifest).unwrap();
    let name = manifest.file_name().unwrap().to_string_lossy().into_owned();
    for bad in [good[..good.len() / 2].to_vec(), flipped(&good), Vec::new()] {
        std::fs::write(manifest, &bad).unwrap();
        assert_refused(&copy.job.run().finish(LIMIT), STATE, &[&name]);
    }
    std::fs::write(manifest, &good).unwrap();
    let process = copy.job.run().start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    assert_eq!(process.stop(LIMIT).code(), 0, "the restored object is good again");
}

#[test]
fn an_altered_or_truncated_segment_of_the_state() {
    let sql = "CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000', 'fields.a.min' = '0', 'fields.a.max' = '1000000');
               CREATE TABLE t (a BIGINT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
               INSERT INTO t SELECT a, COUNT(*) FROM s GROUP BY a;";
    let job = Job::new(&manifest(sql));
    let process = job.run().start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    wait_for("segments", LIMIT, || (!stored(&job, ".parquet").is_empty()).then_some(()));
    assert_eq!(process.stop(LIMIT).code(), 0);
    let segments: Vec<_> = stored(&job, ".parquet").into_iter().map(|p| (std::fs::read(&p).unwrap(), p)).collect();
    assert!(!segments.is_empty());
    let truncated = |good: &[u8]| good[..good.len() / 2].to_vec();
    let altered = |good: &[u8]| {
        let mut bad = good.to_vec();
        bad[good.len() / 2] ^= 1;
        bad
    };
    for damage in [&truncated as &dyn Fn(&[u8]) -> Vec<u8>, &altered] {
        segments.iter().for_each(|(good, path)| std::fs::write(path, damage(good)).unwrap());
        assert_refused(&job.run().finish(LIMIT), STATE, &["state/", ".parquet"]);
    }
    segments.iter().for_each(|(good, path)| std::fs::write(path, good).unwrap());
    let process = job.run().start();
    process.wait_for_log("going on from checkpoint", LIMIT);
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    assert_eq!(process.stop(LIMIT).code(), 0, "the restored segments are good again");
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bad = bytes.to_vec();
    // A digit, so that the text stays well formed and only the checksum can tell.
    let at = bad.iter().rposition(u8::is_ascii_digit).unwrap();
    bad[at] = if bad[at] == b'1' { b'2' } else { b'1' };
    bad
}

#[test]
fn a_full_disk() {
    let Some(disk) = SmallDisk::mount("full disk") else { return };
    let sql = "CREATE TABLE s (a BIGINT, b STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '100000', 'fields.a.min' = '0', 'fields.a.max' = '1000000');
               CREATE TABLE t (a BIGINT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
               INSERT INTO t SELECT a, COUNT(*) FROM s GROUP BY a;";
    let storage = format!("    interval: 100 ms\n    storage: {}\n", disk.0.path().display());
    let text = manifest(sql).replace("    interval: 100 ms\n", &storage);
    let place = disk.0.path().to_string_lossy().into_owned();
    assert_refused(&run(&text), ENVIRONMENT, &["No space left", &place]);
}

/// A file system of 400 kB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(suite: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|o| o.status.success()) {
            return Some(Self(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "{suite}: a small file system cannot be mounted");
        eprintln!("SKIPPED {suite}: mounting a small file system needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

fn unmount(path: &Path) {
    // Without it the folder cannot be removed, which the next run would not notice.
    let _ = Command::new("umount").arg(path).status();
}
