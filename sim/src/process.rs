//! A process of the job: a coordinator, a worker, or both as `millstream run` has them, and its calls to the outside.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use millstream_api::control::{self, WorkerCommand, WorkerReport};
use millstream_api::log::LogEntry;
use millstream_coordinator::job::{Command, Event, Millis, Notice, Outcome};

use crate::calls::{Client, ProcessId, Reply};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, process_at};
use crate::network::{ConnectionId, Message, Purpose};
use crate::signs::Signs;
use crate::worker::{Done, Worker};

/// Something that a process takes in.
#[derive(Debug)]
pub enum Input {
    Core(Event),
    Message {
        connection: ConnectionId,
        message: Message,
    },
    /// A connection is there.
    Opened {
        connection: ConnectionId,
        purpose: Purpose,
        peer: ProcessId,
        /// The task slots of a worker, for its coordinator.
        slots: u32,
    },
    /// A connection is gone. `control`: to a coordinator or of one.
    Closed {
        connection: ConnectionId,
        control: bool,
    },
    Done(Done),
    Answer {
        call: u64,
        reply: Reply,
    },
    /// A little processing.
    Step,
}

impl Input {
    /// What stands still with the worker's threads.
    #[must_use]
    pub fn is_workers(&self) -> bool {
        let command = |m: &Message| matches!(m, Message::Command(_) | Message::Frame(_) | Message::Released);
        match self {
            Self::Done(_) | Self::Step => true,
            Self::Message { message, .. } => command(message),
            _ => false,
        }
    }
}

/// What a process gives out after an input; the world decides when it arrives.
#[derive(Debug, Default)]
pub struct Output {
    /// To itself, in order.
    pub inputs: Vec<Input>,
    /// To others, in order.
    pub messages: Vec<(ConnectionId, Message)>,
    /// Workers that this one wants to exchange rows with, for the tasks of an attempt.
    pub wanted: Vec<(ProcessId, control::Attempt)>,
    /// Connections that it has no use for any more.
    pub closed: Vec<ConnectionId>,
    pub notices: Vec<Notice>,
    /// Entries on their way to the log.
    pub puts: Vec<LogEntry>,
    pub started: bool,
    /// Who is to be asked whether it rules.
    pub probes: Vec<ProcessId>,
    /// The worker may go.
    pub released: bool,
    pub outcome: Option<Outcome>,
}

/// One process.
pub struct Process {
    pub id: ProcessId,
    pub coordinator: Option<Coordinator>,
    pub worker: Option<Worker>,
    pub client: Client,
    pub paused: bool,
    /// The worker's threads alone stand still.
    pub worker_paused: bool,
    /// What arrived while it stood still.
    pub held: Vec<Input>,
    pub clock: Clock,
    /// Since when all of it stands still, and whether its machine sleeps.
    still_since: Option<(Millis, bool)>,
    /// How long it stood still before.
    stood_still_ms: Millis,
    /// Somebody named the owner that it takes the job from.
    pub takes_over: bool,
    pub signs: Signs,
    /// Its coordinator stood still, and has not learned yet whether it rules.
    pub returns: bool,
    pub tick_at: Option<Millis>,
    /// Calls of the coordinator and of the worker, in front, that were polled and wait.
    calls_polled: usize,
    jobs_polled: usize,
    /// What it tells itself keeps its order.
    pub last_arrival: Millis,
}

impl Process {
    #[must_use]
    pub fn new(
        id: ProcessId,
        clock: Clock,
        client: Client,
        coordinator: Option<Coordinator>,
        worker: Option<Worker>,
    ) -> Self {
        Self {
            id,
            coordinator,
            worker,
            client,
            paused: false,
            worker_paused: false,
            held: Vec::new(),
            clock,
            still_since: None,
            stood_still_ms: 0,
            takes_over: false,
            signs: Signs::default(),
            returns: false,
            tick_at: None,
            calls_polled: 0,
            jobs_polled: 0,
            last_arrival: 0,
        }
    }

    /// Nothing of it moves from here on. `asleep`: its machine does not either.
    pub fn stand_still(&mut self, now: Millis, asleep: bool) {
        self.paused = true;
        self.still_since.get_or_insert((now, asleep));
    }

    /// It moves again, after so long.
    pub fn go_on(&mut self, now: Millis) -> Millis {
        self.paused = false;
        let Some((since, asleep)) = self.still_since.take() else { return 0 };
        let for_ms = now.saturating_sub(since);
        self.stood_still_ms += for_ms;
        if asleep {
            self.clock.slept(for_ms);
        }
        for_ms
    }

    /// How much of the world's time it was awake.
    #[must_use]
    pub fn awake_ms(&self, now: Millis) -> Millis {
        self.still_since.map_or(now, |(since, _)| since.min(now)).saturating_sub(self.stood_still_ms)
    }

    /// Takes an input and goes on until nothing moves. `now`: as its clock has it.
    pub fn take(&mut self, now: Millis, input: Input) -> Output {
        let mut output = Output::default();
        let answered = matches!(input, Input::Answer { .. });
        match input {
            Input::Core(event) => self.tell_core(now, event, &mut output),
            Input::Answer { call, reply } => self.client.answer(call, reply),
            Input::Message { connection, message } => self.take_message(now, connection, message, &mut output),
            Input::Opened { connection, purpose, peer, slots } => {
                let to_core = self.coordinator.as_mut().and_then(|c| c.opened(connection, purpose, peer, slots));
                if let Some(event) = to_core {
                    self.tell_core(now, event, &mut output);
                }
                if let Some(worker) = &mut self.worker {
                    worker.opened(connection, purpose, peer);
                }
            }
            Input::Closed { connection, .. } => {
                let to_core = self.coordinator.as_mut().and_then(|c| c.closed(connection));
                if let Some(event) = to_core {
                    self.tell_core(now, event, &mut output);
                }
                if let Some(worker) = &mut self.worker {
                    worker.closed(connection);
                }
            }
            Input::Done(done) => self.work(|worker| worker.done(done)),
            Input::Step => self.work(Worker::step),
        }
        self.poll(answered, &mut output);
        self.collect(&mut output);
        output
    }

