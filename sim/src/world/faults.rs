//! Faults as they strike.

use millstream_coordinator::job::{Event, JobState, Millis, Rescale, SavepointRequest, StopMode};

use crate::calls::ProcessId;
use crate::coordinator::savepoint_folder;
use crate::names::crash_name;
use crate::network::{ConnectionId, Party};
use crate::plan::{Between, Fault, SILENCE_MS, Ways};
use crate::process::{Input, Process};
use crate::worker::Worker;

use super::{Item, World};

/// A worker that was asked to stop goes then, whatever is still there.
const LEAVE_WITHIN_MS: Millis = 1_000;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), String> {
        self.say(|| format!("fault: {fault:?}"));
        let now = self.now;
        if let Fault::StoreAway { for_ms }
        | Fault::BrokerAway { for_ms }
        | Fault::Pause { for_ms, .. }
        | Fault::Sleep { for_ms }
        | Fault::Split { for_ms, .. }
        | Fault::PauseWorker { for_ms } = fault
        {
            self.hindered_until = self.hindered_until.max(now + for_ms);
        }
        match fault {
            Fault::StoreAway { for_ms } => {
                self.coverage.hit("store away");
                self.store_away_until = now + for_ms;
            }
            Fault::UploadsFail { for_ms } => {
                self.coverage.hit("uploads fail");
                self.uploads_fail_until = now + for_ms;
            }
            Fault::BrokerAway { for_ms } => {
                self.coverage.hit("broker away");
                self.broker.away_until = now + for_ms;
            }
            Fault::Cut => self.cut_any(),
            Fault::Split { between, ways, for_ms } => self.split(between, ways, for_ms),
            Fault::ClockSet { by_ms } => self.set_clock(by_ms),
            Fault::Sleep { for_ms } => {
                if let Some(id) = self.any(|_| true) {
                    self.coverage.hit("machine asleep");
                    self.pause(id, for_ms, true);
                }
            }
            Fault::WorkerComes => {
                self.coverage.hit("worker comes");
                let slots = 1 + self.below(2) as u32;
                self.start_worker(slots)?;
            }
            Fault::KillWorker { .. } | Fault::WorkerLeaves | Fault::PauseWorker { .. } | Fault::TaskFails => {
                if let Some(id) = self.any(|p| p.worker.is_some()) {
                    return self.worker_fault(id, fault);
                }
            }
            Fault::CrashAndPause { for_ms } => {
                self.coverage.hit("coordinator killed while a worker is paused");
                self.fault(Fault::PauseWorker { for_ms })?;
                self.fault(Fault::Crash)?;
            }
            Fault::Crash | Fault::Pause { .. } | Fault::Stop | Fault::Rescale | Fault::Savepoint => {
                if let Some(id) = self.any(|p| p.coordinator.is_some()) {
                    return self.coordinator_fault(id, fault);
                }
            }
        }
        Ok(())
    }

    fn any(&mut self, is: impl Fn(&Process) -> bool) -> Option<ProcessId> {
        let all: Vec<ProcessId> = self.processes.values().filter(|p| is(p)).map(|p| p.id).collect();
        let at = self.below(all.len() as u64) as usize;
        all.get(at).copied()
    }

    fn coordinator_fault(&mut self, id: ProcessId, fault: Fault) -> Result<(), String> {
        let now = self.now;
        match fault {
            Fault::Crash => {
                let Some(process) = self.processes.remove(&id) else { return Ok(()) };
                if let Some(coordinator) = &process.coordinator {
                    self.coverage.hit(crash_name(&coordinator.core));
                }
                self.leave_network(id, false);
                // Mostly it is back soon, now and then after the broker gave up what it had open.
                let long = if self.below(6) == 0 { self.plan.transaction_timeout_ms + self.below(1_000) } else { 0 };
                let again = now + 20 + self.below(300) + long;
                self.at(again, Item::Start { take_over: false });
            }
            Fault::Pause { for_ms, takeover_after_ms } => {
                self.coverage.hit("process paused");
                self.pause(id, for_ms, false);
                let stands_by = self.plan.cluster.as_ref().is_some_and(|c| c.coordinators > 1);
                if let Some(after) = takeover_after_ms.filter(|_| !stands_by) {
                    self.coverage.hit("taken over while paused");
                    self.at(now + after, Item::Start { take_over: true });
                }
            }
            Fault::Rescale => {
                let parallelism = 1 + u32::try_from(self.below(u64::from(self.plan.parallelism))).unwrap_or(0);
                let rescale = Rescale { id: format!("rescale-{now}"), parallelism };
                self.deliver(id, Input::Core(Event::RescaleRequested { rescale }))?;
            }
            Fault::Savepoint => {
                let name = format!("savepoint-{now}");
                let then = (self.below(3) == 0).then_some(StopMode::Suspend);
                let request = SavepointRequest { target: savepoint_folder(&name), id: name, then };
                self.deliver(id, Input::Core(Event::SavepointRequested { request }))?;
            }
            Fault::Stop => {
                let mode = if self.below(4) == 0 { StopMode::Drain } else { StopMode::Suspend };
                self.coverage.hit(if mode == StopMode::Drain { "drain requested" } else { "stop requested" });
                self.may_drain |= mode == StopMode::Drain;
                self.deliver(id, Input::Core(Event::StopRequested(mode)))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn set_clock(&mut self, by_ms: i64) {
        let Some(process) = self.any(|_| true).and_then(|id| self.processes.get_mut(&id)) else { return };
        process.clock.set(by_ms);
        self.coverage.hit(if by_ms > 0 { "clock set forwards" } else { "clock set back" });
    }

    /// `asleep`: its machine is, and its monotonic clock rests.
    fn pause(&mut self, id: ProcessId, for_ms: Millis, asleep: bool) {
        let now = self.now;
        if let Some(process) = self.processes.get_mut(&id) {
            process.stand_still(now, asleep);
        }
        self.at(self.now + SILENCE_MS, Item::Silent { process: id });
        self.at(self.now + for_ms, Item::Resume { process: id });
    }

    fn worker_fault(&mut self, id: ProcessId, fault: Fault) -> Result<(), String> {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let alone = process.coordinator.is_none();
        match fault {
            Fault::KillWorker { back_after_ms } if alone => {
                let slots = process.worker.as_ref().map_or(1, |w| w.slots);
                self.processes.remove(&id);
                self.leave_network(id, false);
                self.hindered_until = self.hindered_until.max(now + back_after_ms);
                self.coverage.hit(self.kill_name());
                // Now and then nobody takes its place.
                if self.below(4) > 0 {
                    self.at(now + back_after_ms, Item::StartWorker { slots });
                }
            }
            Fault::WorkerLeaves if alone => {
                self.coverage.hit("worker is asked to stop");
                let slots = process.worker.as_ref().map_or(1, |w| w.slots);
                let at_once = process.worker.as_mut().is_some_and(Worker::leave);
                self.at(now + LEAVE_WITHIN_MS, Item::Depart { worker: id });
                // Mostly another one comes in its place, before it goes or after.
                if self.below(3) > 0 {
                    let after = self.below(LEAVE_WITHIN_MS);
                    self.at(now + after, Item::StartWorker { slots });
                }
                if at_once {
                    return self.depart(id);
                }
                self.deliver(id, Input::Step)?;
            }
            Fault::PauseWorker { for_ms } if alone => {
                self.coverage.hit("worker's process paused");
                self.pause(id, for_ms, false);
            }
            Fault::PauseWorker { for_ms } => {
                process.worker_paused = true;
                self.coverage.hit("worker paused");
                self.at(now + for_ms, Item::ResumeWorker { process: id });
            }
            Fault::TaskFails => {
                self.coverage.hit("task failed");
                if let Some(worker) = &mut process.worker {
                    worker.break_task();
                }
                self.deliver(id, Input::Step)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What the job was doing when a worker was killed.
    fn kill_name(&self) -> &'static str {
        let core = self.processes.values().find_map(|p| p.coordinator.as_ref()).map(|c| &c.core);
        match core.map(|core| (core.status().state, core.checkpoint().is_some())) {
            None => "worker killed without a coordinator",
            Some((JobState::Running, true)) => "worker killed within an epoch",
            Some((JobState::Running, false)) => "worker killed between epochs",
            Some((JobState::Restoring, _)) => "worker killed while restoring",
            Some((JobState::AwaitingSlots, _)) => "worker killed while slots are missing",
            Some((JobState::Restarting, _)) => "worker killed between attempts",
            Some(_) => "worker killed at the beginning or the end",
        }
    }

    fn cut_any(&mut self) {
        let remote = self.network.iter().filter(|(_, c)| c.open && c.ends[0] != c.ends[1]);
        let all: Vec<ConnectionId> = remote.map(|(id, _)| id).collect();
        let at = self.below(all.len() as u64) as usize;
        if let Some(id) = all.get(at) {
            self.coverage.hit("connection cut");
            self.hindered_until = self.hindered_until.max(self.now + SILENCE_MS);
            self.cut(*id);
        }
    }

    fn split(&mut self, between: Between, ways: Ways, for_ms: Millis) {
        let coordinator = self.any(|p| p.coordinator.is_some());
        let worker = self.any(|p| p.worker.is_some());
        let other = self.any(|p| p.worker.is_some());
        let (name, a, b) = match between {
            Between::CoordinatorAndWorker => {
                ("split of coordinator and worker", coordinator, worker.map(Party::Process))
            }
            Between::Coordinators => {
                let other = self.any(|p| p.coordinator.is_some());
                ("split of coordinators", coordinator, other.map(Party::Process))
            }
            Between::Workers => ("split of workers", worker, other.map(Party::Process)),
            Between::CoordinatorAndStore => ("split of coordinator and store", coordinator, Some(Party::Store)),
            Between::CoordinatorAndBroker => ("split of coordinator and broker", coordinator, Some(Party::Broker)),
            Between::WorkerAndStore => ("split of worker and store", worker, Some(Party::Store)),
            Between::WorkerAndBroker => ("split of worker and broker", worker, Some(Party::Broker)),
        };
        let (Some(a), Some(b)) = (a, b) else { return };
        if Party::Process(a) == b {
            return;
        }
        self.coverage.hit(name);
        let until = self.now + for_ms;
        if ways != Ways::Back {
            self.network.split(Party::Process(a), b, until);
        }
        if ways != Ways::There {
            self.network.split(b, Party::Process(a), until);
        }
        if ways != Ways::Both {
            self.coverage.hit("split in one direction");
        }
        if let Party::Process(b) = b {
            self.at(self.now + SILENCE_MS, Item::SilentPair { ends: [a, b] });
            self.at(until, Item::Heal { ends: [a, b] });
        }
    }
}
