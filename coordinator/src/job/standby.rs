//! Standing by while another coordinator of the same owner rules, and when its place is free (protocol section 7).
//!
//! One claims only when the leader's address is dead, no worker within reach has heard the leader within the limit, and the
//! log has not moved for that time. No wait is needed when the leader's process is provably gone, or when it ended the job.
//! Time in which this process itself stood still does not count: it asked and heard nobody then.

use std::collections::BTreeMap;

use millstream_api::ids::{Generation, Seq, WorkerId};
use millstream_api::log::Start;

use super::message::{Command, LogTail, Millis, Notice, Outcome, ProcessState};
use super::{Core, LogView, Phase};

/// What a standby knows of the one that rules.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Watch {
    generation: Generation,
    /// Where it listens.
    address: String,
    /// When it answered last, or the watch began.
    answered_at: Millis,
    /// The log's last entry, and since when it is that.
    last: Seq,
    last_since: Millis,
    /// When it is asked again; `None`: an answer is awaited.
    probe_at: Option<Millis>,
    /// When it was asked last.
    asked_at: Millis,
    /// The log is being read.
    pub reading: bool,
}

impl Watch {
    /// The term that is watched.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// When the leader is asked again.
    pub(super) fn probe_at(&self) -> Option<Millis> {
        self.probe_at
    }
}

/// What the log says to a standby.
pub(super) enum Sight {
    /// The place is free.
    Claim,
    /// Somebody rules.
    Stay,
}

impl Core {
    /// Another process of the owner rules, or did a moment ago.
    pub(super) fn stand_by(&mut self, now: Millis, leader: &Start, address: String) {
        let (Some(generation), Some((last, _))) = (self.view.generation(), self.view.last().cloned()) else { return };
        // Reading | StandingBy => StandingBy: on this leader.
        let watch = Watch {
            generation,
            address,
            answered_at: now,
            last,
            last_since: now,
            probe_at: Some(now),
            asked_at: now,
            reading: false,
        };
        self.phase = Phase::StandingBy(watch);
        self.out.push(Command::Notice(Notice::StandingBy { leader: Box::new(leader.clone()) }));
    }

    pub(super) fn advance_standby(&mut self, now: Millis) {
        let Phase::StandingBy(watch) = &mut self.phase else { return };
        let Some(due) = watch.probe_at.filter(|at| *at <= now) else { return };
        (watch.probe_at, watch.asked_at) = (None, now);
        self.out.push(Command::Probe { address: watch.address.clone() });
        self.leave_out_standstill(now, due);
    }

    /// What was due then comes now. So late, this process stood still, or its machine did.
    fn leave_out_standstill(&mut self, now: Millis, due: Millis) {
        let Phase::StandingBy(watch) = &mut self.phase else { return };
        let late_ms = now.saturating_sub(due);
        if late_ms <= self.config.limits.probe_interval_ms {
            return;
        }
        let heard = self.heard.values_mut().map(|(_, at)| at);
        for since in heard.chain([&mut watch.answered_at, &mut watch.last_since]) {
            *since = (*since + late_ms).min(now);
        }
    }

    pub(super) fn on_leader_probed(&mut self, now: Millis, rules: Option<Generation>) {
        let Phase::StandingBy(watch) = &mut self.phase else { return };
        if watch.probe_at.is_some() {
            return;
        }
        watch.probe_at = Some(now + self.config.limits.probe_interval_ms);
        let due = watch.asked_at + self.config.limits.probe_timeout_ms;
        self.leave_out_standstill(now, due);
        let Phase::StandingBy(watch) = &mut self.phase else { return };
        if rules == Some(watch.generation) {
            watch.answered_at = now;
        } else if !watch.reading {
            // It may have ended the job, lost it to another one, or be gone: the log knows.
            (watch.reading, watch.asked_at) = (true, now);
            self.out.push(Command::ReadLog);
        }
    }

    pub(super) fn on_worker_heard(&mut self, now: Millis, worker: WorkerId, generation: Generation, age_ms: Millis) {
        if !self.slots.contains(worker) {
            return;
        }
        self.heard.insert(worker, (generation, now.saturating_sub(age_ms)));
        let later = self.generation.is_some_and(|own| own < generation);
        // The log has gone on without this coordinator, if that is so. Its commands are dropped, and while it waits for
        // answers to them it writes nothing by which it would learn that. An entry that is being written does tell.
        if later && self.append.is_none() && !self.doubts && self.phase != Phase::Ended {
            self.doubts = true;
            self.out.push(Command::ReadLog);
        }
    }

    /// The log was read because of what a worker said. It alone says who rules.
    pub(super) fn look_for_a_successor(&mut self, tail: &LogTail) {
        let view = LogView::of(tail);
        let later = self.generation.is_some_and(|own| view.generation().is_some_and(|newest| own < newest));
        // An entry that is being written will lose, and says what of this term stands.
        if later && self.append.is_none() && self.phase != Phase::Ended {
            // Rules => Ended: the next term has begun.
            self.end_fenced(view.holder().cloned().map(Box::new), None);
        }
    }

    /// The log was read in doubt of the leader. `self.view` is what it says.
    pub(super) fn look_at_the_log(&mut self, now: Millis, previous: ProcessState) -> Option<Sight> {
        let silence_ms = self.config.limits.leader_silence_ms;
        let Phase::StandingBy(watch) = &mut self.phase else { return None };
        watch.reading = false;
        let due = watch.asked_at + self.config.limits.probe_timeout_ms;
        self.leave_out_standstill(now, due);
        let Phase::StandingBy(watch) = &mut self.phase else { return None };
        if let Some(reason) = self.view.stopped() {
            self.end(Outcome::StoodBy { over: Some(reason) });
            return None;
        }
        let last = self.view.last().map(|(seq, _)| *seq);
        if last != Some(watch.last) {
            watch.last = last.unwrap_or_default();
            watch.last_since = now;
        }
        if self.view.generation() != Some(watch.generation) {
            return Some(Sight::Stay);
        }
        let silent = |since: Millis| now.saturating_sub(since) >= silence_ms;
        let alone = silent(watch.answered_at) && silent(watch.last_since);
        let generation = watch.generation;
        let unheard = heard_by_nobody(&self.heard, generation, silent);
        let free = previous == ProcessState::Gone || (alone && unheard);
        Some(if free { Sight::Claim } else { Sight::Stay })
    }
}

fn heard_by_nobody(
    heard: &BTreeMap<WorkerId, (Generation, Millis)>,
    generation: Generation,
    silent: impl Fn(Millis) -> bool,
) -> bool {
    heard.values().filter(|(of, _)| *of == generation).all(|(_, at)| silent(*at))
}
