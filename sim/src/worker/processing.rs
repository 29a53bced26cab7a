//! What tasks do by and by: read, count, and send on whatever is ready.

use millstream_api::control::Report;
use millstream_api::ids::{TaskId, owner_of};

use crate::job::{COUNT, SOURCE};
use crate::sink::Seen;
use crate::task::{CountTask, Element};

use super::transactions::{commit_early, send};
use super::{Job, Worker};

impl Worker {
    /// A little work of one task.
    pub fn step(&mut self) -> Vec<Job> {
        if self.suspended || self.deployment.is_none() {
            return self.pump();
        }
        let of_counts = !self.random.next_u64().is_multiple_of(3);
        let vertex = if of_counts { COUNT } else { SOURCE };
        let there = if of_counts { self.counts.len() } else { self.sources.len() };
        let at = (self.random.next_u64() % there.max(1) as u64) as usize;
        let chosen = if of_counts { self.counts.keys().nth(at) } else { self.sources.keys().nth(at) };
        if let Some(index) = chosen.copied()
            && !self.record.failed.contains_key(&TaskId { vertex, index })
        {
            if of_counts {
                self.count(index);
            } else if self.running && !self.paused && !self.unheard && self.has_room(index) {
                // Barriers flow before `Start`; only sources wait for it.
                self.read(index);
            }
        }
        self.pump()
    }

    fn read(&mut self, index: u32) {
        let (Some(deployment), Some(source)) = (&self.deployment, self.sources.get_mut(&index)) else { return };
        let (p, max) = (deployment.parallelism, deployment.max_parallelism);
        let was_ended = source.ended;
        self.moves += 1;
        let owner = |group| owner_of(group, p, max) as usize;
        let elements = source.step(&mut self.random, self.plan.keys, max, owner, p as usize);
        let ends = source.ended && !was_ended;
        for (to, element) in elements {
            self.route(index, to as u32, element);
        }
        if ends {
            self.report_deployed(Report::EndOfInput { task: TaskId { vertex: SOURCE, index } });
        }
    }

    fn count(&mut self, index: u32) {
        let Some(count) = self.counts.get_mut(&index) else { return };
        let was_ended = count.ended;
        self.moves += 1;
        let epoch = count.epoch_now();
        count.read_clock(self.wall_ms);
        let taken = count.step(&mut self.random, epoch);
        let ends = count.ended && !was_ended;
        if let Some((channel, element)) = taken
            && !matches!(element, Element::Barrier(_))
        {
            self.give_credit(channel as u32, index);
        }
        if ends {
            self.report_deployed(Report::EndOfInput { task: TaskId { vertex: COUNT, index } });
        }
    }

    /// Whatever is ready to go on its way: batches, snapshots, reports of commits.
    pub(super) fn pump(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        if self.suspended {
            return jobs;
        }
        let failed = &self.record.failed;
        let live = |index: &u32| !failed.contains_key(&TaskId { vertex: COUNT, index: *index });
        let mut reports = Vec::new();
        let mut snapshots = Vec::new();
        for (index, count) in self.counts.iter_mut().filter(|(index, _)| live(index)) {
            // A barrier waits behind records, so it is seen in a step; a task without inputs left takes it at once.
            if let Some(epoch) = count.aligned() {
                snapshots.push((*index, count.snapshot(epoch)));
            }
            count.sink.flush();
            if let Some(batch) = count.sink.next_batch() {
                jobs.push(send(self.client.clone(), self.run, *index, batch));
            }
            if !self.rules.commit_after_seal {
                for who in count.sink.commit_early() {
                    jobs.push(commit_early(self.client.clone(), who));
                }
            }
            if let Some(epoch) = count.sink.report() {
                reports.push(Report::Committed { task: TaskId { vertex: COUNT, index: *index }, epoch });
            }
            for seen in count.sink.seen.drain(..) {
                self.hits.push(match seen {
                    Seen::Reopened => "aborted epoch goes on in its transaction",
                    Seen::ListedUncovered => "aborted epoch's transaction listed again",
                    Seen::Refused => "no producer free",
                });
            }
        }
        for report in reports {
            self.report_deployed(report);
        }
        for (index, change) in snapshots {
            jobs.push(self.upload(index, change));
        }
        let mut after = None;
        while let Some(index) = self.next_uploaded(after) {
            if let Some(report) = self.acknowledgement(index) {
                self.report_deployed(report);
            }
            after = Some(index);
        }
        jobs
    }

    /// The first count task after this one with a state that is in the store and not acknowledged.
    fn next_uploaded(&self, after: Option<u32>) -> Option<u32> {
        let from = after.map_or(0, |index| index + 1);
        let waits = |count: &CountTask| count.uploading.values().any(|change| change.uploaded.is_some());
        self.counts.range(from..).find(|(_, count)| waits(count)).map(|(index, _)| *index)
    }
}
