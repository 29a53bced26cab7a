//! Reads through the batches that one answer brought of one partition, as far as wanted at a time.
//!
//! Owns: where reading stands, which batches count. A record counts when it is not before the position, is no marker and,
//! for readers of committed records, when its transaction was not aborted. The position moves over everything.

use super::batch::{self, BatchHead};
use super::{Damage, Decompressor, record};
use crate::batch_layout::HEAD_BYTES;

/// A transaction whose records between its first offset and its marker do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
}

/// A record that counts.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// Where reading stands.
pub(crate) struct Cursor {
    /// Start of the next batch.
    at: usize,
    open: Option<OpenBatch>,
    /// Aborted transactions that begin further on, the next one last.
    aborted_later: Vec<AbortedTransaction>,
    /// Producers whose transaction at this place was aborted.
    aborted_here: Vec<i64>,
    check_checksums: bool,
}

/// A batch some of whose records are still to be read.
struct OpenBatch {
    head: BatchHead,
    /// Its records are in the decompressor's buffer.
    compressed: bool,
    at: usize,
    end: usize,
    left: usize,
}

impl Cursor {
    /// `aborted`: in any order; empty for readers of uncommitted records.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>, check_checksums: bool) -> Self {
        aborted.sort_unstable_by_key(|t| std::cmp::Reverse(t.first_offset));
        Self { at: 0, open: None, aborted_later: aborted, aborted_here: Vec::new(), check_checksums }
    }

    /// Visits up to `max` records of `set`, which is the same at every call, and moves `position` over them and over what
    /// does not count. Returns how many were visited; fewer than `max`: it is read to its end.
    ///
    /// The decompressor belongs to this cursor until its end is reached.
    pub(crate) fn read(
        &mut self,
        set: &[u8],
        decompressor: &mut Decompressor,
        position: &mut i64,
        max: usize,
        mut visit: impl FnMut(Reading<'_>),
    ) -> Result<usize, Damage> {
        let mut visited = 0;
        while visited < max {
            if self.open.is_none() && !self.next_batch(set, decompressor, position)? {
                break;
            }
            let Some(open) = &mut self.open else { continue };
            let bytes = if open.compressed { decompressor.records() } else { set };
            visited += open.read(bytes, position, max - visited, &mut visit)?;
            if open.left == 0 {
                if open.at != open.end {
                    return Err(Damage::Malformed("there is more behind its last record"));
                }
                *position = (*position).max(open.head.last_offset + 1);
                self.open = None;
            }
        }
        Ok(visited)
    }

    /// Goes to the next batch and opens it if it counts. False: there is none.
    fn next_batch(&mut self, set: &[u8], decompressor: &mut Decompressor, position: &mut i64) -> Result<bool, Damage> {
        let Some(batch) = batch::first_batch(&set[self.at..])? else { return Ok(false) };
        let head = BatchHead::read(batch)?;
        if self.check_checksums {
            batch::check(batch)?;
        }
        let start = self.at;
        let counts = self.counts(batch, &head)? && head.last_offset >= *position && head.records > 0;
        if counts {
            let compressed = head.compression != 0;
            let (at, end) = if compressed {
                decompressor.decompress(head.compression, &batch[HEAD_BYTES..])?;
                (0, decompressor.records().len())
            } else {
                (start + HEAD_BYTES, start + batch.len())
            };
            self.open = Some(OpenBatch { head, compressed, at, end, left: head.records });
        } else {
            *position = (*position).max(head.last_offset + 1);
        }
        self.at = start + batch.len();
        Ok(true)
    }

    /// Whether the batch's records are for the reader: no marker, and not of an aborted transaction.
    fn counts(&mut self, batch: &[u8], head: &BatchHead) -> Result<bool, Damage> {
        while let Some(aborted) = self.aborted_later.pop_if(|t| t.first_offset <= head.last_offset) {
            self.aborted_here.push(aborted.producer_id);
        }
        if head.control {
            if let Some(found) = self.aborted_here.iter().position(|id| *id == head.producer_id)
                && is_abort(batch)?
            {
                self.aborted_here.swap_remove(found);
            }
            return Ok(false);
        }
        Ok(!(head.transactional && self.aborted_here.contains(&head.producer_id)))
    }
}

impl OpenBatch {
    /// The hot loop.
    #[inline]
    fn read(
        &mut self,
        bytes: &[u8],
        position: &mut i64,
        max: usize,
        visit: &mut impl FnMut(Reading<'_>),
    ) -> Result<usize, Damage> {
        let bytes = &bytes[..self.end];
        let BatchHead { base_offset, last_offset, times, .. } = self.head;
        let mut visited = 0;
        while self.left > 0 && visited < max {
            let raw = record::read(bytes, &mut self.at)?;
            self.left -= 1;
            if raw.offset_delta < 0 || raw.offset_delta > last_offset - base_offset {
                return Err(Damage::Malformed("the offset of a record is not within its batch"));
            }
            let offset = base_offset + raw.offset_delta;
            if offset < *position {
                continue;
            }
            *position = offset + 1;
            visited += 1;
            visit(Reading { offset, timestamp_ms: times.of(raw.time_delta_ms), key: raw.key, value: raw.value });
        }
        Ok(visited)
    }
}

/// Whether a marker ends its transaction by aborting it: its key is a version and a kind, 0 for that.
fn is_abort(batch: &[u8]) -> Result<bool, Damage> {
    let mut at = HEAD_BYTES;
    match record::read(batch, &mut at)?.key {
        Some([_, _, kind @ ..]) if kind.len() >= 2 => Ok(kind[..2] == [0, 0]),
        _ => Err(Damage::Malformed("a marker has no kind")),
    }
}
