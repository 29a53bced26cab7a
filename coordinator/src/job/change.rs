//! Changing how many tasks there are, and where they run, while they run (protocol section 8).
//!
//! What will run is prepared beside what runs: places, connections, producers. Then comes one checkpoint after whose barrier
//! nothing follows. Its manifest decides: before it any failure restores the manifest before, with the tasks as they were;
//! after it, the new ones. So what runs goes on unharmed until the preparation is complete, and what is left for the moment
//! in which nothing runs is a barrier, one put, and one message.
//!
//! Nothing is fenced: every old task has acknowledged the manifest, so it has nothing open that the manifest does not name.
//! What it names is committed by its stored ids while the new tasks run.
//!
//! Owns: the order of these steps, and what a request for another parallelism came to. Does not own: which worker gets which
//! index (`slots`), the checkpoint itself (`running`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{self, Attempt, Deployment, Failure, FinishOutcome, Placement};
use millstream_api::ids::{TaskId, TransformUid, WorkerId};
use millstream_api::log::{Manifest, PreparedTransaction, Scale, TransactionalIds};

use super::message::{Command, Millis, Notice};
use super::{Core, Phase, Run, transient};

/// Changes that end in a failure of the job before the request is given up.
const TRIES_MAX: u32 = 3;
/// A change that nobody asked for (a worker leaves, slots came) is tried again after so long.
const PAUSE_AFTER_FAILURE_MS: Millis = 5_000;
/// Requests that are remembered: whoever asked looks at once.
const ENDED_MAX: usize = 16;
/// Pause before the broker is asked again for the commits of the tasks before.
const COMMIT_RETRY_MS: Millis = 200;

/// A parallelism that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// Tells requests apart.
    pub id: String,
    pub parallelism: u32,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RescaleEnd {
    /// The job runs with it, after so many milliseconds from the cut until every worker had its new tasks.
    Done {
        switch_ms: Millis,
    },
    /// The job was that large.
    Already,
    /// A later request took its place.
    Replaced,
    Failed {
        reason: String,
    },
}

/// What people see of requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RescaleStatus {
    /// Waits, or is being carried out.
    pub pending: Option<Rescale>,
    /// What it is waiting for, or doing.
    pub doing: Option<String>,
    /// The newest that ended, newest last.
    pub ended: Arc<Vec<(Rescale, RescaleEnd)>>,
}

/// Requests and the change under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    request: Option<(Rescale, u32)>,
    under_way: Option<Change>,
    /// Not before.
    after: Millis,
    /// The number of the newest attempt that was ever prepared.
    pub(super) reserved: u32,
    /// Commits of the tasks before, which any worker does.
    finishing: Option<Finishing>,
    ended: Arc<Vec<(Rescale, RescaleEnd)>>,
}

#[derive(Clone, Debug)]
struct Finishing {
    /// What is not known to be committed. No task that runs knows of it, though one may have the number of the one that did.
    left: BTreeSet<PreparedTransaction>,
    deadline: Millis,
    /// `None`: a worker is at it.
    retry_at: Option<Millis>,
}

/// Tasks that are to follow those that run.
#[derive(Clone, Debug)]
struct Change {
    parallelism: u32,
    /// What the job is to have from then on; fewer run where slots are missing.
    wanted: u32,
    placement: Placement,
    tasks: BTreeSet<TaskId>,
    /// Of their attempt, and of their transactional ids.
    number: u32,
    step: Step,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Preparing {
        waiting: BTreeSet<WorkerId>,
        deadline: Millis,
    },
    /// The last checkpoint of the old tasks is next.
    Prepared,
    /// It is under way.
    Cutting,
    /// The manifest is in the log; these have not reported their tasks yet.
    Switching {
        waiting: BTreeSet<WorkerId>,
        since: Millis,
        deadline: Millis,
    },
}

impl Changes {
    /// Tasks are being exchanged: no checkpoint is taken.
    pub(super) fn switching(&self) -> bool {
        matches!(self.under_way, Some(Change { step: Step::Switching { .. }, .. }))
    }

    /// Everything is ready for the last checkpoint of the old tasks.
    pub(super) fn ready_to_cut(&self) -> bool {
        matches!(self.under_way, Some(Change { step: Step::Prepared, .. }))
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let of_step = match self.under_way.as_ref().map(|change| &change.step) {
            Some(Step::Preparing { deadline, .. } | Step::Switching { deadline, .. }) => Some(*deadline),
            _ => None,
        };
        let of_commits = self.finishing.as_ref().map(|f| f.retry_at.unwrap_or(f.deadline).min(f.deadline));
        [of_step, of_commits].into_iter().flatten().min()
    }
}

