//! What a consumer's threads share: which broker is asked for which partition from where on, and what it answered.
//!
//! Owns: fetch positions, buffers and their bound, what a partition's error means. Does not own: sockets, decoding. It is
//! locked for moments only: nobody does I/O while holding it, so the slot's thread may take it too.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::answer::{Asked, Part};
use super::options::FetchOptions;
use crate::admin::{Isolation, TopicId};
use crate::error::KafkaError;
use crate::records::{Cursor, whole_batches};
use crate::wire::Breaker;

/// Answers of one broker that are with the slot or on their way: one is read while the next one comes.
pub(super) const ANSWERS_PER_BROKER: usize = 2;
/// Bytes of answers that one consumer holds, all brokers together, unless the user asks for larger ones; less where memory
/// is short (`buffered_bytes_max`). A batch that is larger than its share comes as a whole nevertheless.
pub(super) const BUFFERED_BYTES_MAX: usize = 16 << 20;
/// One answer: larger ones would fall out of the processor's cache before they are read.
const ANSWER_BYTES_MAX: usize = 2 << 20;
const ANSWER_BYTES_MIN: usize = 128 << 10;
/// Failures in a row of one partition before it is worth a warning: leaders move.
const FAILURES_QUIET: u32 = 3;

#[derive(Default)]
pub(super) struct Plan {
    pub(super) partitions: Vec<Partition>,
    /// Node id -> `host:port`.
    pub(super) brokers: BTreeMap<i32, String>,
    /// Brokers that a thread is there for.
    pub(super) links: BTreeMap<i32, Link>,
    ready: VecDeque<Delivery>,
    pub(super) leaders_wanted: bool,
    pub(super) closed: bool,
    /// Rises with each request, so that each partition comes first in turn.
    turn: usize,
}

/// A broker's thread, seen from the others.
#[derive(Default)]
pub(super) struct Link {
    /// Buffers that nobody uses, and how many there are in all.
    free: Vec<Vec<u8>>,
    buffers: usize,
    pub(super) breaker: Option<Breaker>,
}

/// A partition as it is fetched.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) id: Option<TopicId>,
    pub(super) number: i32,
    /// What is asked for next.
    pub(super) offset: i64,
    /// Whom to ask: the leader, or a replica that it named. `None`: not known.
    pub(super) node: Option<i32>,
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    /// Stopped, or an error about it is delivered: it is not asked for any more.
    pub(super) over: bool,
    /// In a row.
    pub(super) failures: u32,
    /// After a failure: not to be asked for before.
    pub(super) not_before: Option<Instant>,
    /// Answers in a row by which the cluster does not know it.
    pub(super) unknown: u32,
    /// End of its log and of what may be read, as last delivered.
    told: Option<(i64, i64)>,
}

/// What waits for the slot.
pub(super) enum Delivery {
    Answer(Answer),
    Failed(KafkaError),
}

/// A broker's answer: the buffer goes back to its link.
pub(super) struct Answer {
    pub(super) node: i32,
    pub(super) buffer: Vec<u8>,
    pub(super) shares: Vec<Share>,
}

/// One partition's part of an answer.
pub(super) struct Share {
    pub(super) index: usize,
    /// Whole batches within the answer's buffer.
    pub(super) records: Range<usize>,
    pub(super) cursor: Cursor,
    pub(super) log_end: i64,
    /// As far as the reader's isolation lets it.
    pub(super) readable_end: i64,
}

/// What a broker's thread does next.
pub(super) enum Next {
    Ask(Box<Question>),
    /// Nothing before this time, or before something changes.
    Wait(Option<Instant>),
    Close,
}

pub(super) struct Question {
    pub(super) address: String,
    pub(super) asked: Vec<Asked>,
    pub(super) buffer: Vec<u8>,
    pub(super) response_bytes: i32,
    /// All ends are known, so the broker may hold the answer back until there is something.
    pub(super) wait: bool,
}

impl Partition {
    pub(super) fn new(topic: Arc<str>, id: Option<TopicId>, number: i32, offset: i64) -> Self {
        Self {
            topic,
            id,
            number,
            offset,
            node: None,
            leader: None,
            leader_epoch: -1,
            over: false,
            failures: 0,
            not_before: None,
            unknown: 0,
            told: None,
        }
    }

    fn action(&self) -> String {
        format!("read topic '{}', partition {}, at offset {}", self.topic, self.number, self.offset)
    }
}

