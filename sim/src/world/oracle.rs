//! What is promised over a run: entries of the log as they come, and what the reader has seen in the end.

use std::collections::BTreeMap;

use millstream_api::flinkjob::ExpiredTransactions;
use millstream_api::ids::{Epoch, Generation};
use millstream_api::log::{EntryKind, LogEntry, Manifest, PreparedTransaction};
use millstream_coordinator::job::Outcome;

use crate::broker::Output as Record;
use crate::job::{SOURCE_UID, key_of, number, uid};
use crate::names::{kind_name, term_of};
use crate::process::Process;
use crate::task::Position;

use super::calls::identity;
use super::{ENDING_MS, World};

impl World {
    /// Looks at entries as they come into the log.
    pub(super) fn audit(&mut self) -> Result<(), String> {
        while let Some(entry) = self.objects.log().get(self.audited) {
            let entry: LogEntry = entry.clone();
            self.audited += 1;
            self.log_moved_at = self.now;
            self.say(|| format!("log: {} {}", entry.seq, kind_name(&entry)));
            match &entry.kind {
                EntryKind::Start(_) => {
                    self.terms.insert(entry.generation, self.now);
                }
                EntryKind::Void { epoch } => {
                    let (of, before) = self.manifest_and_before(*epoch)?;
                    let new = of.transactions.iter().filter(|t| !before.contains(t));
                    let visible = new.filter(|t| self.broker.is_committed(&identity(t))).count();
                    if visible > 0 {
                        self.coverage.hit("visible epoch given up by choice");
                        self.may_repeat = true;
                        if self.expired_transactions != ExpiredTransactions::AcceptDuplicates {
                            return Err(format!("epoch {epoch} is given up and {visible} transactions are visible"));
                        }
                    }
                }
                EntryKind::Settled(settled) => {
                    if let Some(epoch) = settled.epoch {
                        self.check_settled(epoch)?;
                    }
                }
                EntryKind::Stopped { epoch: Some(epoch), committed_through, .. }
                    if committed_through.as_ref() == Some(epoch) =>
                {
                    self.check_settled(*epoch)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// When a term runs, nothing that an earlier one opened while it ruled is open: a reader waits no longer than the
    /// restart. What a term opens that is over already, and does not know it, ends with that term's next put or with the
    /// transaction's time-out.
    pub(super) fn check_readers(&mut self, generation: Generation) -> Result<(), String> {
        if self.terms.last_key_value().is_none_or(|(newest, _)| *newest != generation) {
            return Ok(());
        }
        let mut unaware = 0;
        for (id, since) in self.broker.open() {
            let Some(of) = term_of(id).filter(|of| *of < generation) else { continue };
            let ended = self.terms.range(of.next()..).next().map(|(_, began)| *began);
            if ended.is_some_and(|ended| since < ended) {
                return Err(format!("{id} is open since {since} and holds readers back after the restart"));
            }
            unaware += 1;
        }
        if unaware > 0 {
            self.coverage.hit("a term that was over opened a transaction");
        }
        Ok(())
    }

    /// A coordinator that ended by itself has left nothing open that nobody will ever commit, where workers, store and
    /// broker let it.
    pub(super) fn check_nothing_left(&mut self, process: &Process, outcome: &Outcome) -> Result<(), String> {
        let Some(core) = process.coordinator.as_ref().map(|c| &c.core) else { return Ok(()) };
        let Some(generation) = core.status().generation else { return Ok(()) };
        let asks = matches!(outcome, Outcome::Failed { failure, .. } if failure.message.contains("needs a choice"));
        // While the tip's commits are not finished, fencing would abort them.
        let unfinished = !core.view().pending().is_empty();
        let alone = core.status().slots == 0;
        let hindered = unfinished || alone || process.worker_paused || self.now < self.hindered_until + ENDING_MS;
        if asks || hindered || matches!(outcome, Outcome::Fenced { .. }) {
            return Ok(());
        }
        if matches!(outcome, Outcome::Stopped { incomplete: Some(_), .. }) {
            self.coverage.hit("stopped without one and nothing left open");
        }
        let open = self.broker.open().filter(|(id, _)| term_of(id) == Some(Generation(generation)));
        let named = |id: &str| self.objects.permits(|t| t.transactional_id == id);
        match open.map(|(id, _)| id).find(|id| !named(id)) {
            Some(id) => Err(format!("{id} is open, no manifest names it, and its process ended: {outcome:?}")),
            None => Ok(()),
        }
    }

    /// What is recorded as committed is committed. What a later manifest, given up since, no longer named was recorded
    /// before, and its producer may have gone on.
    fn check_settled(&mut self, epoch: Epoch) -> Result<(), String> {
        let mut since = self.objects.manifests().skip_while(|m| m.epoch != epoch);
        let manifest = since.next().ok_or("an entry names an epoch that never was")?;
        let later: Vec<&Manifest> = since.collect();
        let unrecorded = manifest.transactions.iter().filter(|t| later.iter().all(|m| m.transactions.contains(t)));
        let open: Vec<_> = unrecorded.filter(|t| !self.broker.is_committed(&identity(t))).collect();
        if let Some(first) = open.first() {
            self.coverage.hit("rest of an epoch lost by choice");
            self.may_miss = true;
            if self.expired_transactions != ExpiredTransactions::AcceptLoss {
                let seen = format!("{} transactions are not visible, {first:?} first", open.len());
                return Err(format!("epoch {epoch} is settled and {seen}"));
            }
        }
        Ok(())
    }

    /// A manifest and the transactions that the one before it named.
    fn manifest_and_before(&self, epoch: Epoch) -> Result<(Manifest, Vec<PreparedTransaction>), String> {
        let manifests: Vec<&Manifest> = self.objects.manifests().collect();
        let at = manifests.iter().rposition(|m| m.epoch == epoch).ok_or("an entry names an epoch that never was")?;
        let before = at.checked_sub(1).map(|i| manifests[i].transactions.clone()).unwrap_or_default();
        Ok((manifests[at].clone(), before))
    }

    /// Compares what a reader sees with what it should see.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        let first = self.objects.manifests().next().ok_or("finished without a manifest")?;
        let positions = |m: &Manifest| m.splits[&uid(SOURCE_UID)].iter().map(Position::of).collect::<Vec<Position>>();
        let starts = positions(first);
        let read = self.objects.manifests().last().map(positions).unwrap_or_default();
        // Drained, the input ended where the last manifest says.
        let read_to = |split: u32| read.iter().find(|p| p.split == split).map_or(0, |p| p.next);
        let drained = read.iter().any(|p| p.next < p.end);
        if drained {
            self.coverage.hit("finished by a drain");
            if !self.may_drain {
                return Err(format!("the job finished and has not read everything: {read:?}"));
            }
        }
        let mut expected: BTreeMap<u64, u32> = BTreeMap::new();
        let mut per_key: BTreeMap<u32, u64> = BTreeMap::new();
        for position in &starts {
            for offset in position.next..read_to(position.split) {
                let number = number(position.split, offset);
                let key = key_of(number, self.plan.keys);
                expected.insert(number, key);
                *per_key.entry(key).or_default() += 1;
            }
        }
        let mut seen: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        let mut counts: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for record in &self.broker.visible {
            seen.entry(record.number).or_default().push(record);
            *counts.entry((record.key, record.count)).or_default() += 1;
        }
        if let Some(number) = seen.keys().find(|n| !expected.contains_key(n)) {
            return Err(format!("number {number} was never sent"));
        }
        for number in expected.keys() {
            let times = seen.get(number).map_or(0, Vec::len);
            if (times == 0 && !self.may_miss) || (times > 1 && !self.may_repeat) {
                return Err(format!("number {number} is seen {times} times: {:?}", seen.get(number)));
            }
        }
        if self.may_miss || self.may_repeat {
            return Ok(());
        }
        for (key, of_key) in per_key {
            let exact = (1..=of_key).all(|count| counts.get(&(key, count)) == Some(&1));
            if !exact {
                return Err(format!("the counts of key {key} are not 1 to {of_key}, each once"));
            }
        }
        Ok(())
    }
}