impl Core {
    /// The user wants so many tasks.
    pub(super) fn on_rescale_requested(&mut self, now: Millis, wanted: Rescale) {
        if self.changes.request.as_ref().is_some_and(|(before, _)| before.id == wanted.id) {
            return;
        }
        if let Some((before, _)) = self.changes.request.take() {
            self.end_request(before, RescaleEnd::Replaced);
        }
        let parallelism = wanted.parallelism;
        if parallelism == 0 || parallelism > self.config.max_parallelism {
            let reason =
                format!("parallelism must be between 1 and maxParallelism, which is {}", self.config.max_parallelism);
            return self.end_request(wanted, RescaleEnd::Failed { reason });
        }
        let settled = self.changes.under_way.is_none() && self.phase == Phase::Running;
        if settled && parallelism == self.wanted && parallelism == self.parallelism {
            return self.end_request(wanted, RescaleEnd::Already);
        }
        self.out.push(Command::Notice(Notice::RescaleRequested { parallelism }));
        self.changes.request = Some((wanted, 0));
        self.changes.after = now;
        // What was prepared for another number is not what is wanted now.
        if self.changes.under_way.as_ref().is_some_and(|c| c.step_is_open() && c.parallelism != parallelism) {
            self.drop_change();
        }
    }

    fn end_request(&mut self, request: Rescale, end: RescaleEnd) {
        self.out.push(Command::Notice(Notice::RescaleEnded { parallelism: request.parallelism, end: end.clone() }));
        let ended = Arc::make_mut(&mut self.changes.ended);
        if ended.len() == ENDED_MAX {
            ended.remove(0);
        }
        ended.push((request, end));
    }

    /// How many tasks are wanted: what was asked for while the job ran, for as long as the resource is what it was then.
    pub(super) fn wanted_by_the_log(&self) -> u32 {
        let spec = self.config.parallelism;
        let scale = self.view.tip().and_then(|tip| tip.manifest.scale);
        scale.filter(|scale| scale.spec == spec).map_or(spec, |scale| scale.wanted.min(self.config.max_parallelism))
    }

    /// The fewest tasks that the job may run with.
    pub(super) fn least(&self) -> u32 {
        let (spec, least) = (self.config.parallelism, self.config.min_parallelism);
        if least == spec { self.wanted } else { least.min(self.wanted) }
    }

    /// What a manifest says of the scale.
    pub(super) fn scale(&self) -> Scale {
        let cutting = self.changes.under_way.as_ref().filter(|change| change.step == Step::Cutting);
        Scale { spec: self.config.parallelism, wanted: cutting.map_or(self.wanted, |change| change.wanted) }
    }

    /// A request that comes while nothing runs counts for the next attempt, if there are slots for it.
    pub(super) fn take_up_request(&mut self) {
        let there = self.slots.total();
        if let Some((request, _)) = self.changes.request.take_if(|(request, _)| request.parallelism <= there) {
            self.wanted = request.parallelism;
            self.end_request(request, RescaleEnd::Done { switch_ms: 0 });
        }
    }

    /// While tasks run: what is due of a change, or whether there is one to begin.
    pub(super) fn advance_change(&mut self, now: Millis) {
        match self.changes.under_way.as_ref().map(|change| change.step.clone()) {
            None if self.changes.after <= now => self.plan_change(now),
            Some(Step::Preparing { deadline, waiting }) if deadline <= now => {
                let names: Vec<String> = waiting.iter().take(3).map(|w| self.slots.name(*w)).collect();
                self.give_change_up(now, &format!("{} did not get ready in time", names.join(", ")));
            }
            Some(Step::Switching { deadline, .. }) if deadline <= now => {
                self.fail(now, transient("the tasks did not go over to their new places in time".to_owned()));
            }
            _ => {}
        }
    }

    /// Whether another number of tasks, or other places, are wanted and there are slots for them.
    fn plan_change(&mut self, now: Millis) {
        if self.phase != Phase::Running
            || self.ending.is_some()
            || self.draining
            || self.append.is_some() && self.checkpoint.is_none()
        {
            return;
        }
        let asked = self.changes.request.as_ref().map_or(self.wanted, |(request, _)| request.parallelism);
        let there = self.slots.total();
        // Where there are fewer slots than tasks are wanted, it grows as they come; what was asked for waits for all of them.
        let target = if asked <= there { asked } else { self.parallelism };
        let moves = self.slots.leaving_runs() && target <= there;
        if target == self.parallelism && !moves {
            return;
        }
        let groups = self.config.max_parallelism;
        let Some(by_index) = self.slots.plan(self.parallelism, target, groups) else { return };
        self.prepare_change(now, (target, asked), by_index);
    }

