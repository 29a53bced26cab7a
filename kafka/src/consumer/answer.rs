//! A fetch's request and its answer, versions 11 (Kafka 2.3) to 13 (3.1), which every broker from 2.5 to 4.x speaks.
//!
//! The answer is taken apart in place: the codec would make an object of each part and know nothing of our buffers.
//! From version 13 on a topic goes by its id, so that one which was made again under the same name is not read for it.

use std::ops::Range;
use std::sync::Arc;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::options::FetchOptions;
use crate::admin::{Isolation, TopicId};
use crate::records::AbortedTransaction;
use crate::wire::text;

/// The first version with the client's rack, spoken from Kafka 2.3 on.
pub(super) const OLDEST: i16 = 11;
/// The newest version that a topic goes by its name in.
pub(super) const BY_NAME: i16 = 12;
/// The first one in which it goes by its id, and the newest that is spoken here.
pub(super) const BY_ID: i16 = 13;
/// The first version whose parts have compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// What a client without a fetch session says (KIP-227): every request names all its partitions.
const NO_SESSION: i32 = 0;
const NO_SESSION_EPOCH: i32 = -1;

/// A partition as a request names it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Its index in the consumer.
    pub(super) index: usize,
    pub(super) topic: Arc<str>,
    pub(super) id: Option<TopicId>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Fences off a broker that leads no more and a client whose metadata is old (KIP-320). -1: not known.
    pub(super) leader_epoch: i32,
}

/// The request for these partitions, in this order: the first ones are answered in full before the others.
pub(super) fn request(asked: &[Asked], options: &FetchOptions, response_bytes: i32, wait: bool) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&Asked> = None;
    for one in asked {
        let partition = FetchPartition::default()
            .with_partition(one.partition)
            .with_current_leader_epoch(one.leader_epoch)
            .with_fetch_offset(one.offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(options.partition_bytes.min(response_bytes));
        match topics.last_mut().filter(|_| last.is_some_and(|last| last.topic == one.topic)) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                FetchTopic::default()
                    .with_topic(TopicName(text(&one.topic)))
                    .with_topic_id(one.id.map_or(Uuid::nil(), |id| Uuid::from_bytes(id.bytes())))
                    .with_partitions(vec![partition]),
            ),
        }
        last = Some(one);
    }
    let max_wait_ms = i32::try_from(options.max_wait.as_millis()).unwrap_or(i32::MAX);
    let mut request = FetchRequest::default();
    request.replica_id = BrokerId(-1);
    request.max_wait_ms = if wait { max_wait_ms } else { 0 };
    request.min_bytes = if wait { options.min_bytes } else { 0 };
    request.max_bytes = response_bytes;
    request.isolation_level = i8::from(options.isolation == Isolation::ReadCommitted);
    request.session_id = NO_SESSION;
    request.session_epoch = NO_SESSION_EPOCH;
    request.topics = topics;
    request.rack_id = StrBytes::from_string(options.rack.clone());
    request
}

/// An answer, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) error_code: i16,
    pub(super) partitions: Vec<Part>,
}

/// What an answer says of one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Place in what was asked.
    pub(super) asked: usize,
    pub(super) error_code: i16,
    /// Before it everything is replicated. -1 beside an error.
    pub(super) high_watermark: i64,
    /// Before it no transaction is open.
    pub(super) last_stable_offset: i64,
    pub(super) aborted: Vec<AbortedTransaction>,
    /// The broker to ask instead, nearer to the client's rack.
    pub(super) preferred_replica: Option<i32>,
    /// Where its batches are in the answer.
    pub(super) records: Range<usize>,
}

/// Takes an answer apart: `answer` begins after its length.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(answer: &[u8], version: i16, correlation_id: i32, asked: &[Asked]) -> Result<Parts, &'static str> {
    parts(&mut Walk { bytes: answer, at: 0, flexible: version >= FLEXIBLE }, version, correlation_id, asked)
        .map_err(|error| error.0)
}

