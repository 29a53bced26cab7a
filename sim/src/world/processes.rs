//! Processes that start, take something in, and end.

use millstream_api::control::FailureKind;
use millstream_api::flinkjob::{Duration, ExpiredTransactions, RestartSpec, RestoreSpec};
use millstream_api::ids::Generation;
use millstream_api::log::{Address, EntryKind, Owner};
use millstream_coordinator::job::{
    AppendOutcome, CheckpointConfig, Core, Event, JobConfig, Limits, Millis, Notice, Outcome, ProcessState,
};

use crate::calls::{Client, ProcessId};
use crate::coordinator::{Coordinator, address};
use crate::job::graph;
use crate::names::{brief, is_noise, notice_name};
use crate::plan::{CALM_AT_MS, SILENCE_MS};
use crate::process::{Input, Output, Process};
use crate::worker::Worker;

use super::{HEARTBEAT_MS, Item, JOB_PATH, OWNER, STEP_MS, World};

/// What any coordinator may want.
const PARALLELISM_MAX: u32 = 4;
/// How long a job waits for slots before it begins smaller.
const SLOT_TIMEOUT_MS: Millis = 400;

impl World {
    /// Starts a coordinator, unless one is there; in the one-process form the worker comes with it.
    pub(super) fn start(&mut self, take_over: bool) -> Result<(), String> {
        // One that was taken over from, and does not know, does not count.
        let holder = self.holder();
        let claims = |p: &Process| p.coordinator.as_ref().is_some_and(|c| c.core.status().generation.is_none());
        let there = self.processes.values().any(|p| claims(p) || Some(p.id) == holder);
        // Where one may stand by, every process that ended is started again.
        let there = there && self.plan.cluster.is_none();
        if self.finished_at.is_some() || (there && !take_over) {
            return Ok(());
        }
        let local = self.plan.cluster.is_none();
        self.coordinators_started += 1;
        let changes = if local { 3 } else { 8 };
        if self.coordinators_started > 1 && self.below(changes) == 0 {
            let parallelism = 1 + self.below(3) as u32;
            if parallelism != self.parallelism {
                self.coverage.hit("restart at another parallelism");
            }
            self.parallelism = parallelism;
        }
        self.started += 1;
        let id = ProcessId(self.started);
        self.say(|| format!("{id:?} starts, parallelism {}", self.parallelism));
        let seed = self.random.next_u64();
        let client = Client::default();
        let config = self.config(id, seed, take_over);
        let core = Core::new(config).map_err(|e| format!("the plan is not valid: {e}"))?;
        let coordinator = Coordinator::new(core, client.clone(), JOB_PATH, local);
        let worker = local.then(|| self.worker(id, self.parallelism, &client, seed ^ 1));
        self.processes.insert(id, Process::new(id, client, Some(coordinator), worker));
        self.deliver(id, Input::Core(Event::Begin))?;
        if local {
            self.open_session(id, id)?;
            self.at(self.now + STEP_MS, Item::Step { process: id });
        }
        let workers: Vec<ProcessId> = self.workers().map(|p| p.id).filter(|worker| *worker != id).collect();
        for worker in workers {
            self.attach_soon(worker, id);
        }
        if self.now >= CALM_AT_MS {
            self.staff()?;
        }
        Ok(())
    }

    /// The process of the newest term in the log.
    fn holder(&self) -> Option<ProcessId> {
        self.objects.log().iter().rev().find_map(|entry| match &entry.kind {
            EntryKind::Start(start) => Some(ProcessId(start.address.process_id)),
            _ => None,
        })
    }

    fn worker(&self, id: ProcessId, slots: u32, client: &Client, seed: u64) -> Worker {
        Worker::new(id, slots, client.clone(), self.plan.clone(), self.rules, seed, JOB_PATH)
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(|p| p.worker.is_some())
    }

    pub(super) fn start_worker(&mut self, slots: u32) -> Result<(), String> {
        if self.finished_at.is_some() {
            return Ok(());
        }
        self.started += 1;
        let id = ProcessId(self.started);
        self.say(|| format!("{id:?} starts, a worker with {slots} slots"));
        let seed = self.random.next_u64();
        let client = Client::default();
        let worker = self.worker(id, slots, &client, seed);
        self.processes.insert(id, Process::new(id, client, None, Some(worker)));
        self.at(self.now + STEP_MS, Item::Step { process: id });
        self.at(self.now + HEARTBEAT_MS, Item::Heartbeat { worker: id });
        self.attach_to_all(id);
        Ok(())
    }

