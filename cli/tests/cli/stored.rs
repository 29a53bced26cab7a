//! Looking into stored state, and repairing it: `millstream state`, `millstream checkpoints`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use millstream_e2e::kafka::rand_id;
use millstream_e2e::process::{Job, Run, binary};
use millstream_e2e::{CHECKPOINT_DONE, services, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const USERS: u64 = 50;
const ORDERS: u64 = 3_000;
/// So many bytes has the longest note of one user, and of no other.
const LONG_NOTE: usize = 20_000;
const HEAVY_USER: u64 = 7;

/// user, region, cents, note
type Order = (String, String, i64, String);

fn orders() -> Vec<Order> {
    let order = |n: u64| {
        // A fixed walk over the users, in which none is left out.
        let user = (n * 31 + n / 7) % USERS;
        let note = if user == HEAVY_USER { "x".repeat(LONG_NOTE) } else { format!("note {n:05}") };
        (format!("user-{user}"), format!("region-{}", user % 3), (n * 37 % 1_000) as i64 - 200, note)
    };
    (0..ORDERS).map(order).collect()
}

/// user: count, cents, longest note
fn totals() -> BTreeMap<String, (i64, i64, String)> {
    let mut totals: BTreeMap<String, (i64, i64, String)> = BTreeMap::new();
    for (user, _, cents, note) in orders() {
        let total = totals.entry(user).or_default();
        total.0 += 1;
        total.1 += cents;
        total.2 = total.2.clone().max(note);
    }
    totals
}

/// A job that has read all of its input; its state stays.
fn finished_job() -> Job {
    let job = Job::new("");
    let folder = job.folder.path();
    let mut input = String::new();
    for (user, region, cents, note) in orders() {
        let amount = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
        writeln!(input, "{{\"user\":\"{user}\",\"region\":\"{region}\",\"amount\":{amount},\"note\":\"{note}\"}}")
            .unwrap();
    }
    std::fs::write(folder.join("orders.json"), input).unwrap();
    job.rewrite(&format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: orders
spec:
  parallelism: 2
  checkpoint:
    interval: 50 ms
    storage: {}
  sql: |
    CREATE TABLE orders (user STRING, region STRING, amount DECIMAL(10, 2), note STRING) WITH (
      'connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
    CREATE TABLE totals (user STRING, n BIGINT, total DECIMAL(38, 2), note STRING, PRIMARY KEY (user) NOT ENFORCED)
      WITH ('connector' = 'blackhole');
    CREATE TABLE regions (region STRING, n BIGINT, PRIMARY KEY (region) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO totals SELECT user, COUNT(*), SUM(amount), MAX(note) FROM orders GROUP BY user;
    INSERT INTO regions SELECT region, COUNT(*) FROM orders GROUP BY region;
",
        folder.join("checkpoints").display(),
        folder.join("orders.json").display()
    ));
    let finished = job.run().finish(LIMIT);
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    job
}

fn millstream(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

/// Runs a command on the job, which must end with this code. Standard output, or standard error when it failed.
fn told(job: &Job, command: &[&str], rest: &[&str], code: i32) -> String {
    let manifest = job.manifest.to_str().unwrap();
    let output = millstream(&[command, &[manifest], rest].concat());
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{command:?} {rest:?}\n{out}\n{err}");
    // A verification that finds damage says so as its answer.
    if out.is_empty() { err } else { out }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_state_of_a_finished_job_is_what_its_input_says() {
    let job = finished_job();
    let expected = totals();
    let all = json(&told(&job, &["state"], &["-o", "json"], 0));
    let tables = all["tables"].as_array().unwrap();
    assert_eq!(tables.iter().map(|t| t["rows"].as_u64().unwrap()).collect::<BTreeSet<_>>(), [3, USERS].into(), "{all}");
    for table in tables {
        let groups = table["keyGroups"].as_array().unwrap();
        for count in ["rows", "bytes"] {
            let sum: u64 = groups.iter().map(|group| group[count].as_u64().unwrap()).sum();
            assert_eq!(sum, table[count].as_u64().unwrap(), "{table}");
        }
    }
    let by_user = tables.iter().find(|t| t["rows"] == USERS).unwrap();
    let (alias, uid) = (by_user["table"].as_str().unwrap(), by_user["uid"].as_str().unwrap());
    let state = by_user["state"].as_str().unwrap();
    let columns: Vec<&str> =
        by_user["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().split(' ').next().unwrap()).collect();
    let [.., user, n, total, note] = columns[..] else { panic!("{columns:?}") };
    // Text, user name and three numbers (BIGINT, DECIMAL) per row.
    let bytes: u64 = expected.iter().map(|(user, (_, _, note))| (user.len() + 8 + 16 + note.len()) as u64).sum();
    assert_eq!(by_user["bytes"], bytes);

    for name in [alias, &format!("\"{uid}\".\"{state}\"")] {
        let sql = format!("SELECT {user} AS u, {n} AS n, ROUND({total} * 100) AS cents, {note} AS note FROM {name}");
        let rows = told(&job, &["state", "query"], &[&sql, "-o", "json"], 0);
        let found: BTreeMap<String, (i64, i64, String)> = rows
            .lines()
            .map(json)
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                (text("u"), (row["n"].as_i64().unwrap(), row["cents"].as_f64().unwrap() as i64, text("note")))
            })
            .collect();
        assert_eq!(found, expected);
    }
    // As CSV, and as a table.
    let sql = format!("SELECT {user}, {n}, {total} FROM {alias} ORDER BY {n} DESC, {user} LIMIT 3");
    let mut ranked: Vec<_> =
        expected.iter().map(|(user, (n, cents, _))| (std::cmp::Reverse(*n), user, *cents)).collect();
    ranked.sort();
    let lines = ranked.iter().take(3).map(|(n, user, cents)| format!("{user},{},{}\n", n.0, *cents as f64 / 100.0));
    let csv = told(&job, &["state", "query"], &[&sql, "-o", "csv"], 0);
    assert_eq!(csv, format!("{user},{n},{total}\n{}", lines.collect::<String>()));
    let table = told(&job, &["state", "query"], &[&sql], 0);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.lines().nth(1).unwrap().starts_with(ranked[0].1.as_str()), "{table}");
    let text = told(&job, &["state"], &["--key-groups"], 0);
    assert!(text.contains(alias) && text.contains(uid) && text.contains("KEY GROUP"), "{text}");
    let groups = told(&job, &["state"], &["-o", "csv"], 0);
    assert!(groups.starts_with("table,uid,state,key_group,rows,bytes\n"), "{groups}");
}

#[test]
fn a_key_that_outweighs_the_others_is_found() {
    let job = finished_job();
    let text = told(&job, &["state", "skew"], &["--top", "3"], 0);
    let said = |text: &str| {
        text.lines().any(|line| {
            line.starts_with("skewed: task ") && line.contains(&format!("the key user=user-{HEAVY_USER} alone has 9"))
        })
    };
    assert!(said(&text), "{text}");
    let found = json(&told(&job, &["state", "skew"], &["--parallelism", "8", "-o", "json"], 0));
    let by_user = found["tables"].as_array().unwrap().iter().find(|t| t["rows"] == USERS).unwrap();
    assert_eq!((&by_user["skewed"], &by_user["distinctKeys"]), (&true.into(), &USERS.into()));
    assert_eq!(by_user["keys"][0]["key"], format!("user=user-{HEAVY_USER}"));
    assert!(by_user["keys"][0]["bytes"].as_u64().unwrap() > LONG_NOTE as u64);
    assert_eq!(by_user["tasks"].as_array().unwrap().len(), 8);
}

#[test]
fn mistakes_are_one_clear_line() {
    let job = finished_job();
    let empty = tempfile::tempdir().unwrap();
    let place = empty.path().to_str().unwrap();
    for (command, rest, code, said) in [
        (&["state", "query"][..], &["SELECT * FROM nowhere"][..], 2, "no such table: nowhere; there are: "),
        (&["state", "query"], &["DROP TABLE x"], 2, "the statement must be a SELECT"),
        (&["state"], &["--checkpoint", "77"], 2, "77 is no retained checkpoint of job default/orders; there are: "),
        (&["state", "skew"], &["--parallelism", "100000"], 2, "the job's maxParallelism is "),
        (&["checkpoints", "release"], &["--checkpoint", "77"], 4, "77 is no retained checkpoint of this job"),
    ] {
        let message = told(&job, command, rest, code);
        assert!(message.starts_with("error: ") && message.contains(said), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    for (place, code, said) in [
        (
            place,
            2,
            "is no savepoint: it has no savepoint.json. Name the folder that holds it, or a job's manifest file",
        ),
        ("/nowhere/at/all", 2, "/nowhere/at/all is no savepoint: it has no savepoint.json"),
        ("gopher://x", 4, "`gopher` is not supported"),
    ] {
        let output = millstream(&["state", place]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(said), "{message}");
    }
    assert!(!Path::new("/nowhere").exists());
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "nothing is written where nothing was");
}

#[test]
fn commands_that_read_make_no_folders() {
    let job = Job::new("");
    let manifest = growing_manifest(&job, "");
    let kept_by_the_user: Vec<&str> = manifest.lines().filter(|line| !line.contains("storage: ")).collect();
    job.rewrite(&kept_by_the_user.join("\n"));
    let (state, nowhere) = (job.folder.path().join("no-state"), job.folder.path().join("nowhere"));
    let (manifest, place) = (job.manifest.to_str().unwrap(), nowhere.to_str().unwrap());
    for (command, code) in [
        (&["state", manifest][..], 4),
        (&["checkpoints", "list", manifest], 4),
        (&["checkpoints", "verify", manifest], 4),
        (&["savepoint", "list", manifest], 4),
        (&["explain", manifest, "--against"], 0),
        (&["explain", manifest, "--against", place], 4),
        (&["state", place], 2),
        (&["savepoint", "list", place], 4),
        (&["savepoint", "delete", place, "--incomplete"], 2),
    ] {
        let output = binary().args(command).env("MILLSTREAM_STATE_DIR", &state).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {message}");
        assert!(!state.exists() && !nowhere.exists(), "{command:?}: {message}");
    }
}

/// A job that runs until it is stopped, with state that grows and three checkpoints that it retains.
fn growing_job() -> Job {
    let job = Job::new("");
    job.rewrite(&growing_manifest(&job, ""));
    job
}

fn growing_manifest(job: &Job, restore: &str) -> String {
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: growing
spec:
  parallelism: 2
  checkpoint:
    interval: 200 ms
    retained: 3
    storage: {}
{restore}
  sql: |
    CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '20000', 'fields.a.min' = '0',
      'fields.a.max' = '1000000000');
    CREATE TABLE t (a BIGINT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO t SELECT a, COUNT(*) FROM s GROUP BY a;
",
        job.folder.path().join("checkpoints").display()
    )
}

fn checkpoints(job: &Job) -> Vec<Value> {
    json(&told(job, &["checkpoints", "list"], &["-o", "json"], 0))["checkpoints"].as_array().unwrap().clone()
}

fn seqs(job: &Job) -> Vec<u64> {
    checkpoints(job).iter().map(|checkpoint| checkpoint["checkpoint"].as_u64().unwrap()).collect()
}

/// Runs the job until it retains three checkpoints, and stops it.
fn run_for_a_while(job: &Job) {
    let process = job.run().start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    let before = seqs(job).last().copied();
    wait_for("three more checkpoints", LIMIT, || {
        (seqs(job).iter().filter(|seq| Some(**seq) > before).count() >= 3).then_some(())
    });
    let refused = told(job, &["checkpoints", "release"], &["--checkpoint", &seqs(job)[0].to_string()], 4);
    assert!(refused.contains("the job runs or was not stopped"), "{refused}");
    let stopped = process.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
}

/// The objects of a checkpoint, relative to the job's path.
fn objects(job: &Job, seq: u64) -> BTreeSet<String> {
    let shown = json(&told(job, &["checkpoints", "show"], &["--checkpoint", &seq.to_string(), "-o", "json"], 0));
    let tables = shown["tables"].as_array().unwrap().iter();
    let segments = tables.flat_map(|table| table["segments"].as_array().unwrap());
    segments.filter_map(|segment| Some(segment["path"].as_str()?.to_owned())).collect()
}

fn file(job: &Job, path: &str) -> PathBuf {
    job.folder.path().join("checkpoints/default/growing").join(path)
}

fn flip_a_bit(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_found_and_the_newest_whole_checkpoint_can_be_started_from() {
    let job = growing_job();
    run_for_a_while(&job);
    let whole = told(&job, &["checkpoints", "verify"], &[], 0);
    assert!(whole.ends_with("everything is as it was written\n"), "{whole}");
    let found = checkpoints(&job);
    assert_eq!(found.len(), 3, "{found:?}");
    let goes_on: Vec<bool> = found.iter().map(|c| c["restoredByAStart"].as_bool().unwrap()).collect();
    assert_eq!(goes_on, [false, false, true]);
    let text = told(&job, &["checkpoints", "list"], &[], 0);
    assert!(text.contains("stopped") && text.contains("goes on from here"), "{text}");
    let text = told(&job, &["checkpoints", "show"], &[], 0);
    assert!(text.contains("t/aggregate/0") && text.contains("no transactions"), "{text}");

    // What the last checkpoint wrote may have been small enough to stand in the log itself.
    let own = wait_for("an object that only the newest checkpoint names", LIMIT, || {
        let seqs = self::seqs(&job);
        let own = objects(&job, seqs[2]).difference(&objects(&job, seqs[1])).next().cloned();
        if own.is_none() {
            run_for_a_while(&job);
        }
        own
    });
    let (own, seqs) = (own.as_str(), seqs(&job));
    flip_a_bit(&file(&job, own));
    let report = told(&job, &["checkpoints", "verify"], &[], 6);
    assert!(report.contains(own) && report.contains("its crc32c is"), "{report}");
    assert!(report.contains(&format!("spec.restore.from: {}", seqs[1])), "{report}");
    let report = json(&told(&job, &["checkpoints", "verify"], &["-o", "json"], 6));
    let whole: Vec<bool> =
        report["checkpoints"].as_array().unwrap().iter().map(|c| c["whole"].as_bool().unwrap()).collect();
    assert_eq!(whole, [true, true, false]);
    told(&job, &["checkpoints", "verify"], &["--checkpoint", &seqs[1].to_string()], 0);
    let message = told(&job, &["state"], &[], 6);
    assert!(message.contains(own) && message.contains("is corrupt"), "{message}");

    // As the report says.
    job.rewrite(&growing_manifest(&job, &format!("  restore:\n    from: {}", seqs[1])));
    let message = told(&job, &["checkpoints", "release"], &["--checkpoint", &seqs[1].to_string(), "--and-older"], 4);
    assert!(message.contains("stands in spec.restore.from"), "{message}");
    let process = job.run().start();
    process.wait_for_log("going on from checkpoint", LIMIT);
    wait_for("a checkpoint after the damaged one", LIMIT, || (self::seqs(&job).last()? > &seqs[2]).then_some(()));
    let stopped = process.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    let whole = told(&job, &["checkpoints", "verify"], &[], 0);
    assert!(whole.contains("everything is as it was written"), "{whole}");
}

#[test]
fn a_released_checkpoint_leaves_the_others_whole_and_the_job_goes_on() {
    let job = growing_job();
    run_for_a_while(&job);
    let before = seqs(&job);
    let named = |seqs: &[u64]| seqs.iter().flat_map(|seq| objects(&job, *seq)).collect::<BTreeSet<_>>();
    let (all, kept) = (named(&before), named(&before[2..]));
    let (oldest, newest) = (before[0].to_string(), before[2].to_string());
    let message = told(&job, &["checkpoints", "release"], &["--checkpoint", &before[1].to_string()], 4);
    assert!(message.contains(&format!("release {oldest} first")), "{message}");
    let message = told(&job, &["checkpoints", "release"], &["--checkpoint", &newest, "--and-older"], 4);
    assert!(message.contains("is the newest one"), "{message}");
    told(&job, &["checkpoints", "release"], &["--checkpoint", &before[1].to_string(), "--and-older"], 0);
    assert_eq!(seqs(&job), before[2..]);
    for path in &all {
        assert_eq!(file(&job, path).exists(), kept.contains(path), "{path}");
    }
    let whole = told(&job, &["checkpoints", "verify"], &[], 0);
    assert!(whole.contains("everything is as it was written"), "{whole}");
    let process = job.run().start();
    process.wait_for_log("going on from checkpoint", LIMIT);
    let stopped = process.stop(LIMIT);
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
}

#[test]
fn a_damaged_log_is_told_and_what_it_holds_can_still_be_judged() {
    let job = growing_job();
    run_for_a_while(&job);
    let seqs = seqs(&job);
    flip_a_bit(&file(&job, &format!("log/{:020}", seqs[1])));
    let report = told(&job, &["checkpoints", "verify"], &[], 6);
    assert!(report.contains(&format!("log/{:020} is not what was written", seqs[1])), "{report}");
    assert!(report.contains(&format!("the state of checkpoint {} is whole", seqs[2])), "{report}");
    let message = told(&job, &["checkpoints", "list"], &[], 6);
    assert!(message.contains("is not what was written"), "{message}");
}

#[test]
fn the_folder_of_a_job_is_never_deleted_as_what_is_left_of_a_savepoint() {
    let job = growing_job();
    run_for_a_while(&job);
    for place in ["", "state", "log"].map(|folder| file(&job, folder)) {
        for (rest, said) in
            [(&[][..], "is no savepoint: it has no savepoint.json"), (&["--incomplete"], "is the folder of a job")]
        {
            let output = millstream(&[&["savepoint", "delete", place.to_str().unwrap()], rest].concat());
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(message.starts_with("error: ") && message.contains(said), "{message}");
        }
    }
    let whole = told(&job, &["checkpoints", "verify"], &[], 0);
    assert!(whole.ends_with("everything is as it was written\n"), "{whole}");
}

/// Ends a run of the job with a savepoint in a folder of this one. Its place.
fn savepoint_of(run: Run, folder: &str) -> String {
    let process = run.arg("--listen").arg("127.0.0.1:0").start();
    process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    process.end_with_savepoint(folder, LIMIT)
}

#[test]
fn a_savepoint_on_s3_is_named_by_its_uri() {
    let Some(server) = services::s3("savepoint on S3").and_then(|servers| servers.into_iter().next()) else { return };
    let (id, secret) = (&server.access_key_id, &server.secret_access_key);
    let job = Job::new("");
    // Only the savepoint is there; the job's own checkpoints are in a folder.
    let s3 = format!("    s3:\n      endpoint: {}\n      region: us-east-1", server.endpoint);
    job.rewrite(&growing_manifest(&job, &s3));
    run_for_a_while(&job);
    let run = job.run().env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    let place = savepoint_of(run, &format!("s3://{}/stored-{:016x}", server.bucket, rand_id()));
    let run = |command: &[&str], rest: &[&str]| {
        let at = [place.as_str(), "--s3-endpoint", &server.endpoint, "--s3-region", "us-east-1"];
        let mut binary = binary();
        binary.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        let output = binary.args([command, &at, rest].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let of_job = json(&told(&job, &["state"], &["-o", "json"], 0));
    assert_eq!(json(&run(&["state"], &["-o", "json"]))["tables"], of_job["tables"]);
    assert!(run(&["checkpoints", "verify"], &[]).ends_with("everything is as it was written\n"));
    let alias = of_job["tables"][0]["table"].as_str().unwrap();
    let rows = run(&["state", "query"], &[&format!("SELECT COUNT(*) FROM {alias}"), "-o", "csv"]);
    assert_eq!(rows, format!("COUNT(*)\n{}\n", of_job["tables"][0]["rows"]));
}

#[test]
fn a_savepoint_is_looked_into_like_a_checkpoint() {
    let job = growing_job();
    run_for_a_while(&job);
    let folder = tempfile::tempdir().unwrap();
    let place = savepoint_of(job.run(), folder.path().to_str().unwrap());
    let place = place.as_str();
    let run = |arguments: &[&str]| {
        let output = millstream(arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, of_savepoint, _) = run(&["state", place, "-o", "json"]);
    assert_eq!(code, Some(0));
    let of_job = json(&told(&job, &["state"], &["-o", "json"], 0));
    assert_eq!(json(&of_savepoint)["tables"], of_job["tables"]);
    let alias = of_job["tables"][0]["table"].as_str().unwrap();
    let (_, rows, _) = run(&["state", "query", place, &format!("SELECT COUNT(*) FROM {alias}"), "-o", "csv"]);
    assert_eq!(rows, format!("COUNT(*)\n{}\n", of_job["tables"][0]["rows"]));
    let (code, text, _) = run(&["checkpoints", "show", place]);
    assert!(code == Some(0) && text.contains("savepoint of default/growing"), "{text}");
    assert_eq!(run(&["checkpoints", "verify", place]).0, Some(0));
    let newest = *seqs(&job).last().unwrap();
    let object = objects(&job, newest).pop_first().unwrap();
    flip_a_bit(&Path::new(place).join(&object));
    let (code, report, _) = run(&["checkpoints", "verify", place]);
    assert!(code == Some(6) && report.contains(&object), "{report}");
    let (code, _, message) = run(&["state", place, "--checkpoint", "3"]);
    assert!(code == Some(2) && message.contains("a savepoint is one checkpoint"), "{message}");
}
