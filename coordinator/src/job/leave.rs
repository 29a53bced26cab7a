//! Workers that are about to stop: their tasks move first, as any change while tasks run (`change`).
//!
//! Where there are too few slots elsewhere, everything stays until there are, or until the worker is gone.

use millstream_api::ids::WorkerId;

use super::Core;
use super::message::{Command, Notice};

impl Core {
    pub(super) fn on_worker_leaving(&mut self, worker: WorkerId) {
        if !self.slots.leave(worker) {
            return;
        }
        if self.slots.runs(worker) {
            let room = self.slots.total() >= self.least().min(self.parallelism);
            self.out.push(Command::Notice(Notice::Moving { worker: self.slots.name(worker), room }));
        }
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
