//! Formats: bytes of a record to columns and back, and the textual forms of values that formats and CAST share.
//!
//! Owns: the `json` format with Flink's `json.*` options, and how Flink reads and prints each type as text. Does not
//! own: where the bytes come from, or what happens to a record that cannot be decoded; that is the source's.

pub mod json;
pub mod text;

pub use json::{BoundEncoder, DecodeError, DecodeReason, JsonDecoder, JsonEncoder};
