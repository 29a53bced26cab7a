//! The head of a batch: 61 bytes before its records.

use super::Damage;
use crate::batch_layout::{CHECKED_FROM, HEAD_BYTES, PREFIX_BYTES, attribute, field};

const NO_TIMESTAMP: i64 = -1;

/// A batch's own facts.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHead {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) compression: u8,
    pub(super) transactional: bool,
    pub(super) control: bool,
    pub(super) times: Times,
    pub(super) producer_id: i64,
    pub(super) records: usize,
}

/// How a record's time follows from its batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    /// The producer's, relative to this.
    Created { base_ms: i64 },
    /// The broker's, the same for all.
    Appended { millis: i64 },
}

impl Times {
    /// `None`: the producer set none.
    #[inline(always)]
    pub(super) fn of(self, delta_ms: i64) -> Option<i64> {
        let millis = match self {
            Times::Created { base_ms } => base_ms.wrapping_add(delta_ms),
            Times::Appended { millis } => millis,
        };
        (millis != NO_TIMESTAMP).then_some(millis)
    }
}

/// The batch at the beginning of `bytes`; `None` where it is not there as a whole, as at the end of an answer.
pub(super) fn first_batch(bytes: &[u8]) -> Result<Option<&[u8]>, Damage> {
    if bytes.len() <= field::MAGIC {
        return Ok(None);
    }
    match i8::from_be_bytes([bytes[field::MAGIC]]) {
        2 => {}
        magic @ (0 | 1) => return Err(Damage::OldFormat { magic }),
        _ => return Err(Damage::Malformed("its format is none that is known")),
    }
    let length = i32_at(bytes, field::LENGTH);
    let Some(total) = usize::try_from(length).ok().and_then(|l| l.checked_add(PREFIX_BYTES)) else {
        return Err(Damage::Malformed("its length is negative"));
    };
    if total < HEAD_BYTES {
        return Err(Damage::Malformed("it is shorter than its head"));
    }
    Ok(bytes.get(..total))
}

/// How many bytes of whole batches `records` begins with, and the offset after the last of them. Damage ends the walk:
/// everything from there on counts as whole, so that the reader comes across it.
pub(crate) fn whole_batches(records: &[u8]) -> (usize, Option<i64>) {
    let (mut bytes, mut next_offset) = (0, None);
    loop {
        let batch = match first_batch(&records[bytes..]) {
            Ok(Some(batch)) => batch,
            Ok(None) => return (bytes, next_offset),
            Err(_) => return (records.len(), next_offset),
        };
        let Ok((_, last)) = offsets(batch) else { return (records.len(), next_offset) };
        next_offset = Some(last + 1);
        bytes += batch.len();
    }
}

fn offsets(batch: &[u8]) -> Result<(i64, i64), Damage> {
    let (base, delta) = (i64_at(batch, field::BASE_OFFSET), i32_at(batch, field::LAST_OFFSET_DELTA));
    match base.checked_add(i64::from(delta)) {
        Some(last) if base >= 0 && delta >= 0 && last < i64::MAX => Ok((base, last)),
        _ => Err(Damage::Malformed("its offsets are impossible")),
    }
}

impl BatchHead {
    /// The head of a whole batch.
    pub(super) fn read(batch: &[u8]) -> Result<Self, Damage> {
        let attributes = i16::from_be_bytes([batch[field::ATTRIBUTES], batch[field::ATTRIBUTES + 1]]);
        let (base_offset, last_offset) = offsets(batch)?;
        let times = if attributes & attribute::LOG_APPEND_TIME == 0 {
            Times::Created { base_ms: i64_at(batch, field::FIRST_TIMESTAMP) }
        } else {
            Times::Appended { millis: i64_at(batch, field::MAX_TIMESTAMP) }
        };
        let records = usize::try_from(i32_at(batch, field::RECORDS));
        Ok(Self {
            base_offset,
            last_offset,
            compression: (attributes & attribute::COMPRESSION) as u8,
            transactional: attributes & attribute::TRANSACTIONAL != 0,
            control: attributes & attribute::CONTROL != 0,
            times,
            producer_id: i64_at(batch, field::PRODUCER_ID),
            records: records.map_err(|_| Damage::Malformed("its number of records is negative"))?,
        })
    }
}

/// Compares the stored checksum of a whole batch with that of its bytes.
pub(super) fn check(batch: &[u8]) -> Result<(), Damage> {
    let stored = i32_at(batch, field::CHECKSUM) as u32;
    let found = crc32c::crc32c(&batch[CHECKED_FROM..]);
    if stored == found { Ok(()) } else { Err(Damage::Checksum { stored, found }) }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
