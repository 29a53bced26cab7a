//! Cuts frames out of the bytes of a connection, each payload into memory of its own.
//!
//! This is the one copy of rows on the receiving side: the transport's buffers hold frames at any address, and Arrow's
//! need theirs aligned. Owns: the frame that is arriving. Does not own: what a frame means (`frame`, `rows`).

use arrow_buffer::{Buffer, MutableBuffer};
use bytes::{Buf, Bytes};

use super::frame::{Frame, FrameError, HEADER_BYTES, Header};

/// Reserved for a payload before its bytes are there: a larger one grows as it arrives, so a length that is a lie takes no
/// memory.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

/// The frame that is arriving.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    payload: Option<(Header, MutableBuffer)>,
}

impl Cutter {
    /// Takes bytes off `bytes`; a frame, once it is complete. To be called until there is none.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        if self.payload.is_none() {
            let more = bytes.len().min(HEADER_BYTES - self.header_bytes);
            self.header[self.header_bytes..][..more].copy_from_slice(&bytes[..more]);
            bytes.advance(more);
            self.header_bytes += more;
            if self.header_bytes < HEADER_BYTES {
                return Ok(None);
            }
            let header = Header::read(self.header)?;
            self.header_bytes = 0;
            self.payload = Some((header, MutableBuffer::with_capacity(header.payload_bytes.min(RESERVE_BYTES_MAX))));
        }
        let Some((header, payload)) = &mut self.payload else { return Ok(None) };
        let more = bytes.len().min(header.payload_bytes - payload.len());
        payload.extend_from_slice(&bytes[..more]);
        bytes.advance(more);
        if payload.len() < header.payload_bytes {
            return Ok(None);
        }
        Ok(self.payload.take().map(|(header, payload)| Frame { header, payload: Buffer::from(payload) }))
    }

    /// The stream is at its end.
    pub(super) fn end(&self) -> Result<(), FrameError> {
        if self.payload.is_none() && self.header_bytes == 0 { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{ChannelId, control};
    use super::*;
    use crate::element::Element;

    #[test]
    fn frames_are_the_same_however_the_bytes_arrive() {
        let elements = [Element::EndOfInput, Element::Watermark(5), Element::Idle(true), Element::Watermark(-1)];
        let stream: Vec<u8> = elements.iter().filter_map(|e| control(ChannelId(1), e)).flatten().collect();
        for piece in 1..=stream.len() {
            let mut cutter = Cutter::default();
            let mut seen = Vec::new();
            for chunk in stream.chunks(piece) {
                let mut bytes = Bytes::copy_from_slice(chunk);
                while let Some(frame) = cutter.take(&mut bytes).expect("as written") {
                    seen.push(format!("{:?}", frame.control().expect("as written")));
                }
            }
            assert_eq!(seen, elements.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>());
            assert_eq!(cutter.end(), Ok(()));
        }
    }

    #[test]
    fn the_end_of_the_stream_within_a_frame_is_an_error() {
        let frame = control(ChannelId(1), &Element::Watermark(5)).expect("a control element");
        for length in 1..frame.len() {
            let mut cutter = Cutter::default();
            assert!(cutter.take(&mut frame.slice(..length)).expect("as written").is_none());
            assert_eq!(cutter.end(), Err(FrameError::Truncated));
        }
    }
}
