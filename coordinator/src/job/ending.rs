//! Failures, restarts and the ways a job ends: finished, stopped, failed, fenced.
//!
//! Every end with a won term writes `stopped`, which frees the job for its next owner and records the last commits. A job
//! that stops or fails for good first finishes the commits of its last sealed epoch, so that readers do not wait for them.

use std::sync::Arc;

use millstream_api::control::{self, Failure, FailureKind};
use millstream_api::log::{EntryKind, LogEntry, Start, StopReason};

use super::message::{Command, Millis, Notice, Outcome};
use super::{Core, JobState, Phase, transient};

/// Failures kept for the final report.
const FAILURES_KEPT_MAX: usize = 64;
/// For what is left to do with the broker and the log after a stop took too long.
const WIND_DOWN_MS: Millis = 10_000;

/// The job is to end; what is going on is brought to a good end first, until the deadline.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub why: Why,
    pub deadline: Option<Millis>,
    /// The deadline was put off for what the broker still has to do.
    pub winding_down: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Why {
    /// The user wants it. `incomplete`: what could not be done.
    Stop {
        incomplete: Option<String>,
    },
    Failure(Failure),
}

impl Ending {
    /// False when it was put off before.
    fn put_off(&mut self, now: Millis) -> bool {
        if std::mem::replace(&mut self.winding_down, true) {
            return false;
        }
        self.deadline = Some(now + WIND_DOWN_MS);
        true
    }
}

impl Core {
    pub(super) fn on_stop_requested(&mut self, now: Millis) {
        if self.ending.is_some() || matches!(self.phase, Phase::Ended | Phase::Closing { .. }) {
            return;
        }
        self.out.push(Command::Notice(Notice::Stopping));
        let deadline = Some(now + self.config.limits.stop_timeout_ms);
        self.ending = Some(Ending { why: Why::Stop { incomplete: None }, deadline, winding_down: false });
        match self.phase {
            Phase::Idle | Phase::Reading { .. } | Phase::ReadingSavepoint { .. } => self.end_stopped_before_start(),
            Phase::StandingBy(_) => self.end(Outcome::StoodBy { over: None }),
            // Tasks that lost their places were suspended, and left open what they had: it goes before the end, and
            // `advance_slots` sees to it. Without a worker the next run does.
            Phase::AwaitingSlots { .. } if self.slots.any().is_some() => {
                self.raise_attempt();
                self.tell_all(&control::Command::Cancel);
                self.run = None;
            }
            // Nothing has been read since the tip: it is the last checkpoint.
            Phase::AwaitingSlots { .. } | Phase::Deploying { .. } | Phase::Anchoring => {
                self.raise_attempt();
                self.tell_all(&control::Command::Cancel);
                self.checkpoint = None;
                self.run = None;
                let settled = self.view.pending().is_empty();
                self.close_ending(now, settled);
            }
            Phase::BackingOff { .. } => self.phase = Phase::BackingOff { until: now },
            _ => {}
        }
    }

    /// It takes as long as it takes, over restarts too: what the last windows say must not depend on a failure. A job that
    /// does not run yet is drained once it does. A stop without drain may still follow, and has a deadline.
    pub(super) fn on_drain_requested(&mut self) {
        let over = self.ending.is_some() || matches!(self.phase, Phase::Closing { .. } | Phase::Ended);
        if over || self.generation.is_none() || self.draining {
            return;
        }
        self.draining = true;
        self.out.push(Command::Notice(Notice::Draining));
    }

    /// The deadline of the end passes whatever is going on.
    pub(super) fn advance_ending(&mut self, now: Millis) {
        if let Phase::Closing { deadline: Some(deadline), .. } = self.phase
            && deadline <= now
            && !self.savepoints.copying()
        {
            return self.give_up_closing("the store did not answer in time");
        }
        let overdue = self.ending.as_ref().and_then(|e| e.deadline).is_some_and(|deadline| deadline <= now);
        if overdue && !matches!(self.phase, Phase::Closing { .. } | Phase::Ended) {
            let waiting_for = match self.phase {
                Phase::Running => "the last checkpoint was not complete",
                Phase::Committing { .. } | Phase::Finishing { .. } | Phase::GivingUp { .. } => {
                    "the broker had not committed the last checkpoint"
                }
                _ => "the store had not answered",
            };
            self.note_incomplete(format!("{waiting_for} within {} ms", self.config.limits.stop_timeout_ms));
            if self.goes_on_winding_down(now) {
                return;
            }
            self.raise_attempt();
            self.tell_all(&control::Command::Cancel);
            self.checkpoint = None;
            if self.phase == Phase::Running && self.append.is_none() {
                return self.wind_down(now);
            }
            if self.generation.is_none() {
                return self.end_stopped_before_start();
            }
            self.close_ending(now, false);
        }
        self.advance_closing(now);
    }

