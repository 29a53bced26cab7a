//! Answers that are read into a buffer of the caller's, which is used again: for those that carry records.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::Connection;
use crate::error::KafkaError;
use kafka_protocol::protocol::Request;

/// A broker answers with a batch that is larger than what was asked for, if it is the first; no topic may hold larger
/// ones than this.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// A buffer grows by so much at a time, as the bytes come: the length alone takes no memory.
const GROWTH_BYTES: usize = 1 << 20;

/// Ends a connection from another thread.
pub(crate) struct Breaker(TcpStream);

impl Breaker {
    /// What waits for an answer fails at once.
    pub(crate) fn end(&self) {
        // It may have ended before.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connection {
    pub(crate) fn breaker(&self) -> io::Result<Breaker> {
        self.socket().try_clone().map(Breaker)
    }

    /// Sends a request and reads its answer into `buffer`, which grows to hold it. Returns the answer's length and the
    /// correlation id that it must begin with.
    ///
    /// `silence_max`: as long as bytes come, no shorter pause between them ends the wait.
    pub(crate) fn call_into<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        silence_max: Duration,
        buffer: &mut Vec<u8>,
    ) -> Result<(usize, i32), KafkaError> {
        let frame = self.frame(request, version)?;
        let bytes = self.exchange_into(&frame, silence_max, buffer).map_err(|e| self.lost(&e))?;
        Ok((bytes, self.correlation_id))
    }

    fn exchange_into(&mut self, frame: &[u8], silence_max: Duration, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let length = self.send(frame, silence_max)?;
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")));
        }
        let mut read = 0;
        while read < length {
            if buffer.len() < length {
                let grown = length.min(buffer.len().max(read) + GROWTH_BYTES);
                buffer.resize(grown, 0);
            }
            let until = length.min(buffer.len());
            self.stream.read_exact(&mut buffer[read..until])?;
            read = until;
        }
        Ok(length)
    }
}
