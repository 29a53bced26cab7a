//! A coordinator that stood still, and goes on (SIGSTOP, a machine without time for it).
//!
//! Its workers heard nothing for so long that they have given up their connections, and their tasks go on. Were that taken
//! for the loss of the workers, all that runs would be restored. So it does what a successor would do: it ends its term
//! without a word, claims the next one, and adopts what runs (`adopt`). Where somebody has taken the job over meanwhile, the
//! next entry is there, and the claim is lost.
//!
//! Owns: noticing it, the end of the term. Does not own: the claim (`term`). The machine's sleep is not noticed: the clock
//! rests then.

use super::change::Changes;
use super::message::{Command, Millis, Notice, ProcessState};
use super::restore::Fencing;
use super::{Core, Phase};

/// Within the time that makes a standstill, the clock is looked at so often, whatever else happens.
const LOOKS: Millis = 4;

impl Core {
    /// When there must be an event, so that the time without one tells of a standstill.
    pub(super) fn look_again_at(&self) -> Option<Millis> {
        self.may_return().then(|| self.awake_at + self.config.limits.standstill_ms / LOOKS)
    }

    /// Before an event is taken in.
    pub(super) fn look_at_the_time(&mut self, now: Millis) {
        let still_ms = now.saturating_sub(std::mem::replace(&mut self.awake_at, now));
        if still_ms >= self.config.limits.standstill_ms && self.may_return() {
            self.return_to_the_job(still_ms);
        }
    }

    /// Tasks run in other processes, and nothing but that goes on: what was asked for and is not in the log would be lost
    /// with the term.
    fn may_return(&self) -> bool {
        let in_a_cluster = self.config.address.listen.is_some();
        let wished = self.ending.is_some() || self.draining || self.requests.pending().is_some();
        let idle = self.changes.none_under_way() && self.savepoints.none_under_way();
        self.phase == Phase::Running && in_a_cluster && !wished && idle
    }

    fn return_to_the_job(&mut self, still_ms: Millis) {
        self.out.push(Command::Notice(Notice::StoodStill { still_ms }));
        self.generation = None;
        self.attempt = 0;
        self.claims_lost = 0;
        self.run = None;
        self.checkpoint = None;
        self.uncommitted.clear();
        self.left = None;
        self.serving = None;
        self.changes = Changes::default();
        self.fencing = Fencing::default();
        // A user names whom to take over from once.
        self.config.restore.take_over = None;
        // Running => Returning: the workers are told nothing, so their tasks go on.
        self.phase = Phase::Returning;
    }

    /// An entry that is being written counts, wherever it comes to stand: by it this coordinator may learn that another one
    /// rules.
    pub(super) fn advance_return(&mut self, now: Millis) {
        if self.append.is_none() {
            self.claim(now, ProcessState::Alive);
        }
    }
}
