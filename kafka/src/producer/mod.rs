//! Writes records to one topic by the batch, at least once or in transactions, over sockets of its own; never blocks
//! its caller.
//!
//! Owns: records from a buffer to the brokers' acknowledgement, sequence numbers, the steps of a transaction. Does not
//! own: which partition, which transaction belongs to what.
//!
//! A `Producer` is the owner's side: it closes batches and queues them. Its `engine` is a task on the I/O threads that
//! all producers share; it sends the batches, and its events are polled. A transactional producer goes round:
//! initialised and begun -> sent -> flushed -> identified -> committed -> begun. Its transaction lives on at the broker
//! when the producer is dropped: whoever has its identity can still end it.

mod aborts;
mod dispatch;
mod engine;
mod failure;
mod handover;
mod link;
mod links;
mod questions;
mod request;
mod runtime;
mod settings;
mod stream;
mod throttle;
mod transaction;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::Waker;
use crate::compression::Compressor;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::record_batch::Batch;
use crate::record_buffer::RecordBuffer;
use crate::transactions::{ProducerIdentity, Transactions};
use crate::wire::Cluster;
use aborts::AbortUnderWay;
pub use aborts::finish_aborts;
use engine::{Engine, panicked};
use handover::{Command, Handover, Queued, State};
use settings::Settings;
pub use throttle::Throttle;

/// What a producer is to be.
#[derive(Clone)]
pub struct ProducerOptions {
    pub topic: String,
    /// Write in transactions under this id. Taking it fences its former holder and aborts what that one has open.
    pub transactional_id: Option<String>,
    /// After this time the broker aborts an open transaction.
    pub transaction_timeout_ms: u32,
    /// Shared with the other producers of the same client id.
    pub throttle: Throttle,
    /// Called when there is an event to poll.
    pub waker: Waker,
}

/// What a producer finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerEvent {
    /// It can take records; a transactional one has begun its first transaction.
    Ready,
    /// After `Sent::QueueFull` or `wake_for_room`: something of what was under way is acknowledged.
    Room,
    /// Everything that was sent is acknowledged by the brokers.
    Flushed,
    /// After `Flushed` of a transactional producer: what its open transaction can be ended by.
    Identified(ProducerIdentity),
    Committed,
    /// The next transaction may take records.
    Begun,
}

/// Whether the producer took everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    All,
    /// What is left in the buffer has to wait for `ProducerEvent::Room`: the producer's memory is full, or a batch of
    /// the partition waits already, so that the next one may just as well become larger.
    QueueFull,
}

/// A producer of one topic.
pub struct Producer {
    shared: Arc<Handover>,
    settings: Arc<Settings>,
    compressor: Compressor,
    /// For compressing.
    scratch: Vec<u8>,
    /// By partition: since when a batch lingers that is not full.
    lingering: Vec<Option<Instant>>,
    hurried: bool,
}

impl Producer {
    /// Starts the producer; it connects and initialises in the background, until `ProducerEvent::Ready`.
    pub fn open(config: &ClientConfig, options: ProducerOptions) -> Result<Self, KafkaError> {
        let settings = Arc::new(Settings::read(config, &options)?);
        let compressor = Compressor::new(&settings.compression, settings.compression_level)?;
        let coordinator = match &settings.transactional_id {
            Some(_) => Some(Transactions::new(config.clone())?),
            None => None,
        };
        let shared = Arc::new(Handover::new(options.waker));
        let cluster = Cluster::new(config.clone())?;
        let (watched, of_engine) = (shared.clone(), (shared.clone(), settings.clone()));
        runtime::handle()?.spawn(async move {
            let engine = Engine::new(of_engine.0, of_engine.1, cluster, coordinator);
            if tokio::spawn(engine.run()).await.is_err() {
                watched.fail(panicked());
            }
        });
        let (scratch, lingering) = (Vec::new(), Vec::new());
        Ok(Self { shared, settings, compressor, scratch, lingering, hurried: false })
    }

    /// How large the batches in a `RecordBuffer` for a producer of this configuration may become.
    ///
    /// # Errors
    /// A setting that is no number.
    pub fn batch_bytes_max(config: &ClientConfig) -> Result<usize, KafkaError> {
        settings::batch_bytes_max(config)
    }

