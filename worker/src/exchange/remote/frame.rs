//! What one worker sends to another: frames, each of one channel, and their bytes.
//!
//! ```text
//!  0       1           5       6       7       8            12           16
//!  | 0     | length BE | kind  | flags | 0     | channel LE | 0          | payload ...
//!  `--- gRPC's prefix --'------------ the message, `length` bytes ------------------>
//! ```
//! 16 bytes stand before the payload, so that what is aligned in it is aligned in the frame. Owns: this layout and the
//! payloads of control elements. Does not own: the payload of rows (`rows`), how frames are cut out of a stream (`cutter`).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_api::ids::Epoch;
use thiserror::Error;

use crate::element::{Barrier, Element, Mutation};

/// Before each payload.
pub(super) const HEADER_BYTES: usize = 16;
/// gRPC's own share of the header: a flag and the length of what follows it.
const PREFIX_BYTES: usize = 5;
/// A frame with its header; rows are cut so that they fit. HTTP/2 has frames of so much at most, too.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024 - 1;
/// What is left for the payload.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;
/// Payload of the longest control frame.
const CONTROL_PAYLOAD_BYTES_MAX: usize = 16;
/// The payload of rows is an LZ4 block, its length as u32 before it.
const FLAG_LZ4: u8 = 1;

/// A channel of a deployment, numbered alike on both of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rows {
        lz4: bool,
    },
    Watermark,
    Idle,
    Barrier,
    EndOfInput,
    /// From the receiver: how many elements of the channel its task has taken, since the beginning.
    Consumed,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) channel: ChannelId,
    pub(super) payload_bytes: usize,
}

/// A frame as it arrives: its payload in memory of its own, aligned for Arrow.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) payload: arrow_buffer::Buffer,
}

/// What is wrong with a frame.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("a frame of {bytes} bytes, where {limit} are the most")]
    Length { bytes: usize, limit: usize },
    #[error("a header that is none: {bytes:02x?}")]
    Header { bytes: [u8; HEADER_BYTES] },
    #[error("the stream ended within a frame")]
    Truncated,
    #[error("channel {channel}, which is none of this connection's in this direction")]
    Channel { channel: ChannelId },
    #[error("a payload that its kind does not have, on channel {channel}: {reason}")]
    Payload { channel: ChannelId, reason: String },
    #[error("more than channel {channel} had credit for")]
    Credit { channel: ChannelId },
}

/// Which rule a frame broke, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRule {
    Length,
    Header,
    Truncated,
    Channel,
    Payload,
    Credit,
}

impl FrameRule {
    pub const ALL: [Self; 6] =
        [Self::Length, Self::Header, Self::Truncated, Self::Channel, Self::Payload, Self::Credit];

    /// As counters call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Header => "header",
            Self::Truncated => "truncated",
            Self::Channel => "channel",
            Self::Payload => "payload",
            Self::Credit => "credit",
        }
    }
}

impl FrameError {
    /// The rule that was broken.
    #[must_use]
    pub fn rule(&self) -> FrameRule {
        match self {
            Self::Length { .. } => FrameRule::Length,
            Self::Header { .. } => FrameRule::Header,
            Self::Truncated => FrameRule::Truncated,
            Self::Channel { .. } => FrameRule::Channel,
            Self::Payload { .. } => FrameRule::Payload,
            Self::Credit { .. } => FrameRule::Credit,
        }
    }
}

impl Header {
    pub(super) fn write(&self) -> [u8; HEADER_BYTES] {
        let (kind, flags) = match self.kind {
            Kind::Rows { lz4 } => (1, if lz4 { FLAG_LZ4 } else { 0 }),
            Kind::Watermark => (2, 0),
            Kind::Idle => (3, 0),
            Kind::Barrier => (4, 0),
            Kind::EndOfInput => (5, 0),
            Kind::Consumed => (6, 0),
        };
        let length = u32::try_from(HEADER_BYTES - PREFIX_BYTES + self.payload_bytes).expect("a frame is below 16 MiB");
        let mut header = [0; HEADER_BYTES];
        header[1..5].copy_from_slice(&length.to_be_bytes());
        (header[5], header[6]) = (kind, flags);
        header[8..12].copy_from_slice(&self.channel.0.to_le_bytes());
        header
    }

    /// Reads a header and checks what can be told from it alone.
    pub(super) fn read(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let malformed = FrameError::Header { bytes };
        let [compressed, l0, l1, l2, l3, kind, flags, zero, c0, c1, c2, c3, rest @ ..] = bytes;
        if compressed != 0 || zero != 0 || rest != [0; 4] {
            return Err(malformed);
        }
        let kind = match (kind, flags) {
            (1, 0) => Kind::Rows { lz4: false },
            (1, FLAG_LZ4) => Kind::Rows { lz4: true },
            (2, 0) => Kind::Watermark,
            (3, 0) => Kind::Idle,
            (4, 0) => Kind::Barrier,
            (5, 0) => Kind::EndOfInput,
            (6, 0) => Kind::Consumed,
            _ => return Err(malformed),
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload_bytes) = length.checked_sub(HEADER_BYTES - PREFIX_BYTES) else { return Err(malformed) };
        let limit = if matches!(kind, Kind::Rows { .. }) { PAYLOAD_BYTES_MAX } else { CONTROL_PAYLOAD_BYTES_MAX };
        if payload_bytes > limit {
            return Err(FrameError::Length { bytes: payload_bytes + HEADER_BYTES, limit: limit + HEADER_BYTES });
        }
        Ok(Self { kind, channel: ChannelId(u32::from_le_bytes([c0, c1, c2, c3])), payload_bytes })
    }
}

