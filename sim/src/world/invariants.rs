//! What must hold after every event, whatever the reader will see in the end.

use std::collections::BTreeMap;

use millstream_api::control::Attempt;
use millstream_api::ids::{TaskId, owner_of};

use crate::broker::Identity;
use crate::calls::ProcessId;
use crate::coordinator::process_at;
use crate::job::{COUNT, SOURCE};
use crate::names::term_of;
use crate::process::Process;
use crate::rules::Invariant;
use crate::worker::Worker;

use super::World;
use super::calls::is_of;

/// The watermark of each task when it was last looked at, and the attempt that deployed it.
pub(super) type Watermarks = BTreeMap<(ProcessId, TaskId), (Attempt, i64)>;

fn broken(invariant: Invariant, seen: &str) -> String {
    format!("{}: {seen}", invariant.name())
}

impl World {
    /// Checks what the process that took something in may have broken.
    pub(super) fn hold_invariants(&mut self, id: ProcessId, moves_tasks: bool) -> Result<(), String> {
        self.one_entry_per_seq(id)?;
        if moves_tasks {
            self.owned_once(id)?;
        }
        self.watermark_never_falls(id)
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

    fn watermark_never_falls(&mut self, id: ProcessId) -> Result<(), String> {
        let invariant = Invariant::WatermarkNeverFalls;
        let Some(worker) = self.processes.get(&id).and_then(|p| p.worker.as_ref()) else { return Ok(()) };
        let Some(attempt) = worker.deployed_in().filter(|_| self.watch.includes(invariant)) else { return Ok(()) };
        for (task, now) in worker.watermarks() {
            let known = self.watermarks.insert((id, task), (attempt, now));
            if let Some((_, was)) = known.filter(|(of, was)| *of == attempt && *was > now) {
                return Err(broken(invariant, &format!("task {task} of {id:?}: {was} -> {now}")));
            }
        }
        Ok(())
    }
}
