//! Commits of this process, counted by epoch: what the crash test's fault points around them are placed by.
//!
//! Owns: which commit is the first and which the last of its epoch. Does not own: when to commit.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use millstream_api::ids::Epoch;

/// Epochs whose counts are kept: more are never between their acknowledgement and their last commit.
const EPOCHS_MAX: usize = 64;

static TALLIES: Mutex<BTreeMap<Epoch, Tally>> = Mutex::new(BTreeMap::new());

/// Sinks of this process in one epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Acknowledged the epoch with something to commit. Complete when the first commit is permitted.
    prepared: usize,
    begun: usize,
    done: usize,
}

impl Tally {
    fn last_is_left(self) -> bool {
        self.done + 1 == self.prepared
    }
}

/// A sink acknowledges the epoch with something to commit.
pub(super) fn prepared(epoch: Epoch) {
    count(epoch, |tally| tally.prepared += 1);
}

/// One sink's commit, from its permit to the broker's answer.
pub(super) struct CommitUnderWay(Epoch);

impl CommitUnderWay {
    /// To be called before anything is sent.
    pub(super) fn begin(epoch: Epoch) -> Self {
        let tally = count(epoch, |tally| tally.begun += 1);
        if tally.begun == 1 {
            millstream_fault::reach("before-first-commit");
        }
        // Where it is the only one.
        if tally.begun == 1 && tally.last_is_left() {
            millstream_fault::reach("before-last-commit");
        }
        Self(epoch)
    }

    /// The broker has answered.
    pub(super) fn done(self) {
        let tally = count(self.0, |tally| tally.done += 1);
        if tally.done == 1 {
            millstream_fault::reach("after-first-commit");
        }
        if tally.last_is_left() {
            millstream_fault::reach("before-last-commit");
        }
        if tally.done == tally.prepared {
            millstream_fault::reach("after-last-commit");
        }
    }
}

/// Changes the counts of one epoch and returns them.
fn count(epoch: Epoch, change: impl FnOnce(&mut Tally)) -> Tally {
    let mut tallies = TALLIES.lock().unwrap_or_else(PoisonError::into_inner);
    let tally = tallies.entry(epoch).or_default();
    change(tally);
    let counted = *tally;
    while tallies.len() > EPOCHS_MAX {
        tallies.pop_first();
    }
    counted
}
