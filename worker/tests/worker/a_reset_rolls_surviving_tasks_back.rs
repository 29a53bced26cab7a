//! Tasks go back to the sealed epoch with their undo layers, in the middle of the work, several times.

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

fn run(disk: bool) {
    console::capture();
    let backend = if disk { "disk" } else { "memory" };
    for job in jobs::all(&format!("reset-{backend}")) {
        let dir = tempfile::tempdir().unwrap();
        let mut coordinator = Coordinator::new(&job.graph, 2, dir.path(), disk);
        coordinator.deploy(None);
        coordinator.wait_for_rows(ROWS as u64 / 10);
        // To epoch 0, before anything was read.
        coordinator.reset();
        coordinator.wait_for_rows(ROWS as u64 / 5);
        coordinator.checkpoint();
        coordinator.wait_for_rows(ROWS as u64 / 3);
        coordinator.reset();
        // Again, and with an epoch on its way.
        coordinator.aborted_checkpoint();
        coordinator.reset();
        coordinator.checkpoint();
        coordinator.finish();
        job.assert_printed();
    }
}

#[test]
fn a_reset_rolls_surviving_tasks_back_in_memory() {
    run(false);
}

#[test]
fn a_reset_rolls_surviving_tasks_back_on_disk() {
    run(true);
}
