//! Processes that start, take something in, and give something out.

use millstream_api::flinkjob::{Duration, RestartSpec, RestoreSpec};
use millstream_api::ids::Generation;
use millstream_api::log::{Address, EntryKind, Owner};
use millstream_coordinator::job::{
    AppendOutcome, CheckpointConfig, Core, Event, JobConfig, Limits, Millis, ProcessState,
};

use crate::calls::{Client, ProcessId};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, address};
use crate::job::graph;
use crate::names::{brief, is_noise, kind_name};
use crate::network::Message;
use crate::plan::{CALM_AT_MS, PROBE_INTERVAL_MS, PROBE_TIMEOUT_MS, SILENCE_MS, STANDSTILL_MS};
use crate::process::{Input, Output, Process};
use crate::worker::Worker;

use super::invariants::Touched;
use super::{HEARTBEAT_MS, Item, JOB_PATH, OWNER, STEP_MS, World};

/// By how much a machine's wall clock is off when a process starts there, mostly and at the most.
const CLOCK_OFF_MS: Millis = 200;
const CLOCK_FAR_OFF_MS: Millis = 3 * DAY_MS;
const DAY_MS: Millis = 24 * 60 * 60 * 1000;
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
        if self.coordinators_started > 1 && self.below(8) == 0 {
            self.edit();
        }
        self.started += 1;
        let id = ProcessId(self.started);
        self.say(|| format!("{id:?} starts, parallelism {}, {:?}", self.parallelism, self.edition));
        let seed = self.random.next_u64();
        let client = Client::default();
        let config = self.config(id, seed, take_over);
        let core = Core::new(config).map_err(|e| format!("the plan is not valid: {e}"))?;
        let coordinator = Coordinator::new(core, client.clone(), JOB_PATH, local);
        let worker = local.then(|| self.worker(id, self.parallelism, &client, seed ^ 1));
        let clock = self.draw_clock();
        let mut process = Process::new(id, clock, client, Some(coordinator), worker);
        process.takes_over = take_over;
        self.processes.insert(id, process);
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

    /// What starts from here on has another text, or is of another version.
    fn edit(&mut self) {
        if self.below(2) == 0 {
            self.edition.other_statement ^= true;
            self.coverage.hit("another statement edited");
        } else {
            self.edition.newer_version ^= true;
            self.coverage.hit("another version started");
        }
    }

    /// The clocks of a machine: mostly a little off, now and then days.
    fn draw_clock(&mut self) -> Clock {
        let off = if self.below(6) == 0 { CLOCK_FAR_OFF_MS } else { CLOCK_OFF_MS };
        let ahead = self.below(2 * off) as i64 - off as i64;
        if ahead.unsigned_abs() > DAY_MS {
            self.coverage.hit(if ahead > 0 { "clock days ahead" } else { "clock days behind" });
        }
        Clock::start(self.now, ahead)
    }

    /// The process of the newest term in the log.
    pub(super) fn holder(&self) -> Option<ProcessId> {
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
        let clock = self.draw_clock();
        self.processes.insert(id, Process::new(id, clock, client, None, Some(worker)));
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
            graph: graph(&self.plan, self.edition),
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
                savepoint: self.restore_savepoint.clone(),
                ..RestoreSpec::default()
            },
            limits: Limits {
                commit_timeout_ms: 600,
                deploy_timeout_ms: 1_500,
                read_again_ms: 20,
                standstill_ms: STANDSTILL_MS,
                stop_timeout_ms: 1_500,
                store_patience_ms: 800,
                first_run_patience_ms: 300,
                inspect_timeout_ms: SILENCE_MS,
                leader_silence_ms: SILENCE_MS,
                probe_interval_ms: PROBE_INTERVAL_MS,
                probe_timeout_ms: PROBE_TIMEOUT_MS,
            },
            seed,
        }
    }

    /// A process moves again.
    pub(super) fn resume(&mut self, id: ProcessId) -> Result<(), String> {
        let now = self.now;
        let stood_still_ms = self.processes.get_mut(&id).map_or(0, |p| p.go_on(now));
        self.release(id, stood_still_ms)
    }

    /// Hands over what arrived while the process, or its worker, stood still.
    pub(super) fn release(&mut self, process: ProcessId, stood_still_ms: Millis) -> Result<(), String> {
        self.say(|| format!("{process:?} goes on"));
        let Some(p) = self.processes.get_mut(&process) else { return Ok(()) };
        let held = std::mem::take(&mut p.held);
        for mut input in held {
            // The question's time-out and the answer to it are both there: which one is seen first is chance.
            if let Input::Core(Event::LeaderProbed { rules }) = &mut input
                && stood_still_ms >= PROBE_TIMEOUT_MS
                && self.below(2) == 0
            {
                self.coverage.hit("question timed out while its process stood still");
                *rules = None;
            }
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
        let touched = Touched::by(&input);
        let (now, counts) = (self.now, self.rules.count_time);
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        note_signs(process, now, &input);
        let wall = process.clock.wall(now);
        if let Some(worker) = &mut process.worker {
            worker.wall_ms = i64::try_from(wall).unwrap_or(i64::MAX);
        }
        let output = process.take(process.clock.read(now, counts), input);
        if let Some(worker) = &mut process.worker {
            for hit in worker.hits.drain(..) {
                self.coverage.hit(hit);
            }
            if lost_coordinator {
                self.attach_to_all(id);
            }
        }
        self.hold_invariants(id, touched)?;
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
                    true if !self.rules.know_the_dead => ProcessState::Gone,
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
            self.dispatch(id, asked.call, asked.request)?;
        }
        for entry in output.puts {
            self.say(|| format!("{id:?} puts {} at {}", kind_name(&entry), entry.seq));
            // A put of unknown outcome is tried again whatever came since: it may stand already.
            if matches!(entry.kind, EntryKind::Start(_)) && self.claimed.insert(entry.nonce.0.clone()) {
                self.claims_after_silence(id, entry.seq)?;
            }
            self.objects.offer(entry);
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
        let Some(process) = self.processes.get_mut(&id) else { return };
        let at = deadline.map(|at| process.clock.when(at, self.rules.count_time).max(self.now + 1));
        if process.tick_at != at {
            process.tick_at = at;
            if let Some(at) = at {
                self.at(at, Item::Tick { process: id, at });
            }
        }
    }
}

/// What a standby learns of the one that rules.
fn note_signs(process: &mut Process, now: Millis, input: &Input) {
    let awake_ms = process.awake_ms(now);
    match input {
        Input::Core(Event::LeaderProbed { rules: Some(term) }) => process.signs.answered(*term, awake_ms),
        Input::Message { connection, message: Message::Heard { generation, age_ms } } => {
            process.signs.heard(*connection, *generation, awake_ms.saturating_sub(*age_ms));
        }
        Input::Closed { connection, .. } => process.signs.lost(*connection),
        _ => {}
    }
}
