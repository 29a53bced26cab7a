//! Taking over what runs (protocol section 7): a new coordinator asks the workers what they run, and where all of it goes on
//! from the log's tip, it goes on without a restart.
//!
//! Owns: the questions, the judgement, the commands that make running tasks this coordinator's own. Does not own: who may
//! rule (`term`, `standby`), what happens when nothing fits (`restore`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{self, Attempt, Placement, Running};
use millstream_api::ids::{Epoch, TaskId, WorkerId};
use millstream_api::log::{Manifest, PreparedTransaction, transactional_ids};

use super::message::{Command, Millis, Notice};
use super::{Core, Phase, Run, Sealed};

/// Once a worker has said that it runs something, the others are close: they lost the same coordinator at the same time.
const OTHERS_ANSWER_MS: Millis = 1_000;
/// Epochs after the tip that may have been triggered and not sealed. More than any job tolerates: then something is wrong,
/// and a restart makes it right.
const UNSEALED_EPOCHS_MAX: u64 = 64;

/// What the answers come to.
enum Judgement {
    /// Not all have answered, and what is there fits so far.
    Wait,
    Adopt(Box<Adoption>),
    /// Something is missing for good, or does not fit.
    Restore,
}

/// Running tasks that go on.
struct Adoption {
    /// The registered worker of each task index.
    by_index: Vec<WorkerId>,
    running: Running,
    epoch_max: Option<Epoch>,
}

impl Core {
    /// The term is won. Where another process' tasks may be running, they are asked for first.
    pub(super) fn begin_term(&mut self, now: Millis) {
        let others_may_run = self.view.tip().is_some() && self.inherited.as_ref().is_some_and(|i| i.in_a_cluster);
        if !others_may_run {
            return self.begin_attempt(now);
        }
        // Claiming => Inspecting: what runs is not touched yet.
        self.phase = Phase::Inspecting { deadline: now + self.config.limits.inspect_timeout_ms };
        self.inspected.clear();
        self.tell_all(&control::Command::Inspect);
    }

    pub(super) fn on_inspected(&mut self, now: Millis, worker: WorkerId, running: Option<Running>) {
        let Phase::Inspecting { deadline } = &mut self.phase else { return };
        if running.is_some() {
            *deadline = (*deadline).min(now + OTHERS_ANSWER_MS);
        }
        self.inspected.insert(worker, running);
        self.advance_inspection(now);
    }

    /// Acts on what the workers have said, or on the end of the time for it.
    pub(super) fn advance_inspection(&mut self, now: Millis) {
        let Phase::Inspecting { deadline } = self.phase else { return };
        match self.judge() {
            Judgement::Adopt(adoption) => self.adopt(now, *adoption),
            _ if self.ending.is_some() => self.restore_instead(now),
            Judgement::Restore => self.restore_instead(now),
            Judgement::Wait if deadline <= now => self.restore_instead(now),
            Judgement::Wait => {}
        }
    }

    fn restore_instead(&mut self, now: Millis) {
        self.inspected.clear();
        // What old tasks still report is of an attempt that is over; a worker that is slow to answer may have some, too.
        self.raise_attempt();
        self.tell_all(&control::Command::Suspend);
        self.begin_attempt(now);
    }

    fn judge(&self) -> Judgement {
        let Some(tip) = self.view.tip() else { return Judgement::Restore };
        let Some(newest) = self.inspected.values().flatten().map(|running| running.attempt).max() else {
            return Judgement::Wait;
        };
        let of_newest: BTreeMap<WorkerId, &Running> = self
            .inspected
            .iter()
            .filter_map(|(worker, running)| Some((*worker, running.as_ref()?)))
            .filter(|(_, running)| running.attempt == newest)
            .collect();
        let Some(first) = of_newest.values().next().copied() else { return Judgement::Restore };
        if !self.continues_the_log(newest, first, tip) || !of_newest.values().all(|r| fits(r, first, tip)) {
            return Judgement::Restore;
        }
        match by_index(first, &of_newest) {
            Some(by_index) => Judgement::Adopt(Box::new(Adoption {
                by_index,
                running: first.clone(),
                epoch_max: of_newest.values().filter_map(|r| r.epoch_max).max(),
            })),
            // The rest may be on its way.
            None => Judgement::Wait,
        }
    }

