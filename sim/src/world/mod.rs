//! Virtual time: what happens when, and what a run of a seed is.
//!
//! Owns: the queue of what is to come. Does not own: faults, calls, connections, the oracle; each is a module of its own.

mod attachment;
mod calls;
mod endings;
mod faults;
mod invariants;
mod oracle;
mod processes;
mod queue;

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::control::Attempt;
use millstream_api::flinkjob::ExpiredTransactions;
use millstream_api::ids::{Epoch, Generation};
use millstream_coordinator::job::{Event, Millis, Random};

use crate::broker::Broker;
use crate::calls::{ProcessId, Request};
use crate::coverage::Coverage;
use crate::job::Edition;
use crate::network::{ConnectionId, Message, Network};
use crate::plan::{CALM_AT_MS, Fault, Plan, STUCK_AT_MS};
use crate::process::{Input, Process};
use crate::rules::{Rules, Watch};
use crate::store::Objects;

use invariants::Seen;
use queue::Queue;

const JOB_PATH: &str = "default/sim";
const OWNER: &str = "owner-of-the-simulation";
/// Time between two steps of a worker.
const STEP_MS: Millis = 3;
/// Between two heartbeats of a worker.
const HEARTBEAT_MS: Millis = 100;
/// After the job finished, for what is still on its way.
const AFTERMATH_MS: Millis = 2_500;
/// How long the end of a process takes at most, from when nothing hinders it.
const ENDING_MS: Millis = 1_500;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `None`: the reader saw what it should, and every promise was kept.
    pub broken: Option<String>,
    pub coverage: Coverage,
    pub ended_at_ms: Millis,
}

/// Runs one seed. `trace`: tell each event on standard error.
#[must_use]
pub fn simulate(seed: u64, rules: Rules, watch: Watch, trace: bool) -> Verdict {
    let mut world = World::new(seed, rules, watch, trace);
    let broken = world.run().err();
    world.count_up();
    Verdict { broken, coverage: world.coverage, ended_at_ms: world.now }
}

/// What the world's time brings.
#[derive(Debug)]
enum Item {
    Input {
        process: ProcessId,
        input: Input,
    },
    Execute {
        process: ProcessId,
        call: u64,
        request: Request,
        fate: Fate,
    },
    Message {
        connection: ConnectionId,
        to: usize,
        message: Message,
    },
    /// An end of a connection learns that it is closed.
    Told {
        connection: ConnectionId,
        end: usize,
    },
    /// A worker tries to reach a coordinator.
    Connect {
        worker: ProcessId,
        coordinator: ProcessId,
    },
    /// Two workers that both want to try to reach each other.
    Link {
        ends: [ProcessId; 2],
        of: Attempt,
    },
    /// Whoever waits for this process has heard nothing for too long.
    Silent {
        process: ProcessId,
    },
    /// The same between two.
    SilentPair {
        ends: [ProcessId; 2],
    },
    /// Two may reach each other again.
    Heal {
        ends: [ProcessId; 2],
    },
    Step {
        process: ProcessId,
    },
    Tick {
        process: ProcessId,
        at: Millis,
    },
    Fault(Fault),
    Start {
        take_over: bool,
    },
    StartWorker {
        slots: u32,
    },
    /// From now on there are enough workers.
    Staff,
    /// A worker and its coordinators let each other hear that they are there.
    Heartbeat {
        worker: ProcessId,
    },
    /// A coordinator asks another process whether it rules.
    Probe {
        by: ProcessId,
        of: ProcessId,
    },
    /// A worker that was asked to stop waits no longer.
    Depart {
        worker: ProcessId,
    },
    Resume {
        process: ProcessId,
    },
    ResumeWorker {
        process: ProcessId,
    },
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Carried out and answered.
    Normal,
    /// Carried out, the answer was lost long ago or gets lost now.
    Unheard,
}

struct World {
    plan: Plan,
    rules: Rules,
    watch: Watch,
    random: Random,
    now: Millis,
    queue: Queue<Item>,
    processes: BTreeMap<ProcessId, Process>,
    started: u32,
    /// Coordinators that ever were.
    coordinators_started: u32,
    network: Network,
    /// Connections that one of the two has asked for: for the tasks of an attempt, by whom, to whom.
    wanted: BTreeSet<(Attempt, ProcessId, ProcessId)>,
    objects: Objects,
    audited: usize,
    /// When the newest entry came into the log.
    log_moved_at: Millis,
    /// When each term began.
    terms: BTreeMap<Generation, Millis>,
    seen: Seen,
    /// `start` entries that were put, by nonce.
    claimed: BTreeSet<String>,
    broker: Broker,
    store_away_until: Millis,
    uploads_fail_until: Millis,
    /// Until then something that a process needs to end well was away or stood still.
    hindered_until: Millis,
    expired_transactions: ExpiredTransactions,
    /// The newest savepoint, and its epoch.
    savepoint_taken: Option<(String, Epoch)>,
    /// What coordinators that start from here on are told to go on from.
    restore_savepoint: Option<String>,
    /// A person chose, or a setting did: then the reader may see a number twice, or miss some.
    may_repeat: bool,
    /// A user asked that the job finish with what it has read.
    may_drain: bool,
    may_miss: bool,
    finished_at: Option<Millis>,
    parallelism: u32,
    /// Of coordinators that start from here on.
    edition: Edition,
    epochs_aborted_in_row: u32,
    coverage: Coverage,
    trace: bool,
}

