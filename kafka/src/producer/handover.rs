//! Between a producer and its engine: batches on their way from the one to the other, events on their way back.
//!
//! Owns: the one lock between a slot's thread and the I/O threads, held for a few instructions; the bound on memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::ProducerEvent;
use super::aborts::AbortUnderWay;
use crate::Waker;
use crate::error::KafkaError;
use crate::record_batch::Batch;

/// Memory of so many batches is kept for those that follow.
const SPARES_MAX: usize = 8;

pub(super) struct Handover {
    state: Mutex<State>,
    /// There is something for the engine.
    pub(super) work: Notify,
    /// The owner is gone.
    pub(super) closed: Arc<AtomicBool>,
    waker: Waker,
}

/// What the owner asks for.
#[derive(Debug)]
pub(super) enum Command {
    Flush,
    Commit,
    Begin,
    /// The last one: nothing is answered any more.
    Abort(AbortUnderWay),
}

#[derive(Default)]
pub(super) struct State {
    /// By partition: batches that the engine has not taken yet.
    pub(super) queues: Vec<VecDeque<Queued>>,
    /// Bytes and records of batches that are queued or under way.
    pub(super) bytes: usize,
    pub(super) records: usize,
    pub(super) commands: VecDeque<Command>,
    pub(super) events: VecDeque<ProducerEvent>,
    /// The first one: what follows it are its consequences.
    pub(super) failure: Option<KafkaError>,
    /// The owner waits for `ProducerEvent::Room`.
    pub(super) room_awaited: bool,
    /// At this time there is room for a batch that has lingered long enough.
    pub(super) lingering_until: Option<Instant>,
    spares: Vec<Vec<u8>>,
}

/// A closed batch that waits.
pub(super) struct Queued {
    pub(super) batch: Batch,
    pub(super) since: Instant,
}

impl Handover {
    pub(super) fn new(waker: Waker) -> Self {
        Self { state: Mutex::default(), work: Notify::new(), closed: Arc::default(), waker }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn command(&self, command: Command) {
        self.lock().commands.push_back(command);
        self.work.notify_one();
    }

    pub(super) fn tell(&self, event: ProducerEvent) {
        self.lock().events.push_back(event);
        (self.waker)();
    }

    /// Notes a failure; the first one stays.
    pub(super) fn fail(&self, error: KafkaError) {
        self.lock().failure.get_or_insert(error);
        (self.waker)();
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.work.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The brokers have these: `bytes` as they were queued.
    pub(super) fn acknowledged(&self, records: usize, bytes: usize, memory: Option<Vec<u8>>) {
        let mut state = self.lock();
        state.records -= records;
        state.bytes -= bytes;
        if let Some(memory) = memory {
            state.keep(memory);
        }
        let room = state.take_room();
        drop(state);
        if room {
            (self.waker)();
        }
    }

    /// Tells the owner that there is room, if it waits for that.
    pub(super) fn room(&self) {
        if self.lock().take_room() {
            (self.waker)();
        }
    }
}

impl State {
    /// Memory for a batch.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    pub(super) fn keep(&mut self, memory: Vec<u8>) {
        if self.spares.len() < SPARES_MAX {
            self.spares.push(memory);
        }
    }

    /// A producer that rests holds no memory.
    pub(super) fn drop_spares(&mut self) {
        self.spares = Vec::new();
    }

    /// Leaves the event behind if the owner waits for it: it is then to be woken.
    pub(super) fn take_room(&mut self) -> bool {
        let awaited = std::mem::take(&mut self.room_awaited);
        if awaited {
            self.events.push_back(ProducerEvent::Room);
        }
        awaited
    }

    pub(super) fn queue(&mut self, partition: usize) -> &mut VecDeque<Queued> {
        if self.queues.len() <= partition {
            self.queues.resize_with(partition + 1, VecDeque::new);
        }
        &mut self.queues[partition]
    }
}