    /// Whether an attempt of the coordinator before this one is what the log's tip comes from, and nothing was done about its
    /// transactions since.
    fn continues_the_log(&self, attempt: Attempt, running: &Running, tip: &Sealed) -> bool {
        let of_the_last_term = self.inherited.as_ref().is_some_and(|i| i.generation == attempt.generation);
        // Given up after it was sealed, or left behind: the tasks may have gone past it.
        let nothing_dropped = self.view.dropped().iter().all(|dropped| dropped.seq < tip.seq);
        let config = &self.config;
        let pool = config.transaction_pool();
        let ids = transactional_ids(&self.running.graph, &running.job_uid, running.parallelism, pool);
        let ids_are_the_newest = ids.is_empty() || self.view.transactional_ids().last() == Some(&ids);
        let same_graph = running.graph_hash == self.running.hash && tip.manifest.graph_hash == self.running.hash;
        let fitting = running.parallelism <= self.wanted && self.named.is_none();
        let unsealed = running.epoch_max.map_or(0, |max| max.0.saturating_sub(tip.manifest.epoch.0));
        of_the_last_term
            && nothing_dropped
            && ids_are_the_newest
            && same_graph
            && fitting
            && unsealed <= UNSEALED_EPOCHS_MAX
            && self.sources_known()
    }

    fn adopt(&mut self, now: Millis, adoption: Adoption) {
        let Adoption { by_index, running, epoch_max } = adoption;
        let Some(tip) = self.view.tip().cloned() else { return };
        let manifest = tip.manifest;
        self.inspected.clear();
        self.parallelism = running.parallelism;
        self.slots.place(&by_index);
        self.ran = true;
        self.fencing.adopt(running.job_uid);
        if let Some(epoch_max) = epoch_max {
            self.view.raise_epoch(epoch_max);
        }
        self.uncommitted = by_epoch(self.view.pending());
        let run = self.adopted_run(now, &manifest, &running.tasks, tip.written_at_ms);
        self.out.push(Command::Notice(Notice::Adopted { tasks: run.tasks.len(), epoch: manifest.epoch }));
        self.run = Some(run);
        let last = epoch_max.map_or(manifest.epoch.0, |max| max.0);
        let aborted: Vec<Epoch> = (manifest.epoch.0 + 1..=last).map(Epoch).collect();
        let adopt = control::Command::Adopt { sealed: Arc::clone(&manifest), aborted };
        let workers: Vec<WorkerId> = self.slots.workers().collect();
        for worker in workers {
            if self.slots.runs(worker) {
                self.tell(worker, adopt.clone());
            } else {
                self.tell(worker, control::Command::Cancel);
            }
        }
        self.phase = if self.is_finished(&manifest) {
            // Inspecting => Committing: only its commits are left.
            Phase::Committing { deadline: now + self.config.limits.commit_timeout_ms, finished: true }
        } else {
            // Inspecting => Running: a checkpoint is due, the last one may be long ago.
            Phase::Running
        };
        let left = Self::of_other_tasks(self.view.pending(), &self.own_ids());
        self.commit_left(now, left);
    }

    fn adopted_run(&self, now: Millis, tip: &Manifest, deployed: &BTreeSet<TaskId>, sealed_at_ms: i64) -> Run {
        // The tip may be what these tasks were restored from, at another parallelism: then its tasks are others.
        let finished = tip.finished_at(self.parallelism, self.running.hash);
        let tasks: BTreeSet<TaskId> = deployed.iter().filter(|task| !finished.contains(task)).copied().collect();
        let sinks = self.sink_tasks().into_iter().filter(|task| tasks.contains(task));
        let sealed_at = Millis::try_from(sealed_at_ms).unwrap_or(now);
        Run {
            committed: sinks.map(|task| (task, None)).collect(),
            last_epoch: BTreeMap::new(),
            ended: finished.clone(),
            finished,
            tasks,
            started: true,
            next_trigger_at: now,
            // What the tasks have sent since the last manifest is not covered by any.
            uncovered_since: sealed_at.min(now),
            paused: false,
            stop_tries: 0,
        }
    }
}

/// Whether a worker's tasks are the rest of what `first` says, and go on from the tip: they know it, or took part in it.
fn fits(running: &Running, first: &Running, tip: &Sealed) -> bool {
    let epoch = Some(tip.manifest.epoch);
    running.sound
        && running.graph_hash == first.graph_hash
        && running.parallelism == first.parallelism
        && running.tasks == first.tasks
        && running.placement == first.placement
        && running.job_uid == first.job_uid
        && (running.decided == epoch || (running.decided < epoch && running.acknowledged == epoch))
}

/// The worker of each index, where all that were deployed together are there.
fn by_index(first: &Running, answers: &BTreeMap<WorkerId, &Running>) -> Option<Vec<WorkerId>> {
    let Placement { by_index, .. } = &first.placement;
    let now: BTreeMap<WorkerId, WorkerId> = answers.iter().map(|(worker, r)| (r.worker, *worker)).collect();
    by_index.iter().map(|then| now.get(then).copied()).collect()
}

/// What is sealed and not known to be committed, under the epoch that wrote it.
fn by_epoch(pending: &[PreparedTransaction]) -> BTreeMap<Epoch, Vec<PreparedTransaction>> {
    let mut by_epoch: BTreeMap<Epoch, Vec<PreparedTransaction>> = BTreeMap::new();
    for transaction in pending {
        by_epoch.entry(transaction.epoch).or_default().push(transaction.clone());
    }
    by_epoch
}
