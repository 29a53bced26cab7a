//! Workers that are about to stop: their tasks move first.
//!
//! A checkpoint is taken, and what it holds is deployed without them; the others keep their states. Where there are too few
//! slots elsewhere, everything stays until there are, or until the worker is gone.

use millstream_api::ids::WorkerId;

use super::message::{Command, Millis, Notice};
use super::{Core, Phase};

impl Core {
    pub(super) fn on_worker_leaving(&mut self, now: Millis, worker: WorkerId) {
        if !self.slots.leave(worker) {
            return;
        }
        if self.slots.runs(worker) {
            let room = self.slots.total() >= self.config.min_parallelism.min(self.parallelism);
            self.out.push(Command::Notice(Notice::Moving { worker: self.slots.name(worker), room }));
            self.hasten(now);
        }
    }

    /// A checkpoint is due at once when it lets tasks move.
    pub(super) fn hasten(&mut self, now: Millis) {
        if self.phase == Phase::Running
            && self.may_move()
            && let Some(run) = &mut self.run
        {
            run.next_trigger_at = run.next_trigger_at.min(now);
        }
    }

    /// Tasks run on a worker that leaves, and there is room for them elsewhere.
    pub(super) fn may_move(&self) -> bool {
        self.slots.leaving_runs() && self.slots.total() >= self.config.min_parallelism
    }

    /// Those that nothing runs on may go.
    pub(super) fn release_idle(&mut self) {
        let idle: Vec<WorkerId> = self.slots.idle_leaving().collect();
        for worker in idle {
            self.slots.release(worker);
            self.out.push(Command::Release { worker });
        }
    }
}
