//! The begin of a term: read the log, see who holds it, write the own `start` entry (protocol sections 1 and 7).

use std::sync::Arc;

use millstream_api::control::{Failure, FailureKind};
use millstream_api::ids::{Generation, Seq};
use millstream_api::log::{EntryKind, LogEntry, Manifest, Start, StopReason};

use super::claim::{self, Claim};
use super::message::{
    CheckpointRef, Command, LogTail, Millis, Notice, Outcome, ProcessState, StoreProblem, StoreProblemKind,
};
use super::standby::Sight;
use super::{CheckpointStatus, Core, Inherited, LogView, Phase, Sealed, failure_of, retry_delay};

/// Lost races for a `start` entry before giving way: somebody else is up and writing.
const CLAIM_TRIES_MAX: u32 = 8;

impl Core {
    pub(super) fn begin(&mut self, now: Millis) {
        if self.phase == Phase::Idle {
            self.began = now;
            self.phase = Phase::Reading { since: now, tries: 0, retry_at: None };
            self.out.push(Command::ReadLog);
        }
    }

    pub(super) fn on_log_unreadable(&mut self, now: Millis, problem: StoreProblem) {
        if std::mem::take(&mut self.doubts) {
            // Workers say again what they have heard.
            return;
        }
        if let Phase::StandingBy(watch) = &mut self.phase {
            // The leader is asked again, and in doubt the log is read again.
            watch.reading = false;
            return;
        }
        let Phase::Reading { since, tries, retry_at: None } = self.phase else { return };
        let patient = now.saturating_sub(since) < self.config.limits.store_patience_ms;
        if problem.kind != StoreProblemKind::Transient || !patient {
            return self.end_failed(failure_of(problem));
        }
        self.phase = Phase::Reading { since, tries: tries + 1, retry_at: Some(now + retry_delay(tries)) };
    }

    pub(super) fn on_log_read(&mut self, now: Millis, tail: &LogTail, previous: ProcessState) {
        if std::mem::take(&mut self.doubts) {
            return self.look_for_a_successor(tail);
        }
        let standing_by = match &self.phase {
            Phase::Reading { retry_at: None, .. } => false,
            Phase::StandingBy(watch) if watch.reading => true,
            _ => return,
        };
        if self.ending.is_some() {
            return self.end_stopped_before_start();
        }
        self.view = LogView::of(tail);
        self.found_tip.get_or_insert(self.view.tip().map(|tip| tip.seq));
        self.status.holder = self.view.holder().map(|holder| Arc::new(holder.address.clone()));
        self.status.before = self.view.stopped();
        let sight = if standing_by { self.look_at_the_log(now, previous) } else { None };
        match sight {
            Some(Sight::Stay) => return self.watch_the_leader(now),
            None if standing_by => return,
            // StandingBy => Claiming: the leader is gone.
            Some(Sight::Claim) => {}
            None => {
                let take_over = self.config.restore.take_over.as_deref();
                match claim::check(&self.view, &self.config.owner, previous, take_over) {
                    Claim::Free => {}
                    Claim::Held { .. } if self.may_stand_by() => return self.watch_the_leader(now),
                    Claim::Held { message } | Claim::Refused { message } => {
                        return self.end_failed(Failure { kind: FailureKind::State, message });
                    }
                }
            }
        }
        self.look_for_a_savepoint(now, previous);
    }

    /// A standby needs to be able to ask the one that rules.
    fn may_stand_by(&self) -> bool {
        self.config.standby && self.view.holder().is_some_and(|holder| holder.address.listen.is_some())
    }

    /// Goes on watching, or begins to watch who rules now.
    fn watch_the_leader(&mut self, now: Millis) {
        let Some(holder) = self.view.holder().cloned() else { return };
        let Some(address) = holder.address.listen.clone() else { return };
        if !matches!(&self.phase, Phase::StandingBy(watch) if Some(watch.generation()) == self.view.generation()) {
            self.stand_by(now, &holder, address);
        }
    }

    pub(super) fn claim(&mut self, now: Millis, previous: ProcessState) {
        let restores = match self.import {
            // What the log has stays pinned until the savepoint's manifest is in it.
            Some(_) => self.view.tip().cloned(),
            None => match self.restore_target() {
                Ok(restores) => restores,
                Err(failure) => return self.end_failed(failure),
            },
        };
        let free = self.view.stopped().is_some() || previous == ProcessState::Gone;
        let holder = self.view.holder().filter(|holder| holder.address != self.config.address);
        let holder = holder.filter(|holder| !free || holder.owner != self.config.owner);
        self.taken_from = holder.cloned().map(Box::new);
        let restores = restores.map(|s| s.seq);
        self.wanted = if self.import.is_some() { self.config.parallelism } else { self.wanted_by_the_log() };
        self.parallelism = self.wanted;
        self.named = self.config.restore.from.map(Seq).filter(|named| restores == Some(*named));
        // What runs under an earlier coordinator is of another line than the savepoint.
        let goes_on = self.view.stopped().is_none() && self.import.is_none();
        self.inherited = self.view.holder().filter(|_| goes_on).and_then(|holder| {
            let in_a_cluster = holder.address.listen.is_some();
            Some(Inherited { generation: self.view.generation()?, in_a_cluster })
        });
        if self.import.is_none() && self.nothing_left() && restores == self.view.tip().map(|tip| tip.seq) {
            let checkpoint = self.tip_ref();
            if let Some(tip) = self.view.tip() {
                self.out.push(Command::Notice(Notice::NothingLeft { epoch: tip.manifest.epoch }));
            }
            return self.end(Outcome::Finished { checkpoint, already: true });
        }
        let job_uid = match self.view.holder() {
            Some(holder) => holder.job_uid.clone(),
            // Half of a nonce is enough to tell the logs of one broker apart.
            None => self.random.nonce().0[..16].to_owned(),
        };
        let start = Start { owner: self.config.owner.clone(), address: self.config.address.clone(), restores, job_uid };
        // Reading => Claiming: the job may be run from here.
        self.phase = Phase::Claiming;
        self.append(now, EntryKind::Start(start));
    }

