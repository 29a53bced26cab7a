//! Virtual time, the faults, and the oracle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use millstream_api::control::{Command, FailureKind};
use millstream_api::flinkjob::{Duration, ExpiredTransactions, RestartSpec, RestoreSpec};
use millstream_api::ids::{Epoch, Generation, WorkerId};
use millstream_api::log::{Address, EntryKind, LogEntry, Manifest, Owner, PreparedTransaction};
use millstream_coordinator::job::{
    CheckpointConfig, Core, Event, JobConfig, Limits, Millis, Notice, Outcome, ProcessState, Random, WorkerOffer,
};
use millstream_store::StoreErrorKind;

use crate::broker::{Broker, BrokerError, Identity, Output as Record};
use crate::coverage::Coverage;
use crate::job::{SOURCE_UID, graph, key_of, number, uid};
use crate::names::{brief, crash_name, term_of};
use crate::net::{Client, ProcessId, Reply, Request};
use crate::plan::{CALM_AT_MS, Fault, Plan, Rules, STUCK_AT_MS};
use crate::process::{Input, Process};
use crate::store::{Objects, StoreReply, StoreRequest};
use crate::task::Position;
use crate::worker::Worker;

const JOB_PATH: &str = "default/sim";
const OWNER: &str = "owner-of-the-simulation";
/// Time between two steps of a worker.
const STEP_MS: Millis = 3;
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
pub fn simulate(seed: u64, rules: Rules, trace: bool) -> Verdict {
    let mut world = World::new(seed, rules, trace);
    let broken = world.run().err();
    world.count_up();
    Verdict { broken, coverage: world.coverage, ended_at_ms: world.now }
}

/// What the world's time brings.
#[derive(Debug)]
enum Item {
    Input { process: ProcessId, input: Input },
    Execute { process: ProcessId, call: u64, request: Request, fate: Fate },
    Step { process: ProcessId },
    Tick { process: ProcessId, at: Millis },
    Fault(Fault),
    Start { take_over: bool },
    Resume { process: ProcessId },
    ResumeWorker { process: ProcessId },
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Carried out and answered.
    Normal,
    /// Carried out, the answer was lost long ago or gets lost now.
    Unheard,
}

