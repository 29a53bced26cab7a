//! What is prepared beside what runs, and the moment in which it takes over (protocol section 8).
//!
//! Owns: the prepared deployment with its channels, connections and open sinks. Does not own: when it takes over, and
//! whether (the coordinator); the building of tasks (`deploy`).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::control::{Attempt, Deployment, Failure, FailureKind, Report};
use millstream_api::ids::TaskId;
use millstream_api::log::Manifest;

use super::links::DeployedLinks;
use super::sinks::{SinkOpener, Sinks, open_ahead};
use super::slot_map::SlotMap;
use super::wiring::Wiring;
use super::{Runtime, restore};
use crate::exchange::remote::LinkNews;
use crate::slot::SlotCommand;
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
    reported: bool,
}

/// The sinks of what is prepared under a number.
pub(super) type Opened = (u64, Result<BTreeMap<TaskId, Sinks>, TaskError>);

impl Runtime {
    /// Begins to prepare; what runs goes on.
    pub(super) async fn prepare(&mut self, attempt: Attempt, deployment: Deployment) {
        self.discard();
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
        let (openers, opened) = (openers.collect(), self.opened.clone());
        self.io.spawn(async move {
            // Once the runtime has ended, nobody needs them.
            let _ = opened.send((number, open_ahead(openers).await));
        });
        let asked_in = self.attempt;
        self.staged =
            Some(Staged { attempt, asked_in, number, deployment, slots, wiring, links, sinks: None, reported: false });
    }

    /// Lets go of what was prepared, beside everything else.
    pub(super) fn discard(&mut self) {
        let staged = self.staged.take();
        self.io.spawn_blocking(move || drop(staged));
    }

    pub(super) async fn on_opened(&mut self, (number, opened): Opened) {
        let Some(staged) = self.staged.as_mut().filter(|staged| staged.number == number) else {
            self.io.spawn_blocking(move || drop(opened));
            return;
        };
        match opened {
            Ok(sinks) => {
                staged.sinks = Some(sinks);
                self.tell_when_prepared().await;
            }
            Err(error) => self.preparation_failed(error.failure()).await,
        }
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
        if staged.sinks.is_some() && staged.links.connected() && !std::mem::replace(&mut staged.reported, true) {
            let asked_in = staged.asked_in;
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
        let Staged { number, mut deployment, slots, wiring, links, sinks, .. } = staged;
        deployment.restore = Some(manifest);
        self.number = number;
        self.links = links;
        self.build(deployment, slots, wiring, survivors, sinks.unwrap_or_default()).await;
        self.note(super::Record::note_started);
        self.broadcast(|| SlotCommand::Start);
    }
}
