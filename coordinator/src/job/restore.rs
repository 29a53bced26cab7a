//! From a won term, or a failed attempt, to running tasks, in the order of protocol section 5:
//! finish, (give up,) settle, fence, deploy, start.
//!
//! A step that finds nothing to do falls through to the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_api::control::{self, Deployment, Failure, FailureKind, FinishOutcome};
use millstream_api::graph::JobGraph;
use millstream_api::ids::{Epoch, TaskId, TransformUid};
use millstream_api::log::{EntryKind, PreparedTransaction, Settled, TransactionalIds, transactional_ids};

use super::expired::{Verdict, judge, judge_abort};
use super::message::{Command, Millis, Notice, WorkerId};
use super::{Core, Phase, Purpose, Run, transient};

/// Pause before the broker is asked again.
const BROKER_RETRY_MS: Millis = 500;
/// How long a job that ends waits for the broker to abort what nobody will commit. What is missed ends by its time-out.
const FENCE_AT_END_MS: Millis = 5_000;

/// Rounds of `FenceTransactions` that are to be done: ids of sinks that are gone need the graph that knew them.
#[derive(Clone, Debug, Default)]
pub(super) struct Fencing {
    rounds: VecDeque<(Arc<JobGraph>, BTreeMap<TransformUid, TransactionalIds>)>,
}

impl Core {
    /// Begins an attempt: the term is won, no put is open, nothing of an earlier attempt reports any more.
    pub(super) fn begin_attempt(&mut self, now: Millis) {
        self.checkpoint = None;
        self.uncommitted.clear();
        if self.workers.len() < self.config.workers as usize {
            let deadline = now + self.config.limits.deploy_timeout_ms;
            self.phase = Phase::AwaitingWorkers { deadline };
            return;
        }
        self.step_finish(now);
    }

    pub(super) fn advance_restore(&mut self, now: Millis) {
        match self.phase.clone() {
            Phase::AwaitingWorkers { .. } if self.workers.len() >= self.config.workers as usize => {
                self.step_finish(now);
            }
            Phase::AwaitingWorkers { deadline } if deadline <= now => {
                let (there, wanted) = (self.workers.len(), self.config.workers);
                self.fail(now, transient(format!("only {there} of {wanted} workers have registered")));
            }
            Phase::Finishing { deadline, .. } | Phase::GivingUp { deadline, .. } if deadline <= now => {
                let message = "the broker did not finish the transactions of the last checkpoint in time".to_owned();
                self.fail(now, transient(message));
            }
            Phase::Finishing { deadline, retry_at: Some(at), accepted_loss } if at <= now => {
                self.phase = Phase::Finishing { deadline, retry_at: None, accepted_loss };
                self.ask_to_finish(self.view.pending().to_vec());
            }
            Phase::GivingUp { deadline, retry_at: Some(at), abort } if at <= now => {
                self.phase = Phase::GivingUp { deadline, retry_at: None, abort: abort.clone() };
                self.ask_to_abort(abort);
            }
            _ => {}
        }
    }

    fn step_finish(&mut self, now: Millis) {
        if self.view.pending().is_empty() {
            return self.step_settle(now, false);
        }
        let deadline = now + self.config.limits.commit_timeout_ms;
        self.phase = Phase::Finishing { deadline, retry_at: None, accepted_loss: false };
        self.ask_to_finish(self.view.pending().to_vec());
    }

    fn ask_to_finish(&mut self, transactions: Vec<PreparedTransaction>) {
        let graph = self.graph_of(transactions.iter().map(|t| &t.uid));
        self.tell(self.any_worker(), control::Command::FinishTransactions { graph, transactions });
    }

    fn ask_to_abort(&mut self, transactions: Vec<PreparedTransaction>) {
        let graph = self.graph_of(transactions.iter().map(|t| &t.uid));
        self.tell(self.any_worker(), control::Command::AbortTransactions { graph, transactions });
    }

