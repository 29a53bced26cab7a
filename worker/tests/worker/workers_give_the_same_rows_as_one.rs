//! Two and three workers with connections between them, at parallelisms that do and do not divide evenly.

use millstream_worker::exchange::remote::Compression;

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

fn run(workers: u32, parallelism: u32, compression: Compression) {
    console::capture();
    for job in jobs::all(&format!("shuffled{workers}{parallelism}{compression:?}")) {
        let dir = tempfile::tempdir().unwrap();
        let mut coordinator = Coordinator::with_workers(&job.graph, parallelism, workers, dir.path(), compression);
        coordinator.deploy(None);
        coordinator.wait_for_rows(ROWS as u64 / 4);
        coordinator.checkpoint();
        coordinator.finish();
        job.assert_printed();
    }
}

#[test]
fn workers_give_the_same_rows_as_one() {
    for (workers, parallelism) in [(2, 2), (2, 3), (3, 3), (3, 5)] {
        run(workers, parallelism, Compression::None);
    }
}

#[test]
fn workers_give_the_same_rows_as_one_with_compression() {
    run(2, 3, Compression::Lz4);
}

#[test]
fn rows_by_key_cross_the_network() {
    console::capture();
    let job = jobs::running("crossing");
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::with_workers(&job.graph, 2, 2, dir.path(), Compression::None);
    coordinator.deploy(None);
    // All of them: half may be one worker's alone.
    coordinator.wait_for_rows(ROWS as u64);
    coordinator.checkpoint();
    for readings in coordinator.shuffle_readings() {
        assert!(readings.bytes_sent > 10_000 && readings.bytes_received > 10_000, "{readings:?}");
        assert_eq!((readings.frames_refused_in_all(), readings.connections_refused), (0, 0));
    }
    coordinator.finish();
    job.assert_printed();
}
