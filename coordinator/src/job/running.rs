//! The life of epochs while tasks run: trigger, acknowledge, seal, commit; abort; collection.

use std::sync::Arc;

use millstream_api::control::{self, Failure, FailureKind, Mutation};
use millstream_api::ids::{Epoch, TaskId};
use millstream_api::log::{EntryKind, Manifest, TaskSnapshot};

use super::assemble::{Basis, assemble};
use super::checkpoint::bytes_added;
use super::message::{Command, Millis, Notice, StoreProblem, StoreProblemKind, StoredObject};
use super::retention::{orphans, superfluous};
use super::status::{CheckpointEnd, REASON_BYTES_MAX, shortened};
use super::{Checkpoint, CheckpointPhase, CheckpointStatus, Core, Phase, Purpose, failure_of, transient};

/// Tries of the last checkpoint before a stop goes without it, and a drain fails the attempt.
const STOP_TRIES_MAX: u32 = 3;
/// Objects whose deletion failed that are remembered; what is beyond waits for the search for orphans.
const UNDELETED_MAX: usize = 10_000;

impl Core {
    pub(super) fn start_running(&mut self, now: Millis) {
        let first_trigger_at = self.first_trigger_at(now);
        let Some(run) = &mut self.run else { return };
        run.started = true;
        run.next_trigger_at = first_trigger_at;
        self.ran = true;
        run.uncovered_since = now;
        self.status.checkpoints_failed_in_row = 0;
        // Deploying | Anchoring => Running: positions are in the log.
        self.phase = Phase::Running;
        self.tell_all(&control::Command::Start);
    }

    /// After a failure, of tasks or of a coordinator, readers have waited since the last checkpoint, so its interval goes on
    /// as if nothing had been. No checkpoint comes more often for that, however often the job restarts, so what is retained
    /// does not go sooner. A moment is left for reading again what was lost: a barrier in front of it would commit nothing.
    fn first_trigger_at(&self, now: Millis) -> Millis {
        let interval_ms = self.config.checkpoint.interval_ms;
        let recovers = self.attempt > 1 || self.inherited.is_some();
        // Where it was checkpoints that failed, more of them are no help: the one that comes after a restart may be the only
        // one that completes, and then holds all progress.
        let recovers = recovers && self.status.checkpoints_failed_in_row == 0;
        let Some(tip) = self.view.tip().filter(|_| recovers) else { return now + interval_ms };
        let pace_ms = interval_ms.max(self.config.checkpoint.min_pause_ms);
        // The clock of an earlier coordinator may be ahead.
        let sealed_at = Millis::try_from(tip.written_at_ms).unwrap_or(now).min(now);
        (sealed_at + pace_ms).max(now + self.config.limits.read_again_ms.min(interval_ms))
    }

    pub(super) fn running_deadline(&self) -> Option<Millis> {
        let run = self.run.as_ref()?;
        let trigger = self.checkpoint.is_none().then_some(run.next_trigger_at);
        let pause = self.pause_after_ms().filter(|_| !run.paused).map(|after| run.uncovered_since + after);
        [trigger, pause].into_iter().flatten().min()
    }

    /// Half of the transaction time-out: the store or the coordinator is away, and what is sent now may be lost time.
    fn pause_after_ms(&self) -> Option<Millis> {
        self.transaction_timeout_ms.map(|timeout| timeout / 2)
    }

    pub(super) fn advance_running(&mut self, now: Millis) {
        if let Some(checkpoint) = &self.checkpoint
            && checkpoint.phase == CheckpointPhase::Triggered
            && checkpoint.deadline <= now
        {
            let missing: Vec<String> = checkpoint.waiting.iter().take(3).map(|t| self.task_name(*t)).collect();
            let reason = format!(
                "not complete after {} ms; no answer from {} tasks: {}",
                self.config.checkpoint.timeout_ms,
                checkpoint.waiting.len(),
                missing.join(", ")
            );
            self.abort(now, &reason, FailureKind::Transient);
        }
        let Some(run) = &mut self.run else { return };
        if self.phase != Phase::Running {
            return;
        }
        let uncovered_ms = now.saturating_sub(run.uncovered_since);
        if !run.paused && self.transaction_timeout_ms.is_some_and(|timeout| uncovered_ms >= timeout / 2) {
            run.paused = true;
            self.out.push(Command::Notice(Notice::SourcesPaused { uncovered_ms }));
            self.tell_all(&control::Command::Pause { paused: true });
        }
        self.advance_change(now);
        let Some(run) = &self.run else { return };
        let due = run.next_trigger_at <= now;
        if self.phase != Phase::Running
            || self.checkpoint.is_some()
            || self.append.is_some()
            || self.changes.switching()
        {
            return;
        }
        if self.ending.is_some() {
            self.drop_change();
            self.trigger(now, Purpose::Stop);
        } else if self.draining {
            self.drop_change();
            self.trigger(now, Purpose::Drain);
        } else if self.changes.ready_to_cut() {
            self.trigger(now, Purpose::Change);
        } else if due || self.savepoints.wait_for_a_checkpoint() {
            self.trigger(now, Purpose::Periodic);
        }
    }

