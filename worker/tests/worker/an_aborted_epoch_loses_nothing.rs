//! Epochs given up in a row, on the way and acknowledged; what they held is in the next manifest.

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

#[test]
fn an_aborted_epoch_loses_nothing() {
    console::capture();
    for disk in [false, true] {
        for job in jobs::all(&format!("aborted-{disk}")) {
            let dir = tempfile::tempdir().unwrap();
            let mut coordinator = Coordinator::new(&job.graph, 2, dir.path(), disk);
            coordinator.deploy(None);
            coordinator.wait_for_rows(ROWS as u64 / 10);
            coordinator.acknowledged_but_aborted_checkpoint();
            coordinator.wait_for_rows(ROWS as u64 / 5);
            for _ in 0..3 {
                coordinator.aborted_checkpoint();
            }
            coordinator.checkpoint();
            coordinator.wait_for_rows(ROWS as u64 / 3);
            let manifest = coordinator.kill();
            let mut coordinator = Coordinator::new(&job.graph, 3, dir.path(), disk);
            coordinator.deploy(manifest);
            coordinator.finish();
            job.assert_printed();
        }
    }
}
