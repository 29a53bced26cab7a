//! What is prepared beside what runs, and the moment in which it takes over (protocol section 8).
//!
//! Owns: the prepared deployment with its channels, connections, open sinks and states read ahead. Does not own: when it takes
//! over, and whether (the coordinator); the reading (`preload`); the building of tasks (`deploy`).

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;

use millstream_api::control::{Attempt, Deployment, Failure, FailureKind, Report};
use millstream_api::ids::{TaskId, TransformUid};
use millstream_api::log::Manifest;
use tokio::sync::watch;

use super::links::DeployedLinks;
use super::preload::{self, Preloaded, PreloadedStates};
use super::progress::Telling;
use super::sinks::{SinkOpener, Sinks, open_ahead};
use super::slot_map::SlotMap;
use super::wiring::Wiring;
use super::{Runtime, deploy, restore};
use crate::exchange::remote::LinkNews;
use crate::slot::SlotCommand;
use crate::snapshot::Segments;
use crate::task::TaskError;

/// Tasks that may follow those that run.
pub(super) struct Staged {
    /// In which they will run.
    attempt: Attempt,
    /// In which this was asked for.
    asked_in: Attempt,
    pub(super) number: u64,
    pub(super) deployment: Deployment,
    pub(super) slots: SlotMap,
    pub(super) wiring: Wiring,
    pub(super) links: DeployedLinks,
    /// `None`: they are being opened.
    sinks: Option<BTreeMap<TaskId, Sinks>>,
    /// `None`: they are being read.
    states: Option<PreloadedStates>,
    /// Counts what is read.
    segments: Segments,
    reported: bool,
    _telling: Telling,
    /// Told, or closed: nobody needs what is still being read.
    reading: watch::Sender<()>,
}

/// What tasks get that was made beforehand.
#[derive(Default)]
pub(super) struct Ahead {
    sinks: BTreeMap<TaskId, Sinks>,
    states: PreloadedStates,
}

/// The same of one task, by transform.
pub(super) struct OwnAhead {
    pub(super) sinks: Sinks,
    pub(super) states: BTreeMap<TransformUid, Preloaded>,
}

impl Ahead {
    pub(super) fn take(&mut self, task: TaskId) -> OwnAhead {
        let (own, others): (BTreeMap<_, _>, _) =
            take(&mut self.states).into_iter().partition(|((of, _), _)| *of == task);
        self.states = others;
        let states = own.into_iter().map(|((_, uid), state)| (uid, state)).collect();
        OwnAhead { sinks: self.sinks.remove(&task).unwrap_or_default(), states }
    }
}

/// What was made beside everything else.
pub(super) enum Made {
    Sinks(BTreeMap<TaskId, Sinks>),
    States(PreloadedStates),
}

/// For what is prepared under a number.
pub(super) type Ready = (u64, Result<Made, TaskError>);

impl Runtime {
    /// Begins to prepare; what runs goes on.
    pub(super) async fn prepare(&mut self, attempt: Attempt, mut deployment: Deployment) {
        self.discard();
        // What its tasks go on from is a later one, and what this one names is not theirs to commit.
        let newest = deployment.restore.take();
        if let Err(failure) = Self::check_graph(&deployment) {
            return self.report(Report::PrepareFailed { failure }).await;
        }
        let slots = SlotMap::new(&deployment, self.slots.len());
        let mut wiring = match self.wire(&deployment, &slots) {
            Ok(wiring) => wiring,
            Err(error) => {
                let failure = TaskError::from(error).failure();
                return self.report(Report::PrepareFailed { failure }).await;
            }
        };
        let number = self.next_number();
        let links = DeployedLinks::begin(&self.shuffle, &deployment, attempt, &mut wiring, (number, &self.news));
        let openers = deployment.own_tasks().map(|task| {
            let wake = self.slots[slots.of(task.index)].wake().clone();
            (task, SinkOpener::new(&deployment, &self.config, wake, &self.io))
        });
        let (openers, ready) = (openers.collect(), self.ready.clone());
        self.io.spawn(async move {
            // Once the runtime has ended, nobody needs them.
            let _ = ready.send((number, open_ahead(openers).await.map(Made::Sinks)));
        });
        let segments = self.segments.counted_apart();
        let reading = self.read_ahead(number, &deployment, newest, &segments);
        self.staged = Some(Staged {
            attempt,
            asked_in: self.attempt,
            number,
            deployment,
            slots,
            wiring,
            links,
            sinks: None,
            states: None,
            _telling: self.tell_progress(&segments),
            segments,
            reported: false,
            reading,
        });
    }

