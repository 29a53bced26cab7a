//! Coordinators and workers of one job of numbers.

use std::path::PathBuf;

use millstream_e2e::kafka::Broker;
use millstream_e2e::numbers::{LIMIT, Numbers, Setting};
use millstream_e2e::wait_for;

use crate::seats::{CoordinatorSeat, Hosts, WorkerSeat, kill, wait_until_ended};

/// Restarts do not become slower with their number: there are hundreds of them here.
const RESTART: &str = "  restart:\n    strategy: fixedDelay\n    initialBackoff: 100 ms\n";
/// 200 faults and their recoveries make less than an hour of it: a few million records.
const RATE_PER_S: u64 = 1_000;
/// Lines of each process' log that are shown after a failure; the files stay.
const LOG_LINES_SHOWN: usize = 10;

/// How large a cluster is.
#[derive(Clone, Copy)]
pub struct Shape {
    pub coordinators: usize,
    pub workers: usize,
    /// Of each worker.
    pub slots: u32,
    pub parallelism: u32,
}

/// A job in processes of its own. They end with it; after a failure it shows what they said.
pub struct Cluster {
    pub coordinators: Vec<CoordinatorSeat>,
    pub workers: Vec<WorkerSeat>,
    slots: u32,
    workers_taken: usize,
    hosts: Hosts,
    /// Of every process that ever ran.
    logs: Vec<(String, PathBuf)>,
    pub numbers: Numbers,
}

impl Cluster {
    /// `None` after the line that a service is missing.
    pub fn start(name: &'static str, broker: Broker, shape: Shape) -> Option<Self> {
        let pace = Setting { interval: "200 ms", timeout: "5 s", rate_per_s: RATE_PER_S, ..Setting::default() };
        let setting = Setting { spec: RESTART, ..pace };
        let numbers = Numbers::new(name, broker, setting)?;
        numbers.write_manifest(shape.parallelism);
        let mut cluster = Self {
            coordinators: Vec::new(),
            workers: Vec::new(),
            slots: shape.slots,
            workers_taken: 0,
            hosts: Hosts::draw(),
            logs: Vec::new(),
            numbers,
        };
        for number in 0..shape.coordinators {
            let seat = CoordinatorSeat::take(&cluster.numbers, &cluster.hosts.next(), format!("coordinator {number}"));
            cluster.logs.push((seat.name.clone(), seat.process.log().to_owned()));
            cluster.coordinators.push(seat);
        }
        (0..shape.workers).for_each(|_| cluster.add_worker());
        Some(cluster)
    }

    /// One more worker.
    pub fn add_worker(&mut self) {
        let name = format!("worker {}", self.workers_taken);
        self.workers_taken += 1;
        let seat = WorkerSeat::take(&self.numbers, &self.hosts.next(), name, &self.coordinators, self.slots);
        self.logs.push((seat.name.clone(), seat.process.log().to_owned()));
        self.workers.push(seat);
    }

    pub fn kill_worker(&mut self, number: usize) {
        let seat = &mut self.workers[number];
        kill(&seat.name, &mut seat.process);
    }

    pub fn restart_worker(&mut self, number: usize) {
        let seat = &mut self.workers[number];
        seat.start_again(&self.numbers);
        self.logs.push((seat.name.clone(), seat.process.log().to_owned()));
    }

    pub fn kill_coordinator(&mut self, number: usize) {
        let seat = &mut self.coordinators[number];
        kill(&seat.name, &mut seat.process);
    }

    pub fn restart_coordinator(&mut self, number: usize) {
        let seat = &mut self.coordinators[number];
        seat.start_again(&self.numbers);
        self.logs.push((seat.name.clone(), seat.process.log().to_owned()));
    }

    /// Asks a worker to stop, unless it has.
    pub fn end_worker(&mut self, number: usize) {
        let process = &mut self.workers[number].process;
        if process.ended().is_none() {
            process.signal(libc::SIGTERM);
        }
    }

