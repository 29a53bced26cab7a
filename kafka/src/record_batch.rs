//! Kafka's record batch, format version 2, as a producer makes it: records are encoded where they will be sent from.
//! <https://kafka.apache.org/documentation/#recordbatch>
//!
//! Owns: the bytes of one batch from its first record until it is closed and stamped. Does not own: when a batch is
//! full, which sequence number it gets.

use std::ops::Range;

use crate::batch_layout::{CHECKED_FROM, HEAD_BYTES, PREFIX_BYTES, attribute, field};
use crate::compression::Compressor;
use crate::transactions::ProducerIdentity;

/// Of this format.
const MAGIC: u8 = 2;
/// Room that is left for a length before what it measures is known; most records need just that.
const LENGTH_BYTES: usize = 2;
const ABSENT: i32 = -1;
const NO_HEADERS: u8 = 0;

/// What makes a batch one of a producer's: `None` where the broker is not to recognise repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: ProducerIdentity,
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
}

/// A batch of one partition. Its bytes begin with room for the header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    records: i32,
    /// Bytes of keys and values.
    payload_bytes: usize,
    largest_record_bytes: usize,
}

/// Where a record's parts lie.
#[derive(Debug)]
pub(crate) struct Appended {
    begin: usize,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl Batch {
    /// An empty batch in memory that was used before.
    pub(crate) fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn records(&self) -> usize {
        self.records as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Key and value of the largest record, in bytes: the one to name when a batch is refused for its size.
    pub(crate) fn largest_record_bytes(&self) -> usize {
        self.largest_record_bytes
    }

    /// Appends a record whose value the closure encodes; without a value it is a tombstone.
    #[inline]
    pub(crate) fn append(&mut self, key: Option<&[u8]>, value: Option<impl FnOnce(&mut Vec<u8>)>) -> Appended {
        let out = &mut self.bytes;
        if out.is_empty() {
            out.resize(HEAD_BYTES, 0);
        }
        let begin = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        // No attributes, the batch's own timestamp.
        out.extend_from_slice(&[0, 0]);
        put_varint(out, self.records);
        let key = match key {
            None => {
                put_varint(out, ABSENT);
                None
            }
            Some(key) => {
                put_varint(out, length(key.len()));
                out.extend_from_slice(key);
                Some(out.len() - key.len()..out.len())
            }
        };
        let value = match value {
            None => {
                put_varint(out, ABSENT);
                None
            }
            Some(value) => Some(append_measured(out, value)),
        };
        out.push(NO_HEADERS);
        let moved = measure(out, begin);
        let shift = |range: Range<usize>| range.start + moved - LENGTH_BYTES..range.end + moved - LENGTH_BYTES;
        let appended = Appended { begin, key: key.map(shift), value: value.map(shift) };
        self.records += 1;
        let payload = appended.payload_bytes();
        self.payload_bytes += payload;
        self.largest_record_bytes = self.largest_record_bytes.max(payload);
        appended
    }

    /// Takes the record that was appended last out again, and appends it to another batch.
    ///
    /// The largest record stays known for this batch, too: it may be named too large by at most this one.
    pub(crate) fn move_last(&mut self, last: Appended, to: &mut Self) {
        let part = |range: &Option<Range<usize>>| range.clone().map(|range| &self.bytes[range]);
        let value = part(&last.value).map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value));
        to.append(part(&last.key), value);
        self.payload_bytes -= last.payload_bytes();
        self.records -= 1;
        self.bytes.truncate(last.begin);
    }

