//! What must hold after every event, whatever the reader will see in the end.

use std::collections::BTreeMap;

use millstream_api::control::Attempt;
use millstream_api::ids::{Seq, TaskId, owner_of};
use millstream_api::log::EntryKind;
use millstream_coordinator::job::Millis;

use crate::broker::Identity;
use crate::calls::ProcessId;
use crate::coordinator::process_at;
use crate::job::{COUNT, SOURCE};
use crate::names::term_of;
use crate::network::Message;
use crate::plan::{PROBE_INTERVAL_MS, SILENCE_MS};
use crate::process::{Input, Process};
use crate::rules::Invariant;
use crate::worker::{Done, Times, Worker};

use super::World;
use super::calls::is_of;

/// Tasks as they were when they were last looked at, by process.
pub(super) type Seen = BTreeMap<ProcessId, SeenTasks>;

#[derive(Debug, Default)]
pub(super) struct SeenTasks {
    /// The attempt that deployed them.
    of: Attempt,
    moves: u64,
    times: Vec<(TaskId, Times)>,
}

/// A standby does not notice that it stood still for less than the pause between two questions; it may be twice.
const STANDSTILL_UNSEEN_MS: Millis = 2 * PROBE_INTERVAL_MS;

/// What an input may have changed of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// Which tasks there are, and how far they are.
    Tasks,
    Times,
    Neither,
}

impl Touched {
    pub(super) fn by(input: &Input) -> Self {
        match input {
            Input::Step | Input::Message { message: Message::Frame(_) | Message::Heard { .. }, .. } => Self::Times,
            Input::Done(done) if !matches!(done, Done::Restored(..)) => Self::Times,
            Input::Answer { .. } | Input::Core(_) => Self::Neither,
            _ => Self::Tasks,
        }
    }
}

fn broken(invariant: Invariant, seen: &str) -> String {
    format!("{}: {seen}", invariant.name())
}

impl World {
    /// Checks what the process that took something in may have broken.
    pub(super) fn hold_invariants(&mut self, id: ProcessId, touched: Touched) -> Result<(), String> {
        self.one_entry_per_seq(id)?;
        match touched {
            Touched::Tasks => {
                self.owned_once(id)?;
                self.times_never_fall(id)
            }
            Touched::Times => self.times_never_fall(id),
            Touched::Neither => Ok(()),
        }
    }

    /// What a coordinator takes for the last entry of the log is the one that is there.
    fn one_entry_per_seq(&self, id: ProcessId) -> Result<(), String> {
        let invariant = Invariant::OneEntryPerSeq;
        let core = self.processes.get(&id).and_then(|p| p.coordinator.as_ref()).map(|c| &c.core);
        let Some((seq, nonce)) = core.and_then(|core| core.view().last()) else { return Ok(()) };
        let stands = usize::try_from(seq.0).ok().and_then(|at| self.objects.log().get(at));
        if self.watch.includes(invariant) && stands.is_none_or(|entry| entry.nonce != *nonce) {
            return Err(broken(invariant, &format!("{id:?} holds another entry {seq} than the log")));
        }
        Ok(())
    }

    /// Looked at when the broker has made a transaction visible.
    pub(super) fn check_permit(&self, who: &Identity) -> Result<(), String> {
        if self.objects.permits(|t| is_of(t, who)) {
            return Ok(());
        }
        let newest = self.terms.last_key_value().map(|(generation, _)| *generation);
        let invariant =
            if term_of(&who.id) < newest { Invariant::NoStaleCommit } else { Invariant::SealedBeforeCommit };
        if self.watch.includes(invariant) {
            return Err(broken(invariant, &format!("{who:?} was committed and no sealed manifest names it")));
        }
        Ok(())
    }

    /// The workers that hold tasks of the newest attempt.
    fn newest(&self) -> (Attempt, Vec<(ProcessId, &Worker)>) {
        let deployed = |p: &'_ Process| p.worker.as_ref().and_then(Worker::deployed_in);
        let newest = self.processes.values().filter_map(deployed).max().unwrap_or_default();
        let of_newest = self.workers().filter(|p| deployed(p) == Some(newest));
        (newest, of_newest.filter_map(|p| Some((p.id, p.worker.as_ref()?))).collect())
    }

    fn owned_once(&self, id: ProcessId) -> Result<(), String> {
        let invariant = Invariant::OwnedOnce;
        if !self.watch.includes(invariant) {
            return Ok(());
        }
        let (newest, workers) = self.newest();
        if !workers.iter().any(|(worker, _)| *worker == id) {
            return Ok(());
        }
        let mut splits: BTreeMap<u32, (ProcessId, u32)> = BTreeMap::new();
        let mut groups: BTreeMap<u16, (ProcessId, u32)> = BTreeMap::new();
        for (worker, holds) in &workers {
            for (index, split) in
                holds.sources().iter().flat_map(|(i, s)| s.positions.iter().map(move |p| (i, p.split)))
            {
                if let Some(other) = splits.insert(split, (*worker, *index)) {
                    let seen = format!("split {split} in {newest:?} belongs to {other:?} and {:?}", (worker, index));
                    return Err(broken(invariant, &seen));
                }
            }
            for (index, group) in holds.counts().iter().flat_map(|(i, c)| c.groups.clone().map(move |g| (i, g))) {
                if let Some(other) = groups.insert(group, (*worker, *index)) {
                    let seen = format!("group {group} in {newest:?} belongs to {other:?} and {:?}", (worker, index));
                    return Err(broken(invariant, &seen));
                }
            }
        }
        Ok(())
    }

