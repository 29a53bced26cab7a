//! The operations API of a running job: what it shows, how it is stopped, what it refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use millstream_e2e::http::get;
use millstream_e2e::process::{Job, Process, binary};
use millstream_e2e::{CHECKPOINT_DONE, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// Bounded, so that there is a lag; two vertices, so that there are channels.
const COUNTED: &str = "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: counted
spec:
  parallelism: 2
  checkpoint:
    interval: 200 ms
  sql: |
    CREATE TABLE s (a BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '2000', 'number-of-rows' = '100000000',
      'fields.a.min' = '0', 'fields.a.max' = '1000');
    CREATE TABLE t (a BIGINT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'blackhole');
    INSERT INTO t SELECT a, COUNT(*) FROM s GROUP BY a;
";

/// A job that listens.
struct Listening {
    process: Process,
    /// Of gRPC and of HTTP.
    address: String,
    http: String,
}

fn start(job: &Job, fault: Option<&str>) -> Listening {
    let run = job.run().arg("--listen").arg("127.0.0.1:0").arg("--http").arg("127.0.0.1:0");
    let process = match fault {
        Some(fault) => run.env("MILLSTREAM_FAULT", fault).start(),
        None => run.start(),
    };
    process.wait_for_log("listening on ", LIMIT);
    let log = process.stderr();
    let after =
        |text: &str, end: char| log.split(text).nth(1).and_then(|rest| rest.split(end).next()).unwrap().to_owned();
    let address = after("--coordinator ", '\n').trim().to_owned();
    Listening { address, http: after("http://", '/'), process }
}

fn ask(command: &str, address: &str, arguments: &[&str]) -> Output {
    binary().args([command, "--coordinator", address]).args(arguments).output().unwrap()
}

fn status(address: &str) -> Value {
    let output = ask("status", address, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stop(address: &str, id: &str) -> (i32, String, String) {
    let output = ask("stop", address, &["--operation-id", id]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn post(address: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is too long is refused before all of it is taken.
    let _ = stream.write_all(body.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (code, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn status_shows_tasks_checkpoints_and_splits_with_their_lag() {
    let job = Job::new(COUNTED);
    let listening = start(&job, None);
    let seen = wait_for("rates and a checkpoint", LIMIT, || {
        let status = status(&listening.address);
        let measured = |task: &Value| task["busyShare"].is_f64() && task["recordsIn"].as_u64() > Some(0);
        let tasks = status["tasks"].as_array().is_some_and(|tasks| tasks.len() == 4 && tasks.iter().all(measured));
        (tasks && status["checkpoints"]["completed"].as_u64() > Some(1)).then_some(status)
    });
    assert_eq!((seen["job"].as_str(), seen["state"].as_str()), (Some("default/counted"), Some("RUNNING")), "{seen}");
    assert_eq!(
        (&seen["parallelism"], &seen["slots"], &seen["slotsMissing"]),
        (&2.into(), &2.into(), &0.into()),
        "{seen}"
    );
    for task in seen["tasks"].as_array().unwrap() {
        let shares = ["busyShare", "idleShare", "backpressuredShare"].map(|name| task[name].as_f64().unwrap());
        let sum: f64 = shares.iter().sum();
        assert!((0.95..1.05).contains(&sum) && task["state"] == "RUNNING" && task["worker"] == 0, "{task}");
    }
    let splits = seen["splits"].as_array().unwrap();
    assert!(!splits.is_empty() && seen["splitsTotal"] == splits.len(), "{seen}");
    for split in splits {
        let numbers = ["position", "end", "lag"].map(|name| split[name].as_u64().unwrap());
        assert_eq!(numbers[1] - numbers[0], numbers[2], "{split}");
        assert!(split["unit"] == "RECORDS" && numbers[2] > 0, "{split}");
    }
    assert!(seen["lagRecords"].as_u64() > Some(90_000_000), "{seen}");
    let checkpoint = seen["checkpoints"]["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&checkpoint["state"], &checkpoint["tasksTotal"]), (&"COMPLETED".into(), &4.into()), "{checkpoint}");
    let tasks = checkpoint["tasks"].as_array().unwrap();
    assert!(tasks.iter().any(|task| task["stallUs"].as_u64() > Some(0)), "{checkpoint}");
    assert!(tasks.iter().any(|task| task["bytes"].as_u64() > Some(0)), "{checkpoint}");

    let table = String::from_utf8(ask("status", &listening.address, &[]).stdout).unwrap();
    for part in ["default/counted  running", "completed", "BACK-PRESSURE", "LAG", "coordinator  process"] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    listening.process.stop(LIMIT);
}

#[test]
fn watch_goes_on_until_the_coordinator_ends() {
    let job = Job::new(COUNTED);
    let listening = start(&job, None);
    let mut command = binary();
    command.args(["status", "--coordinator", &listening.address, "--watch", "-o", "json"]);
    let mut watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || -> Option<Value> { lines.next().map(|line| serde_json::from_str(&line.unwrap()).unwrap()) };
    let mut completed = 0;
    while completed < 3 {
        completed = next().expect("the job runs")["checkpoints"]["completed"].as_u64().unwrap();
    }
    let ended = listening.process.stop(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let mut last = Value::Null;
    while let Some(status) = next() {
        last = status;
    }
    assert_eq!(last["state"], "STOPPED", "{last}");
    let output = watching.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_stop_is_done_once_per_id_also_over_a_restart() {
    let job = Job::new(COUNTED);
    let first = start(&job, None);
    first.process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    let (code, stopped, errors) = stop(&first.address, "one");
    assert_eq!(code, 0, "{errors}");
    assert!(stopped.starts_with("stopped at checkpoint "), "{stopped}");
    let ended = first.process.wait(LIMIT);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);

    let second = start(&job, None);
    second.process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    assert_eq!(stop(&second.address, "one"), (0, stopped, String::new()));
    assert_eq!(status(&second.address)["state"], "RUNNING");
    let (code, _, errors) = stop(&second.address, "two");
    assert_eq!(code, 0, "{errors}");
    second.process.wait(LIMIT);
}

/// The process is killed at three places between the question and its answer; the same question, asked of the next run,
/// ends in the same place.
#[test]
fn a_stop_whose_answer_was_lost_is_answered_by_the_next_run() {
    for fault in ["after-operation-accepted", "before-operation-result", "after-operation-result"] {
        let job = Job::new(COUNTED);
        let first = start(&job, Some(&format!("{fault}@1")));
        first.process.wait_for_log(CHECKPOINT_DONE, LIMIT);
        let (code, _, errors) = stop(&first.address, "one");
        assert_eq!(code, 4, "{fault}: {errors}");
        assert!(errors.contains("ask again with --operation-id one"), "{fault}: {errors}");
        first.process.wait(LIMIT);
        assert_eq!(job.fault_hits(), [fault]);

        let second = start(&job, None);
        second.process.wait_for_log(CHECKPOINT_DONE, LIMIT);
        let (code, answer, errors) = stop(&second.address, "one");
        assert_eq!(code, 0, "{fault}: {errors}");
        assert!(answer.starts_with("stopped"), "{fault}: {answer}");
        if fault == "after-operation-accepted" {
            // The job was not stopped then, so it was now.
            assert_eq!(second.process.wait(LIMIT).code(), 0);
        } else {
            assert_eq!(status(&second.address)["state"], "RUNNING", "{fault}");
            second.process.stop(LIMIT);
        }
    }
}

#[test]
fn http_says_the_same_and_refuses_what_is_not_for_it() {
    let job = Job::new(COUNTED);
    let listening = start(&job, None);
    listening.process.wait_for_log(CHECKPOINT_DONE, LIMIT);
    let http = listening.http.as_str();
    let body = |text: String| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap();
    let document: Value = serde_json::from_str(&body(get(http, "/openapi.json"))).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("get").is_some() && !path.ends_with("/watch") {
            assert!(get(http, path).starts_with("HTTP/1.1 200"), "{path}");
        } else if methods.get("post").is_some() {
            let (code, refused) = post(http, path, "application/json", "{\"nonsense\": 1}");
            assert_eq!((code, &refused["code"]), (422, &"INVALID".into()), "{path}: {refused}");
        }
    }
    let shown: Value = serde_json::from_str(&body(get(http, "/v1/status"))).unwrap();
    assert_eq!(shown["job"], status(&listening.address)["job"]);

    for (content_type, text, code) in [
        ("application/json", "{", 400),
        ("text/plain", "{\"operationId\": \"one\"}", 415),
        ("application/json", "{\"operationId\": \"../one\"}", 400),
        ("application/json", "{\"operationId\": \"one\", \"job\": \"default/other\"}", 404),
        ("application/json", &format!("{{\"operationId\": \"{}\"}}", "x".repeat(8 << 20)), 413),
    ] {
        let (answered, refused) = post(http, "/v1/stop", content_type, text);
        let text = &text[..text.len().min(80)];
        assert!(answered == code || (code == 413 && answered == 0), "{text}: {answered} {refused}");
    }
    // Garbage on the other port.
    TcpStream::connect(&listening.address).unwrap().write_all(&[0xff; 65_536]).unwrap();
    assert_eq!(status(&listening.address)["state"], "RUNNING");

    let (code, stopped) = post(http, "/v1/stop", "application/json", "{\"operationId\": \"one\"}");
    assert_eq!((code, &stopped["state"]), (200, &"DONE".into()), "{stopped}");
    assert_eq!(listening.process.wait(LIMIT).code(), 0);
}

#[test]
fn prepare_says_what_would_become_of_the_state() {
    let job = Job::new(COUNTED);
    let listening = start(&job, None);
    // The first checkpoint holds positions only.
    listening.process.wait_for_log("checkpoint 1 completed", LIMIT);
    let ask = |manifest: &str| {
        let body = serde_json::json!({ "manifest": manifest }).to_string();
        let (code, answer) = post(&listening.http, "/v1/prepare", "application/json", &body);
        assert_eq!(code, 200, "{answer}");
        answer
    };
    let same = ask(COUNTED);
    assert_eq!((&same["accepted"], &same["sameGraph"]), (&true.into(), &true.into()), "{same}");
    let states = same["states"].as_array().unwrap();
    assert!(states.len() == 2 && states.iter().all(|state| state["fate"] == "KEPT"), "{same}");
    let other = ask(&COUNTED.replace("COUNT(*)", "SUM(a)"));
    assert_eq!(other["accepted"], false, "{other}");
    assert!(other["states"].as_array().unwrap().iter().any(|state| state["fate"] == "REFUSED"), "{other}");
    let wrong = ask(&COUNTED.replace("GROUP BY a", "GROUP BY b"));
    assert!(wrong["problems"][0]["message"].as_str().unwrap().starts_with("manifest:13:"), "{wrong}");
    let file = COUNTED.split_once("  sql: |").unwrap().0.to_owned() + "  sqlFile: /etc/passwd\n";
    let unread = ask(&file);
    assert!(unread["problems"][0]["message"].as_str().unwrap().contains("not read here"), "{unread}");
    assert_eq!(status(&listening.address)["state"], "RUNNING");
    listening.process.stop(LIMIT);
}

#[test]
fn the_prepare_command_names_files_as_they_are_here_and_has_exit_codes() {
    let job = Job::new(COUNTED);
    let listening = start(&job, None);
    listening.process.wait_for_log("checkpoint 1 completed", LIMIT);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("next.yaml");
    let prepare = |manifest: &str, more: &[&str]| {
        std::fs::write(&path, manifest).unwrap();
        let mut command = binary();
        let output = command.arg("prepare").arg(&path).args(["--coordinator", &listening.address]).args(more).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, told, errors) = prepare(COUNTED, &[]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(told.contains("kept     t/aggregate/0") && told.contains("accepted: the same graph"), "{told}");
    let (code, told, errors) = prepare(&COUNTED.replace("COUNT(*)", "SUM(a)"), &[]);
    assert_eq!(code, 6, "{told}{errors}");
    assert!(told.contains("refused  t/aggregate/0") && errors.starts_with("error: "), "{told}{errors}");
    let (code, _, errors) = prepare(&COUNTED.replace("GROUP BY a", "GROUP BY b"), &[]);
    let place = format!("error: {}:13:", path.display());
    assert!(code == 3 && errors.starts_with(&place), "{code}: {errors}");
    let (head, script) = COUNTED.split_once("  sql: |\n").unwrap();
    std::fs::write(folder.path().join("job.sql"), script.replace("GROUP BY a", "GROUP BY b")).unwrap();
    let (code, _, errors) = prepare(&format!("{head}  sqlFile: job.sql\n"), &[]);
    let place = format!("error: {}:4:", folder.path().join("job.sql").display());
    assert!(code == 3 && errors.starts_with(&place), "{code}: {errors}");
    let (code, told, _) = prepare(COUNTED, &["-o", "json"]);
    let answer: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &answer["accepted"]), (0, &true.into()), "{answer}");
    let (code, _, errors) = prepare(&COUNTED.replace("name: counted", "name: other"), &[]);
    assert!(code == 3 && errors.contains("the manifest is of job default/other"), "{code}: {errors}");
    assert_eq!(status(&listening.address)["state"], "RUNNING");
    listening.process.stop(LIMIT);
}

/// The job with its checkpoints in a folder that all processes see.
fn clustered() -> Job {
    let job = Job::new("");
    let storage = format!("    interval: 200 ms\n    storage: {}\n", job.folder.path().join("checkpoints").display());
    job.rewrite(&COUNTED.replace("    interval: 200 ms\n", &storage));
    job
}

fn coordinator(job: &Job) -> (Process, String) {
    let coordinator = job.coordinator("127.0.0.1:0").start();
    coordinator.wait_for_log("listening for workers on ", LIMIT);
    let log = coordinator.stderr();
    let after = log.split("listening for workers on ").nth(1).unwrap();
    let address = after.split(',').next().unwrap().to_owned();
    (coordinator, address)
}

#[test]
fn one_that_stands_by_names_the_ruling_one_and_the_command_asks_that() {
    let job = clustered();
    let (first, first_address) = coordinator(&job);
    wait_for("the first rules", LIMIT, || status(&first_address)["generation"].is_u64().then_some(()));
    let (second, second_address) = coordinator(&job);
    let followed = wait_for("the second stands by", LIMIT, || {
        let shown = status(&second_address);
        let ruling = shown["coordinators"][0]["address"].as_str() == Some(first_address.as_str());
        ruling.then_some(shown)
    });
    assert_eq!(followed["coordinators"][0]["ruling"], true, "{followed}");
    let (code, _, errors) = stop(&second_address, "one");
    assert_eq!(code, 0, "{errors}");
    assert_eq!(first.wait(LIMIT).code(), 0);
    second.stop(LIMIT);
}

/// What a worker of another process counts comes over its connection.
#[test]
fn the_coordinator_of_a_cluster_shows_its_workers() {
    let job = clustered();
    let (coordinator, address) = coordinator(&job);
    let waiting = wait_for("the wait for slots", LIMIT, || {
        Some(status(&address)).filter(|status| status["state"] == "AWAITING_SLOTS")
    });
    assert_eq!((&waiting["slotsMissing"], &waiting["workersTotal"]), (&2.into(), &0.into()), "{waiting}");
    let worker = job.worker(&address, 3).start();
    let seen = wait_for("what the worker counts", LIMIT, || {
        let status = status(&address);
        let measured = |task: &Value| task["busyShare"].is_f64() && task["recordsIn"].as_u64() > Some(0);
        let all = status["tasks"].as_array().is_some_and(|tasks| tasks.len() == 4 && tasks.iter().all(measured));
        all.then_some(status)
    });
    let shown = &seen["workers"][0];
    assert_eq!((&shown["slots"], &shown["slotsFree"]), (&3.into(), &1.into()), "{seen}");
    assert!(shown["name"].as_str().unwrap().starts_with("process "), "{shown}");
    assert!(seen["lagRecords"].as_u64() > Some(0), "{seen}");
    let (code, _, errors) = stop(&address, "one");
    assert_eq!(code, 0, "{errors}");
    assert_eq!((coordinator.wait(LIMIT).code(), worker.wait(LIMIT).code()), (0, 0));
}

#[test]
fn nobody_there_and_a_wrong_address_are_told_apart() {
    for command in ["status", "stop"] {
        let output = ask(command, "127.0.0.1:1", &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{told}");
        assert!(told.starts_with("error: no coordinator answers on 127.0.0.1:1: "), "{told}");
        let output = ask(command, "nowhere", &[]);
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