    pub(super) fn trigger(&mut self, now: Millis, purpose: Purpose) {
        let Some(run) = &mut self.run else { return };
        let mutation = match purpose {
            Purpose::Anchor | Purpose::Periodic => Mutation::None,
            Purpose::Stop | Purpose::Change => Mutation::Stop,
            Purpose::Drain => Mutation::Drain,
        };
        run.stop_tries += u32::from(mutation != Mutation::None);
        if purpose == Purpose::Change {
            self.note_cut();
        }
        let Some(run) = &self.run else { return };
        let epoch = self.view.epoch_max().map_or(Epoch(0), Epoch::next);
        // A number is used once, also when its epoch is aborted.
        self.view.raise_epoch(epoch);
        self.checkpoint = Some(Checkpoint {
            epoch,
            purpose,
            triggered_at: now,
            deadline: now + self.config.checkpoint.timeout_ms,
            phase: CheckpointPhase::Triggered,
            waiting: run.tasks.clone(),
            snapshots: Default::default(),
            acknowledged_at: Default::default(),
        });
        self.tell_all(&control::Command::Trigger { epoch, mutation });
    }

    pub(super) fn on_acknowledged(&mut self, now: Millis, snapshot: TaskSnapshot) {
        let Some(checkpoint) = &mut self.checkpoint else { return };
        if checkpoint.epoch == snapshot.epoch && checkpoint.acknowledge(now, snapshot) {
            self.seal(now);
        }
    }

    fn seal(&mut self, now: Millis) {
        let (Some(checkpoint), Some(run)) = (&self.checkpoint, &self.run) else { return };
        let tip = self.view.tip().map(|tip| Arc::clone(&tip.manifest));
        // Carried from manifest to manifest: the checkpoint that a user named counts once.
        let restored_from = self.named.or(self.view.rewound_to());
        let own_ids = self.own_ids();
        let basis = Basis {
            epoch: checkpoint.epoch,
            graph: &self.running.graph,
            graph_hash: self.running.hash,
            vertices: &self.running.vertices,
            parallelism: self.parallelism,
            max_parallelism: self.config.max_parallelism,
            previous: tip.as_deref(),
            finished: &run.finished,
            uncommitted: self.uncommitted.values().flatten().cloned().collect(),
            committed_through: self.committed_through(),
            transactional_ids: &own_ids,
            next_transactional_ids: self.next_ids(),
            scale: Some(self.scale()),
            restored_from,
            restored_savepoint: tip.as_ref().and_then(|tip| tip.restored_savepoint.clone()),
        };
        match assemble(&basis, &checkpoint.snapshots) {
            Ok(manifest) => self.append(now, EntryKind::Manifest(Box::new(manifest))),
            Err(error) => {
                let message = format!("failed to put checkpoint {} together: {error}", checkpoint.epoch);
                self.fail(now, Failure { kind: FailureKind::Bug, message });
            }
        }
    }

    /// The newest sealed epoch up to which every commit is reported.
    pub(super) fn committed_through(&self) -> Option<Epoch> {
        let tip = &self.view.tip()?.manifest;
        let Some((first_open, _)) = self.uncommitted.first_key_value() else { return Some(tip.epoch) };
        let before = self.view.sealed().iter().rev().find(|s| s.manifest.epoch < *first_open);
        before.map_or(tip.committed_through, |s| Some(s.manifest.epoch))
    }

