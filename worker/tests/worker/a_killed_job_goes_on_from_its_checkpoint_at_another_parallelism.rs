//! Checkpoints, a kill between them, a restore from the last one; twice, at other parallelisms, on both backends.

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

fn run(disk: bool) {
    console::capture();
    let backend = if disk { "disk" } else { "memory" };
    for job in jobs::all(&format!("killed-{backend}")) {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = None;
        for parallelism in [2, 3] {
            let mut coordinator = Coordinator::new(&job.graph, parallelism, dir.path(), disk);
            coordinator.deploy(manifest.take());
            coordinator.wait_for_rows(ROWS as u64 / 10);
            coordinator.checkpoint();
            coordinator.wait_for_rows(ROWS as u64 / 5);
            coordinator.checkpoint();
            coordinator.wait_for_rows(ROWS as u64 / 4);
            manifest = coordinator.kill();
        }
        let mut coordinator = Coordinator::new(&job.graph, 1, dir.path(), disk);
        coordinator.deploy(manifest);
        coordinator.finish();
        job.assert_printed();
    }
}

#[test]
fn a_killed_job_goes_on_from_its_checkpoint_at_another_parallelism_in_memory() {
    run(false);
}

#[test]
fn a_killed_job_goes_on_from_its_checkpoint_at_another_parallelism_on_disk() {
    run(true);
}

#[test]
fn a_stopped_job_goes_on_where_it_stopped() {
    console::capture();
    let job = jobs::tumbling("stopped");
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::new(&job.graph, 2, dir.path(), false);
    coordinator.deploy(None);
    coordinator.wait_for_rows(ROWS as u64 / 4);
    coordinator.stop();
    let manifest = coordinator.kill();
    let mut coordinator = Coordinator::new(&job.graph, 2, dir.path(), false);
    coordinator.deploy(manifest);
    coordinator.finish();
    job.assert_printed();
}