    fn prepare_change(&mut self, now: Millis, (parallelism, wanted): (u32, u32), by_index: Vec<WorkerId>) {
        let placement = self.slots.placement_of(by_index);
        self.changes.reserved = self.changes.reserved.max(self.attempt) + 1;
        let number = self.changes.reserved;
        let tasks = self.tasks_after(parallelism, self.view.tip().map(|tip| &*tip.manifest));
        self.out.push(Command::Notice(Notice::Preparing { parallelism, workers: placement.workers().len() }));
        let attempt = Attempt { number, ..self.attempt() };
        for worker in placement.workers() {
            let deployment = Box::new(self.deployment(worker, &placement, parallelism, &tasks, number));
            self.tell(worker, control::Command::Prepare { attempt, deployment });
        }
        let deadline = now + self.config.limits.deploy_timeout_ms;
        let step = Step::Preparing { waiting: placement.workers(), deadline };
        self.changes.under_way = Some(Change { parallelism, wanted, placement, tasks, number, step });
    }

    pub(super) fn deployment(
        &self,
        worker: WorkerId,
        placement: &Placement,
        parallelism: u32,
        tasks: &BTreeSet<TaskId>,
        number: u32,
    ) -> Deployment {
        Deployment {
            job: self.config.path.clone(),
            graph: self.graph(),
            graph_hash: self.graph_hash,
            parallelism,
            max_parallelism: self.config.max_parallelism,
            tasks: tasks.clone(),
            worker,
            placement: placement.clone(),
            restore: None,
            job_uid: self.namespace(number),
            transaction_pool: self.config.transaction_pool(),
        }
    }

    /// All tasks that are to run from a manifest.
    pub(super) fn tasks_after(&self, parallelism: u32, manifest: Option<&Manifest>) -> BTreeSet<TaskId> {
        let finished = manifest.map_or_else(BTreeSet::new, |m| m.finished_at(parallelism, self.graph_hash));
        let vertices = self.vertices.iter().map(|v| v.id);
        let all = vertices.flat_map(|vertex| (0..parallelism).map(move |index| TaskId { vertex, index }));
        all.filter(|task| !finished.contains(task)).collect()
    }

    pub(super) fn on_prepared(&mut self, worker: WorkerId) {
        let Some(Change { step: step @ Step::Preparing { .. }, .. }) = &mut self.changes.under_way else { return };
        let Step::Preparing { waiting, .. } = step else { return };
        if waiting.remove(&worker) && waiting.is_empty() {
            // Preparing => Prepared: the checkpoint is triggered as soon as no other one is under way.
            *step = Step::Prepared;
        }
    }

    pub(super) fn on_prepare_failed(&mut self, now: Millis, worker: WorkerId, failure: &Failure) {
        if self.changes.under_way.as_ref().is_some_and(Change::step_is_open) {
            let reason = format!("{}: {}", self.slots.name(worker), failure.message);
            self.give_change_up(now, &reason);
        }
    }

    /// A worker is gone: a change that it was to take part in is planned anew, and what it was asked for is asked of another.
    pub(super) fn replan_without(&mut self, now: Millis, worker: WorkerId) {
        let takes_part = |c: &Change| c.placement.by_index.contains(&worker);
        if self.changes.under_way.as_ref().is_some_and(|c| c.step_is_open() && takes_part(c)) {
            self.drop_change();
            self.changes.after = now;
        }
        if let Some(finishing) = self.changes.finishing.as_mut().filter(|f| f.retry_at.is_none()) {
            finishing.retry_at = Some(now);
        }
    }

    /// What runs goes on. A request that cannot be carried out is over; other reasons to move are looked at again later.
    fn give_change_up(&mut self, now: Millis, reason: &str) {
        self.drop_change();
        self.changes.after = now + PAUSE_AFTER_FAILURE_MS;
        match self.changes.request.take() {
            Some((request, _)) => self.end_request(request, RescaleEnd::Failed { reason: reason.to_owned() }),
            None => self.out.push(Command::Notice(Notice::ChangeGivenUp { reason: reason.to_owned() })),
        }
    }