    /// From here on there are slots enough.
    pub(super) fn staff(&mut self) -> Result<(), String> {
        if self.plan.cluster.is_none() {
            return Ok(());
        }
        let stay = self.workers().filter_map(|p| p.worker.as_ref()).filter(|w| !w.is_leaving());
        let there: u32 = stay.map(|w| w.slots).sum();
        if there < PARALLELISM_MAX {
            self.start_worker(PARALLELISM_MAX - there)?;
        }
        Ok(())
    }

    fn config(&self, id: ProcessId, seed: u64, take_over: bool) -> JobConfig {
        let begins_smaller = self.plan.cluster.as_ref().is_some_and(|c| c.begins_smaller);
        let standby = self.plan.cluster.is_some();
        let address = Address {
            host: "sim".to_owned(),
            listen: standby.then(|| address(id)),
            process_id: id.0,
            process_start: u64::from(id.0),
        };
        JobConfig {
            path: JOB_PATH.to_owned(),
            graph: graph(&self.plan),
            parallelism: self.parallelism,
            max_parallelism: self.plan.max_parallelism,
            min_parallelism: if begins_smaller { 1 } else { self.parallelism },
            slot_timeout_ms: SLOT_TIMEOUT_MS,
            standby,
            owner: Owner(OWNER.to_owned()),
            address,
            checkpoint: CheckpointConfig {
                interval_ms: 100,
                timeout_ms: 400,
                min_pause_ms: 10,
                tolerable_failures: self.plan.tolerable_failures,
                retained: self.plan.retained,
            },
            restart: RestartSpec {
                initial_backoff: Duration::from_millis(20),
                max_backoff: Duration::from_millis(200),
                ..RestartSpec::default()
            },
            restore: RestoreSpec {
                take_over: take_over.then(|| OWNER.to_owned()),
                expired_transactions: self.expired_transactions,
                ..RestoreSpec::default()
            },
            limits: Limits {
                commit_timeout_ms: 600,
                deploy_timeout_ms: 1_500,
                stop_timeout_ms: 1_500,
                store_patience_ms: 800,
                first_run_patience_ms: 300,
                inspect_timeout_ms: SILENCE_MS,
                leader_silence_ms: SILENCE_MS,
                probe_interval_ms: 50,
                probe_timeout_ms: 60,
            },
            seed,
        }
    }

    /// Hands over what arrived while the process stood still.
    pub(super) fn release(&mut self, process: ProcessId) -> Result<(), String> {
        self.say(|| format!("{process:?} goes on"));
        let held = self.processes.get_mut(&process).map(|p| std::mem::take(&mut p.held)).unwrap_or_default();
        for input in held {
            self.deliver(process, input)?;
        }
        // Time passed meanwhile, and that may be all that it waits for.
        self.deliver(process, Input::Core(Event::Tick))
    }

    pub(super) fn deliver(&mut self, id: ProcessId, mut input: Input) -> Result<(), String> {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if process.paused || (process.worker_paused && input.is_workers()) {
            // It will step again when it goes on.
            if !matches!(input, Input::Step | Input::Core(Event::Tick)) {
                process.held.push(input);
            }
            return Ok(());
        }
        self.answer_for_the_world(id, &mut input);
        if self.trace && !is_noise(&input) {
            eprintln!("{:>6} {id:?} {}", self.now, brief(&input));
        }
        let lost_coordinator = matches!(input, Input::Closed { control: true, .. });
        let moves_tasks = !matches!(input, Input::Step | Input::Answer { .. } | Input::Core(_));
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let output = process.take(self.now, input);
        if let Some(worker) = &mut process.worker {
            for hit in worker.hits.drain(..) {
                self.coverage.hit(hit);
            }
            if lost_coordinator {
                self.attach_to_all(id);
            }
        }
        self.hold_invariants(id, moves_tasks)?;
        self.spread(id, output)
    }

    /// What only the world knows.
    fn answer_for_the_world(&self, id: ProcessId, input: &mut Input) {
        match input {
            Input::Core(Event::LogRead { tail, previous }) => {
                let holder = tail.start.as_ref().map(|s| ProcessId(s.address.process_id));
                let alive = holder.is_some_and(|holder| self.processes.contains_key(&holder));
                let knows = self.plan.cluster.as_ref().is_none_or(|c| c.one_host);
                *previous = match alive {
                    _ if !knows => ProcessState::Unknown,
                    true => ProcessState::Alive,
                    false => ProcessState::Gone,
                };
            }
            Input::Core(Event::Appended { outcome, .. }) if !self.rules.losers_step_down => {
                let core = self.processes.get(&id).and_then(|p| p.coordinator.as_ref()).map(|c| &c.core);
                let rules = core.is_some_and(|core| core.status().generation.is_some());
                if rules && matches!(outcome, AppendOutcome::Lost { .. }) {
                    *outcome = AppendOutcome::Won;
                }
            }
            _ => {}
        }
    }