    /// The last entry says that the job finished, and all of it is committed.
    fn nothing_left(&self) -> bool {
        let finished = self.view.tip().is_some_and(|tip| self.is_finished(&tip.manifest));
        self.view.stopped() == Some(StopReason::Finished) && self.view.pending().is_empty() && finished
    }

    pub(super) fn is_finished(&self, manifest: &Manifest) -> bool {
        manifest.graph_hash == self.running.hash && manifest.is_finished()
    }

    /// The manifest that this term goes on from, checked against the job; with it, the graph that runs.
    fn restore_target(&mut self) -> Result<Option<Sealed>, Failure> {
        let user = |message| Failure { kind: FailureKind::State, message };
        let target = self.view.restored_by_a_start(self.config.restore.from.map(Seq));
        let target = target.map_err(|seq| user(self.no_such_checkpoint(seq)))?;
        if target.is_none() && self.view.holder().is_some_and(|h| h.restores.is_some()) {
            let message = format!(
                "the log in {} names a checkpoint that is not there: an object was deleted by other hands. Restore the \
                 store, or run the job under another name",
                crate::log::folder(&self.config.path)
            );
            return Err(Failure { kind: FailureKind::Corrupt, message });
        }
        let target = target.cloned();
        self.take_graph(target.as_ref().map(|t| &*t.manifest));
        if let Some(target) = &target {
            self.check_state(&target.manifest).map_err(user)?;
        }
        Ok(target)
    }

    fn no_such_checkpoint(&self, seq: Seq) -> String {
        let known: Vec<String> =
            self.view.sealed().iter().map(|s| format!("{} (checkpoint {})", s.seq, s.manifest.epoch)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("spec.restore.from: {seq} is no retained checkpoint of this job; there are: {known}")
    }

    pub(super) fn on_term_won(&mut self, now: Millis, seq: Seq, start: Start) {
        self.generation = Some(Generation(seq.0));
        self.status.holder = Some(Arc::new(start.address));
        self.job_uid = start.job_uid;
        self.attempt = 1;
        if let Some(from) = self.taken_from.take() {
            self.out.push(Command::Notice(Notice::TookOver { from }));
        }
        if !self.begin_import() {
            self.go_on_from_the_tip(now);
        }
    }

    pub(super) fn go_on_from_the_tip(&mut self, now: Millis) {
        let restored = self.view.tip().cloned();
        match &restored {
            None => self.out.push(Command::Notice(Notice::NewJob)),
            Some(tip) => {
                let checkpoint = self.checkpoint_ref(tip);
                self.status.restored = Some(restored_status(&checkpoint, tip));
                let (parallelism, was) = (self.parallelism, tip.manifest.parallelism);
                let epoch = checkpoint.epoch;
                self.out.push(Command::Notice(Notice::Restored { checkpoint, parallelism, was }));
                self.tell_of_state(epoch);
            }
        }
        self.out.push(Command::ListState);
        self.begin_term(now);
    }

    /// Another entry is where this one should be, or after it.
    pub(super) fn on_lost(&mut self, now: Millis, entry: &LogEntry, by: Option<Box<Start>>, stands: bool) {
        if !matches!(entry.kind, EntryKind::Start(_)) {
            return self.end_fenced(by, Some(entry).filter(|_| stands));
        }
        // Claiming => Reading: the one that was first may be the old coordinator's last manifest, or another claim.
        self.claims_lost += 1;
        if self.claims_lost >= CLAIM_TRIES_MAX {
            return self.end_fenced(by, None);
        }
        let retry_at = now + retry_delay(self.claims_lost) + self.random.next_u64() % retry_delay(self.claims_lost);
        self.phase = Phase::Reading { since: now, tries: 0, retry_at: Some(retry_at) };
    }
}

fn restored_status(checkpoint: &CheckpointRef, tip: &Sealed) -> CheckpointStatus {
    CheckpointStatus {
        epoch: checkpoint.epoch.0,
        path: checkpoint.path.clone(),
        completed_at_ms: 0,
        duration_ms: 0,
        bytes: 0,
        state_bytes: tip.manifest.object_bytes(),
    }
}