struct Timed {
    at: Millis,
    order: u64,
    item: Item,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

struct World {
    plan: Plan,
    rules: Rules,
    random: Random,
    now: Millis,
    queue: BinaryHeap<Reverse<Timed>>,
    order: u64,
    processes: BTreeMap<ProcessId, Process>,
    started: u32,
    objects: Objects,
    audited: usize,
    /// When each term began.
    terms: BTreeMap<Generation, Millis>,
    broker: Broker,
    store_away_until: Millis,
    uploads_fail_until: Millis,
    /// Until then something that a process needs to end well was away or stood still.
    hindered_until: Millis,
    expired_transactions: ExpiredTransactions,
    /// A person chose, or a setting did: then the reader may see a number twice, or miss some.
    may_repeat: bool,
    may_miss: bool,
    finished_at: Option<Millis>,
    parallelism: u32,
    epochs_aborted_in_row: u32,
    coverage: Coverage,
    trace: bool,
}

impl World {
    fn new(seed: u64, rules: Rules, trace: bool) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let plan = Plan::draw(&mut random);
        let mut world = Self {
            broker: Broker::new(plan.transaction_timeout_ms),
            expired_transactions: plan.expired_transactions,
            parallelism: plan.parallelism,
            rules,
            random,
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            processes: BTreeMap::new(),
            started: 0,
            objects: Objects::default(),
            audited: 0,
            terms: BTreeMap::new(),
            store_away_until: 0,
            uploads_fail_until: 0,
            hindered_until: 0,
            may_repeat: false,
            may_miss: false,
            finished_at: None,
            epochs_aborted_in_row: 0,
            coverage: Coverage::default(),
            trace,
            plan,
        };
        if trace {
            eprintln!("{:#?}", world.plan);
        }
        world.at(0, Item::Start { take_over: false });
        for (at, fault) in world.plan.faults.clone() {
            world.at(at, Item::Fault(fault));
        }
        world
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
        self.order += 1;
        self.queue.push(Reverse(Timed { at, order: self.order, item }));
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse(Timed { at, item, .. })) = self.queue.pop() {
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
            Item::Step { process } => {
                if self.processes.contains_key(&process) {
                    self.deliver(process, Input::Step)?;
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
            Item::Resume { process } => {
                if let Some(p) = self.processes.get_mut(&process) {
                    p.paused = false;
                    self.release(process)?;
                }
            }
            Item::ResumeWorker { process } => {
                if let Some(p) = self.processes.get_mut(&process) {
                    p.worker_paused = false;
                    self.release(process)?;
                }
            }
        }
        Ok(())
    }

    /// Hands over what arrived while the process stood still.
    fn release(&mut self, process: ProcessId) -> Result<(), String> {
        self.say(|| format!("{process:?} goes on"));
        let held = self.processes.get_mut(&process).map(|p| std::mem::take(&mut p.held)).unwrap_or_default();
        for input in held {
            self.deliver(process, input)?;
        }
        // Time passed meanwhile, and that may be all that it waits for.
        self.deliver(process, Input::Core(Event::Tick))
    }

    // --- processes --------------------------------------------------------------------------------------------------

    fn start(&mut self, take_over: bool) -> Result<(), String> {
        if self.finished_at.is_some() || (!self.processes.is_empty() && !take_over) {
            return Ok(());
        }
        self.started += 1;
        let id = ProcessId(self.started);
        if self.started > 1 && self.below(3) == 0 {
            let parallelism = 1 + self.below(3) as u32;
            if parallelism != self.parallelism {
                self.coverage.hit("restart at another parallelism");
            }
            self.parallelism = parallelism;
        }
        self.say(|| format!("{id:?} starts, parallelism {}", self.parallelism));
        let seed = self.random.next_u64();
        let client = Client::default();
        let config = self.config(id, seed, take_over);
        let core = Core::new(config).map_err(|e| format!("the plan is not valid: {e}"))?;
        let worker = Worker::new(client.clone(), self.plan.clone(), self.rules, seed ^ 1, JOB_PATH.to_owned());
        self.processes.insert(id, Process::new(id, core, worker, client, JOB_PATH));
        let offer = WorkerOffer { slots: self.parallelism, shuffle_address: None, name: "simulated".to_owned() };
        self.deliver(id, Input::Core(Event::Begin))?;
        self.deliver(id, Input::Core(Event::WorkerRegistered { worker: WorkerId(0), offer }))?;
        self.at(self.now + STEP_MS, Item::Step { process: id });
        Ok(())
    }

    fn config(&self, id: ProcessId, seed: u64, take_over: bool) -> JobConfig {
        let address =
            Address { host: "sim".to_owned(), listen: None, process_id: id.0, process_start: u64::from(id.0) };
        JobConfig {
            path: JOB_PATH.to_owned(),
            graph: graph(&self.plan),
            parallelism: self.parallelism,
            max_parallelism: self.plan.max_parallelism,
            min_parallelism: self.parallelism,
            slot_timeout_ms: 1_000,
            owner: Owner(OWNER.to_owned()),
            address,
            standby: false,
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
                inspect_timeout_ms: 300,
                leader_silence_ms: 300,
                probe_interval_ms: 50,
                deploy_timeout_ms: 1_500,
                stop_timeout_ms: 1_500,
                store_patience_ms: 800,
                first_run_patience_ms: 300,
            },
            seed,
        }
    }