fn parts(walk: &mut Walk<'_>, version: i16, correlation_id: i32, asked: &[Asked]) -> Result<Parts, Odd> {
    if walk.i32()? != correlation_id {
        return Err(Odd("the answer belongs to another request"));
    }
    walk.tags()?;
    let _throttle_ms = walk.i32()?;
    let error_code = walk.i16()?;
    let _session = walk.i32()?;
    let mut partitions = Vec::with_capacity(asked.len());
    // Partitions are answered in the order in which they were asked for.
    let mut next = 0;
    for _ in 0..walk.count()? {
        let topic = if version >= BY_ID { Topic::Id(walk.array()?) } else { Topic::Name(walk.name()?) };
        for _ in 0..walk.count()? {
            let number = walk.i32()?;
            let is = |a: &Asked| a.partition == number && topic.is(a);
            let after = asked.iter().skip(next).position(is).map(|p| p + next);
            let place = after.or_else(|| asked.iter().position(is));
            let place = place.ok_or(Odd("a partition that was not asked for"))?;
            next = place + 1;
            partitions.push(walk.part(place)?);
        }
        walk.tags()?;
    }
    walk.tags()?;
    Ok(Parts { error_code, partitions })
}

enum Topic<'a> {
    Id([u8; 16]),
    Name(&'a [u8]),
}

impl Topic<'_> {
    fn is(&self, asked: &Asked) -> bool {
        match self {
            Topic::Id(id) => asked.id.is_some_and(|asked| asked.bytes() == *id),
            Topic::Name(name) => asked.topic.as_bytes() == *name,
        }
    }
}

/// What is odd about an answer.
struct Odd(&'static str);

/// Goes through an answer.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

const CUT_OFF: Odd = Odd("it is cut off");

impl<'a> Walk<'a> {
    fn part(&mut self, asked: usize) -> Result<Part, Odd> {
        let error_code = self.i16()?;
        let (high_watermark, last_stable_offset) = (self.i64()?, self.i64()?);
        let _log_start = self.i64()?;
        let mut aborted = Vec::new();
        for _ in 0..self.count()? {
            let (producer_id, first_offset) = (self.i64()?, self.i64()?);
            aborted.push(AbortedTransaction { producer_id, first_offset });
            self.tags()?;
        }
        let preferred_replica = Some(self.i32()?).filter(|node| *node >= 0);
        let bytes = self.count()?;
        let start = self.at;
        self.take(bytes)?;
        let records = start..self.at;
        self.tags()?;
        Ok(Part { asked, error_code, high_watermark, last_stable_offset, aborted, preferred_replica, records })
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Odd> {
        let taken = self.bytes[self.at..].get(..bytes).ok_or(CUT_OFF)?;
        self.at += bytes;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Odd> {
        self.take(N).map(|bytes| bytes.try_into().expect("as many bytes as asked for"))
    }

    fn i16(&mut self) -> Result<i16, Odd> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Odd> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Odd> {
        self.array().map(i64::from_be_bytes)
    }

    fn unsigned(&mut self) -> Result<usize, Odd> {
        let mut number = 0;
        for place in 0..5 {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return usize::try_from(number).map_err(|_| Odd("a length is impossible"));
            }
        }
        Err(Odd("a length has no end"))
    }

    /// How many follow; none for null.
    fn count(&mut self) -> Result<usize, Odd> {
        let count = if self.flexible { self.unsigned()?.saturating_sub(1) } else { positive(self.i32()?) };
        // Each takes a byte at least: nothing is reserved for what cannot be there.
        if count > self.bytes.len() - self.at { Err(CUT_OFF) } else { Ok(count) }
    }

    fn name(&mut self) -> Result<&'a [u8], Odd> {
        let bytes = if self.flexible { self.unsigned()?.saturating_sub(1) } else { positive(i32::from(self.i16()?)) };
        self.take(bytes)
    }

    /// Fields that this version may have and that nobody here asks for.
    fn tags(&mut self) -> Result<(), Odd> {
        if self.flexible {
            for _ in 0..self.unsigned()? {
                self.unsigned()?;
                let bytes = self.unsigned()?;
                self.take(bytes)?;
            }
        }
        Ok(())
    }
}

fn positive(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}
