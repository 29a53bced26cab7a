//! Requests for another parallelism: which one counts, and what became of each.
//!
//! Owns: the request that waits, those that ended, how many tasks are wanted. Does not own: carrying it out (`change`).

use std::sync::Arc;

use super::Core;
use super::change::ChangeCost;
use super::message::{Command, Notice};

/// Tries that end in a failure, of the job or of a worker that gets ready, before the request is given up.
const TRIES_MAX: u32 = 3;
/// Requests that are remembered: whoever asked looks at once.
const ENDED_MAX: usize = 16;

/// A parallelism that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// Tells requests apart.
    pub id: String,
    pub parallelism: u32,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RescaleEnd {
    /// The job runs with it, or is about to. `None`: with a restart, or nothing had to go over.
    Done {
        cost: Option<ChangeCost>,
    },
    /// The job was that large.
    Already,
    /// A later request took its place.
    Replaced,
    Failed {
        reason: String,
    },
}

/// What people see of requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RescaleStatus {
    /// Waits, or is being carried out.
    pub pending: Option<Rescale>,
    /// What it is waiting for, or doing.
    pub doing: Option<String>,
    /// The newest that ended, newest last.
    pub ended: Arc<Vec<(Rescale, RescaleEnd)>>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// Not decided yet, and how often the job failed on the way.
    pending: Option<(Rescale, u32)>,
    ended: Arc<Vec<(Rescale, RescaleEnd)>>,
}

impl Requests {
    pub(super) fn pending(&self) -> Option<&Rescale> {
        self.pending.as_ref().map(|(request, _)| request)
    }

    pub(super) fn take(&mut self) -> Option<Rescale> {
        self.pending.take().map(|(request, _)| request)
    }

    /// The one that waits, if it is for so many tasks.
    pub(super) fn take_for(&mut self, parallelism: u32) -> Option<Rescale> {
        self.pending.take_if(|(request, _)| request.parallelism == parallelism).map(|(request, _)| request)
    }
}

impl Core {
    /// The user wants so many tasks.
    pub(super) fn on_rescale_requested(&mut self, wanted: Rescale) {
        let pending = self.requests.pending().or(self.changes.decided());
        if pending.is_some_and(|before| before.id == wanted.id) {
            return;
        }
        if let Some(before) = self.requests.take() {
            self.end_request(before, RescaleEnd::Replaced);
        }
        let parallelism = wanted.parallelism;
        if parallelism == 0 || parallelism > self.config.max_parallelism {
            let reason =
                format!("parallelism must be between 1 and maxParallelism, which is {}", self.config.max_parallelism);
            return self.end_request(wanted, RescaleEnd::Failed { reason });
        }
        self.out.push(Command::Notice(Notice::RescaleRequested { parallelism }));
        self.requests.pending = Some((wanted, 0));
        self.changes.after = None;
        // What was prepared for another number is not what is wanted now.
        if self.changes.prepares_other_than(parallelism) {
            self.drop_change();
        }
    }

    /// While tasks run and nothing changes: a request for what runs needs nothing more.
    pub(super) fn settle_request(&mut self) {
        if let Some(request) = self.requests.take_for(self.parallelism) {
            let same = request.parallelism == self.wanted;
            self.wanted = request.parallelism;
            self.end_request(request, if same { RescaleEnd::Already } else { RescaleEnd::Done { cost: None } });
        }
    }

    /// A request that comes while nothing runs counts for the next attempt, if there are slots for it.
    pub(super) fn take_up_request(&mut self) {
        let there = self.slots.total();
        if let Some((request, _)) = self.requests.pending.take_if(|(request, _)| request.parallelism <= there) {
            self.wanted = request.parallelism;
            self.end_request(request, RescaleEnd::Done { cost: None });
        }
    }

    /// Something failed on the way to what is asked for: it is tried again, a few times.
    pub(super) fn request_failed(&mut self, reason: &str) {
        let Some((request, tries)) = self.requests.pending.take() else { return };
        if tries + 1 < TRIES_MAX {
            self.requests.pending = Some((request, tries + 1));
            return;
        }
        let reason = format!("it failed {TRIES_MAX} times on the way, at last: {reason}");
        self.end_request(request, RescaleEnd::Failed { reason });
    }

    pub(super) fn end_request(&mut self, request: Rescale, end: RescaleEnd) {
        self.out.push(Command::Notice(Notice::RescaleEnded { parallelism: request.parallelism, end: end.clone() }));
        let ended = Arc::make_mut(&mut self.requests.ended);
        if ended.len() == ENDED_MAX {
            ended.remove(0);
        }
        ended.push((request, end));
    }

    /// How many tasks are wanted: what was asked for while the job ran, for as long as the resource is what it was then.
    pub(super) fn wanted_by_the_log(&self) -> u32 {
        let spec = self.config.parallelism;
        let scale = self.view.tip().and_then(|tip| tip.manifest.scale);
        scale.filter(|scale| scale.spec == spec).map_or(spec, |scale| scale.wanted.min(self.config.max_parallelism))
    }

    /// The fewest tasks that the job may run with.
    pub(super) fn least(&self) -> u32 {
        let (spec, least) = (self.config.parallelism, self.config.min_parallelism);
        if least == spec { self.wanted } else { least.min(self.wanted) }
    }

    /// For people.
    pub(super) fn rescale_status(&self) -> RescaleStatus {
        let pending = self.requests.pending().or(self.changes.decided());
        let waits = || {
            let missing = pending?.parallelism.saturating_sub(self.slots.total());
            Some(if missing > 0 { format!("{missing} slots are missing") } else { "it begins".to_owned() })
        };
        let doing = self.changes.doing().or_else(waits);
        RescaleStatus { pending: pending.cloned(), doing, ended: Arc::clone(&self.requests.ended) }
    }
}