    /// Lets go of what was prepared.
    pub(super) fn drop_change(&mut self) {
        if self.changes.under_way.take().is_some_and(|change| change.step_is_open()) {
            self.tell_all(&control::Command::Discard);
        }
    }

    /// The attempt has failed. What was decided is in the log, and what was not is tried again, a few times.
    pub(super) fn change_failed(&mut self, reason: &str) {
        self.changes.finishing = None;
        let Some(change) = self.changes.under_way.take() else { return };
        if matches!(change.step, Step::Switching { .. }) {
            return;
        }
        if let Some((request, tries)) = self.changes.request.take() {
            if tries + 1 >= TRIES_MAX {
                let reason = format!("the job failed {TRIES_MAX} times on the way, at last: {reason}");
                return self.end_request(request, RescaleEnd::Failed { reason });
            }
            self.changes.request = Some((request, tries + 1));
        }
    }

    /// The last checkpoint of the old tasks is triggered.
    pub(super) fn note_cut(&mut self) {
        if let Some(change) = &mut self.changes.under_way {
            // Prepared => Cutting: from here on there is no way back into the tasks that run.
            change.step = Step::Cutting;
        }
    }

    /// The ids of the tasks that follow, where the checkpoint under way is the last one of those that run.
    pub(super) fn next_ids(&self) -> BTreeMap<TransformUid, TransactionalIds> {
        match &self.changes.under_way {
            Some(change) if change.step == Step::Cutting => self.ids_of(change.number, change.parallelism),
            _ => BTreeMap::new(),
        }
    }

    /// The manifest that decides is in the log: the prepared tasks go on from it.
    pub(super) fn switch(&mut self, now: Millis, manifest: &Arc<Manifest>) {
        let Some(mut change) = self.changes.under_way.take() else { return };
        self.wanted = change.wanted;
        let tasks = self.tasks_after(change.parallelism, Some(manifest));
        let old: Vec<WorkerId> = self.slots.workers().filter(|w| self.slots.runs(*w)).collect();
        if tasks != change.tasks {
            // Some ended meanwhile, so that the channels are others: rare, and a restart is as good.
            return self.restart_from_the_tip(now);
        }
        self.attempt = change.number;
        self.parallelism = change.parallelism;
        self.slots.place(&change.placement.by_index);
        self.use_ids(change.number);
        let finished = manifest.finished_at(self.parallelism, self.graph_hash);
        self.run = Some(Run { started: true, ..self.run_of(now, &tasks, finished) });
        let new = change.placement.workers();
        for worker in &new {
            self.tell(*worker, control::Command::Switch { manifest: Arc::clone(manifest) });
        }
        for worker in old.into_iter().filter(|worker| !new.contains(worker)) {
            self.tell(worker, control::Command::Cancel);
        }
        let deadline = now + self.config.limits.deploy_timeout_ms;
        // Cutting => Switching: the log has decided.
        change.step = Step::Switching { waiting: new, since: now, deadline };
        self.changes.under_way = Some(change);
        self.finish_beside(now, self.uncommitted.values().flatten().cloned().collect());
    }

    /// Has these committed while other tasks run than those that prepared them.
    pub(super) fn finish_beside(&mut self, now: Millis, left: BTreeSet<PreparedTransaction>) {
        if left.is_empty() {
            return;
        }
        let deadline = now + self.config.limits.commit_timeout_ms;
        self.changes.finishing = Some(Finishing { left, deadline, retry_at: Some(now) });
        self.advance_commits_of_old_tasks(now);
    }

    /// Whether a transaction is of tasks that run no more.
    pub(super) fn is_left(&self, transaction: &PreparedTransaction) -> bool {
        self.changes.finishing.as_ref().is_some_and(|finishing| finishing.left.contains(transaction))
    }

    /// Those of them that the tasks of these ids did not prepare.
    pub(super) fn of_other_tasks(
        transactions: &[PreparedTransaction],
        ids: &BTreeMap<TransformUid, TransactionalIds>,
    ) -> BTreeSet<PreparedTransaction> {
        let own = |t: &&PreparedTransaction| ids.get(&t.uid).is_some_and(|ids| ids.has(&t.transactional_id));
        transactions.iter().filter(|t| !own(t)).cloned().collect()
    }

    fn restart_from_the_tip(&mut self, now: Millis) {
        self.raise_attempt();
        self.tell_all(&control::Command::Suspend);
        // Running => BackingOff: the next attempt begins at once.
        self.phase = Phase::BackingOff { until: now };
    }