    /// The job has ended, and every process with it.
    pub fn wait_until_over(&mut self) {
        let coordinators = self.coordinators.iter_mut().map(|seat| (&seat.name, &mut seat.process));
        let workers = self.workers.iter_mut().map(|seat| (&seat.name, &mut seat.process));
        for (name, process) in coordinators.chain(workers) {
            let status = wait_until_ended(name, process);
            assert!(status.success(), "{name} ended with {status} when the job was stopped");
        }
    }

    /// Starts every process again, after all have ended.
    pub fn start_again(&mut self) {
        (0..self.coordinators.len()).for_each(|number| self.restart_coordinator(number));
        (0..self.workers.len()).for_each(|number| self.restart_worker(number));
    }

    /// How often the coordinators that are there have said this.
    pub fn said(&self, text: &str) -> usize {
        self.coordinators.iter().map(|seat| seat.process.stderr().matches(text).count()).sum()
    }

    /// Which coordinator rules.
    pub fn ruler(&self) -> Option<usize> {
        let rules = |seat: &CoordinatorSeat| {
            let status = seat.status()?;
            let runs = status["state"] == "RUNNING";
            runs.then(|| status["generation"].as_u64()).flatten()
        };
        let generations =
            self.coordinators.iter().enumerate().filter_map(|(number, seat)| Some((rules(seat)?, number)));
        generations.max().map(|(_, number)| number)
    }

    /// Waits until every process is where it belongs, and output comes.
    pub fn settle(&mut self) {
        let slots = u64::from(self.slots) * u64::try_from(self.workers.len()).unwrap();
        wait_for("a whole cluster", LIMIT, || {
            let broken = self.broken();
            assert_eq!(broken, None, "{}", self.numbers.name);
            let ruler = self.ruler()?;
            let whole = |(number, seat): (usize, &CoordinatorSeat)| {
                let status = seat.status().unwrap_or_default();
                // Who stands by says so, and nothing of the job.
                if number == ruler {
                    status["state"] == "RUNNING" && status["slots"] == slots
                } else {
                    status["code"] == "NOT_RULING"
                }
            };
            self.coordinators.iter().enumerate().all(whole).then_some(())
        });
        let before = self.numbers.visible();
        let Self { numbers, coordinators, workers, .. } = self;
        numbers.wait_beyond(before, || ended(coordinators, workers)).unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until all that has been fed is visible.
    pub fn catch_up(&mut self) {
        let Self { numbers, coordinators, workers, .. } = self;
        numbers.wait_until_caught_up(|| ended(coordinators, workers)).unwrap_or_else(|late| panic!("{late}"));
    }

    fn broken(&mut self) -> Option<String> {
        ended(&mut self.coordinators, &mut self.workers)
    }

    /// Ends the input, lets the job run to its end, stops it, and compares with the reference.
    pub fn finish(mut self) {
        let expected = self.numbers.end_input();
        self.numbers.wait_for_all(&expected);
        let ruler = wait_for("a coordinator that rules", LIMIT, || self.ruler());
        self.coordinators[ruler].process.signal(libc::SIGTERM);
        self.wait_until_over();
        self.numbers.check(&expected);
    }
}

/// Tells of a process that ended by itself.
fn ended(coordinators: &mut [CoordinatorSeat], workers: &mut [WorkerSeat]) -> Option<String> {
    let coordinators = coordinators.iter_mut().map(|seat| (&seat.name, &mut seat.process));
    let workers = workers.iter_mut().map(|seat| (&seat.name, &mut seat.process));
    coordinators.chain(workers).find_map(|(name, process)| Some(format!("{name} ended with {}", process.ended()?)))
}

/// After a failure: what the processes said last.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.numbers.job.folder.disable_cleanup(true);
        for (name, path) in &self.logs {
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            println!("--- {name} ({}), the last of {} lines:\n{}", path.display(), lines.len(), tail.join("\n"));
        }
    }
}
