//! Reads assigned partitions by the batch, records borrowed.
//!
//! Owns: fetching, buffering (bounded), positions. Does not own: which partitions, where they start, decoding. There is
//! no consumer group: this is librdkafka's "simple" consumer on one queue, so that no group right is needed and nobody
//! else can take a partition away.

use std::ffi::CString;

use rdkafka_sys as ffi;
use rdkafka_sys::rd_kafka_resp_err_t as ErrorCode;

use crate::Waker;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::native::{self, ClientKind, EventKind, Handle, Queue, Topic};

/// Defaults that the caller may change. Measured: a larger fetch or queue costs cache and gains nothing.
const DEFAULTS: &[(&str, &str)] = &[
    // Memory of one consumer: queued records, and one fetch in flight per broker.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "200000"),
    ("fetch.message.max.bytes", "1048576"),
    // The default of one second stalls a consumer that empties its queue faster than that.
    ("fetch.queue.backoff.ms", "5"),
    // How long an idle fetch waits at the broker; also how late the end of a partition is seen that ends in a marker.
    ("fetch.wait.max.ms", "100"),
];

/// What this module rests on.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
];

/// Most records that one poll takes from the queue.
const RECORDS_PER_POLL_MAX: usize = 16_384;

/// A consumer of assigned partitions.
pub struct Consumer {
    partitions: Vec<Assigned>,
    /// Index of the partition that the last record came from: the next one is usually from the same.
    last: usize,
    messages: Vec<*mut ffi::rd_kafka_message_t>,
    brokers: String,
    /// None only while dropping.
    native: Option<Native>,
}

// SAFETY: the pointers in `messages` are valid only within `poll`.
unsafe impl Send for Consumer {}

/// Dropped in this order.
struct Native {
    records: Queue,
    events: Queue,
    topics: Vec<(String, Topic)>,
    client: Handle,
}

struct Assigned {
    topic: usize,
    partition: i32,
    /// The offset after everything that was handed out, control records included.
    next_offset: i64,
    /// Set while the last that came of the partition was the word that its end is reached: the end of the log then. It is
    /// behind the position where a transaction is open.
    log_end_at_eof: Option<i64>,
}

/// A record, valid while it is visited.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    message: &'a ffi::rd_kafka_message_t,
    index: usize,
}

impl<'a> Record<'a> {
    /// Index of its partition, in the order of assignment.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    #[inline]
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Epoch ms, as the producer or the broker set it; `None` in records of very old producers.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a valid message.
        let millis = unsafe { ffi::rd_kafka_message_timestamp(self.message, &mut kind) };
        (kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(millis)
    }

    #[inline]
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka's pointer and length belong together, as long as the message.
        unsafe { slice(self.message.key, self.message.key_len) }
    }

    /// `None`: a tombstone.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { slice(self.message.payload, self.message.len) }
    }
}

/// # Safety
/// `start` is null or valid for `len` bytes during `'a`.
#[inline]
unsafe fn slice<'a>(start: *mut std::ffi::c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: see above.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Records visited.
    pub records: usize,
    /// The queue is empty: the waker will be called when it no longer is.
    pub drained: bool,
}

impl Consumer {
    /// Starts the client's threads; connects in the background. `waker` is called when `poll` has something again.
    pub fn open(config: &ClientConfig, waker: Waker) -> Result<Self, KafkaError> {
        let client = Handle::open(ClientKind::Consumer, &config.librdkafka(DEFAULTS, FIXED))?;
        let records = Queue::new(&client, waker.clone());
        let events = Queue::main(&client, waker);
        Ok(Self {
            partitions: Vec::new(),
            last: 0,
            messages: Vec::new(),
            brokers: config.bootstrap_servers.clone(),
            native: Some(Native { records, events, topics: Vec::new(), client }),
        })
    }

    fn native(&self) -> &Native {
        self.native.as_ref().expect("taken only by drop")
    }