/// The frame of a control element; `None`: rows, which have an encoder of their own.
pub(super) fn control(channel: ChannelId, element: &Element) -> Option<Bytes> {
    Some(match element {
        Element::Batch(_) => return None,
        Element::Watermark(watermark) => control_frame(Kind::Watermark, channel, &watermark.to_le_bytes()),
        Element::Idle(idle) => control_frame(Kind::Idle, channel, &[u8::from(*idle)]),
        Element::Barrier(Barrier { epoch, mutation }) => {
            let mut payload = [0; 9];
            payload[..8].copy_from_slice(&epoch.0.to_le_bytes());
            payload[8] = match mutation {
                Mutation::None => 0,
                Mutation::Stop => 1,
                Mutation::Drain => 2,
            };
            control_frame(Kind::Barrier, channel, &payload)
        }
        Element::EndOfInput => control_frame(Kind::EndOfInput, channel, &[]),
    })
}

/// The report that the channel's task has taken so many elements since the beginning.
pub(super) fn consumed(channel: ChannelId, elements: u64) -> Bytes {
    control_frame(Kind::Consumed, channel, &elements.to_le_bytes())
}

fn control_frame(kind: Kind, channel: ChannelId, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.put_slice(&Header { kind, channel, payload_bytes: payload.len() }.write());
    frame.put_slice(payload);
    frame.freeze()
}

impl Frame {
    /// The control element that the frame holds. Only for frames of such a kind.
    pub(super) fn control(&self) -> Result<Element, FrameError> {
        let payload = self.payload.as_slice();
        let element = match self.header.kind {
            Kind::Watermark => read_u64(payload).map(|w| Element::Watermark(w.cast_signed())),
            Kind::Idle => match payload {
                [0] => Some(Element::Idle(false)),
                [1] => Some(Element::Idle(true)),
                _ => None,
            },
            Kind::Barrier => match payload {
                [epoch @ .., mutation] => {
                    let mutation = match mutation {
                        0 => Some(Mutation::None),
                        1 => Some(Mutation::Stop),
                        2 => Some(Mutation::Drain),
                        _ => None,
                    };
                    let barrier = |(epoch, mutation)| Barrier { epoch: Epoch(epoch), mutation };
                    read_u64(epoch).zip(mutation).map(barrier).map(Element::Barrier)
                }
                [] => None,
            },
            Kind::EndOfInput if payload.is_empty() => Some(Element::EndOfInput),
            Kind::EndOfInput | Kind::Rows { .. } | Kind::Consumed => None,
        };
        element.ok_or_else(|| self.unfit())
    }

    /// How many elements the other side has consumed. Only for frames of that kind.
    pub(super) fn consumed(&self) -> Result<u64, FrameError> {
        read_u64(self.payload.as_slice()).ok_or_else(|| self.unfit())
    }

    fn unfit(&self) -> FrameError {
        let Header { kind, channel, payload_bytes } = self.header;
        FrameError::Payload { channel, reason: format!("{payload_bytes} bytes of {kind:?}") }
    }
}

fn read_u64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_as_written_and_its_limits_hold() {
        let kinds = [Kind::Rows { lz4: false }, Kind::Rows { lz4: true }, Kind::Barrier, Kind::Consumed, Kind::Idle];
        for kind in kinds {
            let header = Header { kind, channel: ChannelId(7_000_000), payload_bytes: 9 };
            assert_eq!(Header::read(header.write()), Ok(header));
        }
        let rows = Header { kind: Kind::Rows { lz4: false }, channel: ChannelId(0), payload_bytes: PAYLOAD_BYTES_MAX };
        assert_eq!(Header::read(rows.write()), Ok(rows));
        let long = Header { payload_bytes: PAYLOAD_BYTES_MAX + 1, ..rows };
        assert!(matches!(Header::read(long.write()), Err(FrameError::Length { .. })));
        let long = Header { kind: Kind::Watermark, payload_bytes: 17, ..rows };
        assert!(matches!(Header::read(long.write()), Err(FrameError::Length { .. })));
        for (at, byte) in [(0, 1), (4, 10), (5, 0), (5, 7), (6, 2), (7, 1), (15, 1)] {
            let mut bytes = Header { payload_bytes: 0, ..rows }.write();
            bytes[at] = byte;
            assert!(matches!(Header::read(bytes), Err(FrameError::Header { .. })), "byte {at} = {byte}");
        }
    }

    #[test]
    fn control_elements_survive_the_way() {
        let elements = [
            Element::Watermark(i64::MIN),
            Element::Watermark(1_700_000_000_000),
            Element::Idle(true),
            Element::Idle(false),
            Element::Barrier(Barrier { epoch: Epoch(u64::MAX), mutation: Mutation::Stop }),
            Element::Barrier(Barrier { epoch: Epoch(3), mutation: Mutation::None }),
            Element::Barrier(Barrier { epoch: Epoch(0), mutation: Mutation::Drain }),
            Element::EndOfInput,
        ];
        for element in elements {
            let bytes = control(ChannelId(3), &element).expect("a control element");
            let (header, payload) = bytes.split_first_chunk().expect("a header");
            let frame = Frame { header: Header::read(*header).expect("as written"), payload: payload.into() };
            assert_eq!(format!("{:?}", frame.control().expect("as written")), format!("{element:?}"));
        }
    }
}
