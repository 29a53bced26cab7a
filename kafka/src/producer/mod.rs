//! Writes records to one topic by the batch, at least once or in transactions; never blocks its caller.
//!
//! Owns: handing records to librdkafka, and an I/O thread per producer on which librdkafka's blocking calls run (init,
//! flush, commit); their ends are polled as events. Does not own: which partition, which transaction belongs to what.
//!
//! A transactional producer goes round: initialised and begun -> sent -> flushed -> identified -> committed -> begun.
//! Its transaction lives on at the broker when the producer is dropped: whoever has its identity can still end it.

mod aborts;
mod failure;
mod thread;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

use rdkafka_sys as ffi;
use rdkafka_sys::rd_kafka_resp_err_t as ErrorCode;

use crate::Waker;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::native::{Handle, Queue, Topic};
use crate::record_buffer::RecordBuffer;
use crate::transactions::{ProducerIdentity, Transactions};
use aborts::AbortUnderWay;
pub use aborts::finish_aborts;
use failure::Shared;
use thread::{Command, IoThread};

/// Defaults that the caller may change.
const DEFAULTS: &[(&str, &str)] = &[
    ("acks", "all"),
    // Long enough that a burst goes out as one request, short against any latency that is measured.
    ("linger.ms", "1"),
    ("batch.num.messages", "100000"),
    ("batch.size", "1000000"),
    // Memory of one producer, and so the longest flush. Each message costs about 200 bytes more than it holds.
    ("queue.buffering.max.kbytes", "16384"),
    ("queue.buffering.max.messages", "200000"),
    // As `delivery.timeout.ms` of the Java client.
    ("message.timeout.ms", "120000"),
    // As the Java client; the ten seconds that librdkafka would grow to outlast the fail-over of a broker.
    ("reconnect.backoff.max.ms", "1000"),
];
const MESSAGE_TIMEOUT_MS: u32 = 120_000;

/// Messages per call of librdkafka: bounds the array that describes them.
const RECORDS_PER_CALL: usize = 8_192;

/// What a producer is to be.
#[derive(Clone)]
pub struct ProducerOptions {
    pub topic: String,
    /// Write in transactions under this id. Taking it fences its former holder and aborts what that one has open.
    pub transactional_id: Option<String>,
    /// After this time the broker aborts an open transaction.
    pub transaction_timeout_ms: u32,
    /// Called when there is an event to poll.
    pub waker: Waker,
}

/// What a producer finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerEvent {
    /// It can take records; a transactional one has begun its first transaction.
    Ready,
    /// After `Sent::QueueFull` or `wake_for_room`: half of what was under way is acknowledged.
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
    /// What is left in the buffer has to wait for `ProducerEvent::Room`.
    QueueFull,
}

/// A producer of one topic.
pub struct Producer {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    events: Receiver<Result<ProducerEvent, KafkaError>>,
    scratch: Vec<ffi::rd_kafka_message_t>,
    full: bool,
    /// `ProducerEvent::Room` will come.
    room_awaited: bool,
}

// SAFETY: the pointers in `scratch` are valid only within `send`.
unsafe impl Send for Producer {}

impl Producer {
    /// Starts the producer; it connects and initialises in the background, until `ProducerEvent::Ready`.
    pub fn open(config: &ClientConfig, options: ProducerOptions) -> Result<Self, KafkaError> {
        let transactions = match &options.transactional_id {
            Some(_) => Some(Transactions::new(config.clone())?),
            None => None,
        };
        let client = Handle::open(&settings(config, &options))?;
        let topic = Topic::open(&client, &options.topic)?;
        let queue = Queue::main(&client, options.waker.clone());
        let shared = Arc::new(Shared::new(queue, topic, client, &options, config));
        let (commands, receive_commands) = mpsc::channel();
        let (send_events, events) = mpsc::channel();
        let thread = IoThread::new(shared.clone(), transactions, receive_commands, send_events, options.waker);
        thread.spawn().map_err(|e| KafkaError::Broker {
            action: "start a producer's thread".to_owned(),
            reason: e.to_string(),
            retriable: true,
        })?;
        Ok(Self { shared, commands, events, scratch: Vec::new(), full: false, room_awaited: false })
    }

    /// Hands the buffer's records to librdkafka, which copies them.
    ///
    /// # Errors
    /// `RecordTooLarge`, or what became known about records sent before.
    pub fn send(&mut self, partition: i32, buffer: &mut RecordBuffer) -> Result<Sent, KafkaError> {
        self.shared.check()?;
        if self.full {
            return Ok(Sent::QueueFull);
        }
        while !buffer.is_empty() {
            self.describe(buffer);
            let offered = self.scratch.len();
            // SAFETY: valid topic; `scratch` points into `buffer`, which outlives the call; F_COPY copies.
            let accepted = unsafe {
                ffi::rd_kafka_produce_batch(
                    self.shared.topic(),
                    partition,
                    ffi::RD_KAFKA_MSG_F_COPY,
                    self.scratch.as_mut_ptr(),
                    offered as i32,
                )
            };
            let accepted = usize::try_from(accepted).unwrap_or(0);
            if accepted < offered {
                self.refused()?;
                // A full queue refuses everything from some record on, so the accepted ones are the first.
                buffer.take(accepted);
                self.full = true;
                self.wake_for_room()?;
                return Ok(Sent::QueueFull);
            }
            buffer.take(accepted);
        }
        Ok(Sent::All)
    }

