//! A short source beside a long one: it ends, a checkpoint records that, and the restored job goes on without it.

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

#[test]
fn a_task_that_ended_is_not_run_again() {
    console::capture();
    for restored_parallelism in [2, 1] {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..10).map(|n| format!("{{\"n\": {n}, \"k\": {n}}}\n")).collect();
        let file = dir.path().join("short.json");
        std::fs::write(&file, lines).unwrap();
        let job = jobs::short_beside_long(&format!("ended{restored_parallelism}"), &file);
        let mut coordinator = Coordinator::new(&job.graph, 2, dir.path(), false);
        coordinator.deploy(None);
        coordinator.wait_for_ended_source();
        coordinator.checkpoint();
        coordinator.wait_for_rows(ROWS as u64 / 4);
        coordinator.checkpoint();
        let manifest = coordinator.kill().unwrap();
        assert!(!manifest.finished_tasks.is_empty());
        // It is not even opened: its file is gone.
        std::fs::remove_file(&file).unwrap();
        let mut coordinator = Coordinator::new(&job.graph, restored_parallelism, dir.path(), false);
        coordinator.deploy(Some(manifest));
        coordinator.finish();
        job.assert_printed();
    }
}
