//! Record batches as brokers keep them (version 2 of the format, Kafka 0.11 and later), read in place.
//!
//! Owns: batch headers, checksums, compression, varints, markers and aborted transactions. Does not own: fetching, and
//! what a position means for a job. Everything here is pure; whatever bytes come, the answer is records or [`Damage`].

mod batch;
mod compression;
mod cursor;
mod record;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub(crate) use batch::whole_batches;
pub(crate) use compression::Decompressor;
pub(crate) use cursor::{AbortedTransaction, Cursor, Reading};

/// Why bytes are no records.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Damage {
    #[error("the checksum of the batch does not match its bytes (CRC-32C {found:08x}, stored {stored:08x})")]
    Checksum { stored: u32, found: u32 },
    #[error(
        "it is written in message format v{magic}, which brokers wrote before Kafka 0.11; copy the topic with a newer client"
    )]
    OldFormat { magic: i8 },
    #[error("its compression, number {0}, is not known")]
    UnknownCompression(u8),
    #[error("its {codec} data cannot be decompressed: {reason}")]
    Compression { codec: &'static str, reason: String },
    #[error("the batch is damaged: {0}")]
    Malformed(&'static str),
}
