//! Which workers are there, and which of them runs which task index.
//!
//! A slot runs the tasks of one index, one of every vertex, so a job needs as many slots as its parallelism. What has a place
//! keeps it: its state is there. Owns: the offers and the assignment. Does not own: when to deploy.

use std::collections::BTreeMap;

use millstream_api::control::Placement;
use millstream_api::ids::{WorkerId, key_group_range};

use super::message::WorkerOffer;

/// The job's workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    offers: BTreeMap<WorkerId, WorkerOffer>,
    by_index: Vec<Option<WorkerId>>,
    /// About to stop: they get no tasks. False once they were let go.
    leaving: BTreeMap<WorkerId, bool>,
    /// Counts what was done to the offers and their places.
    changes: u64,
}

impl Slots {
    pub(super) fn register(&mut self, worker: WorkerId, offer: WorkerOffer) {
        self.changes += 1;
        self.offers.insert(worker, offer);
    }

    /// False when it was not known.
    pub(super) fn remove(&mut self, worker: WorkerId) -> bool {
        self.changes += 1;
        for place in &mut self.by_index {
            place.take_if(|w| *w == worker);
        }
        self.leaving.remove(&worker);
        self.offers.remove(&worker).is_some()
    }

    /// The worker gets no more tasks. False when it is not known, or leaves already.
    pub(super) fn leave(&mut self, worker: WorkerId) -> bool {
        let news = self.offers.contains_key(&worker) && !self.leaving.contains_key(&worker);
        if news {
            self.leaving.insert(worker, true);
        }
        news
    }

    /// Workers that leave, run nothing and have not been let go.
    pub(super) fn idle_leaving(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.leaving.iter().filter(|(worker, held)| **held && !self.runs(**worker)).map(|(worker, _)| *worker)
    }

    pub(super) fn release(&mut self, worker: WorkerId) {
        self.leaving.insert(worker, false);
    }

    /// Whether a worker that leaves runs something.
    pub(super) fn leaving_runs(&self) -> bool {
        self.leaving.keys().any(|worker| self.runs(*worker))
    }

    /// Takes up the places of tasks that run already.
    pub(super) fn place(&mut self, by_index: &[WorkerId]) {
        self.changes += 1;
        self.by_index = by_index.iter().copied().map(Some).collect();
    }

    /// Offers that tasks may be placed on.
    fn open(&self) -> impl Iterator<Item = (&WorkerId, &WorkerOffer)> {
        self.offers.iter().filter(|(worker, _)| !self.leaving.contains_key(worker))
    }

    pub(super) fn clear(&mut self) {
        *self = Self { changes: self.changes + 1, ..Self::default() };
    }

