//! `millstream savepoint`: taken beside a running job or as its end, moved, and gone on from at another parallelism.

use std::path::{Path, PathBuf};

use millstream_e2e::process::binary;

use crate::hours::{Hours, LIMIT, ask, assert_windows, wait_until_all_is_read};

/// The command's exit code, and what it said.
fn savepoint(address: &str, id: &str, more: &[&str]) -> (i32, String) {
    let output = ask("savepoint", address, &[&["--operation-id", id], more].concat());
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned())
}

/// What a command on a place in a store says.
fn of_place(command: &str, place: &Path, more: &[&str]) -> (i32, String) {
    let output = binary().args(["savepoint", command]).arg(place).args(more).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned())
}

fn drained(hours: &Hours, from: &Path, parallelism: &str, rows: u64) {
    let run =
        hours.job.run().arg("--from-savepoint").arg(&from.to_string_lossy()).arg("--parallelism").arg(parallelism);
    let (process, address) = hours.start(run, None);
    hours.produce(rows - 100..rows);
    wait_until_all_is_read(&address, rows);
    let output = ask("stop", &address, &["--drain"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(process.wait(LIMIT).code(), 0);
}

#[test]
fn a_savepoint_needs_nothing_else_and_goes_on_at_another_parallelism() {
    let Some(hours) = Hours::new("savepoint") else { return };
    let places = tempfile::tempdir().unwrap();
    let (process, address) = hours.run(None);
    hours.produce(0..500);
    wait_until_all_is_read(&address, 500);
    let (code, told) = savepoint(&address, "early", &["--path", &places.path().to_string_lossy()]);
    assert_eq!(code, 0, "{told}");
    let early = places.path().join("savepoint-early");
    assert!(told.starts_with(&format!("savepoint {} is complete: checkpoint ", early.display())), "{told}");
    assert_eq!(savepoint(&address, "early", &["--path", &places.path().to_string_lossy()]).1, told, "asked again");

    hours.produce(500..900);
    wait_until_all_is_read(&address, 900);
    let (code, told) = savepoint(&address, "last", &["--stop", "--path", &places.path().to_string_lossy()]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(process.wait(LIMIT).code(), 0);
    let (code, listed) = of_place("list", places.path(), &[]);
    assert_eq!((code, listed.lines().count()), (0, 2), "{listed}");
    assert!(listed.lines().next().unwrap().contains("savepoint-early  checkpoint "), "{listed}");

    // Moved, and all that the job had is gone.
    let moved = places.path().join("elsewhere");
    std::fs::rename(places.path().join("savepoint-last"), &moved).unwrap();
    std::fs::remove_dir_all(hours.storage()).unwrap();
    drained(&hours, &moved, "3", 1_000);
    assert_windows(&mut hours.reader(), 1_000);

    // Another job reads again what came after the earlier one, and counts the same.
    let again = hours.again();
    let run = again.job.run().arg("--from-savepoint").arg(&early.to_string_lossy()).arg("--parallelism").arg("1");
    let (process, address) = again.start(run, None);
    wait_until_all_is_read(&address, 1_000);
    assert!(ask("stop", &address, &["--drain"]).status.success());
    assert_eq!(process.wait(LIMIT).code(), 0);
    assert_windows(&mut again.reader(), 1_000);

    let (code, told) = of_place("delete", &early, &[]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(of_place("list", places.path(), &[]).1.lines().count(), 1);
    let (code, told) = of_place("delete", &early, &[]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("is no savepoint: it has no savepoint.json"), "{told}");
}

/// The process is killed at places between the question and its answer; asked again with the same id, the job ends with the
/// savepoint that it is told of, and nothing is counted twice or lost after it.
#[test]
fn a_savepoint_that_ends_the_job_survives_the_death_of_the_process() {
    for fault in ["after-operation-accepted@1", "before-savepoint-marker@1", "before-operation-result@1"] {
        let Some(hours) = Hours::new("savepoint and kill") else { return };
        hours.produce(0..500);
        let (process, address) = hours.run(Some(fault));
        wait_until_all_is_read(&address, 500);
        let (code, told) = savepoint(&address, "one", &["--stop"]);
        assert_eq!(code, 4, "{fault}: {told}");
        assert!(told.contains("ask again with --stop --operation-id one"), "{fault}: {told}");
        process.wait(LIMIT);
        let (process, address) = hours.run(None);
        process.wait_for_log("going on from checkpoint", LIMIT);
        hours.produce(500..600);
        wait_until_all_is_read(&address, 600);
        let (code, told) = savepoint(&address, "one", &["--stop"]);
        assert_eq!(code, 0, "{fault}: {told}");
        let kept = hours.kept_result("one").expect("it is kept");
        assert_eq!(kept["state"], "DONE", "{fault}: {kept}");
        let place = PathBuf::from(kept["location"].as_str().expect("where it is"));
        if fault.starts_with("before-operation-result") {
            // It had ended, which the next run found in the log: the job goes on beside it.
            assert!(ask("stop", &address, &[]).status.success());
        }
        assert_eq!(process.wait(LIMIT).code(), 0, "{fault}");
        let again = hours.again();
        drained(&again, &place, "2", 700);
        assert_windows(&mut again.reader(), 700);
    }
}

#[test]
fn what_cannot_be_is_told_before_anything_is_done() {
    let Some(hours) = Hours::new("savepoint refused") else { return };
    let (process, address) = hours.run(None);
    process.wait_for_log("checkpoint 0 completed", LIMIT);
    let file = hours.job.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, told) = savepoint(&address, "one", &["--stop", "--path", &file.to_string_lossy()]);
    assert_eq!(code, 4, "{told}");
    assert!(told.starts_with("error: failed to "), "{told}");
    let (code, told) = savepoint(&address, "two", &["--drain"]);
    assert_eq!(code, 2, "{told}");
    assert!(ask("stop", &address, &[]).status.success(), "it runs on");
    assert_eq!(process.wait(LIMIT).code(), 0);
    let nowhere = hours.job.folder.path().join("nowhere");
    let ended = hours.job.run().arg("--from-savepoint").arg(&nowhere.to_string_lossy()).finish(LIMIT);
    assert_eq!(ended.code(), 4, "{}", ended.stderr);
    assert!(ended.stderr.contains("spec.restore.savepoint: "), "{}", ended.stderr);
}