    /// Sends what a process gave out on its way.
    fn spread(&mut self, id: ProcessId, output: Output) -> Result<(), String> {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let asked = process.client.take_asked();
        let core = process.coordinator.as_ref().map(|c| &c.core);
        let deadline = core.and_then(Core::deadline);
        let generation = core.and_then(|core| core.status().generation).map(Generation);
        for asked in asked {
            self.dispatch(id, asked.call, asked.request);
        }
        for (seq, kind) in output.puts {
            self.say(|| format!("{id:?} puts {kind} at {seq}"));
        }
        for input in output.inputs {
            let soon = self.now + self.below(3);
            let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
            process.last_arrival = process.last_arrival.max(soon);
            let arrival = process.last_arrival;
            self.at(arrival, Item::Input { process: id, input });
        }
        for (connection, message) in output.messages {
            self.send(id, connection, message);
        }
        for (peer, of) in output.wanted {
            self.want(id, peer, of);
        }
        for connection in output.closed {
            self.hang_up(id, connection);
        }
        for of in output.probes {
            let soon = self.now + 1 + self.below(5);
            self.at(soon, Item::Probe { by: id, of });
        }
        if output.released {
            self.coverage.hit("worker released");
            return self.depart(id);
        }
        if let (true, Some(generation)) = (output.started, generation) {
            self.check_complete(id)?;
            self.check_readers(generation)?;
        }
        self.schedule_tick(id, deadline);
        for notice in output.notices {
            self.on_notice(id, &notice);
        }
        match output.outcome {
            Some(outcome) => self.on_end(id, outcome),
            None => Ok(()),
        }
    }

    fn schedule_tick(&mut self, id: ProcessId, deadline: Option<Millis>) {
        let at = deadline.map(|at| at.max(self.now + 1));
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.tick_at != at {
            process.tick_at = at;
            if let Some(at) = at {
                self.at(at, Item::Tick { process: id, at });
            }
        }
    }

    fn on_notice(&mut self, id: ProcessId, notice: &Notice) {
        self.say(|| format!("{id:?} says: {notice}"));
        match notice {
            Notice::CheckpointCompleted { .. } => {
                if self.epochs_aborted_in_row >= 2 {
                    self.coverage.hit("sealed after aborted epochs in a row");
                }
                self.epochs_aborted_in_row = 0;
            }
            Notice::CheckpointAborted { .. } => self.epochs_aborted_in_row += 1,
            _ => {}
        }
        self.coverage.hit(notice_name(notice));
    }

    fn on_end(&mut self, id: ProcessId, outcome: Outcome) -> Result<(), String> {
        self.say(|| format!("{id:?} ended: {outcome:?}"));
        let ended = self.processes.remove(&id);
        self.leave_network(id, true);
        if let Some(process) = &ended {
            self.check_nothing_left(process, &outcome)?;
        }
        let again = self.now + 50;
        match outcome {
            Outcome::Finished { already, .. } => {
                self.coverage.hit(if already { "found finished" } else { "finished" });
                self.finished_at.get_or_insert(self.now);
            }
            Outcome::Stopped { incomplete: None, .. } => {
                self.coverage.hit("stopped with a last checkpoint");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::Stopped { incomplete: Some(_), .. } => {
                self.coverage.hit("stopped without one");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::StoodBy { .. } => {
                self.coverage.hit("stood by to the end");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::Fenced { .. } => {
                self.coverage.hit("fenced");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::Failed { failure, .. } => {
                let asks = failure.message.contains("needs a choice");
                let refused = failure.message.contains("already running");
                if asks {
                    if self.broker.expired == 0 {
                        return Err(format!("no transaction ever expired, and yet: {}", failure.message));
                    }
                    self.coverage.hit("asked for a choice");
                    self.expired_transactions = if self.below(2) == 0 {
                        ExpiredTransactions::AcceptDuplicates
                    } else {
                        ExpiredTransactions::AcceptLoss
                    };
                } else if refused {
                    self.coverage.hit("refused: alive");
                } else if failure.kind == FailureKind::User && ended.is_some_and(|p| never_sealed(&p)) {
                    // What fails before the first checkpoint is told at once; somebody starts the job again.
                    self.coverage.hit("first run failed");
                } else if failure.kind != FailureKind::Transient {
                    return Err(format!("the job failed: {}", failure.message));
                }
                self.at(again, Item::Start { take_over: false });
            }
        }
        Ok(())
    }
}

fn never_sealed(process: &Process) -> bool {
    process.coordinator.as_ref().is_some_and(|c| c.core.view().tip().is_none())
}