    /// Takes the buffer's batches: those that are full as long as there is memory, the one at the end when no other of
    /// the partition waits.
    ///
    /// # Errors
    /// `RecordTooLarge`, or what became known about records sent before.
    pub fn send(&mut self, partition: i32, buffer: &mut RecordBuffer) -> Result<Sent, KafkaError> {
        let Ok(at) = usize::try_from(partition) else {
            return Err(KafkaError::UnknownPartition { topic: self.settings.topic.clone(), partition });
        };
        let shared = self.shared.clone();
        while !buffer.is_empty() {
            let mut state = shared.lock();
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            let full = state.bytes > 0 && state.bytes >= self.settings.buffer_memory;
            let waits = !buffer.has_full() && !state.queue(at).is_empty();
            if full || waits || !buffer.has_full() && self.lingers(at, &mut state) {
                state.room_awaited = true;
                // The engine is to know until when something lingers.
                shared.work.notify_one();
                return Ok(Sent::QueueFull);
            }
            let batch = buffer.take(|| state.spare());
            drop(state);
            if let Some(batch) = batch {
                self.queue(at, batch)?;
            }
        }
        Ok(Sent::All)
    }

    /// Whether the partition's last batch is to wait for more records.
    fn lingers(&mut self, partition: usize, state: &mut State) -> bool {
        if self.settings.linger.is_zero() || self.hurried {
            return false;
        }
        if self.lingering.len() <= partition {
            self.lingering.resize(partition + 1, None);
        }
        let now = Instant::now();
        let until = *self.lingering[partition].get_or_insert(now) + self.settings.linger;
        if until > now {
            let earliest = state.lingering_until.map_or(until, |other| other.min(until));
            state.lingering_until = Some(earliest);
        }
        until > now
    }

    /// Closes a batch and hands it to the engine.
    fn queue(&mut self, partition: usize, mut batch: Batch) -> Result<(), KafkaError> {
        if batch.bytes().len() > self.settings.max_request_size {
            return Err(failure::larger_than_a_request(&self.settings, batch.largest_record_bytes()));
        }
        let closed = batch.close(now_ms(), &mut self.compressor, &mut self.scratch);
        closed.map_err(|e| KafkaError::Broker {
            action: format!("compress records ({})", self.settings.compression),
            reason: e.to_string(),
            retriable: false,
        })?;
        if let Some(lingering) = self.lingering.get_mut(partition) {
            *lingering = None;
        }
        let mut state = self.shared.lock();
        state.bytes += batch.bytes().len();
        state.records += batch.records();
        state.queue(partition).push_back(Queued { batch, since: Instant::now() });
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Records that were sent, and that the brokers have not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.shared.lock().records
    }

    /// Asks for `ProducerEvent::Room` when more of what is unacknowledged now is acknowledged.
    pub fn wake_for_room(&mut self) {
        let mut state = self.shared.lock();
        state.room_awaited = true;
        if state.records > 0 {
            return;
        }
        drop(state);
        self.shared.room();
    }

    /// Nothing lingers until the next flush is done: a flush follows what is sent now.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Begins to flush: ends with `Flushed`, and `Identified` where the producer is transactional and sent something.
    /// Nothing may be sent until `Flushed`.
    pub fn flush(&mut self) {
        self.hurried = false;
        self.shared.command(Command::Flush);
    }

    /// Begins to commit the open transaction: ends with `Committed`.
    pub fn commit(&mut self) {
        self.shared.command(Command::Commit);
    }

    /// Begins the next transaction: ends with `Begun`. The broker hears of it with the first record.
    pub fn begin(&mut self) {
        self.shared.command(Command::Begin);
    }

    /// Drops the producer and aborts its open transaction, as far as the broker answers within seconds; `finish_aborts`
    /// waits for it. Only for a transaction that nobody else may want to commit.
    pub fn abort(self) {
        self.shared.command(Command::Abort(AbortUnderWay::begin()));
    }

    /// What was finished since the last call, one event at a time.
    ///
    /// # Errors
    /// The producer is of no more use: a record was not delivered, it is fenced, a call failed.
    pub fn poll(&mut self) -> Result<Option<ProducerEvent>, KafkaError> {
        let mut state = self.shared.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state.events.pop_front()),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The time that new records carry.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
