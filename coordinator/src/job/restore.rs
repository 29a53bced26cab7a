//! From a won term, or a failed attempt, to running tasks, in the order of protocol section 5:
//! finish, (give up,) settle, fence, deploy, start.
//!
//! A step that finds nothing to do falls through to the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_api::control::{self, Deployment, Failure, FailureKind, FinishOutcome, Placement};
use millstream_api::graph::JobGraph;
use millstream_api::ids::{Epoch, TaskId, TransformUid, WorkerId};
use millstream_api::log::{EntryKind, Manifest, PreparedTransaction, Settled, TransactionalIds, transactional_ids};

use super::expired::{Verdict, judge, judge_abort};
use super::message::{Command, Millis, Notice};
use super::{Core, Phase, Purpose, transient};

/// Pause before the broker is asked again.
const BROKER_RETRY_MS: Millis = 500;
/// How long a job that ends waits for the broker to abort what nobody will commit. What is missed ends by its time-out.
const FENCE_AT_END_MS: Millis = 5_000;

/// Which transactional ids an attempt uses, and which have to be fenced before.
#[derive(Clone, Debug, Default)]
pub(super) struct Fencing {
    /// Rounds of `FenceTransactions` that are to be done: ids of sinks that are gone need the graph that knew them.
    rounds: VecDeque<(Arc<JobGraph>, BTreeMap<TransformUid, TransactionalIds>)>,
    /// Number of the ids within the term: that of the first attempt that was to use them.
    number: u32,
    /// Tasks were deployed with these ids.
    used: bool,
    /// All ids in the log but the newest are fenced; true until the log says so.
    done: bool,
    /// Where the tasks were adopted: the namespace of the ids that they have from another term.
    adopted: Option<String>,
}

impl Fencing {
    /// The tasks that go on use the ids that they have. Those before were fenced when these were deployed.
    pub(super) fn adopt(&mut self, namespace: String) {
        self.adopted = Some(namespace);
        self.used = true;
        self.done = true;
    }
}

impl Core {
    /// Begins an attempt: the term is won, no put is open, nothing of an earlier attempt reports any more.
    pub(super) fn begin_attempt(&mut self, now: Millis) {
        self.checkpoint = None;
        self.uncommitted.clear();
        if self.fencing.used || self.fencing.number == 0 {
            self.fencing.number = self.attempt;
            self.fencing.used = false;
            self.fencing.adopted = None;
        }
        self.take_up_request();
        self.parallelism = self.wanted;
        if self.slots.assign(self.parallelism) || self.may_end() {
            return self.step_finish(now);
        }
        let may_shrink = self.least() < self.wanted;
        // Tasks were moved away from a worker that stops: there were enough of the others to go on with.
        let moved = self.slots.leaving_runs() && self.slots.total() >= self.least();
        let until = may_shrink.then_some(if moved { now } else { now + self.config.slot_timeout_ms });
        self.phase = Phase::AwaitingSlots { until, fewer: false };
        self.out.push(Command::Notice(self.slots_missing()));
    }

    fn slots_missing(&self) -> Notice {
        Notice::AwaitingSlots { there: self.slots.total(), wanted: self.wanted }
    }

    /// The job ends, so no task needs a place: what earlier ones left with the broker any worker can bring to its end.
    fn may_end(&self) -> bool {
        self.ending.is_some() && self.slots.any().is_some()
    }

    /// Workers may have come meanwhile; or the job begins with fewer tasks, or ends.
    fn advance_slots(&mut self, now: Millis, until: Option<Millis>, fewer: bool) {
        if self.may_end() {
            return self.step_finish(now);
        }
        self.take_up_request();
        let (wanted, least) = (self.wanted, self.least());
        let waited = until.is_some_and(|at| at <= now);
        if waited {
            self.phase = Phase::AwaitingSlots { until: None, fewer: true };
        }
        if self.slots.assign(wanted) {
            // AwaitingSlots => Finishing: every task has a place.
            self.parallelism = wanted;
            return self.step_finish(now);
        }
        let there = self.slots.total();
        if (waited || fewer) && there >= least && self.slots.assign(there) {
            self.parallelism = there;
            self.out.push(Command::Notice(Notice::StartingSmaller { parallelism: there, wanted }));
            self.step_finish(now);
        }
    }

