//! `millstream stop --drain`: the input ends where it is, and what waited for more of it comes out.

use crate::hours::{Hours, LIMIT, ask, assert_windows, wait_until_all_is_read};

fn drain(address: &str, id: &str) -> (i32, String) {
    let output = ask("stop", address, &["--drain", "--operation-id", id]);
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned())
}

#[test]
fn a_drain_closes_every_window_of_a_cluster_and_the_job_has_finished() {
    let Some(hours) = Hours::new("drain") else { return };
    let coordinator = hours.job.coordinator("127.0.0.1:0").start();
    coordinator.wait_for_log("listening for workers on ", LIMIT);
    let log = coordinator.stderr();
    let address = log.split("listening for workers on ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let workers = [(); 2].map(|()| hours.job.worker(address, 1).start());
    let mut reader = hours.reader();
    hours.produce(0..1_000);
    wait_until_all_is_read(address, 1_000);
    reader.poll();
    assert!(reader.seen.is_empty(), "no window closes before its time: {:?}", reader.values());
    let (code, told) = drain(address, "one");
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with("drained: the job has finished with checkpoint "), "{told}");
    for process in [coordinator].into_iter().chain(workers) {
        let ended = process.wait(LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    assert_windows(&mut reader, 1_000);
    assert_eq!(hours.kept_result("one").expect("it is kept")["state"], "DONE");
    // What comes later is not for this job.
    hours.produce(1_000..1_010);
    let again = hours.job.run().finish(LIMIT);
    assert_eq!(again.code(), 0, "{}", again.stderr);
    assert!(again.stderr.contains("the job had finished before"), "{}", again.stderr);
    reader.poll();
    assert_windows(&mut reader, 1_000);
}

/// The process is killed at places between the question and its answer; asked again with the same id, or started again, the
/// drain comes to its end once.
#[test]
fn a_drain_survives_the_death_of_the_process() {
    for fault in ["after-operation-accepted@1", "before-operation-result@1", "after-operation-result@1"] {
        let Some(hours) = Hours::new("drain and kill") else { return };
        hours.produce(0..500);
        let (process, address) = hours.run(Some(fault));
        wait_until_all_is_read(&address, 500);
        let (code, told) = drain(&address, "one");
        assert_eq!(code, 4, "{fault}: {told}");
        assert!(told.contains("ask again with --drain --operation-id one"), "{fault}: {told}");
        process.wait(LIMIT);
        if fault.starts_with("after-operation-accepted") {
            let (process, address) = hours.run(None);
            process.wait_for_log("going on from checkpoint", LIMIT);
            let (code, told) = drain(&address, "one");
            assert_eq!(code, 0, "{fault}: {told}");
            assert_eq!(process.wait(LIMIT).code(), 0, "{fault}");
        } else {
            let again = hours.job.run().finish(LIMIT);
            assert_eq!(again.code(), 0, "{fault}: {}", again.stderr);
            assert!(again.stderr.contains("the job had finished before"), "{fault}: {}", again.stderr);
        }
        assert_eq!(hours.kept_result("one").expect("it is kept")["state"], "DONE", "{fault}");
        assert_windows(&mut hours.reader(), 500);
    }
}
