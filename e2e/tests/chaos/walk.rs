//! A random walk through a job's life, under load: more tasks and fewer, savepoints, a move to another place, edits; and a
//! process that is killed in the middle of any of it.
//!
//! The output is checked as after faults: each number once, each key's in order, every window right.

use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use millstream_e2e::numbers::{LIMIT, Revision};
use millstream_e2e::process::binary;
use millstream_e2e::{Random, rounds, services, wait_for, wait_until};

use crate::alone;
use crate::cluster::{Cluster, Shape};
use crate::faults::shuffled;

/// Steps of the walk, and of a long one.
const STEPS: (usize, usize) = (15, 200);
const WORKERS: usize = 3;
const SLOTS: u32 = 2;
const PARALLELISM_MAX: u64 = 6;
/// What is asked for may take so long before somebody is killed.
const KILLED_WITHIN_MS: u64 = 900;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rescale,
    Savepoint,
    /// The job ends with a savepoint, and goes on from it with its checkpoints in another place.
    Move,
    /// It is stopped, another statement comes or goes, and it goes on from its last checkpoint.
    Edit,
}

/// As often as users do these.
const USUAL: [Step; 6] = [Step::Rescale, Step::Rescale, Step::Rescale, Step::Savepoint, Step::Move, Step::Edit];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Nobody,
    Coordinator,
    Worker(usize),
}

struct Walk {
    cluster: Cluster,
    revision: Revision,
    random: Random,
    operations: usize,
}

#[test]
fn a_walk_through_a_jobs_life_loses_and_repeats_nothing() {
    let _alone = alone();
    let Some(broker) = services::broker("walk") else { return };
    let shape = Shape { coordinators: 1, workers: WORKERS, slots: SLOTS, parallelism: 2 };
    let Some(cluster) = Cluster::start("walk", broker, shape) else { return };
    let random = Random::from_environment("walk");
    let mut walk = Walk { cluster, revision: Revision::new(shape.parallelism), random, operations: 0 };
    let mut plan = Vec::new();
    let begin = Instant::now();
    for number in 1..=rounds(STEPS.0, STEPS.1) {
        walk.cluster.settle();
        if plan.is_empty() {
            plan = shuffled(&mut walk.random, USUAL.to_vec());
        }
        let step = plan.pop().expect("filled when it is empty");
        let victim = walk.victim();
        println!("step {number} after {:.1?}: {step:?}, killed: {victim:?}", begin.elapsed());
        walk.take(step, victim);
        walk.cluster.catch_up();
    }
    walk.cluster.settle();
    walk.cluster.finish();
}

impl Walk {
    fn victim(&mut self) -> Victim {
        match self.random.below(4) {
            0 | 1 => Victim::Nobody,
            2 => Victim::Coordinator,
            _ => Victim::Worker(usize::try_from(self.random.below(WORKERS as u64)).expect("it is small")),
        }
    }

    fn take(&mut self, step: Step, victim: Victim) {
        match step {
            Step::Rescale => {
                let parallelism = (1 + self.random.below(PARALLELISM_MAX)).to_string();
                let told = self.ask("rescale", &["--parallelism", &parallelism], victim);
                println!("  {told}");
            }
            Step::Savepoint => {
                let told = self.ask("savepoint", &[], victim);
                println!("  {told}");
            }
            Step::Move => self.go_elsewhere(victim),
            Step::Edit => self.edit(victim),
        }
    }

    fn go_elsewhere(&mut self, victim: Victim) {
        let told = self.ask("savepoint", &["--stop"], victim);
        println!("  {told}");
        let location = told.split_whitespace().nth(1).expect("it says where").to_owned();
        if self.runs_on() {
            // It was killed after its end was in the log, and started again: what was told is true, and the job goes on.
            println!("  it was started again before it was asked again");
            return;
        }
        if let Victim::Worker(number) = victim {
            // It may have come again when nobody was there any more to tell it that the job is over.
            self.cluster.end_worker(number);
        }
        self.cluster.wait_until_over();
        self.revision.moves += 1;
        self.revision.savepoint = Some(location);
        self.start_again(Victim::Nobody);
    }

    /// Whether the job runs, after it was to end.
    fn runs_on(&mut self) -> bool {
        wait_for("the end of the job, or its begin", LIMIT, || {
            let seat = &mut self.cluster.coordinators[0];
            if seat.process.ended().is_some() {
                return Some(false);
            }
            (seat.status()?["state"] == "RUNNING").then_some(true)
        })
    }

    fn edit(&mut self, victim: Victim) {
        let told = self.ask("stop", &[], Victim::Nobody);
        println!("  {told}");
        self.cluster.wait_until_over();
        self.revision.other_statement = !self.revision.other_statement;
        self.start_again(victim);
    }

    fn start_again(&mut self, victim: Victim) {
        self.revision.parallelism = u32::try_from(1 + self.random.below(PARALLELISM_MAX)).expect("it is small");
        self.cluster.numbers.write_revision(&self.revision);
        self.cluster.start_again();
        self.kill(victim);
    }

    /// Asks for something, kills, starts what was killed, and asks again until there is an answer. What it said.
    fn ask(&mut self, command: &str, arguments: &[&str], victim: Victim) -> String {
        self.operations += 1;
        let id = format!("{command}-{}", self.operations);
        let address = self.cluster.coordinators[0].address.clone();
        let ask = || {
            let mut asked = binary();
            asked.args([command, "--coordinator", &address, "--operation-id", &id]).args(arguments);
            asked.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let first = ask();
        self.kill(victim);
        let mut answer = said(first);
        if victim != Victim::Nobody && !answer.0 {
            answer = wait_for(&format!("what became of {id}"), LIMIT, || {
                let (done, told) = said(ask());
                assert!(!told.contains("there is no savepoint"), "{told}");
                assert!(!told.contains("nothing has changed"), "{told}");
                done.then_some((done, told))
            });
        }
        assert!(answer.0, "{}", answer.1);
        answer.1
    }

    /// Within a moment; the process comes again at once.
    fn kill(&mut self, victim: Victim) {
        if victim == Victim::Nobody {
            return;
        }
        wait_until(Instant::now() + Duration::from_millis(self.random.below(KILLED_WITHIN_MS)));
        match victim {
            Victim::Nobody => {}
            // What was asked for may have ended it.
            Victim::Coordinator => {
                if self.cluster.coordinators[0].process.ended().is_none() {
                    self.cluster.kill_coordinator(0);
                    self.cluster.restart_coordinator(0);
                }
            }
            Victim::Worker(number) => {
                if self.cluster.workers[number].process.ended().is_none() {
                    self.cluster.kill_worker(number);
                    self.cluster.restart_worker(number);
                }
            }
        }
    }
}

/// Whether it was done, and what was said.
fn said(asked: Child) -> (bool, String) {
    let Output { status, stdout, stderr } = asked.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&[stdout, stderr].concat()).trim().to_owned();
    (status.success() && !told.starts_with("still "), told)
}
