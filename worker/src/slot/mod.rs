//! Slots: one thread each, running its tasks in turn.
//!
//! A slot that finds nothing to do parks until a channel, a command, a connector or a timer wakes it. Owns: the thread,
//! whose turn it is, the time accounts. Does not own: what a step does (`task`).

mod wake;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_api::ids::{Epoch, TaskId};
use millstream_api::log::Manifest;
use tokio::sync::oneshot;

use crate::element::Barrier;
use crate::metrics::Doing;
use crate::task::{MergeAnswer, Progress, Task, Written};
pub use wake::Wake;

/// What the runtime tells a slot. Tasks that are not on this slot are not meant.
pub(crate) enum SlotCommand {
    /// Run these beside what is there.
    Install(Vec<Task>),
    /// Hand over all tasks and run none.
    TakeAll(oneshot::Sender<Vec<Task>>),
    Start,
    Pause(bool),
    Trigger(Barrier),
    Sealed(Arc<Manifest>),
    Aborted(Epoch),
    /// End the thread.
    End,
    Merged {
        deployment: u64,
        task: TaskId,
        answer: MergeAnswer,
    },
    Written {
        deployment: u64,
        task: TaskId,
        epoch: Epoch,
        written: Written,
    },
}

/// A running slot. Dropping it ends the thread after its current step.
#[derive(Debug)]
pub(crate) struct SlotHandle {
    /// Unbounded: the runtime sends a few commands per epoch.
    commands: crossbeam_channel::Sender<SlotCommand>,
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

impl SlotHandle {
    /// Starts the slot's thread.
    pub(crate) fn spawn(number: u32) -> std::io::Result<Self> {
        let (commands, receiver) = crossbeam_channel::unbounded();
        let wake = Wake::default();
        let slot = Slot { entries: Vec::new(), commands: receiver, wake: wake.clone() };
        let thread = std::thread::Builder::new().name(format!("slot-{number}")).spawn(move || slot.run())?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    pub(crate) fn send(&self, command: SlotCommand) {
        // A slot's thread ends only after this handle is dropped.
        let _ = self.commands.send(command);
        self.wake.wake();
    }

    /// A way to answer the slot's tasks that does not keep the slot alive.
    pub(crate) fn replies(&self) -> SlotReplies {
        SlotReplies { commands: self.commands.clone(), wake: self.wake.clone() }
    }

    /// Takes the slot's tasks away from it.
    pub(crate) async fn take_all(&self) -> Vec<Task> {
        let (reply, tasks) = oneshot::channel();
        self.send(SlotCommand::TakeAll(reply));
        tasks.await.unwrap_or_default()
    }
}

/// Where work that a slot's task asked for is answered.
pub(crate) struct SlotReplies {
    commands: crossbeam_channel::Sender<SlotCommand>,
    wake: Wake,
}

impl SlotReplies {
    /// Once the slot has ended, nobody needs the answer.
    pub(crate) fn send(&self, command: SlotCommand) {
        let _ = self.commands.send(command);
        self.wake.wake();
    }
}

impl Drop for SlotHandle {
    fn drop(&mut self) {
        self.send(SlotCommand::End);
        if let Some(thread) = self.thread.take() {
            // Steps catch their panics; there is nothing to hear from the thread.
            let _ = thread.join();
        }
    }
}

struct Slot {
    entries: Vec<Entry>,
    commands: crossbeam_channel::Receiver<SlotCommand>,
    wake: Wake,
}

/// A task and its account of time.
struct Entry {
    task: Task,
    last: Progress,
    accounted: Instant,
}

/// Whether the slot goes on.
#[derive(PartialEq, Eq)]
enum Life {
    Goes,
    Ends,
}

impl Slot {
    fn run(mut self) {
        self.wake.bind_to_this_thread();
        loop {
            self.wake.begin_pass();
            if self.take_commands() == Life::Ends {
                return;
            }
            let now_ms = wall_clock_ms();
            let mut worked = false;
            for entry in &mut self.entries {
                worked |= entry.step(now_ms) == Progress::Worked;
            }
            if !worked {
                // A task that waits for room is woken by room, whatever its timers say.
                let may_go = self.entries.iter().filter(|e| e.last != Progress::Blocked);
                let next = may_go.filter_map(|e| e.task.next_timer_ms()).min();
                self.wake.park(next.map(|at| until(at, wall_clock_ms())));
            }
        }
    }

    fn take_commands(&mut self) -> Life {
        while let Ok(command) = self.commands.try_recv() {
            if matches!(command, SlotCommand::End) {
                return Life::Ends;
            }
            self.obey(command);
        }
        Life::Goes
    }