    /// Begins to read what no task here will hand over, until the answer is told or dropped.
    fn read_ahead(
        &self,
        number: u64,
        deployment: &Deployment,
        newest: Option<Arc<Manifest>>,
        segments: &Segments,
    ) -> watch::Sender<()> {
        let (reading, stop) = watch::channel(());
        let ready = self.ready.clone();
        let Some(manifest) = newest else {
            let _ = ready.send((number, Ok(Made::States(PreloadedStates::new()))));
            return reading;
        };
        // What an earlier attempt left here may not be there, or not go back to the manifest to come.
        let running = self.deployed.as_ref().filter(|deployed| deployed.record.attempt == self.attempt);
        let readings = self.metrics.read();
        let running = running.map(|running| (&running.deployment, &readings[..]));
        let shares = preload::shares(deployment, &manifest, &self.config.backend, running);
        let reader = Arc::new(preload::Reader {
            deployment: deployment.clone(),
            manifest,
            segments: segments.clone(),
            state_config: deploy::state_config(&self.config, deployment),
            io: self.io.clone(),
        });
        let at_once = self.slots.len();
        self.io.spawn(async move {
            let read = reader.read(shares, at_once, stop).await;
            let _ = ready.send((number, read.map(Made::States)));
        });
        reading
    }

    /// Lets go of what was prepared, beside everything else.
    pub(super) fn discard(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        // At once: at the end of the process nothing is read any more.
        staged.reading.send_replace(());
        self.io.spawn_blocking(move || drop(staged));
    }

    pub(super) async fn on_ready(&mut self, (number, made): Ready) {
        let Some(staged) = self.staged.as_mut().filter(|staged| staged.number == number) else {
            self.io.spawn_blocking(move || drop(made));
            return;
        };
        match made {
            Ok(Made::Sinks(sinks)) => staged.sinks = Some(sinks),
            Ok(Made::States(states)) => staged.states = Some(states),
            Err(error) => return self.preparation_failed(error.failure()).await,
        }
        self.tell_when_prepared().await;
    }

    /// Of the connections of what is prepared.
    pub(super) async fn on_staged_news(&mut self, news: LinkNews) {
        let Some(staged) = &mut self.staged else { return };
        match staged.links.on_news(news) {
            Some(Report::CommandFailed { failure }) => self.preparation_failed(failure).await,
            _ => self.tell_when_prepared().await,
        }
    }

    async fn preparation_failed(&mut self, failure: Failure) {
        let asked_in = self.staged.as_ref().map_or(self.attempt, |staged| staged.asked_in);
        self.discard();
        self.report_in(asked_in, Report::PrepareFailed { failure }).await;
    }

    async fn tell_when_prepared(&mut self) {
        let Some(staged) = &mut self.staged else { return };
        let complete = staged.sinks.is_some() && staged.states.is_some() && staged.links.connected();
        if complete && !std::mem::replace(&mut staged.reported, true) {
            let (asked_in, bytes) = (staged.asked_in, staged.segments.progress().bytes());
            self.report_in(asked_in, Report::Restoring { bytes }).await;
            self.report_in(asked_in, Report::Prepared).await;
        }
    }

    /// What is prepared takes over: its tasks go on from the manifest, with the states of those that ran, and run at once.
    pub(super) async fn switch(&mut self, manifest: Arc<Manifest>) {
        let prepared = self.staged.take().filter(|staged| staged.attempt == self.attempt && staged.reported);
        let Some(staged) = prepared else {
            let message = "what was to take over is not prepared here".to_owned();
            let failure = Failure { kind: FailureKind::Transient, message };
            return self.report(Report::CommandFailed { failure }).await;
        };
        let tasks = self.take_tasks().await;
        let before = self.deployed.take();
        let mut survivors = before.map(|deployed| deployed.survivors).unwrap_or_default();
        survivors.extend(restore::dismantle(tasks, &self.io));
        let Staged { number, mut deployment, slots, wiring, links, sinks, states, .. } = staged;
        let ahead = Ahead { sinks: sinks.unwrap_or_default(), states: states.unwrap_or_default() };
        deployment.restore = Some(manifest);
        self.number = number;
        self.links = links;
        self.build(deployment, slots, wiring, survivors, ahead).await;
        self.note(super::Record::note_started);
        self.broadcast(|| SlotCommand::Start);
    }
}