    /// Starts to read a partition at `offset`; returns its index. Never blocks: what is wrong with the partition
    /// shows in a later poll.
    pub fn assign(&mut self, topic: &str, partition: i32, offset: i64) -> Result<usize, KafkaError> {
        let native = self.native.as_mut().expect("taken only by drop");
        let known = native.topics.iter().position(|(name, _)| name == topic);
        let topic_index = match known {
            Some(index) => index,
            None => {
                let handle = Topic::open(&native.client, topic)?;
                native.topics.push((topic.to_owned(), handle));
                native.topics.len() - 1
            }
        };
        // SAFETY: valid topic and queue, both live as long as the client.
        let started = unsafe {
            ffi::rd_kafka_consume_start_queue(
                native.topics[topic_index].1.as_ptr(),
                partition,
                offset,
                native.records.as_ptr(),
            )
        };
        if started != 0 {
            return Err(KafkaError::Broker {
                action: format!("read topic '{topic}', partition {partition}, from offset {offset}"),
                reason: native::code_text(native::last_error()),
                retriable: false,
            });
        }
        self.partitions.push(Assigned { topic: topic_index, partition, next_offset: offset, log_end_at_eof: None });
        Ok(self.partitions.len() - 1)
    }

    /// Visits up to `max` records that are there now. Positions advance with the visits, and over markers and aborted
    /// records at the end of a partition.
    ///
    /// # Errors
    /// About a partition or the whole client; records before it were visited.
    pub fn poll(&mut self, max: usize, mut visit: impl FnMut(Record<'_>)) -> Result<Taken, KafkaError> {
        self.check_events()?;
        let max = max.min(RECORDS_PER_POLL_MAX);
        if self.messages.len() < max {
            self.messages.resize(max, std::ptr::null_mut());
        }
        // SAFETY: room for `max` pointers. With time-out 0 it takes what is there.
        let taken = unsafe {
            ffi::rd_kafka_consume_batch_queue(self.native().records.as_ptr(), 0, self.messages.as_mut_ptr(), max)
        };
        let taken = usize::try_from(taken).map_err(|_| KafkaError::Broker {
            action: "poll for records".to_owned(),
            reason: native::code_text(native::last_error()),
            retriable: true,
        })?;
        let mut visited = 0;
        let mut failure = None;
        for i in 0..taken {
            let pointer = self.messages[i];
            // SAFETY: librdkafka gave us `taken` valid messages; each is destroyed once, after its last use.
            let message = unsafe { &*pointer };
            if failure.is_none() {
                match self.accept(message) {
                    Ok(Some(index)) => {
                        visit(Record { message, index });
                        visited += 1;
                    }
                    Ok(None) => {}
                    Err(e) => failure = Some(e),
                }
            }
            // SAFETY: see above.
            unsafe { ffi::rd_kafka_message_destroy(pointer) };
        }
        match failure {
            None => Ok(Taken { records: visited, drained: taken < max }),
            Some(e) => Err(e),
        }
    }

    /// The index of a record's partition; `None` for the event that a partition's end was reached.
    #[inline]
    fn accept(&mut self, message: &ffi::rd_kafka_message_t) -> Result<Option<usize>, KafkaError> {
        let index = self.index_of(message);
        if message.err == ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR {
            let index = index.expect("records come only from assigned partitions");
            let assigned = &mut self.partitions[index];
            assigned.next_offset = message.offset + 1;
            assigned.log_end_at_eof = None;
            return Ok(Some(index));
        }
        if message.err == ErrorCode::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            if let Some(index) = index {
                let next = &mut self.partitions[index].next_offset;
                *next = message.offset.max(*next);
                self.partitions[index].log_end_at_eof = Some(self.log_end(index).unwrap_or(message.offset));
            }
            return Ok(None);
        }
        self.partition_error(message, index)
    }

    #[inline]
    fn index_of(&mut self, message: &ffi::rd_kafka_message_t) -> Option<usize> {
        let topics = &self.native.as_ref().expect("taken only by drop").topics;
        let is = |a: &Assigned| a.partition == message.partition && topics[a.topic].1.as_ptr() == message.rkt;
        if self.partitions.get(self.last).is_some_and(is) {
            return Some(self.last);
        }
        let found = self.partitions.iter().position(is)?;
        self.last = found;
        Some(found)
    }