    /// What the sinks left with the broker is being ended already: that gets a little more time, once.
    fn goes_on_winding_down(&mut self, now: Millis) -> bool {
        let with_the_broker = matches!(
            self.phase,
            Phase::BackingOff { .. }
                | Phase::Finishing { .. }
                | Phase::GivingUp { .. }
                | Phase::Voiding
                | Phase::Settling
                | Phase::Fencing { .. }
        );
        with_the_broker && self.ending.as_mut().is_some_and(|ending| ending.put_off(now))
    }

    /// The last checkpoint did not come about. What its sinks prepared is ended, within a short time.
    fn wind_down(&mut self, now: Millis) {
        self.run = None;
        if let Some(ending) = &mut self.ending {
            ending.put_off(now);
        }
        // Running => BackingOff: the commits of the epoch before are finished first.
        self.phase = Phase::BackingOff { until: now };
    }

    fn note_incomplete(&mut self, what: String) {
        if let Some(Ending { why: Why::Stop { incomplete }, .. }) = &mut self.ending {
            incomplete.get_or_insert(what);
        }
    }

    /// The attempt is over. Restarts, or ends the job.
    pub(super) fn fail(&mut self, now: Millis, failure: Failure) {
        if matches!(self.phase, Phase::Ended | Phase::Closing { .. }) {
            return;
        }
        if self.generation.is_none() {
            return self.end_failed(failure);
        }
        self.note_failure(now, &failure);
        self.checkpoint = None;
        self.change_failed(&failure.message);
        self.raise_attempt();
        let restoring = matches!(
            self.phase,
            Phase::AwaitingSlots { .. }
                | Phase::Finishing { .. }
                | Phase::GivingUp { .. }
                | Phase::Settling
                | Phase::Voiding
        );
        if self.ending.is_some() {
            return self.fail_while_ending(now, failure, restoring);
        }
        let failure = self.as_seen_by_a_first_run(now, failure);
        let fatal = failure.kind.is_final();
        let delay_ms = if fatal { None } else { self.restarts.after_failure(now, &mut self.random) };
        let Some(delay_ms) = delay_ms else {
            let failure = if fatal { failure } else { self.used_up(failure) };
            let deadline = Some(now + self.config.limits.commit_timeout_ms);
            self.ending = Some(Ending { why: Why::Failure(failure), deadline, winding_down: false });
            self.run = None;
            self.tell_all(&control::Command::Cancel);
            // * => BackingOff: a put may be open, and what it decides is to be finished.
            self.phase = Phase::BackingOff { until: now };
            return;
        };
        self.status.restarts += 1;
        let number = self.restarts.failures();
        self.out.push(Command::Notice(Notice::Restarting { failure, delay_ms, number }));
        if self.run.as_ref().is_some_and(|run| run.started) {
            self.tell_all(&control::Command::Suspend);
        } else {
            self.run = None;
            self.tell_all(&control::Command::Cancel);
        }
        self.phase = Phase::BackingOff { until: now + delay_ms };
    }

    fn used_up(&self, failure: Failure) -> Failure {
        let restarts = self.restarts.failures().saturating_sub(1);
        let message = format!("{} (after {restarts} restarts, which is all that spec.restart allows)", failure.message);
        Failure { kind: failure.kind, message }
    }

    fn fail_while_ending(&mut self, now: Millis, failure: Failure, restoring: bool) {
        self.note_incomplete(failure.message);
        self.run = None;
        self.tell_all(&control::Command::Cancel);
        if restoring {
            // The commits could not be finished; the next run does it.
            return self.close_ending(now, false);
        }
        if matches!(self.phase, Phase::Fencing { .. }) {
            // Everything is finished and recorded. What the broker did not abort ends by its time-out.
            return self.close_ending(now, true);
        }
        self.phase = Phase::BackingOff { until: now };
    }