    fn obey(&mut self, command: SlotCommand) {
        match command {
            SlotCommand::Install(tasks) => self.entries.extend(tasks.into_iter().map(Entry::new)),
            SlotCommand::TakeAll(reply) => {
                // Nobody waits when the runtime ends; then the tasks end here.
                let _ = reply.send(self.entries.drain(..).map(|e| e.task).collect());
            }
            SlotCommand::Start => self.each(Task::start),
            SlotCommand::Pause(paused) => self.each(|t| t.set_paused(paused)),
            SlotCommand::Trigger(barrier) => self.each(|t| t.trigger(barrier)),
            SlotCommand::Sealed(manifest) => self.each(|t| t.sealed(Arc::clone(&manifest))),
            SlotCommand::Aborted(epoch) => self.each(|t| t.aborted(epoch)),
            SlotCommand::End => {}
            SlotCommand::Merged { deployment, task, answer } => {
                if let Some(entry) = self.entries.iter_mut().find(|e| e.task.id() == task) {
                    entry.guarded(|t| t.merged(deployment, answer));
                }
            }
            SlotCommand::Written { deployment, task, epoch, written } => {
                if let Some(entry) = self.entries.iter_mut().find(|e| e.task.id() == task) {
                    entry.guarded(|t| t.written(deployment, epoch, written));
                }
            }
        }
    }

    fn each(&mut self, mut call: impl FnMut(&mut Task)) {
        for entry in &mut self.entries {
            let _ = entry.guarded(&mut call);
        }
    }
}

impl Entry {
    fn new(task: Task) -> Self {
        Self { task, last: Progress::Idle, accounted: Instant::now() }
    }

    fn step(&mut self, now_ms: i64) -> Progress {
        let began = Instant::now();
        self.account(began);
        let progress = self.guarded(|t| t.step(now_ms)).unwrap_or(Progress::Idle);
        self.last = progress;
        let doing = match progress {
            Progress::Worked => Doing::Busy,
            Progress::Idle => Doing::Idle,
            Progress::Blocked => Doing::BackPressured,
        };
        self.task.metrics().set_doing(doing, self.accounted);
        progress
    }

    /// Time since the last look goes to what the task last said it was: busy (also while it waits for its turn on
    /// the slot), idle or held back.
    fn account(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.accounted);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return;
        }
        self.accounted = now;
        match self.last {
            Progress::Worked => self.task.metrics().add_busy_us(micros),
            Progress::Idle => self.task.metrics().add_idle_us(micros),
            Progress::Blocked => self.task.metrics().add_backpressured_us(micros),
        }
    }

    /// A defect in one task ends that task, never the process.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Task) -> T) -> Option<T> {
        let task = &mut self.task;
        match catch_unwind(AssertUnwindSafe(|| call(task))) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.task.panicked(panic_message(panic.as_ref()));
                None
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn until(at_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0).max(1))
}

#[cfg(test)]
mod tests {
    use arrow_array::RecordBatch;
    use millstream_api::control::FailureKind;
    use millstream_api::ids::VertexId;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::element::{WATERMARK_MIN, WatermarkMs};
    use crate::task::{Events, Inputs, TaskEventKind, testing};
    use crate::transform::{Collector, Emission, Transform, TransformContext, TransformError};

    /// A defect, or not.
    struct Suspicious {
        panics: bool,
    }

    impl Transform for Suspicious {
        fn on_batch(
            &mut self,
            _input: u32,
            _batch: RecordBatch,
            _cx: &mut TransformContext<'_>,
            _out: &mut dyn Collector,
        ) -> Result<(), TransformError> {
            Ok(())
        }

        fn on_watermark(
            &mut self,
            watermark: WatermarkMs,
            _cx: &mut TransformContext<'_>,
            _out: &mut dyn Collector,
        ) -> Result<Emission, TransformError> {
            assert!(!self.panics, "no watermark was expected, and {watermark} came");
            Ok(Emission::Done)
        }
    }

    /// A task without channels: its input is at its end, so its transform sees the last watermark at once.
    fn task(index: u32, panics: bool, events: Events) -> Task {
        let id = TaskId { vertex: VertexId(0), index };
        let inputs = Inputs::new(Vec::new(), WATERMARK_MIN);
        testing::task(id, Box::new(Suspicious { panics }), inputs, events)
    }

    #[test]
    fn a_task_that_panics_is_reported_and_its_neighbour_goes_on() {
        let slot = SlotHandle::spawn(0).expect("a thread");
        let (sender, mut receiver) = unbounded_channel();
        let events = Events::new(1, sender);
        slot.send(SlotCommand::Install(vec![task(0, true, events.clone()), task(1, false, events)]));
        let first = receiver.blocking_recv().expect("the failure");
        let TaskEventKind::Failed { failure } = first.kind else { panic!("not a failure: {first:?}") };
        assert_eq!((first.task.index, failure.kind), (0, FailureKind::Bug));
        assert!(failure.message.contains("no watermark was expected"), "{}", failure.message);
        let second = receiver.blocking_recv().expect("the end of the other task");
        assert_eq!(second.task.index, 1);
        assert!(matches!(second.kind, TaskEventKind::EndOfInput));
        // Its states may be half changed: they do not survive.
        let (reply, tasks) = oneshot::channel();
        slot.send(SlotCommand::TakeAll(reply));
        let survivors: Vec<bool> =
            tasks.blocking_recv().expect("the tasks").into_iter().map(|mut t| !t.take_states().is_empty()).collect();
        assert_eq!(survivors, [false, true]);
    }
}
