//! No checkpoint but the first and the last, parallelism 1 to 3.

use crate::coordinator::Coordinator;
use crate::{console, jobs};

#[test]
fn a_job_gives_the_same_rows_at_every_parallelism() {
    console::capture();
    for parallelism in 1..=3 {
        for job in jobs::all(&format!("plain{parallelism}")) {
            let dir = tempfile::tempdir().unwrap();
            let mut coordinator = Coordinator::new(&job.graph, parallelism, dir.path(), false);
            coordinator.deploy(None);
            coordinator.finish();
            job.assert_printed();
        }
    }
}