    fn note_failure(&mut self, now: Millis, failure: &Failure) {
        if self.failures.len() == FAILURES_KEPT_MAX {
            self.failures.remove(0);
        }
        self.failures.push(failure.message.clone());
        self.status.note_failure(now, &failure.message);
    }

    /// After the last epoch is sealed: ends when its commits are done.
    pub(super) fn advance_commits(&mut self, now: Millis, deadline: Millis, finished: bool) {
        let Some(run) = &self.run else { return };
        let Some(epoch) = self.view.tip().map(|tip| tip.manifest.epoch) else { return };
        let done = |task, committed| committed >= Some(*run.last_epoch.get(task).unwrap_or(&epoch));
        if self.uncommitted.is_empty() && run.committed.iter().all(|(task, committed)| done(task, *committed)) {
            if finished {
                return self.close_finished(now, true);
            }
            return self.close_ending(now, true);
        }
        if deadline <= now {
            self.fail(now, transient("the broker did not commit the last checkpoint in time".to_owned()));
        }
    }

    pub(super) fn close_finished(&mut self, now: Millis, settled: bool) {
        let checkpoint = self.tip_ref();
        // Without end, unless the user wants it to stop: only what is recorded is finished.
        let deadline = self.ending.as_ref().and_then(|e| e.deadline);
        self.close(now, Outcome::Finished { checkpoint, already: false }, settled, deadline);
    }

    /// Ends as `ending` says.
    pub(super) fn close_ending(&mut self, now: Millis, settled: bool) {
        let finished = self.view.tip().is_some_and(|tip| self.is_finished(&tip.manifest));
        let checkpoint = self.tip_ref();
        let outcome = match self.ending.as_ref().map(|e| &e.why) {
            Some(Why::Failure(failure)) => self.failed(failure.clone()),
            _ if finished && settled => Outcome::Finished { checkpoint, already: false },
            Some(Why::Stop { incomplete }) => Outcome::Stopped { checkpoint, incomplete: incomplete.clone() },
            None => Outcome::Stopped { checkpoint, incomplete: None },
        };
        let deadline = Some(now + self.config.limits.store_patience_ms);
        self.close(now, outcome, settled, deadline);
    }

    /// Ends at once with a failure that no restart mends, leaving the tip's transactions as they are.
    pub(super) fn close_failed(&mut self, now: Millis, failure: Failure) {
        self.note_failure(now, &failure);
        self.raise_attempt();
        self.run = None;
        self.tell_all(&control::Command::Cancel);
        let outcome = self.failed(failure);
        let deadline = Some(now + self.config.limits.store_patience_ms);
        self.close(now, outcome, false, deadline);
    }

    fn failed(&self, failure: Failure) -> Outcome {
        let earlier = self.failures.split_last().map(|(_, earlier)| earlier.to_vec()).unwrap_or_default();
        Outcome::Failed { failure, earlier, checkpoint: self.tip_ref() }
    }

    fn close(&mut self, now: Millis, outcome: Outcome, settled: bool, deadline: Option<Millis>) {
        self.phase = Phase::Closing { outcome: Box::new(outcome), settled, deadline };
        if settled {
            self.copy_the_end();
        }
        self.advance_closing(now);
    }

    /// Writes `stopped` once no other put is open, and no savepoint is being copied: whoever comes next may delete what it
    /// copies.
    fn advance_closing(&mut self, now: Millis) {
        let Phase::Closing { outcome, settled, .. } = &self.phase else { return };
        if self.append.is_some() || self.savepoints.copying() {
            return;
        }
        let reason = match **outcome {
            Outcome::Finished { .. } => StopReason::Finished,
            Outcome::Failed { .. } => StopReason::Failed,
            Outcome::Stopped { .. } | Outcome::Fenced { .. } | Outcome::StoodBy { .. } => StopReason::Stopped,
        };
        let tip = self.view.tip().map(|tip| &tip.manifest);
        let epoch = tip.map(|m| m.epoch);
        let settled = *settled || self.view.pending().is_empty();
        let committed_through = if settled { epoch } else { tip.and_then(|m| m.committed_through) };
        self.append(now, EntryKind::Stopped { reason, epoch, committed_through });
    }