    /// A manifest of this term is in the log, and the view has it as its tip.
    pub(super) fn on_sealed(&mut self, now: Millis) {
        if self.phase == Phase::Importing {
            return self.on_imported(now);
        }
        let Some(tip) = self.view.tip().cloned() else { return };
        let manifest = tip.manifest;
        let Some(checkpoint) = self.checkpoint.take_if(|c| c.epoch == manifest.epoch) else {
            // The attempt failed meanwhile. The next one restores this manifest and finishes its commits.
            return;
        };
        // Only what its snapshots brought: what the manifest carries on may have been committed while it was written, and a
        // task that has ended reports that once.
        let new: Vec<_> = checkpoint.snapshots.values().flat_map(|s| &s.transactions).cloned().collect();
        if !new.is_empty() {
            self.uncommitted.insert(manifest.epoch, new);
        }
        let changes = checkpoint.purpose == Purpose::Change && self.ending.is_none() && !self.is_finished(&manifest);
        if !changes {
            self.tell_all(&control::Command::Sealed { epoch: manifest.epoch, manifest: Arc::clone(&manifest) });
        }
        self.show_completed(now, &checkpoint, &manifest);
        self.collect();
        self.note_sealed_for_savepoints(checkpoint.purpose);
        let (interval_ms, min_pause_ms) = (self.config.checkpoint.interval_ms, self.config.checkpoint.min_pause_ms);
        let Some(run) = &mut self.run else { return };
        for task in &manifest.finished_tasks {
            run.last_epoch.entry(*task).or_insert(manifest.epoch);
        }
        run.finished.clone_from(&manifest.finished_tasks);
        run.tasks.retain(|task| !manifest.finished_tasks.contains(task));
        // Whatever was sent before the barrier is covered now.
        run.uncovered_since = checkpoint.triggered_at;
        run.next_trigger_at = (checkpoint.triggered_at + interval_ms).max(now + min_pause_ms);
        if run.tasks.iter().all(|task| run.ended.contains(task)) {
            run.next_trigger_at = now;
        }
        self.resume_sources(now);
        if changes {
            return self.switch(now, &manifest);
        }
        let deadline = now + self.config.limits.commit_timeout_ms;
        if self.is_finished(&manifest) {
            // Running => Committing: every task ended within the epoch.
            self.phase = Phase::Committing { deadline, finished: true };
        } else if matches!(checkpoint.purpose, Purpose::Stop | Purpose::Change) {
            self.phase = Phase::Committing { deadline, finished: false };
        } else if checkpoint.purpose == Purpose::Anchor {
            self.start_running(now);
        }
    }

    fn resume_sources(&mut self, now: Millis) {
        let after_ms = self.pause_after_ms();
        let Some(run) = &mut self.run else { return };
        let still = after_ms.is_some_and(|after| now.saturating_sub(run.uncovered_since) >= after);
        if run.paused && !still {
            run.paused = false;
            self.out.push(Command::Notice(Notice::SourcesResumed));
            self.tell_all(&control::Command::Pause { paused: false });
        }
    }

    fn show_completed(&mut self, now: Millis, checkpoint: &Checkpoint, manifest: &Arc<Manifest>) {
        let bytes = checkpoint.snapshots.values().map(bytes_added).sum();
        let duration_ms = now.saturating_sub(checkpoint.triggered_at);
        let Some(reference) = self.tip_ref() else { return };
        self.status.checkpoints_completed += 1;
        self.status.checkpoints_failed_in_row = 0;
        let (path, state_bytes) = (reference.path.clone(), manifest.object_bytes());
        let end = CheckpointEnd::Completed { path: path.clone(), bytes, state_bytes };
        self.status.note_checkpoint(checkpoint.record(now, end));
        self.status.last_checkpoint = Some(CheckpointStatus {
            epoch: manifest.epoch.0,
            path,
            completed_at_ms: now,
            duration_ms,
            bytes,
            state_bytes,
        });
        self.out.push(Command::Notice(Notice::CheckpointCompleted { checkpoint: reference, duration_ms, bytes }));
    }

    pub(super) fn on_declined(&mut self, now: Millis, task: TaskId, epoch: Epoch, failure: &Failure) {
        let in_flight = |c: &Checkpoint| c.epoch == epoch && c.phase == CheckpointPhase::Triggered;
        if self.checkpoint.as_ref().is_some_and(in_flight) {
            let reason = format!("task {} declined: {}", self.task_name(task), failure.message);
            self.abort(now, &reason, failure.kind);
        }
    }

    /// The store refused the manifest for certain.
    pub(super) fn on_seal_rejected(&mut self, now: Millis, epoch: Epoch, problem: StoreProblem) {
        if self.phase == Phase::Importing {
            return self.close_failed(now, failure_of(problem));
        }
        if self.checkpoint.as_ref().is_some_and(|c| c.epoch == epoch) {
            let kind = match problem.kind {
                StoreProblemKind::Transient => FailureKind::Transient,
                StoreProblemKind::User => FailureKind::User,
                StoreProblemKind::Corrupt => FailureKind::Corrupt,
            };
            self.abort(now, &problem.message, kind);
        }
    }