    /// Another number than before: something may have changed since.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn by_index(&self) -> &[Option<WorkerId>] {
        &self.by_index
    }

    pub(super) fn offers(&self) -> impl Iterator<Item = (WorkerId, &WorkerOffer)> {
        self.offers.iter().map(|(worker, offer)| (*worker, offer))
    }

    pub(super) fn contains(&self, worker: WorkerId) -> bool {
        self.offers.contains_key(&worker)
    }

    /// One that stays, if there is one.
    pub(super) fn any(&self) -> Option<WorkerId> {
        self.open().map(|(worker, _)| *worker).next().or_else(|| self.offers.keys().next().copied())
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.offers.keys().copied()
    }

    pub(super) fn name(&self, worker: WorkerId) -> String {
        self.offers.get(&worker).map_or_else(|| format!("worker {worker}"), |offer| offer.name.clone())
    }

    /// Whether it runs a task index.
    pub(super) fn runs(&self, worker: WorkerId) -> bool {
        self.by_index.contains(&Some(worker))
    }

    /// Whether it runs this task index.
    pub(super) fn runs_index(&self, worker: WorkerId, index: u32) -> bool {
        self.by_index.get(index as usize) == Some(&Some(worker))
    }

    /// Slots of all workers that stay. Workers that cannot exchange rows with others count only if nobody else is needed.
    pub(super) fn total(&self) -> u32 {
        let slots =
            |offers: &mut dyn Iterator<Item = &WorkerOffer>| offers.map(|o| o.slots).fold(0, u32::saturating_add);
        let alone = self.open().map(|(_, o)| o.slots).max().unwrap_or(0);
        alone.max(slots(&mut self.open().map(|(_, o)| o).filter(|o| o.shuffle_address.is_some())))
    }

    /// Gives every index below `parallelism` a place, those that have one the same; the workers with the most free slots
    /// come first, so that indexes spread evenly. False, and nothing is assigned anew, when there are too few slots.
    pub(super) fn assign(&mut self, parallelism: u32) -> bool {
        if self.total() < parallelism {
            return false;
        }
        let mut by_index = self.by_index.clone();
        by_index.resize(parallelism as usize, None);
        let mut free: BTreeMap<WorkerId, u32> = self.candidates(parallelism);
        for place in &mut by_index {
            let Some(worker) = *place else { continue };
            match free.get_mut(&worker).filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None => *place = None,
            }
        }
        if !fill(&mut by_index, &mut free) {
            return false;
        }
        self.by_index = by_index;
        self.changes += 1;
        true
    }

    /// Places for `parallelism` tasks in the stead of those that run, where most of what each needs is already: key groups are
    /// ranges, `groups` of them in all. `None`: too few slots.
    pub(super) fn plan(&self, running: u32, parallelism: u32, groups: u32) -> Option<Vec<WorkerId>> {
        let mut free = self.candidates(parallelism);
        if free.values().fold(0u32, |sum, slots| sum.saturating_add(*slots)) < parallelism {
            return None;
        }
        let mut shared: Vec<(usize, std::cmp::Reverse<u32>, WorkerId)> = Vec::new();
        for index in 0..parallelism {
            let own = key_group_range(index, parallelism, groups);
            let mut here: BTreeMap<WorkerId, usize> = BTreeMap::new();
            for (old, worker) in (0..running).zip(&self.by_index) {
                let theirs = key_group_range(old, running, groups);
                let both = own.start.max(theirs.start)..own.end.min(theirs.end);
                if let Some(worker) = worker.filter(|_| !both.is_empty()) {
                    *here.entry(worker).or_default() += both.len();
                }
            }
            shared.extend(here.into_iter().map(|(worker, count)| (count, std::cmp::Reverse(index), worker)));
        }
        // Most in common first; among equals the lowest index and worker: the same events give the same places.
        shared.sort_unstable_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then(a.2.cmp(&b.2)));
        let mut by_index: Vec<Option<WorkerId>> = vec![None; parallelism as usize];
        for (_, std::cmp::Reverse(index), worker) in shared {
            let place = &mut by_index[index as usize];
            if place.is_none()
                && let Some(left) = free.get_mut(&worker).filter(|left| **left > 0)
            {
                *left -= 1;
                *place = Some(worker);
            }
        }
        fill(&mut by_index, &mut free).then(|| by_index.into_iter().flatten().collect())
    }

    /// Workers that may take part, with their slots: those that can exchange rows, or a single one that cannot.
    fn candidates(&self, parallelism: u32) -> BTreeMap<WorkerId, u32> {
        let connected = self.open().filter(|(_, o)| o.shuffle_address.is_some());
        let connected: BTreeMap<WorkerId, u32> = connected.map(|(w, o)| (*w, o.slots)).collect();
        if connected.values().fold(0u32, |sum, slots| sum.saturating_add(*slots)) >= parallelism {
            return connected;
        }
        let alone = self.open().find(|(_, o)| o.slots >= parallelism);
        alone.map(|(w, o)| (*w, o.slots)).into_iter().collect()
    }

    /// As assigned.
    pub(super) fn placement(&self) -> Placement {
        self.placement_of(self.by_index.iter().flatten().copied().collect())
    }

    /// With the addresses of these workers.
    pub(super) fn placement_of(&self, by_index: Vec<WorkerId>) -> Placement {
        let address = |worker: &WorkerId| Some((*worker, self.offers.get(worker)?.shuffle_address.clone()?));
        let addresses = by_index.iter().filter_map(address).collect();
        Placement { by_index, addresses }
    }
}

/// Gives the indexes without a place one each, on the workers with the most free slots. False: there are too few.
fn fill(by_index: &mut [Option<WorkerId>], free: &mut BTreeMap<WorkerId, u32>) -> bool {
    for place in by_index.iter_mut().filter(|p| p.is_none()) {
        // The lowest id among equals: the same events give the same placement.
        let most = free.iter_mut().rev().max_by_key(|(_, left)| **left).filter(|(_, left)| **left > 0);
        let Some((worker, left)) = most else { return false };
        *left -= 1;
        *place = Some(*worker);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(offers: &[(u32, u32)]) -> Slots {
        let mut slots = Slots::default();
        for (worker, count) in offers {
            let shuffle_address = Some(format!("host-{worker}:1"));
            let offer = WorkerOffer { slots: *count, shuffle_address, name: format!("host-{worker}") };
            slots.register(WorkerId(*worker), offer);
        }
        slots
    }

    fn places(slots: &Slots) -> Vec<u32> {
        slots.placement().by_index.iter().map(|w| w.0).collect()
    }

    #[test]
    fn indexes_spread_evenly_and_too_few_slots_assign_nothing() {
        let mut slots = slots(&[(1, 2), (2, 2), (3, 2)]);
        assert!(!slots.assign(7));
        assert!(places(&slots).is_empty());
        assert!(slots.assign(3));
        assert_eq!(places(&slots), [1, 2, 3]);
    }

    #[test]
    fn what_has_a_place_keeps_it_when_a_worker_is_lost() {
        let mut slots = slots(&[(1, 2), (2, 2), (3, 4)]);
        assert!(slots.assign(4));
        assert_eq!(places(&slots), [3, 3, 1, 2]);
        assert!(slots.remove(WorkerId(1)));
        assert!(slots.assign(4));
        assert_eq!(places(&slots), [3, 3, 3, 2]);
        assert!(slots.remove(WorkerId(3)));
        assert!(!slots.assign(4));
        assert!(slots.assign(2));
        assert_eq!(places(&slots), [2, 2]);
    }

    #[test]
    fn a_worker_without_an_address_runs_a_job_alone_or_not_at_all() {
        let mut slots = slots(&[(1, 2)]);
        slots.register(WorkerId(2), WorkerOffer { slots: 3, shuffle_address: None, name: "local".to_owned() });
        assert!(!slots.assign(4));
        assert!(slots.assign(3));
        assert_eq!(places(&slots), [2, 2, 2]);
        assert!(slots.placement().addresses.is_empty());
    }
}