    /// Compresses the records, by way of `scratch`, and writes what is known of the header.
    ///
    /// # Errors
    /// The compressor's, which has no reason to fail.
    pub(crate) fn close(
        &mut self,
        timestamp_ms: i64,
        compressor: &mut Compressor,
        scratch: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        if compressor.compresses() {
            scratch.clear();
            scratch.resize(HEAD_BYTES, 0);
            compressor.compress(&self.bytes[HEAD_BYTES..], scratch)?;
            // A batch that waits takes no more memory than its bytes: those are what is counted.
            self.bytes = scratch.as_slice().into();
        }
        let counted = length(self.bytes.len() - PREFIX_BYTES);
        self.put(field::LENGTH, counted.to_be_bytes());
        self.put(field::LEADER_EPOCH, (-1i32).to_be_bytes());
        self.put(field::MAGIC, [MAGIC]);
        self.put(field::ATTRIBUTES, compressor.attribute().to_be_bytes());
        self.put(field::LAST_OFFSET_DELTA, (self.records - 1).to_be_bytes());
        self.put(field::FIRST_TIMESTAMP, timestamp_ms.to_be_bytes());
        self.put(field::MAX_TIMESTAMP, timestamp_ms.to_be_bytes());
        self.put(field::RECORDS, self.records.to_be_bytes());
        Ok(())
    }

    /// Writes who sends it and the checksum. A closed batch can be stamped anew.
    pub(crate) fn stamp(&mut self, stamp: Option<Stamp>) {
        let (producer_id, epoch, sequence) =
            stamp.map_or((-1, -1, -1), |s| (s.identity.producer_id, s.identity.producer_epoch, s.sequence));
        let attributes = i16::from_be_bytes([self.bytes[field::ATTRIBUTES], self.bytes[field::ATTRIBUTES + 1]]);
        let transactional = stamp.is_some_and(|s| s.transactional);
        let attributes =
            (attributes & !attribute::TRANSACTIONAL) | if transactional { attribute::TRANSACTIONAL } else { 0 };
        self.put(field::ATTRIBUTES, attributes.to_be_bytes());
        self.put(field::PRODUCER_ID, producer_id.to_be_bytes());
        self.put(field::PRODUCER_EPOCH, epoch.to_be_bytes());
        self.put(field::SEQUENCE, sequence.to_be_bytes());
        let checksum = crc32c::crc32c(&self.bytes[CHECKED_FROM..]);
        self.put(field::CHECKSUM, checksum.to_be_bytes());
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&bytes);
    }
}

impl Appended {
    fn payload_bytes(&self) -> usize {
        let bytes = |range: &Option<Range<usize>>| range.as_ref().map_or(0, ExactSizeIterator::len);
        bytes(&self.key) + bytes(&self.value)
    }
}

/// Appends a value after its length. Returns where the value lies.
#[inline]
fn append_measured(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    value(out);
    let bytes = out.len() - begin - LENGTH_BYTES;
    let prefix = measure(out, begin);
    begin + prefix..begin + prefix + bytes
}

/// Writes the length of everything behind the room at `begin` into that room, which grows or shrinks to what the length
/// needs. Returns what it needed.
#[inline]
fn measure(out: &mut Vec<u8>, begin: usize) -> usize {
    let bytes = length(out.len() - begin - LENGTH_BYTES);
    let needed = varint_bytes(bytes);
    if needed != LENGTH_BYTES {
        let end = out.len();
        if needed > LENGTH_BYTES {
            out.resize(end + needed - LENGTH_BYTES, 0);
        }
        out.copy_within(begin + LENGTH_BYTES..end, begin + needed);
        out.truncate(end + needed - LENGTH_BYTES);
    }
    let mut rest = zigzag(bytes);
    for byte in &mut out[begin..begin + needed - 1] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[begin + needed - 1] = rest as u8;
    needed
}

#[inline]
fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
fn varint_bytes(value: i32) -> usize {
    (32 - (zigzag(value) | 1).leading_zeros()).div_ceil(7) as usize
}

#[inline]
fn put_varint(out: &mut Vec<u8>, value: i32) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A record of 2 GiB does not come about: the memory of a task's batch is far less.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("one encoded row is shorter than 2 GiB")
}

#[cfg(test)]
mod tests;
