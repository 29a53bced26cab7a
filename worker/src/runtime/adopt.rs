//! A new coordinator goes on with what runs here (protocol section 7).
//!
//! Owns: what is remembered of a deployment so that it can be told again, and the answers to `Inspect` and `Adopt`. Does not
//! own: which coordinator may ask, nor what it makes of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{Attempt, Deployment, Failure, FailureKind, Mutation, Report, Running};
use millstream_api::ids::{Epoch, TaskId};
use millstream_api::log::Manifest;

use super::Runtime;
use crate::slot::SlotCommand;
use crate::task::TaskEventKind;

/// What was told of a deployment, to it and by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// That deployed it, or adopted it last: its tasks report in it.
    pub(super) attempt: Attempt,
    started: bool,
    suspended: bool,
    /// A barrier told its sources to stop.
    stopping: bool,
    /// A connection to another worker broke.
    disconnected: bool,
    epoch_max: Option<Epoch>,
    /// The newest manifest that the tasks know of.
    decided: Option<Epoch>,
    /// Tasks that are over by that manifest: they acknowledge nothing any more.
    finished: BTreeSet<TaskId>,
    acknowledged: BTreeMap<TaskId, Epoch>,
    committed: BTreeMap<TaskId, Epoch>,
    ended: BTreeSet<TaskId>,
    failed: BTreeMap<TaskId, Failure>,
}

impl Record {
    pub(super) fn new(attempt: Attempt, deployment: &Deployment) -> Self {
        let decided = deployment.restore.as_ref().map(|manifest| manifest.epoch);
        Self { attempt, decided, ..Self::default() }
    }

    pub(super) fn note_started(&mut self) {
        self.started = true;
    }

    pub(super) fn note_suspended(&mut self) {
        self.suspended = true;
    }

    pub(super) fn note_disconnected(&mut self) {
        self.disconnected = true;
    }

    pub(super) fn note_triggered(&mut self, epoch: Epoch, mutation: Mutation) {
        self.epoch_max = self.epoch_max.max(Some(epoch));
        self.stopping |= mutation != Mutation::None;
    }

    pub(super) fn note_sealed(&mut self, manifest: &Manifest) {
        if self.decided >= Some(manifest.epoch) {
            // What these tasks were restored from may be of another parallelism: then its tasks are others.
            return;
        }
        self.decided = Some(manifest.epoch);
        self.finished.clone_from(&manifest.finished_tasks);
    }

    pub(super) fn note_failed(&mut self, task: TaskId, failure: Failure) {
        self.failed.insert(task, failure);
    }

    pub(super) fn note_event(&mut self, task: TaskId, kind: &TaskEventKind) {
        match kind {
            TaskEventKind::Committed(epoch) => {
                let newest = self.committed.entry(task).or_insert(*epoch);
                *newest = (*newest).max(*epoch);
            }
            TaskEventKind::EndOfInput => drop(self.ended.insert(task)),
            TaskEventKind::Failed { failure } => self.note_failed(task, failure.clone()),
            TaskEventKind::Acknowledged(snapshot) => drop(self.acknowledged.insert(task, snapshot.epoch)),
            TaskEventKind::Declined { .. } | TaskEventKind::Write(_) | TaskEventKind::Merge(_) => {}
        }
    }

    /// Its tasks run and may go on as they are.
    fn sound(&self) -> bool {
        self.started && !self.suspended && !self.stopping && !self.disconnected && self.failed.is_empty()
    }

    /// The newest epoch that each of these tasks has acknowledged, but for those that are over.
    fn acknowledged_by_all(&self, tasks: impl Iterator<Item = TaskId>) -> Option<Epoch> {
        let mut running = tasks.filter(|task| !self.finished.contains(task));
        let first = self.acknowledged.get(&running.next()?).copied()?;
        running.try_fold(first, |least, task| self.acknowledged.get(&task).map(|epoch| least.min(*epoch)))
    }

    /// Whether what its states know under the number of an epoch is what the log has under it. Within a term a number is used
    /// once; an epoch that an earlier term triggered and did not seal may have got its number again.
    pub(super) fn shares_epochs(&self, attempt: Attempt, restored: Option<Epoch>) -> bool {
        self.attempt.generation == attempt.generation || self.decided >= restored
    }

    /// What its coordinator may not have heard.
    fn unheard(&self) -> Vec<Report> {
        let committed = self.committed.iter().map(|(task, epoch)| Report::Committed { task: *task, epoch: *epoch });
        let ended = self.ended.iter().map(|task| Report::EndOfInput { task: *task });
        let failed =
            self.failed.iter().map(|(task, failure)| Report::TaskFailed { task: *task, failure: failure.clone() });
        committed.chain(ended).chain(failed).collect()
    }
}

impl Runtime {
    pub(super) fn inspect(&self) -> Report {
        let running = self.deployed.as_ref().map(|deployed| {
            let (deployment, record) = (&deployed.deployment, &deployed.record);
            Box::new(Running {
                attempt: record.attempt,
                graph_hash: deployment.graph_hash,
                parallelism: deployment.parallelism,
                tasks: deployment.tasks.clone(),
                worker: deployment.worker,
                placement: deployment.placement.clone(),
                job_uid: deployment.job_uid.clone(),
                decided: record.decided,
                acknowledged: record.acknowledged_by_all(deployment.own_tasks()),
                epoch_max: record.epoch_max,
                sound: record.sound(),
            })
        });
        Report::Inspected { running }
    }

    pub(super) async fn adopt(&mut self, sealed: Arc<Manifest>, aborted: Vec<Epoch>) {
        let Some(deployed) = self.deployed.as_mut().filter(|deployed| deployed.record.sound()) else {
            let message = "nothing runs here that another coordinator could go on with".to_owned();
            let failure = Failure { kind: FailureKind::Transient, message };
            return self.report(Report::CommandFailed { failure }).await;
        };
        deployed.record.attempt = self.attempt;
        deployed.record.note_sealed(&sealed);
        let unheard = deployed.record.unheard();
        // A task that has decided the epoch already takes no notice.
        self.broadcast(|| SlotCommand::Sealed(Arc::clone(&sealed)));
        for epoch in aborted {
            self.broadcast(|| SlotCommand::Aborted(epoch));
        }
        // The new coordinator counts from now on how long transactions are open, as if nothing were paused.
        self.broadcast(|| SlotCommand::Pause(false));
        for report in unheard {
            self.report(report).await;
        }
    }

    /// Whether the graph came over as it was sent.
    pub(super) fn check_graph(deployment: &Deployment) -> Result<(), Failure> {
        let (sent, read) = (deployment.graph_hash, deployment.graph.hash());
        if sent == read {
            return Ok(());
        }
        let message = format!(
            "the graph of job {} has hash {read:016x} here and {sent:016x} at its coordinator: they are of different builds (a \
             defect of Millstream)",
            deployment.job
        );
        Err(Failure { kind: FailureKind::Bug, message })
    }
}