    /// Errors that librdkafka retries by itself are logged; the others end the consumer.
    #[cold]
    fn partition_error(
        &self,
        message: &ffi::rd_kafka_message_t,
        index: Option<usize>,
    ) -> Result<Option<usize>, KafkaError> {
        use ErrorCode as E;
        // SAFETY: for an error message the payload is its text.
        let reason = native::from_c(unsafe { ffi::rd_kafka_message_errstr(message) });
        let Some(assigned) = index.map(|i| &self.partitions[i]) else {
            return self.client_event(message.err, reason, false).map(|()| None);
        };
        let (topic, partition) = (self.native().topics[assigned.topic].0.clone(), assigned.partition);
        match message.err {
            E::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | E::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
                Err(KafkaError::OffsetOutOfRange { topic, partition, offset: assigned.next_offset, range: None })
            }
            E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => {
                Err(KafkaError::UnknownTopic { topic })
            }
            E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => Err(KafkaError::UnknownPartition { topic, partition }),
            E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                Err(KafkaError::Authorization { action: format!("read topic '{topic}'"), reason })
            }
            E::RD_KAFKA_RESP_ERR__BAD_MSG
            | E::RD_KAFKA_RESP_ERR__BAD_COMPRESSION
            | E::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
            | E::RD_KAFKA_RESP_ERR_INVALID_MSG => Err(KafkaError::Broker {
                action: format!("read topic '{topic}', partition {partition}, at offset {}", assigned.next_offset),
                reason,
                retriable: false,
            }),
            _ => {
                tracing::warn!(topic, partition, "Kafka: {reason}; trying again");
                Ok(None)
            }
        }
    }

    /// Looks at what librdkafka says about the client as a whole.
    fn check_events(&mut self) -> Result<(), KafkaError> {
        while let Some(event) = self.native().events.event() {
            if let EventKind::Error { code, reason, fatal } = event.kind() {
                self.client_event(code, reason, fatal)?;
            }
        }
        Ok(())
    }

    /// A broker that is away comes back; wrong credentials do not become right.
    fn client_event(&self, code: ErrorCode, reason: String, fatal: bool) -> Result<(), KafkaError> {
        let error = native::client_error(code, reason, &self.brokers);
        if fatal || error.kind() == crate::ErrorKind::User {
            return Err(error);
        }
        tracing::warn!("{error}; trying again");
        Ok(())
    }

    /// The offset after everything that was handed out of a partition.
    #[must_use]
    pub fn position(&self, index: usize) -> i64 {
        self.partitions[index].next_offset
    }

    /// Stops fetching a partition; records that were fetched before are dropped. Never blocks.
    pub fn stop(&mut self, index: usize) {
        let Assigned { topic, partition, .. } = self.partitions[index];
        let native = self.native();
        let Ok(name) = CString::new(native.topics[topic].0.as_str()) else { return };
        // SAFETY: the list is ours; the call copies what it needs.
        unsafe {
            let list = ffi::rd_kafka_topic_partition_list_new(1);
            ffi::rd_kafka_topic_partition_list_add(list, name.as_ptr(), partition);
            ffi::rd_kafka_pause_partitions(native.client.as_ptr(), list);
            ffi::rd_kafka_topic_partition_list_destroy(list);
        }
    }

    /// Whether records of the partition wait to be read, here or at the broker. `None`: not known yet.
    #[must_use]
    pub fn backlog(&self, index: usize) -> Option<bool> {
        let Assigned { next_offset, log_end_at_eof, .. } = self.partitions[index];
        let end = self.log_end(index)?;
        // Up to the end, or to an open transaction behind which nothing was added since.
        let read = log_end_at_eof.is_some_and(|at| next_offset >= end || at == end);
        if !read && next_offset >= end {
            // The log's end as it was when something was fetched last.
            return None;
        }
        Some(!read)
    }

    /// The end of the partition's log as of the last fetch. `None`: nothing fetched yet.
    #[must_use]
    pub fn log_end(&self, index: usize) -> Option<i64> {
        let Assigned { topic, partition, .. } = self.partitions[index];
        let native = self.native();
        let name = CString::new(native.topics[topic].0.as_str()).ok()?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: valid client and name; it reads what is cached.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(native.client.as_ptr(), name.as_ptr(), partition, &mut low, &mut high)
        };
        (code == ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for Consumer {
    /// Closing waits for librdkafka's threads: on a thread of its own, so that no slot does.
    fn drop(&mut self) {
        let Some(native) = self.native.take() else { return };
        let assigned: Vec<(usize, i32)> = self.partitions.iter().map(|a| (a.topic, a.partition)).collect();
        let close = move || {
            for (topic, partition) in assigned {
                // SAFETY: valid topic; a partition that never started is an error without effect.
                unsafe { ffi::rd_kafka_consume_stop(native.topics[topic].1.as_ptr(), partition) };
            }
            drop(native);
        };
        // Without a thread the closure, and with it the client, is dropped right here.
        let _ = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(close);
    }
}
