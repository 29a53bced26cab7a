//! The bytes of an entry: a header line with length and checksum, then JSON.
//!
//! Both lines can be read with `head` and `jq`. The checksum is over the JSON as it stands, so that an object that was cut
//! or altered is told from one that was not.

use millstream_api::log::{LOG_VERSION, LogEntry};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    millstream_log: u32,
    bytes: usize,
    crc32c: String,
}

/// Why bytes are no entry.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("it does not begin with a header line")]
    NoHeader,
    #[error("it has {found} bytes after the header where {expected} were written")]
    Length { expected: usize, found: usize },
    #[error("its checksum is {found}, written was {expected}")]
    Checksum { expected: String, found: String },
    #[error("it is of log version {0}, this binary knows versions up to {LOG_VERSION}: run a newer one")]
    Newer(u32),
    #[error("its content cannot be read: {0}")]
    Json(#[source] serde_json::Error),
}

/// The bytes of an entry.
#[must_use]
pub fn encode(entry: &LogEntry) -> Vec<u8> {
    let body = serde_json::to_vec(entry).expect("an entry holds only serialisable data");
    let header = Header { millstream_log: entry.version, bytes: body.len(), crc32c: checksum(&body) };
    let mut bytes = serde_json::to_vec(&header).expect("a header is plain data");
    bytes.reserve(body.len() + 2);
    bytes.push(b'\n');
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    bytes
}

/// The entry in these bytes.
///
/// # Errors
/// When they are not what `encode` made, or of a newer version.
pub fn decode(bytes: &[u8]) -> Result<LogEntry, DecodeError> {
    let line_end = bytes.iter().position(|b| *b == b'\n').ok_or(DecodeError::NoHeader)?;
    let header: Header = serde_json::from_slice(&bytes[..line_end]).map_err(|_| DecodeError::NoHeader)?;
    if header.millstream_log > LOG_VERSION {
        return Err(DecodeError::Newer(header.millstream_log));
    }
    let body = &bytes[line_end + 1..];
    // The newline that ends the object is no part of the body.
    if body.len() != header.bytes + 1 {
        return Err(DecodeError::Length { expected: header.bytes, found: body.len().saturating_sub(1) });
    }
    let body = &body[..header.bytes];
    let found = checksum(body);
    if found != header.crc32c {
        return Err(DecodeError::Checksum { expected: header.crc32c, found });
    }
    serde_json::from_slice(body).map_err(DecodeError::Json)
}

fn checksum(body: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(body))
}
