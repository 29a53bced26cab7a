//! Flink's `json` format: one JSON object per record.
//!
//! Owns: decoding a record into columns (`decoder`, over `cursor`, `scan`, `strings`, `value`, `column`, and the learned `template`)
//! and encoding rows (`encoder`). Does not own: tombstones (a record without a value is the caller's case) and what
//! happens to records that fail.
//!
//! Follows Flink's `JsonParserRowDataDeserializationSchema` and `RowDataToJsonConverters`, with three deliberate
//! differences: content behind the object is an error instead of being ignored, a missing value for a NOT NULL column is
//! an error instead of a default value, and of a key that occurs twice the last value counts.

mod column;
mod cursor;
mod decoder;
mod encoder;
mod error;
mod scan;
mod strings;
mod template;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use column::ticks_per_second;
pub use decoder::JsonDecoder;
pub use encoder::{BoundEncoder, JsonEncoder};
pub use error::{DecodeError, DecodeReason};