    fn deliver(&mut self, id: ProcessId, mut input: Input) -> Result<(), String> {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if process.paused || (process.worker_paused && input.is_workers()) {
            // It will step again when it goes on.
            if !matches!(input, Input::Step | Input::Core(Event::Tick)) {
                process.held.push(input);
            }
            return Ok(());
        }
        if let Input::Core(Event::LogRead { tail, previous }) = &mut input {
            let holder = tail.start.as_ref().map(|s| ProcessId(s.address.process_id));
            let alive = holder.is_some_and(|holder| self.processes.contains_key(&holder));
            *previous = if alive { ProcessState::Alive } else { ProcessState::Gone };
        }
        if let Input::Worker(command) = &input
            && command.command == Command::Start
        {
            self.check_readers(command.attempt.generation)?;
        }
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if self.trace && !matches!(input, Input::Step | Input::Answer { .. } | Input::Core(Event::Tick)) {
            eprintln!("{:>6} {id:?} {}", self.now, brief(&input));
        }
        let output = process.take(self.now, input);
        for hit in process.worker.hits.drain(..) {
            self.coverage.hit(hit);
        }
        let asked = process.client.take_asked();
        let deadline = process.core.deadline();
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
        let name = match notice {
            Notice::NewJob => "new job",
            Notice::Restored { .. } => "restored",
            Notice::CommitsFinished { .. } => "commits finished on restore",
            Notice::NothingLeft { .. } => "restart of a finished job",
            Notice::CheckpointCompleted { .. } => {
                if self.epochs_aborted_in_row >= 2 {
                    self.coverage.hit("sealed after aborted epochs in a row");
                }
                self.epochs_aborted_in_row = 0;
                "checkpoint completed"
            }
            Notice::CheckpointAborted { .. } => {
                self.epochs_aborted_in_row += 1;
                "checkpoint aborted"
            }
            Notice::SealUnknown { .. } => "put of unknown outcome",
            Notice::GivenUp { .. } => "epoch given up",
            Notice::Restarting { .. } => "restart within a term",
            Notice::SourcesPaused { .. } => "sources paused",
            Notice::SourcesResumed => "sources resumed",
            Notice::AwaitingSlots { .. } => "waiting for slots",
            Notice::StartingSmaller { .. } => "starting smaller",
            Notice::Growing { .. } => "growing",
            Notice::Stopping => "stopping",
            Notice::TookOver { .. } => "taken over",
            Notice::StandingBy { .. } => "standing by",
            Notice::Adopted { .. } => "adopted",
            Notice::Moving { .. } => "moving away from a worker",
            Notice::NotCollected { .. } => "not collected",
        };
        self.coverage.hit(name);
    }