impl Plan {
    /// The answer's size that is asked for: the user's, or a fair share of what a consumer holds; within its memory.
    fn response_bytes(&self, options: &FetchOptions) -> i32 {
        let share = |of: usize| of / (ANSWERS_PER_BROKER * self.links.len().max(1));
        let usual = || share(BUFFERED_BYTES_MAX).clamp(ANSWER_BYTES_MIN, ANSWER_BYTES_MAX) as i32;
        let allowed = options.buffered_bytes_max.map(|max| share(max).max(ANSWER_BYTES_MIN));
        let allowed = allowed.and_then(|bytes| i32::try_from(bytes).ok()).unwrap_or(i32::MAX);
        options.response_bytes.unwrap_or_else(usual).min(allowed)
    }

    /// What the thread of `node` does next.
    pub(super) fn next(&mut self, node: i32, options: &FetchOptions, now: Instant) -> Next {
        if self.closed {
            return Next::Close;
        }
        let Some(address) = self.brokers.get(&node).cloned() else { return Next::Wait(None) };
        let response_bytes = self.response_bytes(options);
        let mut asked = Vec::new();
        let mut earliest: Option<Instant> = None;
        let mut wait = true;
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % self.partitions.len().max(1);
        let (before, from) = self.partitions.split_at(first);
        for (index, p) in (first..).zip(from).chain((0..).zip(before)) {
            if p.over || p.node != Some(node) {
                continue;
            }
            if let Some(at) = p.not_before.filter(|at| *at > now) {
                earliest = Some(earliest.map_or(at, |e| e.min(at)));
                continue;
            }
            wait &= p.told.is_some();
            asked.push(Asked {
                index,
                topic: p.topic.clone(),
                id: p.id,
                partition: p.number,
                offset: p.offset,
                leader_epoch: p.leader_epoch,
            });
        }
        if asked.is_empty() {
            return Next::Wait(earliest);
        }
        let Some(link) = self.links.get_mut(&node) else { return Next::Close };
        let buffer = match link.free.pop() {
            Some(buffer) => buffer,
            None if link.buffers < ANSWERS_PER_BROKER => {
                link.buffers += 1;
                Vec::new()
            }
            None => return Next::Wait(None),
        };
        Next::Ask(Box::new(Question { address, asked, buffer, response_bytes, wait }))
    }

    /// Whether the broker's thread has nothing to do, and no buffer of it is under way.
    pub(super) fn unused(&self, node: i32) -> bool {
        let reads = self.partitions.iter().any(|p| !p.over && p.node == Some(node));
        !reads && self.links.get(&node).is_none_or(|link| link.free.len() == link.buffers)
    }

    /// Takes a buffer back; one that a huge batch made large is not kept.
    pub(super) fn give_back(&mut self, node: i32, buffer: Vec<u8>, options: &FetchOptions) {
        let asked = usize::try_from(self.response_bytes(options)).unwrap_or(0);
        // What was asked for while there were fewer brokers is not made anew, where memory allows it.
        let kept = if options.buffered_bytes_max.is_some() { asked } else { asked.max(ANSWER_BYTES_MAX) };
        if let Some(link) = self.links.get_mut(&node) {
            link.free.push(if buffer.capacity() > kept + ANSWER_BYTES_MIN { Vec::new() } else { buffer });
        }
    }

    /// Takes in an answer: partitions go on behind it, or their error says what happens. Returns what the slot should see.
    pub(super) fn take_in(
        &mut self,
        node: i32,
        asked: &[Asked],
        parts: Vec<Part>,
        bytes: &[u8],
        options: &FetchOptions,
        now: Instant,
    ) -> (Vec<Share>, Vec<KafkaError>) {
        let (mut shares, mut errors) = (Vec::new(), Vec::new());
        for part in parts {
            let asked = &asked[part.asked];
            let partition = &mut self.partitions[asked.index];
            // Stopped meanwhile, or read from another broker by now: what this one says no longer counts.
            if partition.over || partition.node != Some(node) || partition.offset != asked.offset {
                continue;
            }
            if part.error_code != 0 {
                errors.extend(self.partition_failed(asked.index, node, part.error_code, options, now));
                continue;
            }
            partition.failures = 0;
            partition.not_before = None;
            if let Some(replica) = part.preferred_replica.filter(|replica| *replica != node) {
                if self.brokers.contains_key(&replica) {
                    self.partitions[asked.index].node = Some(replica);
                } else {
                    self.leaders_wanted = true;
                }
                continue;
            }
            shares.extend(partition.share(asked.index, part, bytes, options));
        }
        (shares, errors)
    }

