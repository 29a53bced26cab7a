//! What a coordinator tells people, how it ends, and what comes after.

use millstream_api::control::FailureKind;
use millstream_api::flinkjob::ExpiredTransactions;
use millstream_coordinator::job::{Notice, Outcome, SavepointEnd};

use crate::calls::ProcessId;
use crate::names::notice_name;
use crate::process::Process;

use super::{Item, World};

impl World {
    pub(super) fn on_notice(&mut self, id: ProcessId, notice: &Notice) {
        self.say(|| format!("{id:?} says: {notice}"));
        self.note_return(id, notice);
        match notice {
            Notice::CheckpointCompleted { .. } => {
                if self.epochs_aborted_in_row >= 2 {
                    self.coverage.hit("sealed after aborted epochs in a row");
                }
                self.epochs_aborted_in_row = 0;
            }
            Notice::CheckpointAborted { .. } => self.epochs_aborted_in_row += 1,
            Notice::StandingBy { .. } => {
                let now = self.now;
                let Some(process) = self.processes.get_mut(&id) else { return };
                let term = process.coordinator.as_ref().and_then(|c| c.core.view().generation());
                let awake_ms = process.awake_ms(now);
                if let Some(term) = term {
                    process.signs.answered(term, awake_ms);
                }
            }
            Notice::SavepointEnded { target, end: SavepointEnd::Taken { epoch, .. } } => {
                self.savepoint_taken = Some((target.clone(), *epoch));
            }
            _ => {}
        }
        self.coverage.hit(notice_name(notice));
    }

    /// What becomes of a coordinator that stood still.
    fn note_return(&mut self, id: ProcessId, notice: &Notice) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        match notice {
            Notice::StoodStill { .. } => process.returns = true,
            Notice::Adopted { .. } if std::mem::take(&mut process.returns) => {
                self.coverage.hit("adopted after a standstill");
            }
            Notice::StandingBy { .. } if std::mem::take(&mut process.returns) => {
                self.coverage.hit("a coordinator that stood still lost the job");
            }
            _ => {}
        }
    }

    pub(super) fn on_end(&mut self, id: ProcessId, outcome: Outcome) -> Result<(), String> {
        self.say(|| format!("{id:?} ended: {outcome:?}"));
        let ended = self.processes.remove(&id);
        self.leave_network(id, true);
        if let Some(process) = &ended {
            self.check_nothing_left(process, &outcome)?;
        }
        let again = self.now + 50;
        match outcome {
            Outcome::Finished { already, .. } => {
                self.coverage.hit(if already { "found finished" } else { "finished" });
                self.finished_at.get_or_insert(self.now);
            }
            Outcome::Stopped { incomplete: None, checkpoint } => {
                self.coverage.hit("stopped with a last checkpoint");
                // Of an earlier epoch it would bring back what was read since; and so it would where another coordinator, which
                // does not know of it, goes on first.
                let last = checkpoint.map(|checkpoint| checkpoint.epoch);
                let alone = self.processes.values().all(|p| p.coordinator.is_none());
                let taken = self.savepoint_taken.take().filter(|(_, epoch)| alone && Some(*epoch) == last);
                if let Some((target, _)) = taken {
                    self.coverage.hit("to go on from the savepoint that it ended with");
                    self.restore_savepoint = Some(target);
                }
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::Stopped { incomplete: Some(_), .. } => {
                self.coverage.hit("stopped without one");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::StoodBy { .. } => {
                self.coverage.hit("stood by to the end");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::Fenced { .. } => {
                self.coverage.hit("fenced");
                self.at(again, Item::Start { take_over: false });
            }
            Outcome::Failed { failure, .. } => {
                let asks = failure.kind == FailureKind::User && failure.message.contains("needs a choice");
                let refused = failure.message.contains("already running");
                if asks {
                    if self.broker.expired == 0 {
                        return Err(format!("no transaction ever expired, and yet: {}", failure.message));
                    }
                    self.coverage.hit("asked for a choice");
                    self.expired_transactions = if self.below(2) == 0 {
                        ExpiredTransactions::AcceptDuplicates
                    } else {
                        ExpiredTransactions::AcceptLoss
                    };
                } else if refused {
                    self.coverage.hit("refused: alive");
                } else if failure.kind == FailureKind::User && ended.is_some_and(|p| never_sealed(&p)) {
                    // What fails before the first checkpoint is told at once; somebody starts the job again.
                    self.coverage.hit("first run failed");
                } else if failure.kind != FailureKind::Transient {
                    return Err(format!("the job failed: {}", failure.message));
                }
                self.at(again, Item::Start { take_over: false });
            }
        }
        Ok(())
    }
}

fn never_sealed(process: &Process) -> bool {
    process.coordinator.as_ref().is_some_and(|c| c.core.view().tip().is_none())
}
