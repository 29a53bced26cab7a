//! A new coordinator goes on with what runs here (protocol section 7).
//!
//! Owns: what is remembered of a deployment so that it can be told again, and the answers to `Inspect` and `Adopt`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{Attempt, Failure, Report, Running};
use millstream_api::ids::{Epoch, Generation, TaskId};
use millstream_api::log::Manifest;

use super::{Job, Worker, transient};

/// What was told of a deployment, to it and by it.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// That deployed it, or adopted it last: its tasks report in it.
    pub(super) attempt: Attempt,
    pub(super) started: bool,
    pub(super) stopping: bool,
    /// A connection to another worker broke.
    pub(super) disconnected: bool,
    pub(super) epoch_max: Option<Epoch>,
    /// The newest manifest that the tasks know of.
    pub(super) decided: Option<Epoch>,
    /// Tasks that are over by that manifest.
    pub(super) finished: BTreeSet<TaskId>,
    acknowledged: BTreeMap<TaskId, Epoch>,
    committed: BTreeMap<TaskId, Epoch>,
    ended: BTreeSet<TaskId>,
    pub(super) failed: BTreeMap<TaskId, Failure>,
}

impl Record {
    pub(super) fn new(attempt: Attempt, restored: Option<Epoch>) -> Self {
        Self { attempt, decided: restored, ..Self::default() }
    }

    /// Whether the layers of these tasks are what a manifest of this epoch holds, as a coordinator of that term restores it.
    /// Within a term an epoch's number is used once. Another term may have used one again that was not sealed, so only what
    /// these tasks have heard of counts.
    pub(super) fn shares_epochs(&self, generation: Generation, epoch: Option<Epoch>) -> bool {
        self.attempt.generation == generation || self.decided >= epoch
    }

    /// False when it was known. What these tasks were restored from may be of another parallelism: then its tasks are others.
    pub(super) fn note_sealed(&mut self, manifest: &Manifest) -> bool {
        if self.decided >= Some(manifest.epoch) {
            return false;
        }
        self.decided = Some(manifest.epoch);
        self.finished.clone_from(&manifest.finished_tasks);
        true
    }

    pub(super) fn note(&mut self, report: &Report) {
        match report {
            Report::Acknowledged(snapshot) => drop(self.acknowledged.insert(snapshot.task, snapshot.epoch)),
            Report::Committed { task, epoch } => {
                let newest = self.committed.entry(*task).or_insert(*epoch);
                *newest = (*newest).max(*epoch);
            }
            Report::EndOfInput { task } => drop(self.ended.insert(*task)),
            Report::TaskFailed { task, failure } => drop(self.failed.insert(*task, failure.clone())),
            _ => {}
        }
    }

    fn acknowledged_by_all(&self, tasks: impl Iterator<Item = TaskId>) -> Option<Epoch> {
        let mut running = tasks.filter(|task| !self.finished.contains(task));
        let first = self.acknowledged.get(&running.next()?).copied()?;
        running.try_fold(first, |least, task| self.acknowledged.get(&task).map(|epoch| least.min(*epoch)))
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

impl Worker {
    fn is_sound(&self) -> bool {
        let Record { started, stopping, disconnected, failed, .. } = &self.record;
        *started && !self.suspended && !stopping && !disconnected && failed.is_empty()
    }

    pub(super) fn inspect(&mut self) {
        let running = self.deployment.as_ref().map(|deployment| {
            Box::new(Running {
                attempt: self.record.attempt,
                graph_hash: deployment.graph_hash,
                parallelism: deployment.parallelism,
                tasks: deployment.tasks.clone(),
                worker: deployment.worker,
                placement: deployment.placement.clone(),
                job_uid: deployment.job_uid.clone(),
                decided: self.record.decided,
                acknowledged: self.record.acknowledged_by_all(deployment.own_tasks()),
                epoch_max: self.record.epoch_max,
                sound: self.is_sound(),
            })
        });
        self.report(Report::Inspected { running });
    }

    pub(super) fn adopt(&mut self, sealed: &Arc<Manifest>, aborted: &[Epoch]) -> Vec<Job> {
        if self.deployment.is_none() || !self.is_sound() {
            let failure = transient("nothing runs here that another coordinator could go on with");
            self.report(Report::CommandFailed { failure });
            return Vec::new();
        }
        self.hits.push("tasks adopted");
        self.record.attempt = self.attempt;
        let unheard = self.record.unheard();
        let jobs = self.sealed(sealed);
        for epoch in aborted {
            self.aborted(*epoch);
        }
        self.paused = false;
        for report in unheard {
            self.report(report);
        }
        jobs
    }
}