    fn on_end(&mut self, id: ProcessId, outcome: Outcome) -> Result<(), String> {
        self.say(|| format!("{id:?} ended: {outcome:?}"));
        let ended = self.processes.remove(&id);
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
            Outcome::Fenced { .. } | Outcome::StoodBy { .. } => {
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
                } else if failure.kind == FailureKind::User && ended.is_some_and(|p| p.core.view().tip().is_none()) {
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

    // --- calls ------------------------------------------------------------------------------------------------------

    fn dispatch(&mut self, process: ProcessId, call: u64, request: Request) {
        let (there, back) = (self.below(4), self.below(4));
        let arrival = self.now + there;
        let answer_at = arrival + back;
        let is_put = matches!(request, Request::Store(StoreRequest::Put { .. } | StoreRequest::PutIfAbsent { .. }));
        if let Some(reply) = self.refusal(&request) {
            return self.at(answer_at, Item::Input { process, input: Input::Answer { call, reply } });
        }
        if is_put && self.rolls(self.plan.unknown_rate) {
            let reply = Reply::Store(StoreReply::Failed(StoreErrorKind::Unknown));
            self.at(answer_at, Item::Input { process, input: Input::Answer { call, reply } });
            match self.below(3) {
                0 => self.coverage.hit("put lost"),
                1 => {
                    self.coverage.hit("put carried out, answer lost");
                    self.at(self.now, Item::Execute { process, call, request, fate: Fate::Unheard });
                }
                _ => {
                    self.coverage.hit("put carried out late");
                    let late = answer_at + self.below(300);
                    self.at(late, Item::Execute { process, call, request, fate: Fate::Unheard });
                }
            }
            return;
        }
        let slow = if self.rolls(self.plan.late_rate) { self.below(300) } else { 0 };
        self.at(arrival + slow, Item::Execute { process, call, request, fate: Fate::Normal });
    }

    /// The answer of a service that is away.
    fn refusal(&mut self, request: &Request) -> Option<Reply> {
        let store = Some(Reply::Store(StoreReply::Failed(StoreErrorKind::Unavailable)));
        match request {
            Request::Store(StoreRequest::Put { .. }) if self.now < self.uploads_fail_until => store,
            Request::Store(_) if self.now < self.store_away_until || self.rolls(self.plan.unavailable_rate) => store,
            Request::Broker(_) if self.now < self.broker.away_until || self.rolls(self.plan.unavailable_rate) => {
                Some(Reply::Broker(Err(BrokerError::Unavailable)))
            }
            _ => None,
        }
    }

    fn execute(&mut self, process: ProcessId, call: u64, request: &Request, fate: Fate) -> Result<(), String> {
        let reply = match request {
            Request::Store(request) => {
                Reply::Store(self.objects.execute(self.now, request, self.rules.put_if_absent)?)
            }
            Request::Broker(request) => {
                let (reply, visible) = self.broker.execute(self.now, request);
                if let Some(visible) = visible {
                    self.check_permit(&visible.who)?;
                }
                Reply::Broker(reply)
            }
        };
        if !self.processes.contains_key(&process) {
            self.coverage.hit("request of a dead process arrived");
        }
        if fate == Fate::Normal {
            // The answer may be lost as well; the caller is told that nobody is there.
            let lost = matches!(reply, Reply::Broker(_)) && self.rolls(self.plan.unknown_rate);
            if lost {
                self.coverage.hit("broker's answer lost");
            }
            let reply = if lost { Reply::Broker(Err(BrokerError::Unavailable)) } else { reply };
            let back = self.now + self.below(4);
            self.at(back, Item::Input { process, input: Input::Answer { call, reply } });
        }
        Ok(())
    }

    fn check_permit(&self, who: &Identity) -> Result<(), String> {
        let is = |t: &PreparedTransaction| is_of(t, who);
        if self.rules == Rules::default() && !self.objects.permits(is) {
            return Err(format!("{who:?} was committed and no sealed manifest names it"));
        }
        Ok(())
    }

    // --- faults -----------------------------------------------------------------------------------------------------

    fn fault(&mut self, fault: Fault) -> Result<(), String> {
        self.say(|| format!("fault: {fault:?}"));
        let now = self.now;
        if let Fault::StoreAway { for_ms }
        | Fault::BrokerAway { for_ms }
        | Fault::Pause { for_ms, .. }
        | Fault::PauseWorker { for_ms } = fault
        {
            self.hindered_until = self.hindered_until.max(now + for_ms);
        }
        match fault {
            Fault::StoreAway { for_ms } => {
                self.coverage.hit("store away");
                self.store_away_until = now + for_ms;
            }
            Fault::UploadsFail { for_ms } => {
                self.coverage.hit("uploads fail");
                self.uploads_fail_until = now + for_ms;
            }
            Fault::BrokerAway { for_ms } => {
                self.coverage.hit("broker away");
                self.broker.away_until = now + for_ms;
            }
            _ => {
                let at = self.below(self.processes.len() as u64) as usize;
                if let Some(id) = self.processes.keys().nth(at).copied() {
                    return self.process_fault(id, fault);
                }
            }
        }
        Ok(())
    }

    fn process_fault(&mut self, id: ProcessId, fault: Fault) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        match fault {
            Fault::Crash => {
                self.coverage.hit(crash_name(&process.core));
                self.processes.remove(&id);
                // Mostly it is back soon, now and then after the broker gave up what it had open.
                let long = if self.below(6) == 0 { self.plan.transaction_timeout_ms + self.below(1_000) } else { 0 };
                let again = now + 20 + self.below(300) + long;
                self.at(again, Item::Start { take_over: false });
            }
            Fault::Pause { for_ms, takeover_after_ms } => {
                process.paused = true;
                self.coverage.hit("process paused");
                self.at(now + for_ms, Item::Resume { process: id });
                if let Some(after) = takeover_after_ms {
                    self.coverage.hit("taken over while paused");
                    self.at(now + after, Item::Start { take_over: true });
                }
            }
            Fault::PauseWorker { for_ms } => {
                process.worker_paused = true;
                self.coverage.hit("worker paused");
                self.at(now + for_ms, Item::ResumeWorker { process: id });
            }
            Fault::TaskFails => {
                self.coverage.hit("task failed");
                if let Some(report) = process.worker.break_task() {
                    self.deliver(id, Input::Core(Event::Worker { worker: WorkerId(0), report }))?;
                }
            }
            Fault::Stop => {
                self.coverage.hit("stop requested");
                self.deliver(id, Input::Core(Event::StopRequested))?;
            }
            Fault::StoreAway { .. } | Fault::UploadsFail { .. } | Fault::BrokerAway { .. } => {}
        }
        Ok(())
    }

    // --- the oracle -------------------------------------------------------------------------------------------------

    /// Looks at entries as they come into the log.
    fn audit(&mut self) -> Result<(), String> {
        while let Some(entry) = self.objects.log().get(self.audited) {
            let entry: LogEntry = entry.clone();
            self.audited += 1;
            self.say(|| format!("log: {} {}", entry.seq, crate::process::kind_name(&entry)));
            match &entry.kind {
                EntryKind::Start(_) => {
                    self.terms.insert(entry.generation, self.now);
                }
                EntryKind::Void { epoch } => {
                    let (of, before) = self.manifest_and_before(*epoch)?;
                    let new = of.transactions.iter().filter(|t| !before.contains(t));
                    let visible = new.filter(|t| self.broker.is_committed(&identity(t))).count();
                    if visible > 0 {
                        self.coverage.hit("visible epoch given up by choice");
                        self.may_repeat = true;
                        if self.expired_transactions != ExpiredTransactions::AcceptDuplicates {
                            return Err(format!("epoch {epoch} is given up and {visible} transactions are visible"));
                        }
                    }
                }
                EntryKind::Settled(settled) => {
                    if let Some(epoch) = settled.epoch {
                        self.check_settled(epoch)?;
                    }
                }
                EntryKind::Stopped { epoch: Some(epoch), committed_through, .. }
                    if committed_through.as_ref() == Some(epoch) =>
                {
                    self.check_settled(*epoch)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// When a term runs, nothing that an earlier one opened while it ruled is open: a reader waits no longer than the
    /// restart. What a term opens that is over already, and does not know it, ends with that term's next put or with the
    /// transaction's time-out.
    fn check_readers(&mut self, generation: Generation) -> Result<(), String> {
        if self.terms.last_key_value().is_none_or(|(newest, _)| *newest != generation) {
            return Ok(());
        }
        let mut unaware = 0;
        for (id, since) in self.broker.open() {
            let Some(of) = term_of(id).filter(|of| *of < generation) else { continue };
            let ended = self.terms.range(of.next()..).next().map(|(_, began)| *began);
            if ended.is_some_and(|ended| since < ended) {
                return Err(format!("{id} is open since {since} and holds readers back after the restart"));
            }
            unaware += 1;
        }
        if unaware > 0 {
            self.coverage.hit("a term that was over opened a transaction");
        }
        Ok(())
    }

    /// A process that ended by itself has left nothing open that nobody will ever commit, where store and broker let it.
    fn check_nothing_left(&mut self, process: &Process, outcome: &Outcome) -> Result<(), String> {
        let Some(generation) = process.core.status().generation else { return Ok(()) };
        let asks = matches!(outcome, Outcome::Failed { failure, .. } if failure.message.contains("needs a choice"));
        // While the tip's commits are not finished, fencing would abort them.
        let unfinished = !process.core.view().pending().is_empty();
        let hindered = unfinished || process.worker_paused || self.now < self.hindered_until + ENDING_MS;
        if asks || hindered || matches!(outcome, Outcome::Fenced { .. }) {
            return Ok(());
        }
        if matches!(outcome, Outcome::Stopped { incomplete: Some(_), .. }) {
            self.coverage.hit("stopped without one and nothing left open");
        }
        let open = self.broker.open().filter(|(id, _)| term_of(id) == Some(Generation(generation)));
        let named = |id: &str| self.objects.permits(|t| t.transactional_id == id);
        match open.map(|(id, _)| id).find(|id| !named(id)) {
            Some(id) => Err(format!("{id} is open, no manifest names it, and its process ended: {outcome:?}")),
            None => Ok(()),
        }
    }

    /// What is recorded as committed is committed. What a later manifest, given up since, no longer named was recorded
    /// before, and its producer may have gone on.
    fn check_settled(&mut self, epoch: Epoch) -> Result<(), String> {
        let mut since = self.objects.manifests().skip_while(|m| m.epoch != epoch);
        let manifest = since.next().ok_or("an entry names an epoch that never was")?;
        let later: Vec<&Manifest> = since.collect();
        let unrecorded = manifest.transactions.iter().filter(|t| later.iter().all(|m| m.transactions.contains(t)));
        let open = unrecorded.filter(|t| !self.broker.is_committed(&identity(t))).count();
        if open > 0 {
            self.coverage.hit("rest of an epoch lost by choice");
            self.may_miss = true;
            if self.expired_transactions != ExpiredTransactions::AcceptLoss {
                return Err(format!("epoch {epoch} is settled and {open} transactions are not visible"));
            }
        }
        Ok(())
    }

    /// A manifest and the transactions that the one before it named.
    fn manifest_and_before(&self, epoch: Epoch) -> Result<(Manifest, Vec<PreparedTransaction>), String> {
        let manifests: Vec<&Manifest> = self.objects.manifests().collect();
        let at = manifests.iter().rposition(|m| m.epoch == epoch).ok_or("an entry names an epoch that never was")?;
        let before = at.checked_sub(1).map(|i| manifests[i].transactions.clone()).unwrap_or_default();
        Ok((manifests[at].clone(), before))
    }

    /// Compares what a reader sees with what it should see.
    fn judge(&mut self) -> Result<(), String> {
        let first = self.objects.manifests().next().ok_or("finished without a manifest")?;
        let starts: Vec<Position> = first.splits[&uid(SOURCE_UID)].iter().map(Position::of).collect();
        let mut expected: BTreeMap<u64, u32> = BTreeMap::new();
        let mut per_key: BTreeMap<u32, u64> = BTreeMap::new();
        for position in &starts {
            for offset in position.next..position.end {
                let number = number(position.split, offset);
                let key = key_of(number, self.plan.keys);
                expected.insert(number, key);
                *per_key.entry(key).or_default() += 1;
            }
        }
        let mut seen: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        let mut counts: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for record in &self.broker.visible {
            seen.entry(record.number).or_default().push(record);
            *counts.entry((record.key, record.count)).or_default() += 1;
        }
        if let Some(number) = seen.keys().find(|n| !expected.contains_key(n)) {
            return Err(format!("number {number} was never sent"));
        }
        for number in expected.keys() {
            let times = seen.get(number).map_or(0, Vec::len);
            if (times == 0 && !self.may_miss) || (times > 1 && !self.may_repeat) {
                return Err(format!("number {number} is seen {times} times: {:?}", seen.get(number)));
            }
        }
        if self.may_miss || self.may_repeat {
            return Ok(());
        }
        for (key, of_key) in per_key {
            let exact = (1..=of_key).all(|count| counts.get(&(key, count)) == Some(&1));
            if !exact {
                return Err(format!("the counts of key {key} are not 1 to {of_key}, each once"));
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

fn is_of(transaction: &PreparedTransaction, who: &Identity) -> bool {
    transaction.transactional_id == who.id
        && transaction.producer_id == who.producer_id
        && transaction.producer_epoch == who.producer_epoch
}

fn identity(transaction: &PreparedTransaction) -> Identity {
    Identity {
        id: transaction.transactional_id.clone(),
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
    }
}