    /// The graph that knows these sinks: the job's own where it can, so that a broker's new address counts.
    fn graph_of<'a>(&self, mut uids: impl Iterator<Item = &'a TransformUid>) -> Arc<JobGraph> {
        if uids.all(|uid| self.vertex_of.contains_key(uid)) {
            return self.graph();
        }
        self.view.tip().map_or_else(|| self.graph(), |tip| Arc::clone(&tip.manifest.graph))
    }

    pub(super) fn on_finished(&mut self, now: Millis, outcomes: &[(PreparedTransaction, FinishOutcome)]) {
        let Phase::Finishing { deadline, retry_at: None, accepted_loss } = self.phase else { return };
        let Some(tip) = self.view.tip().map(|t| Arc::clone(&t.manifest)) else { return };
        if accepted_loss {
            return self.step_settle(now, true);
        }
        let before = self.view.before_tip().map(|s| Arc::clone(&s.manifest));
        match judge(&tip, before.as_deref(), outcomes, self.config.restore.expired_transactions) {
            Verdict::Settled => {
                let notice = Notice::CommitsFinished { epoch: tip.epoch, transactions: outcomes.len() };
                self.out.push(Command::Notice(notice));
                self.step_settle(now, true);
            }
            Verdict::Again { .. } => {
                self.phase = Phase::Finishing { deadline, retry_at: Some(now + BROKER_RETRY_MS), accepted_loss: false };
            }
            // Finishing => GivingUp: the broker gave up a part, nothing of the epoch is visible.
            Verdict::GiveUp { abort } if abort.is_empty() => self.step_void(now, tip.epoch),
            Verdict::GiveUp { abort } => {
                self.phase = Phase::GivingUp { deadline, retry_at: None, abort: abort.clone() };
                self.ask_to_abort(abort);
            }
            Verdict::CommitRest { commit } if commit.is_empty() => self.step_settle(now, true),
            Verdict::CommitRest { commit } => {
                self.phase = Phase::Finishing { deadline, retry_at: None, accepted_loss: true };
                self.ask_to_finish(commit);
            }
            Verdict::Ask { message } => self.close_failed(now, Failure { kind: FailureKind::User, message }),
        }
    }

    pub(super) fn on_aborted(&mut self, now: Millis, outcomes: &[(PreparedTransaction, FinishOutcome)]) {
        let Phase::GivingUp { deadline, retry_at: None, abort } = self.phase.clone() else { return };
        let Some(tip) = self.view.tip().map(|t| Arc::clone(&t.manifest)) else { return };
        match judge_abort(&tip, outcomes, self.config.restore.expired_transactions) {
            Verdict::Again { .. } => {
                self.phase = Phase::GivingUp { deadline, retry_at: Some(now + BROKER_RETRY_MS), abort };
            }
            Verdict::Ask { message } => self.close_failed(now, Failure { kind: FailureKind::User, message }),
            _ => self.step_void(now, tip.epoch),
        }
    }

    fn step_void(&mut self, now: Millis, epoch: Epoch) {
        self.phase = Phase::Voiding;
        self.append(now, EntryKind::Void { epoch });
    }

    pub(super) fn on_voided(&mut self, now: Millis, epoch: Epoch) {
        // The undo layers of what runs are of the epoch that is gone.
        self.run = None;
        if self.phase != Phase::Voiding {
            return;
        }
        let voided = self.view.dropped().iter().rfind(|s| s.manifest.epoch == epoch);
        let topics: BTreeSet<String> =
            voided.into_iter().flat_map(|s| &s.manifest.transactions).map(|t| t.topic.clone()).collect();
        self.out.push(Command::Notice(Notice::GivenUp { epoch, topics: topics.into_iter().collect() }));
        // Voiding => Finishing: the manifest before is the tip now, and may have left commits open itself.
        self.step_finish(now);
    }

    /// What was finished is recorded before fencing makes it look given up; ids are recorded before their first use; and
    /// a coordinator that restarts within its term proves that it still rules, before it fences anybody.
    fn step_settle(&mut self, now: Millis, finished: bool) {
        if self.ending.is_some() {
            return self.settle_for_the_end(now);
        }
        if let Some(tip) = self.view.tip().filter(|tip| self.is_finished(&tip.manifest)) {
            self.out.push(Command::Notice(Notice::NothingLeft { epoch: tip.manifest.epoch }));
            return self.close_finished(now, true);
        }
        let ids = self.own_ids();
        self.plan_fencing();
        // A new job's first manifest names its ids, and nothing is sent before it.
        let ids_unknown = self.view.tip().is_some() && !ids.is_empty() && !self.view.transactional_ids().contains(&ids);
        if !finished && !ids_unknown && self.attempt == 1 {
            return self.step_fence(now);
        }
        let epoch = self.view.tip().map(|tip| tip.manifest.epoch);
        self.phase = Phase::Settling;
        self.append(now, EntryKind::Settled(Settled { epoch, transactional_ids: ids }));
    }

    /// The job ends, and what its sinks prepared for an epoch that no manifest names would hold readers back until the
    /// transactions' time-out: the own ids are fenced. As ever, what is finished is recorded before.
    fn settle_for_the_end(&mut self, now: Millis) {
        let ids = self.own_ids();
        if ids.is_empty() || !self.ran || self.workers.is_empty() {
            return self.close_ending(now, true);
        }
        let epoch = self.view.tip().map(|tip| tip.manifest.epoch);
        self.fencing.rounds = [(self.graph(), ids.clone())].into();
        self.phase = Phase::Settling;
        self.append(now, EntryKind::Settled(Settled { epoch, transactional_ids: ids }));
    }

    pub(super) fn on_settled(&mut self, now: Millis) {
        if self.phase == Phase::Settling {
            self.step_fence(now);
        }
    }

    /// Unique to this term. Were ids shared, a coordinator that was paused and comes back could initialise the producers
    /// of its successor, and a commit of the successor that is not recorded yet would look like one that the broker gave
    /// up. So each term has its own, and fences those of the terms before it, which nobody needs any more.
    fn ids_namespace(&self) -> String {
        format!("{}-{}", self.job_uid, self.generation.unwrap_or_default())
    }

    /// The ids that this term uses.
    pub(super) fn own_ids(&self) -> BTreeMap<TransformUid, TransactionalIds> {
        let config = &self.config;
        transactional_ids(&config.graph, &self.ids_namespace(), config.parallelism, config.transaction_pool())
    }

    /// Every id under which a transaction may be open, with a graph that knows its sink.
    fn plan_fencing(&mut self) {
        let old_graph = self.view.tip().map_or_else(|| self.graph(), |tip| Arc::clone(&tip.manifest.graph));
        let mut rounds = VecDeque::new();
        for term in self.view.transactional_ids() {
            let (own, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                term.clone().into_iter().partition(|(uid, _)| self.vertex_of.contains_key(uid));
            rounds.push_back((self.graph(), own));
            rounds.push_back((Arc::clone(&old_graph), gone));
        }
        rounds.retain(|(_, ids)| !ids.is_empty());
        self.fencing.rounds = rounds;
    }

    fn step_fence(&mut self, now: Millis) {
        let ending = self.ending.is_some();
        let Some((graph, ids)) = self.fencing.rounds.pop_front() else {
            return if ending { self.close_ending(now, true) } else { self.step_deploy(now) };
        };
        let patience_ms = self.config.limits.commit_timeout_ms;
        let patience_ms = if ending { patience_ms.min(FENCE_AT_END_MS) } else { patience_ms };
        self.phase = Phase::Fencing { deadline: now + patience_ms };
        self.tell(self.any_worker(), control::Command::FenceTransactions { graph, ids });
    }

    pub(super) fn on_fenced(&mut self, now: Millis) {
        if matches!(self.phase, Phase::Fencing { .. }) {
            self.step_fence(now);
        }
    }

    fn step_deploy(&mut self, now: Millis) {
        let tip = self.view.tip().map(|tip| Arc::clone(&tip.manifest));
        let parallelism = self.config.parallelism;
        let finished = tip.as_ref().map_or_else(BTreeSet::new, |m| m.finished_at(parallelism, self.graph_hash));
        let vertices = self.vertices.iter().map(|v| v.id);
        let all = vertices.flat_map(|vertex| (0..parallelism).map(move |index| TaskId { vertex, index }));
        let tasks: BTreeSet<TaskId> = all.filter(|task| !finished.contains(task)).collect();
        let reset = self.run.as_ref().is_some_and(|run| run.started);
        let sinks = self.sink_tasks().into_iter().filter(|task| tasks.contains(task));
        self.run = Some(Run {
            committed: sinks.map(|task| (task, None)).collect(),
            last_epoch: BTreeMap::new(),
            ended: finished.clone(),
            finished,
            tasks: tasks.clone(),
            started: false,
            next_trigger_at: now,
            uncovered_since: now,
            paused: false,
            stop_tries: 0,
        });
        let deadline = now + self.config.limits.deploy_timeout_ms;
        self.phase = Phase::Deploying { deadline, waiting: self.workers.clone() };
        match tip {
            Some(manifest) if reset => {
                self.tell_all(&control::Command::Reset { epoch: manifest.epoch, manifest });
            }
            restore => self.deploy(&tasks, restore.as_ref()),
        }
    }

    fn deploy(&mut self, tasks: &BTreeSet<TaskId>, restore: Option<&Arc<millstream_api::log::Manifest>>) {
        let workers: Vec<WorkerId> = self.workers.iter().copied().collect();
        for (position, worker) in workers.iter().enumerate() {
            // Task i of every vertex is on the same worker, so forward edges stay inside it.
            let own = tasks.iter().filter(|task| task.index as usize % workers.len() == position);
            let deployment = Deployment {
                job: self.config.path.clone(),
                graph: self.graph(),
                parallelism: self.config.parallelism,
                max_parallelism: self.config.max_parallelism,
                tasks: own.copied().collect(),
                restore: restore.cloned(),
                job_uid: self.ids_namespace(),
                transaction_pool: self.config.transaction_pool(),
            };
            self.tell(*worker, control::Command::Deploy(Box::new(deployment)));
        }
    }

    pub(super) fn on_deployed(&mut self, now: Millis, worker: WorkerId) {
        let Phase::Deploying { waiting, .. } = &mut self.phase else { return };
        if !waiting.remove(&worker) || !waiting.is_empty() {
            return;
        }
        if self.sources_known() {
            self.start_running(now);
        } else {
            // Deploying => Anchoring: positions are sealed before the first read.
            self.phase = Phase::Anchoring;
            self.trigger(now, Purpose::Anchor);
        }
    }

    /// Whether the tip has the positions of every source of the job.
    pub(super) fn sources_known(&self) -> bool {
        let Some(tip) = self.view.tip() else { return false };
        let graph = &self.config.graph;
        let mut sources = graph.transforms.iter().filter(|t| graph.inputs_of(t.id).is_empty());
        sources.all(|source| tip.manifest.splits.contains_key(&source.uid))
    }
}
