//! Bytes that are nearly right: what came over a wire once, changed at places that a generator draws.
//!
//! Owns: the changes. Does not own: where the bytes come from (`recorder`), nor what is expected of whoever gets them.

use crate::Random;

/// Changes per text: few, so that most of it is still understood.
const CHANGES_MAX: u64 = 4;
/// A client's first bytes in HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length (3), kind, flags, stream (4).
const FRAME_HEADER_BYTES: usize = 9;
/// Values at which lengths, tags and numbers go wrong.
const EDGES: [u8; 6] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];

/// The bytes with a few changes: bits, values at the edge, pieces that are missing, doubled, new, or exchanged.
pub fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(CHANGES_MAX) {
        if bytes.is_empty() {
            bytes.push(byte(random));
        }
        let at = place(random, bytes.len());
        let end = (at + 1 + place(random, 16)).min(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = EDGES[place(random, EDGES.len())],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let piece: Vec<u8> = (0..random.below(9)).map(|_| byte(random)).collect();
                bytes.splice(at..at, piece);
            }
            5 => bytes.truncate(at),
            _ => {
                let other = place(random, bytes.len());
                bytes.swap(at, other);
            }
        }
    }
    bytes
}

/// A recorded HTTP/2 stream with a few of its frames changed inside, doubled, missing, renamed or exchanged, and the lengths
/// right: so that what is wrong is found by whoever reads the frames, not by whoever cuts them.
pub fn with_mutated_frames(stream: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frames = frames(stream);
    for _ in 0..=random.below(CHANGES_MAX) {
        if frames.is_empty() {
            break;
        }
        let at = place(random, frames.len());
        match random.below(6) {
            0 | 1 => frames[at].payload = mutated(&frames[at].payload, random),
            2 => drop(frames.remove(at)),
            3 => {
                let again = frames[at].clone();
                frames.insert(at, again);
            }
            4 => {
                let field = place(random, frames[at].head.len());
                frames[at].head[field] = byte(random);
            }
            _ => {
                let other = place(random, frames.len());
                frames.swap(at, other);
            }
        }
    }
    let mut bytes = PREFACE.to_vec();
    for frame in frames {
        let length = u32::try_from(frame.payload.len()).expect("a recorded frame is short").to_be_bytes();
        bytes.extend_from_slice(&length[1..]);
        bytes.extend_from_slice(&frame.head);
        bytes.extend_from_slice(&frame.payload);
    }
    bytes
}

#[derive(Clone)]
struct Frame {
    /// Kind, flags, stream.
    head: [u8; FRAME_HEADER_BYTES - 3],
    payload: Vec<u8>,
}

/// The frames after the preface, as far as they are whole.
fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut rest = stream.strip_prefix(PREFACE).expect("HTTP/2 begins like this");
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let [l0, l1, l2, head @ ..] = *header;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        frames.push(Frame { head, payload: payload.to_vec() });
        rest = after;
    }
    frames
}

fn place(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("it is below a length")
}

fn byte(random: &mut Random) -> u8 {
    random.draw().to_le_bytes()[0]
}
