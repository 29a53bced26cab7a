//! The crash test: numbered records in, the process killed or paused again and again, and a `read_committed` reader that
//! must see each number exactly once and every window equal to a reference computed apart.
//!
//! Parallelism 2 and more, a hash edge, snapshots on a real S3 server, transactions on a real broker.

mod scene;

use std::time::Duration;

use millstream_e2e::numbers::Setting;
use millstream_e2e::{Random, rounds, services};

use self::scene::Scene;

/// Every named fault point, at which time it strikes, and whether its place implies that transactions are pending at the
/// broker. Each is hit once in `./dev test`. Commits are counted by epoch, the others by task.
const FAULTS: [(&str, u64, bool); 12] = [
    ("before-barrier", 7, false),
    ("after-barrier", 6, false),
    ("before-snapshot", 5, false),
    ("after-snapshot", 6, false),
    ("before-acknowledgement", 7, false),
    ("after-acknowledgement", 6, false),
    ("before-manifest", 4, true),
    ("after-manifest", 4, true),
    ("before-first-commit", 3, true),
    ("after-first-commit", 3, true),
    ("before-last-commit", 3, true),
    ("after-last-commit", 3, false),
];

#[test]
fn every_fault_point_is_survived() {
    let Some(mut scene) = Scene::new("crash at fault points", Setting::default()) else { return };
    let mut pending = Vec::new();
    for _ in 0..rounds(1, 5) {
        for (point, nth, implied) in FAULTS {
            scene.run_until_fault(point, nth, 2);
            let open = scene.numbers.pending_partitions();
            assert!(open > 0 || !implied, "no transaction is pending at {point}");
            pending.push((point, open));
            scene.run_and_kill_after(Duration::ZERO, 2);
        }
    }
    println!("partitions with pending transactions: {pending:?}");
    let hits = scene.numbers.job.fault_hits();
    let wanted: Vec<_> = (0..rounds(1, 5)).flat_map(|_| FAULTS.map(|(point, ..)| point)).collect();
    assert_eq!(hits, wanted, "each fault was really hit, in this order");
    scene.finish(3);
}

/// Uploads away, and the whole store away, for longer than a checkpoint may take: epochs are given up one after the
/// other, and their transactions go on. Killed while it is away, and just after it is back.
#[test]
fn aborted_epochs_in_a_row_are_survived() {
    // With a second of input between checkpoints the state is too large to stand in the manifest.
    let setting = Setting { interval: "1 s", large_state: true, ..Setting::default() };
    let Some(mut scene) = Scene::new("aborted epochs", setting) else { return };
    for _ in 0..rounds(1, 10) {
        scene.run_without_uploads_until_aborted(2, true);
        scene.run_without_uploads_until_aborted(3, false);
        scene.run_without_store(Duration::from_secs(3));
    }
    scene.finish(3);
}

#[test]
fn random_kills_are_survived() {
    let Some(mut scene) = Scene::new("random kills", Setting::default()) else { return };
    let mut random = Random::from_environment("random kills");
    for _ in 0..rounds(12, 200) {
        let parallelism = u32::try_from(2 + random.below(3)).unwrap();
        scene.run_and_kill_after(Duration::from_millis(200 + random.below(1_500)), parallelism);
    }
    scene.finish(3);
}

#[test]
fn a_paused_process_that_wakes_up_beside_its_successor_harms_nothing() {
    // With the brokers' longest time-out: what the process opens after its successor fenced it, and before it learns
    // that, it has to end itself, or readers would wait for minutes.
    let Some(mut scene) = Scene::new("paused process", Setting::default()) else { return };
    for point in ["before-manifest", "before-first-commit", "after-acknowledgement"] {
        scene.run_until_paused_then_replaced(point);
    }
    scene.finish(2);
}

#[test]
fn an_expired_transaction_of_which_nothing_is_visible_is_replayed() {
    let setting = Setting { sink_options: "'properties.transaction.timeout.ms' = '4000', ", ..Setting::default() };
    let Some(mut scene) = Scene::new("expired transaction", setting) else { return };
    scene.run_until_fault("after-manifest", 3, 2);
    // The broker aborts what was prepared: a transactional id's time-out, and the check interval of the broker on top.
    scene.numbers.wait_until_expired();
    scene.finish(2);
}

#[test]
fn brokers_killed_in_turn_are_survived() {
    let Some(cluster) = services::cluster("brokers killed") else { return };
    let Some(mut scene) = Scene::on(cluster.broker.clone(), "brokers killed", Setting::default()) else { return };
    let kills = rounds(2, 12);
    let killed = scene.run_and_kill_brokers(&cluster, kills);
    println!("leaders killed: {killed:?}");
    assert_eq!(killed.len(), kills);
    scene.finish(3);
}