    /// What a broker's error code about a partition means: an error for the slot, or another try.
    fn partition_failed(
        &mut self,
        index: usize,
        node: i32,
        code: i16,
        options: &FetchOptions,
        now: Instant,
    ) -> Option<KafkaError> {
        let partition = &mut self.partitions[index];
        let (topic, number) = (partition.topic.to_string(), partition.number);
        let error = match Meaning::of(code) {
            Meaning::OutOfRange if partition.leader.is_some_and(|leader| leader != node) => {
                // A replica may lag behind: the leader decides.
                partition.node = partition.leader;
                return None;
            }
            Meaning::OutOfRange => {
                KafkaError::OffsetOutOfRange { topic, partition: number, offset: partition.offset, range: None }
            }
            Meaning::Damaged => KafkaError::Broker {
                action: partition.action(),
                reason: "the broker cannot read its own data there: its checksum is wrong".to_owned(),
                retriable: false,
            },
            Meaning::Moved | Meaning::Passing => {
                self.try_again(index, code, options, now);
                return None;
            }
            Meaning::Final => match KafkaError::from_code(code, &format!("read topic '{topic}'")) {
                KafkaError::Broker { reason, .. } => {
                    KafkaError::Broker { action: partition.action(), reason, retriable: false }
                }
                other => other,
            },
        };
        partition.over = true;
        Some(error)
    }

    /// After an error that passes: the partition rests for a moment, and its leader is looked for.
    pub(super) fn try_again(&mut self, index: usize, code: i16, options: &FetchOptions, now: Instant) {
        let partition = &mut self.partitions[index];
        partition.failures = partition.failures.saturating_add(1);
        partition.not_before = Some(now + options.retry_pause.pause(partition.failures));
        partition.node = None;
        self.leaders_wanted = true;
        let (topic, number) = (&partition.topic, partition.number);
        let reason = KafkaError::from_code(code, &format!("read topic '{topic}', partition {number}"));
        if partition.failures == FAILURES_QUIET {
            tracing::warn!("{reason}; trying again");
        } else {
            tracing::debug!("{reason}; trying again");
        }
    }

    /// Adds what the slot should see. Returns whether it must be woken: it took everything before.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> bool {
        let wake = self.ready.is_empty();
        self.ready.push_back(delivery);
        wake
    }

    /// Everything that waits for the slot.
    pub(super) fn take_ready(&mut self) -> VecDeque<Delivery> {
        std::mem::take(&mut self.ready)
    }

    /// Ends every thread: what waits is woken by the caller, what reads from a socket fails.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.ready.clear();
        self.links.values_mut().filter_map(|link| link.breaker.take()).for_each(|breaker| breaker.end());
    }
}

impl Partition {
    /// The share of an answer that has something new: records, or another end of the log.
    fn share(&mut self, index: usize, part: Part, bytes: &[u8], options: &FetchOptions) -> Option<Share> {
        let (whole, next_offset) = whole_batches(&bytes[part.records.clone()]);
        self.offset = next_offset.map_or(self.offset, |next| next.max(self.offset));
        let (log_end, committed) = (part.high_watermark, options.isolation == Isolation::ReadCommitted);
        let readable_end = if committed { part.last_stable_offset.min(log_end) } else { log_end };
        let ends = Some((log_end, readable_end));
        if whole == 0 && self.told == ends {
            return None;
        }
        self.told = ends;
        let aborted = if committed { part.aborted } else { Vec::new() };
        let start = part.records.start;
        let cursor = Cursor::new(aborted, options.check_checksums);
        Some(Share { index, records: start..start + whole, cursor, log_end, readable_end })
    }
}

/// What an error code about a partition calls for.
enum Meaning {
    OutOfRange,
    Damaged,
    /// Another broker leads it now, or none for a moment; metadata says who, and whether it is there at all.
    Moved,
    /// The broker has trouble of its own.
    Passing,
    /// A person must act.
    Final,
}

impl Meaning {
    fn of(code: i16) -> Self {
        use kafka_protocol::ResponseError as E;
        match E::try_from_code(code) {
            Some(E::OffsetOutOfRange) => Self::OutOfRange,
            Some(E::CorruptMessage) => Self::Damaged,
            Some(
                E::NotLeaderOrFollower
                | E::FencedLeaderEpoch
                | E::UnknownLeaderEpoch
                | E::LeaderNotAvailable
                | E::ReplicaNotAvailable
                | E::KafkaStorageError
                | E::UnknownTopicOrPartition
                | E::UnknownTopicId
                | E::InconsistentTopicId,
            ) => Self::Moved,
            Some(E::UnknownServerError) => Self::Passing,
            Some(other) if other.is_retriable() => Self::Passing,
            _ => Self::Final,
        }
    }
}