    pub(super) fn advance_restore(&mut self, now: Millis) {
        match self.phase.clone() {
            Phase::AwaitingSlots { until, fewer } => self.advance_slots(now, until, fewer),
            Phase::Finishing { deadline, .. } | Phase::GivingUp { deadline, .. } if deadline <= now => {
                let message = "the broker did not finish the transactions of the last checkpoint in time".to_owned();
                self.fail(now, transient(message));
            }
            Phase::Finishing { deadline, retry_at: Some(at), accepted_loss } if at <= now => {
                self.phase = Phase::Finishing { deadline, retry_at: None, accepted_loss };
                self.ask_to_finish(now, self.view.pending().to_vec());
            }
            Phase::GivingUp { deadline, retry_at: Some(at), abort } if at <= now => {
                self.phase = Phase::GivingUp { deadline, retry_at: None, abort: abort.clone() };
                self.ask_to_abort(now, abort);
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
        self.ask_to_finish(now, self.view.pending().to_vec());
    }

    pub(super) fn ask_to_finish(&mut self, now: Millis, transactions: Vec<PreparedTransaction>) {
        let graph = self.graph_of(transactions.iter().map(|t| &t.uid));
        self.tell_any(now, control::Command::FinishTransactions { graph, transactions });
    }

    fn ask_to_abort(&mut self, now: Millis, transactions: Vec<PreparedTransaction>) {
        let graph = self.graph_of(transactions.iter().map(|t| &t.uid));
        self.tell_any(now, control::Command::AbortTransactions { graph, transactions });
    }

    /// The graph that knows these sinks: the job's own where it can, so that a broker's new address counts.
    fn graph_of<'a>(&self, mut uids: impl Iterator<Item = &'a TransformUid>) -> Arc<JobGraph> {
        if uids.all(|uid| self.running.vertex_of.contains_key(uid)) {
            return self.graph();
        }
        self.view.tip().map_or_else(|| self.graph(), |tip| Arc::clone(&tip.manifest.graph))
    }

    pub(super) fn on_finished(&mut self, now: Millis, outcomes: &[(PreparedTransaction, FinishOutcome)]) {
        if matches!(self.phase, Phase::Running | Phase::Committing { .. }) {
            return self.on_left_finished(now, outcomes);
        }
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
                self.ask_to_abort(now, abort);
            }
            Verdict::CommitRest { commit } if commit.is_empty() => self.step_settle(now, true),
            Verdict::CommitRest { commit } => {
                self.phase = Phase::Finishing { deadline, retry_at: None, accepted_loss: true };
                self.ask_to_finish(now, commit);
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
        let fenced = std::mem::take(&mut self.fencing.done);
        self.plan_fencing(&ids, fenced);
        // A new job's first manifest names its ids, and nothing is sent before it.
        let ids_unknown = self.view.tip().is_some() && !ids.is_empty() && !self.view.transactional_ids().contains(&ids);
        if !finished && !ids_unknown && self.attempt == 1 {
            return self.step_fence(now);
        }
        let epoch = self.view.tip().map(|tip| tip.manifest.epoch);
        self.phase = Phase::Settling;
        self.append(now, EntryKind::Settled(Settled { epoch, transactional_ids: ids, fenced }));
    }

    /// The job ends, and what its sinks prepared for an epoch that no manifest names would hold readers back until the
    /// transactions' time-out: the ids that were used are fenced. As ever, what is finished is recorded before.
    fn settle_for_the_end(&mut self, now: Millis) {
        let newest = self.view.transactional_ids().last().filter(|ids| !ids.is_empty()).cloned();
        let Some(ids) = newest.filter(|_| self.ran && self.slots.any().is_some()) else {
            return self.close_ending(now, true);
        };
        let epoch = self.view.tip().map(|tip| tip.manifest.epoch);
        let fenced = std::mem::take(&mut self.fencing.done);
        self.plan_fencing(&BTreeMap::new(), fenced);
        self.phase = Phase::Settling;
        self.append(now, EntryKind::Settled(Settled { epoch, transactional_ids: ids, fenced }));
    }

    pub(super) fn on_settled(&mut self, now: Millis) {
        if self.phase == Phase::Settling {
            self.step_fence(now);
        }
    }

    /// Unique to this term, and within it to the tasks that are deployed together. Were ids shared, a coordinator that was
    /// paused, or a worker that was told long ago to fence, could initialise the producers of a successor when it comes
    /// back; and a commit of the successor that is not recorded yet would look like one that the broker gave up. So each has
    /// its own, and fences those before it, which nobody needs any more.
    fn ids_namespace(&self) -> String {
        if let Some(adopted) = &self.fencing.adopted {
            return adopted.clone();
        }
        self.namespace(self.fencing.number)
    }

    /// Of the tasks that are deployed with this number.
    pub(super) fn namespace(&self, number: u32) -> String {
        format!("{}-{}-{number}", self.job_uid, self.generation.unwrap_or_default())
    }

    /// The ids that this attempt uses.
    pub(super) fn own_ids(&self) -> BTreeMap<TransformUid, TransactionalIds> {
        self.ids_in(&self.ids_namespace(), self.parallelism)
    }

    /// Those of the tasks that are deployed with this number.
    pub(super) fn ids_of(&self, number: u32, parallelism: u32) -> BTreeMap<TransformUid, TransactionalIds> {
        self.ids_in(&self.namespace(number), parallelism)
    }

    fn ids_in(&self, namespace: &str, parallelism: u32) -> BTreeMap<TransformUid, TransactionalIds> {
        transactional_ids(&self.running.graph, namespace, parallelism, self.config.transaction_pool())
    }

    /// Tasks with the ids of this number follow those that run. The ids of both may have something open until the next manifest.
    pub(super) fn use_ids(&mut self, number: u32) {
        self.fencing = Fencing { number, used: true, ..Fencing::default() };
    }

    /// Every id under which a transaction may be open, with a graph that knows its sink, but for the `unused` ones.
    /// `fenced`: all but the newest are done.
    fn plan_fencing(&mut self, unused: &BTreeMap<TransformUid, TransactionalIds>, fenced: bool) {
        let old_graph = self.view.tip().map_or_else(|| self.graph(), |tip| Arc::clone(&tip.manifest.graph));
        let mut rounds = VecDeque::new();
        let known = self.view.transactional_ids();
        let done = if fenced { known.len().saturating_sub(1) } else { 0 };
        for term in known[done..].iter().filter(|ids| *ids != unused) {
            let (own, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                term.clone().into_iter().partition(|(uid, _)| self.running.vertex_of.contains_key(uid));
            rounds.push_back((self.graph(), own));
            rounds.push_back((Arc::clone(&old_graph), gone));
        }
        rounds.retain(|(_, ids)| !ids.is_empty());
        self.fencing.rounds = rounds;
    }

    fn step_fence(&mut self, now: Millis) {
        let ending = self.ending.is_some();
        let Some((graph, ids)) = self.fencing.rounds.pop_front() else {
            self.fencing.done = true;
            return if ending { self.close_ending(now, true) } else { self.step_deploy(now) };
        };
        let patience_ms = self.config.limits.commit_timeout_ms;
        let patience_ms = if ending { patience_ms.min(FENCE_AT_END_MS) } else { patience_ms };
        self.phase = Phase::Fencing { deadline: now + patience_ms };
        self.tell_any(now, control::Command::FenceTransactions { graph, ids });
    }

    pub(super) fn on_fenced(&mut self, now: Millis) {
        if matches!(self.phase, Phase::Fencing { .. }) {
            self.step_fence(now);
        }
    }

    fn step_deploy(&mut self, now: Millis) {
        if !self.slots.assign(self.parallelism) {
            let missing = self.slots_missing();
            return self.fail(now, transient(missing.to_string()));
        }
        let tip = self.view.tip().map(|tip| Arc::clone(&tip.manifest));
        let parallelism = self.parallelism;
        let finished = tip.as_ref().map_or_else(BTreeSet::new, |m| m.finished_at(parallelism, self.running.hash));
        let tasks = self.tasks_after(parallelism, tip.as_deref());
        self.run = Some(self.run_of(now, &tasks, finished));
        let placement = self.slots.placement();
        self.fencing.used = true;
        let deadline = now + self.config.limits.deploy_timeout_ms;
        self.phase = Phase::Deploying { deadline, waiting: placement.workers() };
        self.deploy(&tasks, tip.as_ref(), &placement);
    }

    fn deploy(&mut self, tasks: &BTreeSet<TaskId>, restore: Option<&Arc<Manifest>>, placement: &Placement) {
        let workers: Vec<WorkerId> = self.slots.workers().collect();
        for worker in workers {
            if !self.slots.runs(worker) {
                // It may hold states of an earlier attempt.
                self.tell(worker, control::Command::Cancel);
                continue;
            }
            let deployment = self.deployment(worker, placement, self.parallelism, tasks, self.ids_namespace());
            let deployment = Box::new(Deployment { restore: restore.cloned(), ..deployment });
            self.tell(worker, control::Command::Deploy(deployment));
        }
    }

    pub(super) fn on_deployed(&mut self, now: Millis, worker: WorkerId) {
        if self.phase == Phase::Running {
            return self.on_switched(now, worker);
        }
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
        let graph = &self.running.graph;
        let mut sources = graph.transforms.iter().filter(|t| graph.inputs_of(t.id).is_empty());
        sources.all(|source| tip.manifest.splits.contains_key(&source.uid))
    }
}
