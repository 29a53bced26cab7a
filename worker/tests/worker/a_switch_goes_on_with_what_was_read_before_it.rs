//! Tasks of another parallelism take over from those that run: some key groups by pointer, the others read beforehand.

use millstream_api::control::FailureKind;
use millstream_worker::metrics::TaskReadings;

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

fn run(disk: bool) {
    console::capture();
    let backend = if disk { "disk" } else { "memory" };
    for (job, (before, after)) in jobs::slow(&format!("switched-{backend}")).iter().zip([(2, 3), (3, 2)]) {
        let dir = tempfile::tempdir().unwrap();
        let mut coordinator = Coordinator::with_workers_of(&job.graph, before, 2, dir.path(), disk);
        coordinator.deploy(None);
        go_on(&mut coordinator);
        let beforehand = coordinator.prepare(after);
        let keeps_state = job.identifier.ends_with("running");
        assert!(beforehand > 0 || !keeps_state, "{}: nothing was read beforehand", job.identifier);
        // In between some keys come, others change, and windows go.
        go_on(&mut coordinator);
        go_on(&mut coordinator);
        coordinator.switch();
        coordinator.wait_for_rows(ROWS as u64 / 10);
        coordinator.checkpoint();
        coordinator.finish();
        job.assert_printed();
    }
}

/// Reads some rows, and seals them.
fn go_on(coordinator: &mut Coordinator) {
    let sources = coordinator.readings().into_iter().filter(|task| task.role.has_source);
    let so_far: u64 = sources.map(|task| task.records_in).sum();
    coordinator.pause(false);
    coordinator.wait_for_rows(so_far + ROWS as u64 / 10);
    coordinator.pause(true);
    coordinator.checkpoint();
}

#[test]
fn a_switch_goes_on_with_what_was_read_before_it_in_memory() {
    run(false);
}

#[test]
fn a_switch_goes_on_with_what_was_read_before_it_on_disk() {
    run(true);
}

#[test]
fn what_would_not_fit_into_the_worker_is_not_prepared_and_the_job_runs_on() {
    console::capture();
    let job = jobs::running("too-large");
    // All keys have come by then.
    let start = |room: u64, dir: &std::path::Path| {
        let mut coordinator = Coordinator::with_room(&job.graph, 2, dir, room);
        coordinator.deploy(None);
        coordinator.wait_for_rows(ROWS as u64 / 2);
        coordinator.checkpoint();
        coordinator
    };
    let dir = tempfile::tempdir().unwrap();
    let coordinator = start(1 << 30, dir.path());
    let of_task = |task: TaskReadings| task.tables.into_values().flatten().map(|table| table.bytes).sum::<u64>();
    let largest = coordinator.readings().into_iter().map(of_task).max().unwrap();
    assert!(largest > 0, "there is state");
    coordinator.kill();
    // Room for what each of two tasks has, and not for the one that would have it all.
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = start(largest * 3 / 2, dir.path());
    let failure = coordinator.failed_prepare(1);
    assert_eq!(failure.kind, FailureKind::User, "{}", failure.message);
    assert!(failure.message.contains("of its limit of"), "{}", failure.message);
    coordinator.checkpoint();
    coordinator.finish();
    job.assert_printed();
}
