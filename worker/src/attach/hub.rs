//! Between the sessions and the worker: whose commands count, and who hears the reports.
//!
//! Nothing here waits for one side only, so a coordinator that hangs, or a worker that is busy, holds up neither the others
//! nor a signal. What no coordinator of the present generation can take is dropped: whoever takes the job over asks again.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_api::control::{Attempt, Command, WorkerCommand, WorkerReport, WorkerSettings};
use millstream_api::ids::Generation;
use millstream_api::proto::control::v1 as proto;
use proto::from_worker::Message as FromWorker;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, timeout};

use super::session::{FromSession, Heard, Refusal, Session, encode, message};
use super::{AttachConfig, AttachError, Parting};
use crate::runtime::Worker;

/// What sessions said and the hub has not taken yet.
const MESSAGES_MAX: usize = 64;
/// How often it is looked whether a coordinator was heard in time, and whether it is time to go.
const LOOK: Duration = Duration::from_millis(200);
/// For the worker's threads to end. What brokers then still wait for ends by its time-outs.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// A worker's side of all conversations.
pub(super) struct Hub {
    config: AttachConfig,
    coordinators: Vec<Coordinator>,
    sessions: mpsc::Receiver<(usize, FromSession)>,
    heard: watch::Sender<Option<Heard>>,
    known_settings: watch::Sender<Option<Bytes>>,
    settings: Option<WorkerSettings>,
    worker: Option<Worker>,
    /// The newest that any coordinator spoke in; `None`: nothing was ever deployed here.
    attempt: Option<Attempt>,
    /// On their way to the worker's threads. Sessions wait until it is empty.
    commands: VecDeque<WorkerCommand>,
    /// On its way to the coordinator of its generation.
    report: Option<WorkerReport>,
    /// What the coordinator wants of the sources.
    told_to_pause: bool,
    /// The worker was told to stop reading, because no coordinator is heard.
    paused: bool,
    /// When it goes, whatever is still there.
    leaves_at: Option<Instant>,
}

/// One of the coordinators, as known here.
#[derive(Default)]
struct Coordinator {
    /// While registered.
    say: Option<mpsc::Sender<proto::FromWorker>>,
    /// In which it rules, or last did, as it said.
    generation: Option<Generation>,
    refused: Option<String>,
    /// What was logged last, so that tries without end are one line.
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Registered,
    Gone,
    Refused,
}

/// A coordinator that has registered this worker.
struct Registration {
    settings: Bytes,
    generation: Option<Generation>,
    say: mpsc::Sender<proto::FromWorker>,
    accepted: oneshot::Sender<()>,
}

/// What the hub turns to.
enum Next {
    Said(usize, FromSession),
    /// Something was passed on.
    Moved,
    Leave,
    Look,
    ThreadsEnded,
}

impl Hub {
    pub(super) fn new(config: AttachConfig) -> Self {
        let (sessions_in, sessions) = mpsc::channel(MESSAGES_MAX);
        let heard = watch::Sender::new(None);
        let known_settings = watch::Sender::new(None);
        for number in 0..config.coordinators.len() {
            let session = Session {
                number,
                config: config.clone(),
                heard: heard.subscribe(),
                settings: known_settings.subscribe(),
                hub: sessions_in.clone(),
            };
            tokio::spawn(session.run());
        }
        Self {
            coordinators: config.coordinators.iter().map(|_| Coordinator::default()).collect(),
            config,
            sessions,
            heard,
            known_settings,
            settings: None,
            worker: None,
            attempt: None,
            commands: VecDeque::new(),
            report: None,
            told_to_pause: false,
            paused: false,
            leaves_at: None,
        }
    }

