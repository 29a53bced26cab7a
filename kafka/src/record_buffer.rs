//! Records on their way to one partition: encoded bytes next to each other, no allocation per record.

/// Length of a key or value that is not there.
const ABSENT: u32 = u32::MAX;

/// Encoded records of one partition, in order. A producer takes them from the front.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    records: Vec<Span>,
    /// Records before this one were handed to a producer, with so many bytes.
    taken: usize,
    taken_bytes: usize,
}

/// Lengths of one record; its bytes follow those of the record before it, the key first.
#[derive(Clone, Copy, Debug)]
struct Span {
    key_bytes: u32,
    value_bytes: u32,
}

/// A record of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffered<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

impl Buffered<'_> {
    pub(crate) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

impl RecordBuffer {
    /// Appends a record whose value the closure encodes.
    #[inline]
    pub fn append(&mut self, key: Option<&[u8]>, value: impl FnOnce(&mut Vec<u8>)) {
        let key_bytes = self.append_key(key);
        let before_value = self.bytes.len();
        value(&mut self.bytes);
        let value_bytes = length(self.bytes.len() - before_value);
        self.records.push(Span { key_bytes, value_bytes });
    }

    /// Appends a record without value: what deletes a key from a compacted topic.
    pub fn append_tombstone(&mut self, key: Option<&[u8]>) {
        let key_bytes = self.append_key(key);
        self.records.push(Span { key_bytes, value_bytes: ABSENT });
    }

    #[inline]
    fn append_key(&mut self, key: Option<&[u8]>) -> u32 {
        let Some(key) = key else { return ABSENT };
        self.bytes.extend_from_slice(key);
        length(key.len())
    }

    /// Bytes that no producer has taken yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.taken_bytes
    }

    /// Records that no producer has taken yet.
    #[must_use]
    pub fn pending_records(&self) -> usize {
        self.records.len() - self.taken
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending_records() == 0
    }

    /// Visits the pending records in order.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Buffered<'_>> {
        let mut at = self.taken_bytes;
        self.records[self.taken..].iter().map(move |span| {
            let mut take = |bytes: u32| {
                (bytes != ABSENT).then(|| {
                    let slice = &self.bytes[at..at + bytes as usize];
                    at += slice.len();
                    slice
                })
            };
            Buffered { key: take(span.key_bytes), value: take(span.value_bytes) }
        })
    }

    /// The first `records` pending ones belong to a producer now.
    pub(crate) fn take(&mut self, records: usize) {
        if records == self.pending_records() {
            self.bytes.clear();
            self.records.clear();
            self.taken = 0;
            self.taken_bytes = 0;
            return;
        }
        self.taken_bytes += self.pending().take(records).map(|r| r.bytes()).sum::<usize>();
        self.taken += records;
    }
}

/// A record longer than 4 GiB does not come about: Kafka's own limit is below 2 GiB, a batch's memory is far less.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("one encoded row is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut RecordBuffer, key: Option<&str>, value: &str) {
        buffer.append(key.map(str::as_bytes), |out| out.extend_from_slice(value.as_bytes()));
    }

    #[test]
    fn keeps_order_keys_tombstones_and_what_was_not_taken() {
        let mut buffer = RecordBuffer::default();
        put(&mut buffer, Some("k"), "one");
        put(&mut buffer, None, "");
        buffer.append_tombstone(Some(b"gone"));
        assert_eq!((buffer.pending_records(), buffer.pending_bytes()), (3, 8));
        buffer.take(1);
        let rest: Vec<_> = buffer.pending().collect();
        assert_eq!(rest, [Buffered { key: None, value: Some(b"") }, Buffered { key: Some(b"gone"), value: None }]);
        assert_eq!(buffer.pending_bytes(), 4);
        buffer.take(2);
        assert!(buffer.is_empty());
        put(&mut buffer, None, "again");
        assert_eq!(buffer.pending().collect::<Vec<_>>(), [Buffered { key: None, value: Some(b"again") }]);
    }
}
