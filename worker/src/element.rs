//! What flows along an edge: batches of rows and, in band, the control elements.

use arrow_array::RecordBatch;
pub use millstream_api::control::Mutation;
use millstream_api::ids::Epoch;

/// Event time in milliseconds since the epoch, UTC. No later row is expected to be older than the watermark.
pub type WatermarkMs = i64;

/// Before any watermark.
pub const WATERMARK_MIN: WatermarkMs = i64::MIN;
/// After the end of all input.
pub const WATERMARK_MAX: WatermarkMs = i64::MAX;

/// An element of a stream.
#[derive(Clone, Debug)]
pub enum Element {
    /// Rows. On a changelog edge the last column is the row kind (Int8).
    Batch(RecordBatch),
    /// Event time advanced.
    Watermark(WatermarkMs),
    /// The channel has no watermark to contribute for now (true), or has again (false).
    Idle(bool),
    /// Everything before it belongs to the epoch, everything after it to the next.
    Barrier(Barrier),
    /// No more rows or watermarks on this channel; watermark MAX came before it. Barriers still follow: a task that is
    /// finished takes part in every epoch like any other, so alignment has no special case for it.
    EndOfInput,
}

/// The marker that cuts a stream into epochs (Chandy-Lamport, aligned).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Barrier {
    pub epoch: Epoch,
    pub mutation: Mutation,
}