    /// What is known of tasks that begin.
    pub(super) fn run_of(&self, now: Millis, tasks: &BTreeSet<TaskId>, finished: BTreeSet<TaskId>) -> Run {
        let sinks = self.sink_tasks().into_iter().filter(|task| tasks.contains(task));
        Run {
            committed: sinks.map(|task| (task, None)).collect(),
            last_epoch: BTreeMap::new(),
            ended: finished.clone(),
            finished,
            tasks: tasks.clone(),
            started: false,
            next_trigger_at: now + self.config.checkpoint.interval_ms,
            uncovered_since: now,
            paused: false,
            stop_tries: 0,
        }
    }

    /// A worker has its new tasks. True: that was what it told.
    pub(super) fn on_switched(&mut self, now: Millis, worker: WorkerId) {
        let Some(Change { step: Step::Switching { waiting, since, .. }, .. }) = &mut self.changes.under_way else {
            return;
        };
        if !waiting.remove(&worker) || !waiting.is_empty() {
            return;
        }
        let switch_ms = now.saturating_sub(*since);
        self.changes.under_way = None;
        let parallelism = self.parallelism;
        match self.changes.request.take_if(|(request, _)| request.parallelism == parallelism) {
            Some((request, _)) => self.end_request(request, RescaleEnd::Done { switch_ms }),
            None => self.out.push(Command::Notice(Notice::Changed { parallelism, switch_ms })),
        }
    }

    /// The transactions of the tasks before are committed by their stored ids, by whatever worker.
    pub(super) fn advance_commits_of_old_tasks(&mut self, now: Millis) {
        if !matches!(self.phase, Phase::Running | Phase::Committing { .. }) {
            // A restore finishes all that the log's tip names.
            self.changes.finishing = None;
        }
        let Some(finishing) = &mut self.changes.finishing else { return };
        if finishing.deadline <= now {
            let message = "the broker did not commit what the tasks before a change had prepared, in time".to_owned();
            return self.fail(now, transient(message));
        }
        if finishing.retry_at.is_none_or(|at| at > now) {
            return;
        }
        finishing.retry_at = None;
        let transactions = finishing.left.iter().cloned().collect();
        self.ask_to_finish(now, transactions);
    }

    pub(super) fn on_finished_beside(&mut self, now: Millis, outcomes: &[(PreparedTransaction, FinishOutcome)]) {
        let Some(finishing) = self.changes.finishing.as_mut().filter(|f| f.retry_at.is_none()) else { return };
        let unavailable = |outcome: &FinishOutcome| matches!(outcome, FinishOutcome::Unavailable { .. });
        if outcomes.iter().any(|(_, outcome)| unavailable(outcome)) {
            finishing.retry_at = Some(now + COMMIT_RETRY_MS);
            return;
        }
        if let Some((given_up, _)) = outcomes.iter().find(|(_, outcome)| *outcome != FinishOutcome::Committed) {
            // The restart looks at all of them, and decides by protocol section 6.
            let message = format!("the broker gave up a transaction on {} before its commit", given_up.topic);
            return self.fail(now, transient(message));
        }
        self.changes.finishing = None;
        let done: BTreeSet<&PreparedTransaction> = outcomes.iter().map(|(transaction, _)| transaction).collect();
        for open in self.uncommitted.values_mut() {
            open.retain(|transaction| !done.contains(transaction));
        }
        self.uncommitted.retain(|_, open| !open.is_empty());
    }

    /// For people.
    pub(super) fn rescale_status(&self) -> RescaleStatus {
        let doing = match self.changes.under_way.as_ref().map(|change| &change.step) {
            Some(Step::Preparing { waiting, .. }) => Some(format!("{} workers get ready", waiting.len())),
            Some(Step::Prepared | Step::Cutting) => Some("the last checkpoint before it is taken".to_owned()),
            Some(Step::Switching { waiting, .. }) => Some(format!("{} workers go over", waiting.len())),
            None => self.changes.request.as_ref().map(|(request, _)| {
                let missing = request.parallelism.saturating_sub(self.slots.total());
                if missing > 0 { format!("{missing} slots are missing") } else { "it begins".to_owned() }
            }),
        };
        let pending = self.changes.request.as_ref().map(|(request, _)| request.clone());
        RescaleStatus { pending, doing, ended: Arc::clone(&self.changes.ended) }
    }
}

impl Change {
    /// It can still be dropped without harm to what runs.
    fn step_is_open(&self) -> bool {
        matches!(self.step, Step::Preparing { .. } | Step::Prepared)
    }
}
