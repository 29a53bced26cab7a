//! Where the parts of a record batch lie, format version 2: for those who write batches and those who read them.
//! <https://kafka.apache.org/documentation/#recordbatch>

/// Bytes before the first record, or before the compressed records.
pub(crate) const HEAD_BYTES: usize = 61;
/// Base offset and length: what the length does not count.
pub(crate) const PREFIX_BYTES: usize = 12;
/// The checksum covers everything from here.
pub(crate) const CHECKED_FROM: usize = field::ATTRIBUTES;

/// Where each field begins.
pub(crate) mod field {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const LEADER_EPOCH: usize = 12;
    /// In every format the byte that says which format it is.
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CHECKSUM: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const FIRST_TIMESTAMP: usize = 27;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const PRODUCER_ID: usize = 43;
    pub(crate) const PRODUCER_EPOCH: usize = 51;
    pub(crate) const SEQUENCE: usize = 53;
    pub(crate) const RECORDS: usize = 57;
}

/// Bits of the attributes.
pub(crate) mod attribute {
    pub(crate) const COMPRESSION: i16 = 0x07;
    pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
    pub(crate) const TRANSACTIONAL: i16 = 0x10;
    pub(crate) const CONTROL: i16 = 0x20;
}