    fn take_message(&mut self, now: Millis, connection: ConnectionId, message: Message, output: &mut Output) {
        match message {
            Message::Report(report) => {
                let event = self.coordinator.as_ref().and_then(|c| c.reported(connection, report));
                if let Some(event) = event {
                    self.tell_core(now, event, output);
                }
            }
            Message::Command(command) => self.work(|worker| {
                let jobs = worker.command(connection, command);
                if worker.ruler() == Some(connection) {
                    worker.hear(now);
                }
                jobs
            }),
            Message::Frame(frame) => self.work(|worker| worker.frame(connection, frame)),
            Message::Heard { generation, age_ms } => {
                let worker = self.coordinator.as_ref().and_then(|c| c.worker_of(connection));
                if let Some(worker) = worker {
                    self.tell_core(now, Event::WorkerHeard { worker, generation, age_ms }, output);
                }
            }
            Message::Leave => {
                let worker = self.coordinator.as_ref().and_then(|c| c.worker_of(connection));
                if let Some(worker) = worker {
                    self.tell_core(now, Event::WorkerLeaving { worker }, output);
                }
            }
            Message::Released => {
                let leaves = |w: &Worker| w.is_leaving() && w.ruler() == Some(connection);
                output.released = self.worker.as_ref().is_some_and(leaves);
            }
        }
    }

    fn work(&mut self, what: impl FnOnce(&mut Worker) -> Vec<crate::worker::Job>) {
        if let Some(worker) = &mut self.worker {
            let jobs = what(worker);
            worker.jobs.extend(jobs);
        }
    }

    fn tell_core(&mut self, now: Millis, event: Event, output: &mut Output) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let commands = coordinator.core.on_event(now, event);
        for command in commands {
            self.carry_out(command, output);
        }
    }

    fn carry_out(&mut self, command: Command, output: &mut Output) {
        let Some(coordinator) = &mut self.coordinator else { return };
        match command {
            Command::Append(entry) => {
                output.puts.push(entry.as_ref().clone());
                coordinator.append(*entry);
            }
            Command::Tell { worker, command } => {
                output.started |= command.command == control::Command::Start;
                let Some(session) = coordinator.session_of(worker) else { return };
                self.tell_worker(session, command, output);
            }
            Command::Probe { address } => output.probes.extend(process_at(&address)),
            Command::Release { worker } => {
                let session = coordinator.session_of(worker);
                output.messages.extend(session.map(|session| (session, Message::Released)));
            }
            Command::Notice(notice) => output.notices.push(notice),
            Command::End(outcome) => output.outcome = Some(outcome),
            other => coordinator.call(other),
        }
    }

    fn tell_worker(&mut self, session: ConnectionId, command: WorkerCommand, output: &mut Output) {
        let last = matches!(command.command, control::Command::Abandon { .. });
        if last && self.worker.is_some() {
            // The last thing that a process does before it ends.
            return self.work(|worker| worker.command(session, command));
        }
        output.messages.push((session, Message::Command(command)));
    }

    /// Polls what can have come further: after an answer every call, for it may be the one that waited for it; otherwise
    /// those that are new.
    fn poll(&mut self, answered: bool, output: &mut Output) {
        if let Some(coordinator) = &mut self.coordinator {
            let calls = &mut coordinator.calls;
            poll_from(if answered { 0 } else { self.calls_polled }, calls, |event| {
                output.inputs.push(Input::Core(event))
            });
            self.calls_polled = calls.len();
        }
        if let Some(worker) = &mut self.worker {
            let jobs = &mut worker.jobs;
            poll_from(if answered { 0 } else { self.jobs_polled }, jobs, |done| output.inputs.push(Input::Done(done)));
            self.jobs_polled = jobs.len();
        }
    }

    fn collect(&mut self, output: &mut Output) {
        let Some(worker) = &mut self.worker else { return };
        let out = std::mem::take(&mut worker.out);
        let report = |report: WorkerReport| {
            let session = worker.session_of(report.attempt.generation)?;
            Some((session, Message::Report(report)))
        };
        output.messages.extend(out.reports.into_iter().filter_map(report));
        output.messages.extend(out.frames.into_iter().map(|(link, frame)| (link, Message::Frame(frame))));
        output.wanted.extend(out.wanted);
        output.closed.extend(out.closed);
        output.messages.extend(out.leaves.into_iter().map(|session| (session, Message::Leave)));
    }
}

/// Polls the calls from one place on, and takes out what is done.
fn poll_from<T>(from: usize, calls: &mut Vec<Pin<Box<dyn Future<Output = T> + Send>>>, mut done: impl FnMut(T)) {
    let mut context = Context::from_waker(Waker::noop());
    let mut at = from;
    while let Some(call) = calls.get_mut(at) {
        match call.as_mut().poll(&mut context) {
            Poll::Ready(value) => {
                done(value);
                drop(calls.remove(at));
            }
            Poll::Pending => at += 1,
        }
    }
}
