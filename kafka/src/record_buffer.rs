//! Records on their way to one partition, encoded into the batches that will be sent; no allocation per record.
//!
//! Owns: where one batch ends and the next begins. Does not own: when batches are sent.

use std::collections::VecDeque;

use crate::record_batch::{Appended, Batch};

/// A batch holds no more unless a single record does: what a topic takes by default (`max.message.bytes`), and less.
pub(crate) const BATCH_BYTES_MAX: usize = 1_000_000;

/// Encoded records of one partition, in order. A producer takes them from the front.
#[derive(Debug)]
pub struct RecordBuffer {
    /// Full, in order.
    full: VecDeque<Batch>,
    open: Batch,
    batch_bytes_max: usize,
    pending_records: usize,
    pending_bytes: usize,
}

impl Default for RecordBuffer {
    fn default() -> Self {
        Self::new(BATCH_BYTES_MAX)
    }
}

impl RecordBuffer {
    /// `batch_bytes_max`: records that do not fit with others get a batch of their own.
    #[must_use]
    pub fn new(batch_bytes_max: usize) -> Self {
        let (full, open) = (VecDeque::new(), Batch::default());
        Self { full, open, batch_bytes_max, pending_records: 0, pending_bytes: 0 }
    }

    /// Appends a record whose value the closure encodes.
    #[inline]
    pub fn append(&mut self, key: Option<&[u8]>, value: impl FnOnce(&mut Vec<u8>)) {
        let before = self.open.payload_bytes();
        let appended = self.open.append(key, Some(value));
        self.appended(appended, before);
    }

    /// Appends a record without value: what deletes a key from a compacted topic.
    pub fn append_tombstone(&mut self, key: Option<&[u8]>) {
        let before = self.open.payload_bytes();
        let appended = self.open.append(key, None::<fn(&mut Vec<u8>)>);
        self.appended(appended, before);
    }

    #[inline]
    fn appended(&mut self, appended: Appended, payload_before: usize) {
        self.pending_records += 1;
        self.pending_bytes += self.open.payload_bytes() - payload_before;
        if self.open.bytes().len() > self.batch_bytes_max && self.open.records() > 1 {
            self.begin_with(appended);
        }
    }

    /// The record that made the batch too large begins the next one.
    #[cold]
    fn begin_with(&mut self, last: Appended) {
        let mut next = Batch::default();
        self.open.move_last(last, &mut next);
        self.full.push_back(std::mem::replace(&mut self.open, next));
    }

    /// Bytes of keys and values that no producer has taken yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Records that no producer has taken yet.
    #[must_use]
    pub fn pending_records(&self) -> usize {
        self.pending_records
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending_records == 0
    }

    /// Whether there is a batch that takes no more.
    pub(crate) fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// The batch at the front belongs to a producer now. What comes next is written to `spare`'s memory.
    pub(crate) fn take(&mut self, spare: impl FnOnce() -> Vec<u8>) -> Option<Batch> {
        let batch = match self.full.pop_front() {
            Some(batch) => batch,
            None if self.open.is_empty() => return None,
            None => std::mem::replace(&mut self.open, Batch::reusing(spare())),
        };
        self.pending_records -= batch.records();
        self.pending_bytes -= batch.payload_bytes();
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut RecordBuffer, key: Option<&str>, value: &str) {
        buffer.append(key.map(str::as_bytes), |out| out.extend_from_slice(value.as_bytes()));
    }

    #[test]
    fn counts_what_is_pending_by_payload() {
        let mut buffer = RecordBuffer::default();
        put(&mut buffer, Some("k"), "one");
        put(&mut buffer, None, "");
        buffer.append_tombstone(Some(b"gone"));
        assert_eq!((buffer.pending_records(), buffer.pending_bytes()), (3, 8));
        assert_eq!(buffer.take(Vec::new).map(|b| b.records()), Some(3));
        assert!(buffer.is_empty() && buffer.take(Vec::new).is_none());
    }

    #[test]
    fn a_batch_ends_before_the_record_that_does_not_fit() {
        let mut buffer = RecordBuffer::new(1_000);
        for _ in 0..25 {
            put(&mut buffer, None, &"x".repeat(90));
        }
        put(&mut buffer, Some("large"), &"x".repeat(5_000));
        put(&mut buffer, None, "small");
        let mut taken = Vec::new();
        while let Some(batch) = buffer.take(Vec::new) {
            taken.push((batch.records(), batch.bytes().len() <= 1_000, batch.largest_record_bytes()));
        }
        assert_eq!(taken, [(9, true, 90), (9, true, 90), (7, true, 5_005), (1, false, 5_005), (1, true, 5)]);
        assert_eq!((buffer.pending_records(), buffer.pending_bytes()), (0, 0));
    }
}