    /// Records that were sent, and that the brokers have not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.shared.unacknowledged()
    }

    /// Asks for `ProducerEvent::Room` when half of what is unacknowledged now is acknowledged.
    pub fn wake_for_room(&mut self) -> Result<(), KafkaError> {
        if !self.room_awaited {
            self.room_awaited = true;
            self.command(Command::WaitForRoom)?;
        }
        Ok(())
    }

    fn describe(&mut self, buffer: &RecordBuffer) {
        let part = |bytes: Option<&[u8]>| bytes.map_or(std::ptr::null_mut(), |b| b.as_ptr().cast_mut().cast());
        self.scratch.clear();
        self.scratch.extend(buffer.pending().take(RECORDS_PER_CALL).map(|record| ffi::rd_kafka_message_t {
            err: ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: std::ptr::null_mut(),
            partition: 0,
            payload: part(record.value),
            len: record.value.map_or(0, <[u8]>::len),
            key: part(record.key),
            key_len: record.key.map_or(0, <[u8]>::len),
            offset: 0,
            _private: std::ptr::null_mut(),
        }));
    }

    /// The error of the first message that librdkafka did not take, unless its queue is full.
    fn refused(&self) -> Result<(), KafkaError> {
        let bad = self.scratch.iter().find(|m| m.err != ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR);
        match bad {
            None => Ok(()),
            Some(m) if m.err == ErrorCode::RD_KAFKA_RESP_ERR__QUEUE_FULL => Ok(()),
            Some(m) => Err(self.shared.delivery_error(m.err, m.len + m.key_len)),
        }
    }

    /// Begins to flush: ends with `Flushed`, and `Identified` where the producer is transactional and sent something.
    /// Nothing may be sent until `Flushed`.
    pub fn flush(&mut self) -> Result<(), KafkaError> {
        self.command(Command::Flush)
    }

    /// Begins to commit the open transaction: ends with `Committed`.
    pub fn commit(&mut self) -> Result<(), KafkaError> {
        self.command(Command::Commit)
    }

    /// Begins the next transaction: ends with `Begun`. The broker hears of it with the first record.
    pub fn begin(&mut self) -> Result<(), KafkaError> {
        self.command(Command::Begin)
    }

    /// Drops the producer and aborts its open transaction, as far as the broker answers within seconds; `finish_aborts`
    /// waits for it. Only for a transaction that nobody else may want to commit.
    pub fn abort(self) {
        // When the thread is gone there is nobody to abort; the time-out will.
        let _ = self.commands.send(Command::Abort(AbortUnderWay::begin()));
    }

    /// What was finished since the last call, one event at a time.
    ///
    /// # Errors
    /// The producer is of no more use: a record was not delivered, it is fenced, a call failed.
    pub fn poll(&mut self) -> Result<Option<ProducerEvent>, KafkaError> {
        self.shared.check()?;
        match self.events.try_recv() {
            Ok(Ok(event)) => {
                if event == ProducerEvent::Room {
                    self.full = false;
                    self.room_awaited = false;
                }
                Ok(Some(event))
            }
            Ok(Err(error)) => Err(self.shared.fail(error)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.shared.fail(thread_gone())),
        }
    }

    fn command(&self, command: Command) -> Result<(), KafkaError> {
        self.commands.send(command).map_err(|_| self.shared.fail(thread_gone()))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

fn thread_gone() -> KafkaError {
    KafkaError::Broker {
        action: "use a producer".to_owned(),
        reason: "its I/O thread has ended".to_owned(),
        retriable: true,
    }
}

fn settings(config: &ClientConfig, options: &ProducerOptions) -> Vec<(String, String)> {
    // Otherwise librdkafka would report every delivered message, at the cost of an allocation each.
    let mut fixed = vec![("delivery.report.only.error", "true")];
    let timeout = options.transaction_timeout_ms.to_string();
    let message_timeout = options.transaction_timeout_ms.min(MESSAGE_TIMEOUT_MS).to_string();
    let mut defaults = DEFAULTS.to_vec();
    match &options.transactional_id {
        Some(id) => {
            fixed.extend([
                ("transactional.id", id.as_str()),
                ("transaction.timeout.ms", timeout.as_str()),
                ("enable.idempotence", "true"),
                ("acks", "all"),
            ]);
            defaults.push(("message.timeout.ms", message_timeout.as_str()));
            // Nobody sees a record before its commit, and a flush does not linger.
            defaults.push(("linger.ms", "5"));
        }
        // As in the Java client: on, unless weaker acknowledgements are asked for.
        None => {
            let all = config.settings.get("acks").is_none_or(|acks| acks == "all" || acks == "-1");
            defaults.push(("enable.idempotence", if all { "true" } else { "false" }));
        }
    }
    config.librdkafka(&defaults, &fixed)
}
