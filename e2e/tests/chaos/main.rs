//! A cluster of real processes on real brokers and a real S3 server, and whatever may happen to it.
//!
//! Numbers go in without a pause; a `read_committed` reader must see each one exactly once, each key's in order, and every
//! window equal to a reference computed apart. It never waits longer than what is broken takes, and a restart.
#![allow(clippy::unwrap_used)]

mod cluster;
mod faults;
mod report;
mod seats;
mod walk;

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use millstream_e2e::{Random, rounds, services};

use self::cluster::{Cluster, Shape};
use self::faults::{Fault, shuffled, wanted};
use self::report::{Cycle, Report};

/// Each kind of fault once, or 200 faults.
const CYCLES: (usize, usize) = (Fault::ALL.len(), 200);

static MACHINE: Mutex<()> = Mutex::new(());

/// One cluster at a time: its waits are measured.
fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(|failed_before| failed_before.into_inner())
}

#[test]
fn a_spare_worker_takes_the_place_of_a_killed_one() {
    let _alone = alone();
    let Some(broker) = services::broker("spare worker") else { return };
    let shape = Shape { coordinators: 1, workers: 2, slots: 2, parallelism: 4 };
    let Some(mut cluster) = Cluster::start("spare worker", broker, shape) else { return };
    cluster.settle();
    cluster.add_worker();
    cluster.settle();
    let begin = Instant::now();
    cluster.kill_worker(0);
    cluster.workers.remove(0);
    cluster.catch_up();
    println!("{:?} without output after the kill", cluster.numbers.longest_gap(begin));
    cluster.settle();
    cluster.finish();
}

#[test]
fn every_kind_of_fault_is_survived() {
    let _alone = alone();
    let Some(brokers) = services::cluster("chaos") else { return };
    let shape = Shape { coordinators: 2, workers: 4, slots: 1, parallelism: 4 };
    let Some(mut cluster) = Cluster::start("chaos", brokers.broker.clone(), shape) else { return };
    let mut random = Random::from_environment("chaos");
    let mut report = Report::default();
    let mut plan = Vec::new();
    for number in 1..=rounds(CYCLES.0, CYCLES.1) {
        cluster.settle();
        if plan.is_empty() {
            plan = shuffled(&mut random, wanted());
        }
        let fault = plan.pop().expect("filled when it is empty");
        println!("cycle {number}: {fault:?}");
        let struck = fault.strike(&mut cluster, &brokers, &mut random);
        cluster.catch_up();
        let gap = cluster.numbers.longest_gap(struck.begin);
        report.add(Cycle { number, fault, struck, gap });
    }
    cluster.settle();
    report.print();
    report.check(&wanted());
    cluster.finish();
}
