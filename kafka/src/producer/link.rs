//! One connection to one broker: requests are written in order, answers come in the same order.
//!
//! Owns: the bytes on their way. Does not own: which batch belongs to which answer, time-outs; who does ends the link's
//! task when it takes too long.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::{Receiver, UnboundedSender};

use super::request::{Frame, Segment, next_answer};
use super::stream::Stream;
use crate::wire::Opened;

/// What comes from a link: which one, and what.
pub(super) struct FromLink {
    pub(super) node: i32,
    /// Of the connection: what an earlier one still says does not count.
    pub(super) connection: u64,
    pub(super) said: Said,
}

pub(super) enum Said {
    /// The answer to the oldest request; `None`: it was written, and no answer comes.
    Answer(Option<Bytes>),
    /// The last word.
    Lost(String),
}

/// Serves a connection until either side ends it. As many answers are told as requests were given.
pub(super) async fn serve<I: From<FromLink>>(
    opened: Opened,
    (node, connection): (i32, u64),
    frames: Receiver<Frame>,
    tell: UnboundedSender<I>,
) {
    let answered = |answer| {
        // Who listened may be gone; the task ends with its channel.
        let _ = tell.send(FromLink { node, connection, said: Said::Answer(answer) }.into());
    };
    let ended = match Stream::new(opened) {
        Ok(stream) => exchange(stream, frames, answered).await,
        Err(e) => Err(e.to_string()),
    };
    if let Err(reason) = ended {
        let _ = tell.send(FromLink { node, connection, said: Said::Lost(reason) }.into());
    }
}

async fn exchange(
    mut stream: Stream,
    mut frames: Receiver<Frame>,
    answered: impl Fn(Option<Bytes>),
) -> Result<(), String> {
    let mut input = BytesMut::new();
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else { return Ok(()) };
                let mut parts: Vec<_> = frame.segments.iter().map(|s: &Segment| IoSlice::new(s.bytes())).collect();
                stream.write_all(&mut parts).await.map_err(|e| e.to_string())?;
                if !frame.answered {
                    answered(None);
                }
            }
            read = stream.read(&mut input) => {
                if read.map_err(|e| e.to_string())? == 0 {
                    return Err("the broker closed the connection".to_owned());
                }
                while let Some(answer) = next_answer(&mut input)? {
                    answered(Some(answer));
                }
            }
        }
    }
}
