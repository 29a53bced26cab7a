//! Changing how many tasks there are, and where they run, while they run (protocol section 8).
//!
//! What will run is prepared beside what runs: places, connections, producers, and the states that have to be read, as of the
//! newest manifest, whose objects stay for so long (design note 0017). Then comes one checkpoint after whose barrier
//! nothing follows. Its manifest decides: before it any failure restores the manifest before, with the tasks as they were;
//! after it, the new ones. So what runs goes on unharmed until the preparation is complete, and what is left for the moment
//! in which nothing runs is a barrier, one put, and one message.
//!
//! Nothing is fenced: every old task has acknowledged the manifest, so it has nothing open that the manifest does not name.
//! What it names is committed by its stored ids while the new tasks run.
//!
//! Owns: the order of these steps. Does not own: who asks for another parallelism (`rescale`), which worker gets which index
//! (`slots`), the checkpoint itself (`running`), the commits of the tasks before (`left`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use millstream_api::control::{self, Attempt, Deployment, Failure, FailureKind, Placement};
use millstream_api::ids::{Seq, TaskId, TransformUid, WorkerId};
use millstream_api::log::{Manifest, Scale, TransactionalIds};

use super::message::{Command, Millis, Notice};
use super::rescale::{Rescale, RescaleEnd};
use super::{Core, Phase, Run, transient};

/// A change that nobody asked for (a worker leaves, slots came) is tried again after so long.
const PAUSE_AFTER_FAILURE_MS: Millis = 5_000;

/// A request is tried again after so long.
const PAUSE_OF_REQUEST_MS: Millis = 500;

/// The change under way, and when there may be another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    under_way: Option<Change>,
    /// Not before; `None`: whenever there is a reason.
    pub(super) after: Option<Millis>,
    /// The number of the newest attempt that was ever prepared.
    pub(super) reserved: u32,
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
    /// What it decided, once it is decided.
    request: Option<Rescale>,
    cost: ChangeCost,
    /// Bytes that each worker has read in this step.
    read: BTreeMap<WorkerId, u64>,
    step: Step,
}

/// What a change took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCost {
    /// Getting ready beside what ran, and what was read from the store for that.
    pub prepare_ms: Millis,
    pub prepare_bytes: u64,
    /// From the manifest that decided until every worker had its new tasks, and what was read for that.
    pub switch_ms: Millis,
    pub switch_bytes: u64,
}

impl fmt::Display for ChangeCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prepare_bytes, switch_ms, switch_bytes, .. } = self;
        write!(f, "within {switch_ms} ms, {prepare_bytes} bytes read beforehand, {switch_bytes} at the switch")
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Preparing {
        waiting: BTreeSet<WorkerId>,
        since: Millis,
        deadline: Millis,
        /// The manifest that is read from; none: nothing is.
        from: Option<Seq>,
    },
    /// The last checkpoint of the old tasks is next.
    Prepared,
    /// It is under way.
    Cutting,
    /// The manifest is in the log; these have not reported their tasks yet.
    Switching { waiting: BTreeSet<WorkerId>, since: Millis, deadline: Millis },
}

impl Changes {
    /// Tasks are being exchanged: no checkpoint is taken.
    pub(super) fn switching(&self) -> bool {
        matches!(self.under_way, Some(Change { step: Step::Switching { .. }, .. }))
    }

    pub(super) fn none_under_way(&self) -> bool {
        self.under_way.is_none()
    }

    /// Everything is ready for the last checkpoint of the old tasks.
    pub(super) fn ready_to_cut(&self) -> bool {
        matches!(self.under_way, Some(Change { step: Step::Prepared, .. }))
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.under_way.as_ref().map(|change| &change.step) {
            Some(Step::Preparing { deadline, .. } | Step::Switching { deadline, .. }) => Some(*deadline),
            Some(Step::Prepared | Step::Cutting) => None,
            None => self.after,
        }
    }

    /// The checkpoint that workers may be reading.
    pub(super) fn pinned(&self) -> Option<Seq> {
        match self.under_way.as_ref()?.step {
            Step::Preparing { from, .. } => from,
            _ => None,
        }
    }

    /// The request that is decided and being carried out.
    pub(super) fn decided(&self) -> Option<&Rescale> {
        self.under_way.as_ref()?.request.as_ref()
    }

    /// For people: what is done now.
    pub(super) fn doing(&self) -> Option<String> {
        let change = self.under_way.as_ref()?;
        let read: u64 = change.read.values().sum();
        Some(match &change.step {
            Step::Preparing { waiting, .. } => format!("{} workers get ready, {read} bytes are read", waiting.len()),
            Step::Prepared | Step::Cutting => "the last checkpoint before it is taken".to_owned(),
            Step::Switching { waiting, .. } => format!("{} workers go over", waiting.len()),
        })
    }

    /// What is prepared and not cut yet is for another number of tasks.
    pub(super) fn prepares_other_than(&self, parallelism: u32) -> bool {
        self.under_way.as_ref().is_some_and(|change| change.step_is_open() && change.parallelism != parallelism)
    }
}