    pub(super) async fn run(
        &mut self,
        mut leave: watch::Receiver<bool>,
        start: impl AsyncFnOnce(WorkerSettings) -> Result<Worker, String>,
    ) -> Result<Parting, AttachError> {
        let mut start = Some(start);
        let mut may_leave = true;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.drop_unheard_report();
            let next = tokio::select! {
                next = self.next() => next,
                asked = leave.wait_for(|leave| *leave), if may_leave => {
                    may_leave = false;
                    // Without a sender nobody can ask any more.
                    if asked.is_ok() { Next::Leave } else { Next::Moved }
                }
                _ = look.tick() => Next::Look,
            };
            let parting = match next {
                Next::Said(from, what) => self.hear(from, what)?,
                Next::Moved => None,
                Next::Leave => self.leave(),
                Next::Look => self.look(),
                Next::ThreadsEnded => return Err(AttachError::ThreadsEnded),
            };
            if let Some(parting) = parting {
                return Ok(parting);
            }
            if let (None, Some(settings)) = (&self.worker, &self.settings)
                && let Some(start) = start.take()
            {
                self.worker = Some(start(settings.clone()).await.map_err(AttachError::Start)?);
            }
        }
    }

    /// Moves one thing on between the sessions and the worker. Cancel-safe.
    async fn next(&mut self) -> Next {
        let Self { coordinators, sessions, worker, commands, report, .. } = self;
        let (commanding, reports) = worker.as_mut().map(|w| (&w.commands, &mut w.reports)).unzip();
        let is_there = commanding.is_some();
        let hearer = report.as_ref().and_then(|report| hearer(coordinators, report));
        tokio::select! {
            // Sessions end after the hub only.
            said = sessions.recv(), if commands.is_empty() => {
                said.map_or(Next::ThreadsEnded, |(from, what)| Next::Said(from, what))
            }
            room = async { commanding.expect("there is a worker").reserve().await }, if is_there && !commands.is_empty() => {
                let Ok(room) = room else { return Next::ThreadsEnded };
                room.send(commands.pop_front().expect("there is one"));
                Next::Moved
            }
            said = async { reports.expect("there is a worker").recv().await }, if is_there && report.is_none() => {
                if said.is_none() {
                    return Next::ThreadsEnded;
                }
                *report = said;
                Next::Moved
            }
            // Of one that is gone its session tells.
            Ok(room) = async { hearer.expect("somebody hears").reserve().await }, if hearer.is_some() => {
                room.send(encode(&report.take().expect("there is one")));
                Next::Moved
            }
            // Nothing can move: a signal, or the time, goes on.
            else => std::future::pending().await,
        }
    }

    /// Ends the worker once it has done what it was told.
    pub(super) async fn close(mut self) {
        let Some(worker) = self.worker.take() else { return };
        for command in std::mem::take(&mut self.commands) {
            // Its threads have ended: nothing is left to command.
            let _ = worker.commands.try_send(command);
        }
        let _ = timeout(CLOSE_MAX, tokio::task::spawn_blocking(|| worker.close())).await;
    }

    fn hear(&mut self, from: usize, what: FromSession) -> Result<Option<Parting>, AttachError> {
        match what {
            FromSession::Registered { settings, generation, say, accepted } => {
                self.register(from, Registration { settings, generation, say, accepted })?;
            }
            FromSession::Command(command) => self.command(from, command),
            FromSession::Heartbeat(rules) => self.note_rules(from, rules),
            FromSession::Farewell if self.rules(from) || self.attempt.is_none() => return Ok(Some(Parting::JobOver)),
            FromSession::Released if self.leaves_at.is_some() && (self.rules(from) || self.attempt.is_none()) => {
                return Ok(Some(Parting::Released));
            }
            FromSession::Farewell | FromSession::Released => {
                tracing::debug!(coordinator = self.address(from), "it does not rule what runs here: it is not obeyed");
            }
            FromSession::Lost(reason) => {
                let coordinator = &mut self.coordinators[from];
                (coordinator.say, coordinator.generation, coordinator.told) = (None, None, Some(Told::Gone));
                tracing::warn!("lost the coordinator at {}: {reason}; tasks go on, trying again", self.address(from));
            }
            FromSession::Away(reason) => {
                self.coordinators[from].refused = None;
                if self.changes(from, Told::Gone) {
                    tracing::info!("the coordinator at {} is not reached, trying again: {reason}", self.address(from));
                }
            }
            FromSession::Refused(refusal) => self.refused(from, refusal)?,
        }
        Ok(None)
    }

    fn register(&mut self, from: usize, registration: Registration) -> Result<(), AttachError> {
        let Registration { settings, generation, say, accepted } = registration;
        let known = self.known_settings.borrow().clone();
        match known {
            // Two answered at once; from now on that one refuses.
            Some(known) if known != settings => return Ok(()),
            Some(_) => {}
            None => match serde_json::from_slice(&settings) {
                Ok(read) => {
                    self.settings = Some(read);
                    self.known_settings.send_replace(Some(settings));
                }
                Err(error) => {
                    let reason = format!("the settings that it sent cannot be read: {error}");
                    return self.refused(from, Refusal { reason, of_all: false });
                }
            },
        }
        // A session that is gone meanwhile says so.
        let _ = accepted.send(());
        let coordinator = &mut self.coordinators[from];
        (coordinator.say, coordinator.refused) = (Some(say), None);
        if self.changes(from, Told::Registered) {
            tracing::info!("registered with the coordinator at {}", self.address(from));
        }
        // Where it had given up this worker, and the attempt with it, its first command says so. After a standstill of its own
        // it may want what runs here to go on.
        self.note_rules(from, generation);
        self.say_leave(from);
        Ok(())
    }

    fn command(&mut self, from: usize, command: WorkerCommand) {
        let attempt = command.attempt;
        if self.attempt.is_some_and(|newest| attempt < newest) {
            tracing::debug!(?attempt, coordinator = self.address(from), "dropped a command of an earlier attempt");
            return;
        }
        self.attempt = Some(attempt);
        match command.command {
            Command::Pause { paused } => self.told_to_pause = paused,
            // Its sources read until they are told otherwise.
            Command::Deploy(_) | Command::Adopt { .. } => self.told_to_pause = false,
            _ => {}
        }
        self.note_rules(from, Some(attempt.generation));
        self.commands.push_back(command);
    }

    /// Whether what runs here is this coordinator's.
    fn rules(&self, number: usize) -> bool {
        let generation = self.attempt.map(|attempt| attempt.generation);
        generation.is_some() && self.coordinators[number].generation == generation
    }

    /// A coordinator said that it rules, by whatever it said.
    fn note_rules(&mut self, from: usize, rules: Option<Generation>) {
        let Some(generation) = rules else { return };
        self.coordinators[from].generation = Some(generation);
        let newest = self.heard.borrow().map(|heard| heard.generation);
        if newest.is_some_and(|newest| generation < newest) {
            return;
        }
        self.heard.send_replace(Some(Heard { generation, at: Instant::now() }));
        if std::mem::take(&mut self.paused) {
            self.tell_worker(Command::Pause { paused: self.told_to_pause });
        }
    }

    fn look(&mut self) -> Option<Parting> {
        self.pause_unheard();
        self.tell_readings();
        self.leaves_at.is_some_and(|at| at <= Instant::now()).then_some(Parting::NotReleased)
    }

    /// What the tasks count goes to the coordinator that rules, if there is something new and room for it: only the newest
    /// matters.
    fn tell_readings(&mut self) {
        let Some(number) = (0..self.coordinators.len()).find(|number| self.rules(*number)) else { return };
        let (Some(worker), Some(say)) = (&mut self.worker, &self.coordinators[number].say) else { return };
        if !worker.readings.has_changed().unwrap_or(false) {
            return;
        }
        let readings = worker.readings.borrow_and_update().clone();
        let body = serde_json::to_vec(&*readings).expect("readings are plain data").into();
        let _ = say.try_send(message(FromWorker::Readings(proto::Readings { body })));
    }

    /// A coordinator is away for so long that the transactions of the sinks get old.
    fn pause_unheard(&mut self) {
        let limit = self.settings.as_ref().and_then(|settings| settings.pause_after_ms).map(Duration::from_millis);
        let (Some(limit), Some(heard)) = (limit, *self.heard.borrow()) else { return };
        if self.paused || heard.at.elapsed() < limit {
            return;
        }
        tracing::warn!("sources paused: no coordinator was heard for {limit:?}, half of the transaction time-out");
        self.paused = true;
        self.tell_worker(Command::Pause { paused: true });
    }

    /// In the attempt that it is in.
    fn tell_worker(&mut self, command: Command) {
        if let Some(attempt) = self.attempt {
            self.commands.push_back(WorkerCommand { attempt, command });
        }
    }

    fn refused(&mut self, from: usize, refusal: Refusal) -> Result<(), AttachError> {
        let Refusal { reason, of_all } = refusal;
        if self.changes(from, Told::Refused) {
            tracing::warn!("the coordinator at {} refused this worker: {reason}", self.address(from));
        }
        self.coordinators[from].refused = Some(reason);
        // What runs here is another one's: that one says when it is over.
        let all = self.coordinators.iter().all(|coordinator| coordinator.refused.is_some());
        if !all && (!of_all || self.attempt.is_some()) {
            return Ok(());
        }
        let coordinators = self.config.coordinators.iter().zip(&self.coordinators);
        let refusals = coordinators.filter_map(|(address, c)| Some((address.clone(), c.refused.clone()?)));
        Err(AttachError::Refused(refusals.collect()))
    }

    /// Announces that the process is to end. It ends now when nothing was ever deployed here.
    fn leave(&mut self) -> Option<Parting> {
        if self.attempt.is_none() {
            return Some(Parting::Released);
        }
        let limit = self.config.drain_timeout;
        tracing::info!("asked to stop: tasks are to move to other workers, for {limit:?} at most");
        self.leaves_at = Some(Instant::now() + limit);
        (0..self.coordinators.len()).for_each(|number| self.say_leave(number));
        None
    }

    fn say_leave(&self, to: usize) {
        let (Some(at), Some(say)) = (self.leaves_at, &self.coordinators[to].say) else { return };
        let left = at.saturating_duration_since(Instant::now());
        let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        // One that takes nothing is about to be lost, and hears it when it is back.
        let _ = say.try_send(message(FromWorker::Leave(proto::Leave { deadline_ms })));
    }

    /// Nobody rules the generation that it is of.
    fn drop_unheard_report(&mut self) {
        if let Some(report) = self.report.take_if(|report| hearer(&self.coordinators, report).is_none()) {
            tracing::debug!(attempt = ?report.attempt, "dropped a report that no coordinator can take");
        }
    }

    /// Whether this is news about a coordinator.
    fn changes(&mut self, number: usize, told: Told) -> bool {
        self.coordinators[number].told.replace(told) != Some(told)
    }

    fn address(&self, number: usize) -> &str {
        &self.config.coordinators[number]
    }
}

/// Where a report goes: to the coordinator in whose generation it was said.
fn hearer<'a>(coordinators: &'a [Coordinator], report: &WorkerReport) -> Option<&'a mpsc::Sender<proto::FromWorker>> {
    let of_generation = |c: &&Coordinator| c.generation == Some(report.attempt.generation) && c.say.is_some();
    coordinators.iter().find(of_generation)?.say.as_ref()
}
