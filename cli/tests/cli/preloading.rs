//! Workers that get ready for a change of the tasks read states beforehand, and may be killed at it.

use std::thread;

use millstream_e2e::numbers::{LIMIT, Numbers, Setting};
use millstream_e2e::process::Process;
use millstream_e2e::services;

use crate::cluster::{address_of, rescale};

/// Numbers with a key of state each, in a cluster.
struct Scene {
    numbers: Numbers,
    coordinator: Process,
    address: String,
}

impl Scene {
    fn new(name: &'static str, parallelism: u32) -> Option<Self> {
        // Of a checkpoint that is late nothing is to be seen here.
        let slow = Setting { timeout: "30 s", rate_per_s: 1_000, ..Setting::default() };
        let setting = Setting { large_state: true, interval: "300 ms", ..slow };
        let numbers = Numbers::new(name, services::broker(name)?, setting)?;
        numbers.write_manifest(parallelism);
        let coordinator = numbers.with_credentials(numbers.job.coordinator("127.0.0.1:0")).start();
        let address = address_of(&coordinator);
        Some(Self { numbers, coordinator, address })
    }

    /// A worker with one slot, with a fault or none.
    fn worker(&self, fault: Option<&str>) -> Process {
        let run = self.numbers.with_credentials(self.numbers.job.worker(&self.address, 1));
        match fault {
            Some(fault) => run.env("MILLSTREAM_FAULT", fault).start(),
            None => run.start(),
        }
    }

    /// Asks for another parallelism beside everything else.
    fn rescale(&self, parallelism: u32, id: &'static str) -> thread::JoinHandle<(i32, String)> {
        let address = self.address.clone();
        thread::spawn(move || rescale(&address, parallelism, id))
    }

    /// Waits for output that is not there yet.
    fn wait_for_output(&self) {
        let seen = self.numbers.wait_beyond(self.numbers.visible(), || None);
        seen.unwrap_or_else(|late| panic!("{late}the coordinator's log:\n{}", self.coordinator.stderr()));
    }

    fn finish(mut self, workers: Vec<Process>) {
        let expected = self.numbers.end_input();
        self.numbers.wait_for_all(&expected);
        let stopped = self.coordinator.stop(LIMIT);
        assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
        for worker in workers {
            let ended = worker.wait(LIMIT);
            assert_eq!(ended.code(), 0, "{}", ended.stderr);
        }
        self.numbers.check(&expected);
    }
}

#[test]
fn a_rescale_survives_a_worker_that_is_killed_while_it_reads_states() {
    let Some(scene) = Scene::new("rescale with a kill", 1) else { return };
    let first = scene.worker(None);
    scene.wait_for_output();
    let broken = scene.worker(Some("while-preloading@1"));
    broken.wait_for_log("registered", LIMIT);
    let asked = scene.rescale(2, "grow");
    let killed = broken.wait(LIMIT);
    assert_eq!(killed.code(), -libc::SIGKILL, "it was not reached: {}", killed.stderr);
    scene.wait_for_output();
    let second = scene.worker(None);
    let (code, said) = asked.join().unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("bytes read beforehand") && !said.contains(" 0 bytes read beforehand"), "{said}");
    let log = scene.coordinator.stderr();
    assert!(!log.contains("restart "), "what ran went on: {log}");
    scene.wait_for_output();
    scene.finish(vec![first, second]);
}

#[test]
fn a_rescale_survives_a_worker_that_runs_tasks_and_is_killed_while_it_reads_states() {
    let Some(scene) = Scene::new("rescale with a kill of what runs", 2) else { return };
    // Whichever is to keep the one task that is left reads what the other one has.
    let faulty = [scene.worker(Some("while-preloading@1")), scene.worker(Some("while-preloading@1"))];
    scene.wait_for_output();
    let asked = scene.rescale(1, "shrink");
    let mut faulty = Vec::from(faulty);
    let at = millstream_e2e::wait_for("a worker that is killed", LIMIT, || {
        faulty.iter_mut().position(|worker| worker.ended().is_some())
    });
    let killed = faulty.remove(at).wait(LIMIT);
    assert_eq!(killed.code(), -libc::SIGKILL, "it was not reached: {}", killed.stderr);
    let fresh = scene.worker(None);
    let (code, said) = asked.join().unwrap();
    assert_eq!(code, 0, "{said}");
    scene.wait_for_output();
    faulty.push(fresh);
    scene.finish(faulty);
}