    /// Gives the epoch in flight up for certain. `kind`: what it means when no more failures are tolerable.
    fn abort(&mut self, now: Millis, reason: &str, kind: FailureKind) {
        let Some(checkpoint) = self.checkpoint.take() else { return };
        let epoch = checkpoint.epoch;
        self.tell_all(&control::Command::Aborted { epoch });
        self.out.push(Command::Notice(Notice::CheckpointAborted { epoch, reason: reason.to_owned() }));
        self.status.checkpoints_failed += 1;
        self.status.checkpoints_failed_in_row += 1;
        self.status.last_checkpoint_failure =
            Some(shortened(&format!("checkpoint {epoch}: {reason}"), REASON_BYTES_MAX));
        let end = CheckpointEnd::Aborted { reason: shortened(reason, REASON_BYTES_MAX) };
        self.status.note_checkpoint(checkpoint.record(now, end));
        let tolerable = self.config.checkpoint.tolerable_failures;
        let config = &self.config.checkpoint;
        let Some(run) = &mut self.run else { return };
        run.next_trigger_at = (checkpoint.triggered_at + config.interval_ms).max(now + config.min_pause_ms);
        match checkpoint.purpose {
            Purpose::Anchor => {
                let message = format!("the sources' positions could not be stored (checkpoint {epoch}): {reason}");
                self.fail(now, Failure { kind, message });
            }
            // The sources have stopped: another try is all that can be done.
            Purpose::Change => {
                let message = format!("the last checkpoint before a change of the tasks ({epoch}) failed: {reason}");
                self.fail(now, transient(message));
            }
            Purpose::Stop | Purpose::Drain if run.stop_tries < STOP_TRIES_MAX => {}
            // Drained, it restarts and tries again; stopped, it ends without.
            Purpose::Stop | Purpose::Drain => {
                self.fail(now, transient(format!("the last checkpoint ({epoch}) failed: {reason}")));
            }
            Purpose::Periodic if self.status.checkpoints_failed_in_row > tolerable => {
                let message = format!("checkpoint {epoch} failed ({tolerable} failures are tolerable): {reason}");
                self.fail(now, Failure { kind, message });
            }
            Purpose::Periodic => {}
        }
    }

    pub(super) fn on_committed(&mut self, task: TaskId, epoch: Epoch) {
        let Some(run) = &mut self.run else { return };
        if let Some(committed) = run.committed.get_mut(&task) {
            *committed = (*committed).max(Some(epoch));
        }
        let mut uncommitted = std::mem::take(&mut self.uncommitted);
        for open in uncommitted.values_mut() {
            open.retain(|t| {
                let of_another =
                    t.task != task.index || self.running.vertex_of.get(&t.uid).is_none_or(|v| *v != task.vertex);
                t.epoch > epoch || of_another || self.is_left(t)
            });
        }
        self.uncommitted = uncommitted;
        self.uncommitted.retain(|_, open| !open.is_empty());
    }

    pub(super) fn on_end_of_input(&mut self, now: Millis, task: TaskId) {
        let Some(run) = &mut self.run else { return };
        run.ended.insert(task);
        if run.tasks.iter().all(|task| run.ended.contains(task)) {
            // Nothing more will come: no reason to wait for the interval.
            run.next_trigger_at = now;
        }
    }

    /// Deletes what the new tip made superfluous.
    pub(super) fn collect(&mut self) {
        let (Some(generation), Some(tip)) = (self.generation, self.view.tip()) else { return };
        let through = tip.manifest.committed_through;
        let retained = self.config.checkpoint.retained;
        let pinned = [self.savepoints.pinned(), self.changes.pinned()].into_iter().flatten().min();
        let Some(plan) = superfluous(&self.view, retained, through, pinned, generation) else { return };
        self.view.forget(plan.first_kept, &plan.entries);
        let path = &self.config.path;
        let entries: Vec<String> = plan.entries.iter().map(|seq| crate::log::entry_path(path, *seq)).collect();
        let objects = plan.objects.iter().map(|object| format!("{path}/{object}"));
        self.undeleted.extend(objects);
        if entries.is_empty() {
            return self.delete_rest();
        }
        self.out.push(Command::Delete(entries));
    }

    /// Objects go once the entries that name them are gone: a manifest in the log always has its objects.
    fn delete_rest(&mut self) {
        if !self.undeleted.is_empty() {
            self.out.push(Command::Delete(std::mem::take(&mut self.undeleted)));
        }
    }

    pub(super) fn on_deleted(&mut self, paths: Vec<String>, problem: Option<StoreProblem>) {
        let Some(problem) = problem else { return self.delete_rest() };
        self.out.push(Command::Notice(Notice::NotCollected { objects: paths.len(), reason: problem.message }));
        let room = UNDELETED_MAX.saturating_sub(self.undeleted.len());
        self.undeleted.extend(paths.into_iter().take(room));
    }

    pub(super) fn on_state_listed(&mut self, objects: &[StoredObject]) {
        let Some(generation) = self.generation else { return };
        let timeout_ms = self.config.checkpoint.timeout_ms;
        let orphans = orphans(&self.view, objects, generation, timeout_ms);
        if !orphans.is_empty() {
            let path = &self.config.path;
            self.out.push(Command::Delete(orphans.iter().map(|o| format!("{path}/{o}")).collect()));
        }
    }
}