    /// Looked at when tasks are told to start: nothing that is not finished is without an owner.
    pub(super) fn check_complete(&self, coordinator: ProcessId) -> Result<(), String> {
        let invariant = Invariant::OwnedOnce;
        let (newest, workers) = self.newest();
        let status = self.processes.get(&coordinator).and_then(|p| p.coordinator.as_ref()).map(|c| c.core.status());
        let of_this = |s: &millstream_coordinator::job::Status| {
            s.generation == Some(newest.generation.0) && s.attempt == newest.number
        };
        let Some(deployment) =
            workers.first().and_then(|(_, w)| w.deployment()).filter(|_| status.is_some_and(of_this))
        else {
            return Ok(());
        };
        let placed = deployment.placement.addresses.values().filter_map(|address| process_at(address));
        // One that is gone meanwhile, and nobody knows.
        let all_there = placed.clone().all(|process| workers.iter().any(|(there, _)| *there == process));
        if !self.watch.includes(invariant) || !all_there {
            return Ok(());
        }
        let (p, max) = (deployment.parallelism, deployment.max_parallelism);
        let runs = |vertex, index| deployment.tasks.contains(&TaskId { vertex, index });
        let has_split = |split| workers.iter().flat_map(|(_, w)| w.sources().values()).any(|s| s.owns(split));
        if let Some(split) = (0..self.plan.splits).find(|split| runs(SOURCE, split % p) && !has_split(*split)) {
            return Err(broken(invariant, &format!("nobody owns split {split} in {newest:?}")));
        }
        let has_group =
            |group| workers.iter().flat_map(|(_, w)| w.counts().values()).any(|c| c.groups.contains(&group));
        let mut groups = 0..u16::try_from(max).unwrap_or(u16::MAX);
        match groups.find(|group| runs(COUNT, owner_of(*group, p, max)) && !has_group(*group)) {
            Some(group) => Err(broken(invariant, &format!("nobody owns group {group} in {newest:?}"))),
            None => Ok(()),
        }
    }

    /// Event time and processing time of a task, from what it restored on.
    fn times_never_fall(&mut self, id: ProcessId) -> Result<(), String> {
        let invariants = [Invariant::WatermarkNeverFalls, Invariant::ProcessingTimeNeverFalls];
        let Some(worker) = self.processes.get(&id).and_then(|p| p.worker.as_ref()) else { return Ok(()) };
        let Some(attempt) = worker.deployed_in().filter(|_| invariants.iter().any(|i| self.watch.includes(*i))) else {
            return Ok(());
        };
        let SeenTasks { of, moves, times: seen } = self.seen.entry(id).or_default();
        if std::mem::replace(moves, worker.moves()) == worker.moves() {
            return Ok(());
        }
        if *of != attempt {
            (*of, *seen) = (attempt, Vec::new());
        }
        for (task, now) in worker.times() {
            let restored = Times { watermark: i64::MIN, processing_time_ms: Some(worker.restored_time()) };
            let at = seen.iter().position(|(known, _)| *known == task);
            let was = at.map_or(restored, |at| seen[at].1);
            let falls = [
                was.watermark > now.watermark,
                now.processing_time_ms.is_some() && was.processing_time_ms > now.processing_time_ms,
            ];
            let mut violated = invariants.iter().zip(falls).filter(|(i, falls)| *falls && self.watch.includes(**i));
            if let Some((invariant, _)) = violated.next() {
                return Err(broken(*invariant, &format!("task {task} of {id:?}: {was:?} -> {now:?}")));
            }
            match at {
                Some(at) => seen[at].1 = now,
                None => seen.push((task, now)),
            }
        }
        Ok(())
    }

    /// Looked at when a coordinator puts a `start` entry: where another one ruled, and is not known to be gone or to have
    /// ended the job, this one has been awake for the limit since it had a sign of it.
    pub(super) fn claims_after_silence(&self, id: ProcessId, seq: Seq) -> Result<(), String> {
        let invariant = Invariant::ClaimAfterSilence;
        let (Some(last), Some(process)) = (self.objects.log().last(), self.processes.get(&id)) else { return Ok(()) };
        let known_gone = || {
            let one_host = self.plan.cluster.as_ref().is_none_or(|c| c.one_host);
            one_host && self.holder().is_none_or(|holder| !self.processes.contains_key(&holder))
        };
        // Its own term, which it ended.
        let own = self.holder() == Some(id);
        let ended = own || matches!(last.kind, EntryKind::Stopped { .. });
        // A claim of another place in the log has lost already.
        let late = seq != last.seq.next();
        if !self.watch.includes(invariant) || late || ended || process.takes_over || known_gone() {
            return Ok(());
        }
        let silent_ms = process.signs.silent_for(last.generation, process.awake_ms(self.now));
        let rests_ms = self.now.saturating_sub(self.log_moved_at);
        let enough_ms = SILENCE_MS - STANDSTILL_UNSEEN_MS;
        if silent_ms.is_none_or(|ms| ms >= enough_ms) && rests_ms >= enough_ms {
            return Ok(());
        }
        let seen = format!(
            "{id:?} claims {seq}: signs of term {} {silent_ms:?} ms ago, log moved {rests_ms} ms ago",
            last.generation
        );
        Err(broken(invariant, &seen))
    }
}