    /// `stopped` is in the log.
    pub(super) fn on_closed(&mut self) {
        if let Phase::Closing { outcome, .. } = &self.phase {
            let outcome = outcome.as_ref().clone();
            self.end(outcome);
        }
    }

    /// `stopped` cannot be written. The job ends all the same; its owner stays recorded. A failure that no restart mends is
    /// told as one that may pass: another coordinator may have taken the job on, and what this one found be long untrue.
    pub(super) fn give_up_closing(&mut self, reason: &str) {
        let Phase::Closing { outcome, .. } = &self.phase else { return };
        let note = format!("the end is not recorded in the log: {reason}");
        let outcome = match outcome.as_ref().clone() {
            Outcome::Stopped { checkpoint, incomplete } => Outcome::Stopped {
                checkpoint,
                incomplete: Some(incomplete.map_or(note.clone(), |i| format!("{i}; {note}"))),
            },
            Outcome::Finished { checkpoint, .. } => Outcome::Stopped { checkpoint, incomplete: Some(note) },
            Outcome::Failed { failure, earlier, checkpoint } => {
                let message =
                    format!("{note}. Another coordinator may run the job; this one found: {}", failure.message);
                Outcome::Failed { failure: transient(message), earlier, checkpoint }
            }
            other @ (Outcome::Fenced { .. } | Outcome::StoodBy { .. }) => other,
        };
        self.end(outcome);
    }

    /// `last`: an entry of this term that the next owner may have found. What a manifest there names is the next owner's
    /// to commit.
    pub(super) fn end_fenced(&mut self, by: Option<Box<Start>>, last: Option<&LogEntry>) {
        self.raise_attempt();
        self.run = None;
        if let Some(by) = &by {
            self.status.holder = Some(Arc::new(by.address.clone()));
        }
        let found = last.and_then(|entry| match &entry.kind {
            EntryKind::Manifest(manifest) => Some(manifest.epoch),
            _ => None,
        });
        let sealed = self.view.tip().map(|tip| tip.manifest.epoch).max(found);
        self.tell_all(&control::Command::Abandon { sealed });
        self.end(Outcome::Fenced { by });
    }

    pub(super) fn end_failed(&mut self, failure: Failure) {
        let checkpoint = self.tip_ref();
        self.end(Outcome::Failed { failure, earlier: self.failures.clone(), checkpoint });
    }

    pub(super) fn end_stopped_before_start(&mut self) {
        let checkpoint = self.tip_ref();
        self.end(Outcome::Stopped { checkpoint, incomplete: None });
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.status.state = match outcome {
            Outcome::Finished { .. } => JobState::Finished,
            Outcome::Stopped { .. } => JobState::Stopped,
            Outcome::Failed { .. } => JobState::Failed,
            Outcome::Fenced { .. } => JobState::Fenced,
            Outcome::StoodBy { over: Some(StopReason::Finished) } => JobState::Finished,
            Outcome::StoodBy { over: Some(StopReason::Failed) } => JobState::Failed,
            Outcome::StoodBy { .. } => JobState::Stopped,
        };
        if self.run.take().is_some() {
            self.raise_attempt();
            self.tell_all(&control::Command::Cancel);
        }
        self.phase = Phase::Ended;
        self.append = None;
        self.checkpoint = None;
        self.ending = None;
        self.out.push(Command::End(outcome));
    }

    /// A job that never sealed anything has nothing to protect, and somebody is watching: what did not pass by itself
    /// within a short time is told as something to put right, instead of being tried again without end. A refusal is so at
    /// once, also where a job that had stopped is started with credentials that are wrong.
    fn as_seen_by_a_first_run(&self, now: Millis, failure: Failure) -> Failure {
        let impatient = now.saturating_sub(self.began) >= self.config.limits.first_run_patience_ms;
        // An entry under way may be the first manifest.
        let first = self.view.tip().is_none() && self.append.is_none();
        match failure.kind {
            FailureKind::Transient if first && impatient => Failure { kind: FailureKind::User, ..failure },
            FailureKind::Refused if first || !self.ran && self.inherited.is_none() => {
                Failure { kind: FailureKind::User, ..failure }
            }
            _ => failure,
        }
    }
}