impl Core {
    /// While tasks run: what is due of a change, or whether there is one to begin.
    pub(super) fn advance_change(&mut self, now: Millis) {
        match self.changes.under_way.as_ref().map(|change| change.step.clone()) {
            None if self.changes.after.is_none_or(|at| at <= now) => {
                self.changes.after = None;
                self.plan_change(now);
            }
            Some(Step::Preparing { deadline, waiting, .. }) if deadline <= now => {
                let names: Vec<String> = waiting.iter().take(3).map(|w| self.slots.name(*w)).collect();
                let message = format!("{} did not get ready in time", names.join(", "));
                self.give_change_up(now, &Failure { kind: FailureKind::User, message });
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
        self.settle_request();
        let asked = self.requests.pending().map_or(self.wanted, |request| request.parallelism);
        let (there, leaving) = (self.slots.total(), self.slots.leaving_runs());
        // What was asked for waits for all of its slots. Of a worker that leaves fewer tasks may stay, where that will do.
        let target = match asked {
            asked if asked <= there => asked,
            _ if leaving && there >= self.least() => there.min(self.parallelism),
            _ => self.parallelism,
        };
        let moves = leaving && target <= there;
        if target == self.parallelism && !moves {
            return;
        }
        let wanted = if target == asked { asked } else { self.wanted };
        let groups = self.config.max_parallelism;
        let Some(by_index) = self.slots.plan(self.parallelism, target, groups) else { return };
        self.prepare_change(now, (target, wanted), by_index);
    }

    fn prepare_change(&mut self, now: Millis, (parallelism, wanted): (u32, u32), by_index: Vec<WorkerId>) {
        let placement = self.slots.placement_of(by_index);
        self.changes.reserved = self.changes.reserved.max(self.attempt) + 1;
        let number = self.changes.reserved;
        let newest = self.view.tip().cloned();
        let tasks = self.tasks_after(parallelism, newest.as_ref().map(|tip| &*tip.manifest));
        let restore = newest.as_ref().map(|tip| Arc::clone(&tip.manifest));
        self.out.push(Command::Notice(Notice::Preparing { parallelism, workers: placement.workers().len() }));
        let attempt = Attempt { number, ..self.attempt() };
        for worker in placement.workers() {
            let deployment = self.deployment(worker, &placement, parallelism, &tasks, self.namespace(number));
            let deployment = Box::new(Deployment { restore: restore.clone(), ..deployment });
            self.tell(worker, control::Command::Prepare { attempt, deployment });
        }
        let deadline = now + self.config.limits.deploy_timeout_ms;
        let (waiting, from) = (placement.workers(), newest.map(|tip| tip.seq));
        let step = Step::Preparing { waiting, since: now, deadline, from };
        let (cost, read) = (ChangeCost::default(), BTreeMap::new());
        let change = Change { parallelism, wanted, placement, tasks, number, request: None, cost, read, step };
        self.changes.under_way = Some(change);
    }

    pub(super) fn deployment(
        &self,
        worker: WorkerId,
        placement: &Placement,
        parallelism: u32,
        tasks: &BTreeSet<TaskId>,
        job_uid: String,
    ) -> Deployment {
        Deployment {
            job: self.config.path.clone(),
            graph: self.graph(),
            graph_hash: self.running.hash,
            parallelism,
            max_parallelism: self.config.max_parallelism,
            tasks: tasks.clone(),
            worker,
            placement: placement.clone(),
            restore: None,
            job_uid,
            transaction_pool: self.config.transaction_pool(),
        }
    }

    /// All tasks that are to run from a manifest.
    pub(super) fn tasks_after(&self, parallelism: u32, manifest: Option<&Manifest>) -> BTreeSet<TaskId> {
        let finished = manifest.map_or_else(BTreeSet::new, |m| m.finished_at(parallelism, self.running.hash));
        let vertices = self.running.vertices.iter().map(|v| v.id);
        let all = vertices.flat_map(|vertex| (0..parallelism).map(move |index| TaskId { vertex, index }));
        all.filter(|task| !finished.contains(task)).collect()
    }

    pub(super) fn on_prepared(&mut self, now: Millis, worker: WorkerId) {
        let Some(change) = &mut self.changes.under_way else { return };
        let Step::Preparing { waiting, since, .. } = &mut change.step else { return };
        if waiting.remove(&worker) && waiting.is_empty() {
            change.cost.prepare_ms = now.saturating_sub(*since);
            change.cost.prepare_bytes = std::mem::take(&mut change.read).into_values().sum();
            // Preparing => Prepared: the checkpoint is triggered as soon as no other one is under way.
            change.step = Step::Prepared;
        }
    }

    /// A worker has read so much for tasks that are to run: however long the rest takes, it does not stand still.
    pub(super) fn on_restoring(&mut self, now: Millis, worker: WorkerId, bytes: u64) {
        let later = now + self.config.limits.deploy_timeout_ms;
        if let Phase::Deploying { deadline, waiting } = &mut self.phase
            && waiting.contains(&worker)
        {
            *deadline = later;
        }
        let Some(change) = &mut self.changes.under_way else { return };
        if let Step::Preparing { deadline, waiting, .. } | Step::Switching { deadline, waiting, .. } = &mut change.step
            && waiting.contains(&worker)
        {
            *deadline = later;
            change.read.insert(worker, bytes);
        }
    }

    pub(super) fn on_prepare_failed(&mut self, now: Millis, worker: WorkerId, failure: &Failure) {
        if self.changes.under_way.as_ref().is_some_and(Change::step_is_open) {
            let message = format!("{}: {}", self.slots.name(worker), failure.message);
            self.give_change_up(now, &Failure { kind: failure.kind, message });
        }
    }

    /// A worker is gone: a change that it was to take part in is planned anew.
    pub(super) fn replan_without(&mut self, worker: WorkerId) {
        let takes_part = |c: &Change| c.placement.by_index.contains(&worker);
        if self.changes.under_way.as_ref().is_some_and(|c| c.step_is_open() && takes_part(c)) {
            self.drop_change();
            self.changes.after = None;
        }
    }

    /// What runs goes on. What may pass by itself, such as a worker that is lost meanwhile, is tried again, a few times for a
    /// request; otherwise the request is over. Other reasons to move are looked at again later.
    fn give_change_up(&mut self, now: Millis, failure: &Failure) {
        let parallelism = self.changes.under_way.as_ref().map(|change| change.parallelism);
        self.drop_change();
        let asked = self.requests.pending().is_some_and(|request| Some(request.parallelism) == parallelism);
        if !asked {
            self.changes.after = Some(now + PAUSE_AFTER_FAILURE_MS);
            return self.out.push(Command::Notice(Notice::ChangeGivenUp { reason: failure.message.clone() }));
        }
        if failure.kind == FailureKind::Transient {
            self.changes.after = Some(now + PAUSE_OF_REQUEST_MS);
            return self.request_failed(&failure.message);
        }
        if let Some(request) = self.requests.take() {
            self.end_request(request, RescaleEnd::Failed { reason: failure.message.clone() });
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
        let Some(change) = self.changes.under_way.take() else { return };
        if !matches!(change.step, Step::Switching { .. }) {
            return self.request_failed(reason);
        }
        if let Some(request) = change.request {
            self.end_request(request, RescaleEnd::Done { cost: None });
        }
    }

    /// The last checkpoint of the old tasks is triggered.
    pub(super) fn note_cut(&mut self) {
        if let Some(change) = &mut self.changes.under_way {
            // Prepared => Cutting: from here on there is no way back into the tasks that run.
            change.step = Step::Cutting;
        }
    }

    /// What a manifest says of the scale.
    pub(super) fn scale(&self) -> Scale {
        let cutting = self.changes.under_way.as_ref().filter(|change| change.step == Step::Cutting);
        Scale { spec: self.config.parallelism, wanted: cutting.map_or(self.wanted, |change| change.wanted) }
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
        change.request = self.requests.take_for(change.parallelism);
        let tasks = self.tasks_after(change.parallelism, Some(manifest));
        let old: Vec<WorkerId> = self.slots.workers().filter(|w| self.slots.runs(*w)).collect();
        if tasks != change.tasks {
            // Some ended meanwhile, so that the channels are others: rare, and a restart is as good.
            if let Some(request) = change.request {
                self.end_request(request, RescaleEnd::Done { cost: None });
            }
            return self.restart_from_the_tip(now);
        }
        self.attempt = change.number;
        self.parallelism = change.parallelism;
        self.slots.place(&change.placement.by_index);
        self.use_ids(change.number);
        let finished = manifest.finished_at(self.parallelism, self.running.hash);
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
        self.commit_left(now, self.uncommitted.values().flatten().cloned().collect());
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

    /// A worker has its new tasks.
    pub(super) fn on_switched(&mut self, now: Millis, worker: WorkerId) {
        let Some(change) = &mut self.changes.under_way else { return };
        let Step::Switching { waiting, since, .. } = &mut change.step else { return };
        if !waiting.remove(&worker) || !waiting.is_empty() {
            return;
        }
        let (switch_ms, switch_bytes) = (now.saturating_sub(*since), change.read.values().sum());
        let cost = ChangeCost { switch_ms, switch_bytes, ..change.cost };
        self.status.changes_completed += 1;
        self.status.last_change = Some(cost);
        match self.changes.under_way.take().and_then(|change| change.request) {
            Some(request) => self.end_request(request, RescaleEnd::Done { cost: Some(cost) }),
            None => self.out.push(Command::Notice(Notice::Changed { parallelism: self.parallelism, cost })),
        }
    }
}

impl Change {
    /// It can still be dropped without harm to what runs.
    fn step_is_open(&self) -> bool {
        matches!(self.step, Step::Preparing { .. } | Step::Prepared)
    }
}