impl World {
    fn new(seed: u64, rules: Rules, watch: Watch, trace: bool) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let plan = Plan::draw(&mut random);
        let mut world = Self {
            broker: Broker::new(plan.transaction_timeout_ms),
            expired_transactions: plan.expired_transactions,
            savepoint_taken: None,
            restore_savepoint: None,
            parallelism: plan.parallelism,
            edition: Edition::default(),
            rules,
            watch,
            random,
            now: 0,
            queue: Queue::default(),
            processes: BTreeMap::new(),
            started: 0,
            coordinators_started: 0,
            network: Network::default(),
            wanted: BTreeSet::new(),
            objects: Objects::default(),
            audited: 0,
            log_moved_at: 0,
            terms: BTreeMap::new(),
            seen: Seen::default(),
            claimed: BTreeSet::new(),
            store_away_until: 0,
            uploads_fail_until: 0,
            hindered_until: 0,
            may_repeat: false,
            may_drain: false,
            may_miss: false,
            finished_at: None,
            epochs_aborted_in_row: 0,
            coverage: Coverage::default(),
            trace,
            plan,
        };
        world.schedule();
        world
    }

    /// What the plan says will happen.
    fn schedule(&mut self) {
        self.say(|| format!("{:#?}", self.plan));
        self.at(0, Item::Start { take_over: false });
        if let Some(cluster) = self.plan.cluster.clone() {
            for number in 1..cluster.coordinators {
                self.at(Millis::from(number) * 7, Item::Start { take_over: false });
            }
            for (at, slots) in cluster.workers {
                self.at(at, Item::StartWorker { slots });
            }
            self.at(CALM_AT_MS, Item::Staff);
        }
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, Item::Fault(fault));
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>6} {}", self.now, what());
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n.max(1)
    }

    fn rolls(&mut self, per_mille: u64) -> bool {
        self.now < CALM_AT_MS && self.below(1000) < per_mille
    }

    fn at(&mut self, at: Millis, item: Item) {
        self.queue.push(at, item);
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some((at, item)) = self.queue.pop() {
            self.now = at;
            if self.finished_at.is_some_and(|finished| finished + AFTERMATH_MS < at) {
                break;
            }
            if at > STUCK_AT_MS {
                return Err(format!("the job is not finished after {at} ms"));
            }
            self.happen(item)?;
            self.audit()?;
        }
        if self.finished_at.is_none() {
            return Err("nothing happens any more and the job is not finished".to_owned());
        }
        self.judge()
    }

    fn happen(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Input { process, input } => self.deliver(process, input)?,
            Item::Execute { process, call, request, fate } => self.execute(process, call, &request, fate)?,
            Item::Message { connection, to, message } => self.arrive(connection, to, message)?,
            Item::Told { connection, end } => self.tell_closed(connection, end)?,
            Item::Connect { worker, coordinator } => self.connect(worker, coordinator)?,
            Item::Link { ends, of } => self.link(ends, of)?,
            Item::Silent { process } => self.fall_silent(process),
            Item::SilentPair { ends } => self.fall_apart(ends)?,
            Item::Heal { ends } => self.heal(ends)?,
            Item::Step { process } => {
                if let Some(p) = self.processes.get(&process) {
                    // Without tasks there is nothing that a step could do.
                    if p.worker.as_ref().is_some_and(|worker| worker.deployment().is_some()) {
                        self.deliver(process, Input::Step)?;
                    }
                    let wait = 1 + self.below(2 * STEP_MS);
                    self.at(self.now + wait, Item::Step { process });
                }
            }
            Item::Tick { process, at } => {
                let due = self.processes.get(&process).is_some_and(|p| p.tick_at == Some(at));
                if due && let Some(p) = self.processes.get_mut(&process) {
                    p.tick_at = None;
                    self.deliver(process, Input::Core(Event::Tick))?;
                }
            }
            Item::Fault(fault) => self.fault(fault)?,
            Item::Start { take_over } => self.start(take_over)?,
            Item::StartWorker { slots } => self.start_worker(slots)?,
            Item::Staff => self.staff()?,
            Item::Heartbeat { worker } => self.heartbeat(worker),
            Item::Probe { by, of } => self.probe(by, of),
            Item::Depart { worker } => {
                if self.processes.contains_key(&worker) {
                    self.coverage.hit("worker left unreleased");
                    self.depart(worker)?;
                }
            }
            Item::Resume { process } => {
                self.resume(process)?;
            }
            Item::ResumeWorker { process } => {
                if let Some(p) = self.processes.get_mut(&process) {
                    p.worker_paused = false;
                    self.release(process, 0)?;
                }
            }
        }
        Ok(())
    }

    fn count_up(&mut self) {
        let broker = &self.broker;
        for (name, count) in [("transaction expired", broker.expired), ("late request fenced", broker.fenced_requests)]
        {
            if count > 0 {
                *self.coverage.0.entry(name).or_default() += count;
            }
        }
    }
}
