//! What waits to be sent on a connection.
//!
//! Rows in it are bounded by the credits of the channels, control frames by `ELEMENTS_MAX` of each, reports of
//! consumption by what they report; so it needs no bound of its own, and no channel waits for another's credit.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use crate::metrics::ShuffleMetrics;

/// Frames below this are copied together into one write. Measured: copying larger ones together makes the whole slower.
const SMALL_BYTES: usize = 4 * 1024;
/// So much of them at most.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// Makes the queue of a connection: the end to fill and the stream that the transport drains.
pub(super) fn outbound(metrics: Arc<ShuffleMetrics>) -> (Outbound, OutboundBody) {
    let (frames, queue) = mpsc::unbounded_channel();
    (Outbound { frames }, OutboundBody { queue, next: None, ended: false, metrics })
}

/// Where frames for the other worker go. Once the connection is closed they are dropped.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    frames: mpsc::UnboundedSender<Outgoing>,
}

#[derive(Debug)]
enum Outgoing {
    Frame(Bytes),
    End,
}

impl Outbound {
    pub(super) fn send(&self, frame: Bytes) {
        let _ = self.frames.send(Outgoing::Frame(frame));
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        let _ = self.frames.send(Outgoing::End);
    }
}

/// The frames as the transport takes them.
#[derive(Debug)]
pub(super) struct OutboundBody {
    queue: mpsc::UnboundedReceiver<Outgoing>,
    /// Taken from the queue, and not to be gathered.
    next: Option<Bytes>,
    ended: bool,
    metrics: Arc<ShuffleMetrics>,
}

impl OutboundBody {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match self.queue.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Outgoing::Frame(frame))) => Poll::Ready(Some(frame)),
            Poll::Ready(Some(Outgoing::End) | None) => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    /// `first` with the small frames that wait behind it.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut gathered: Option<BytesMut> = None;
        while let Poll::Ready(Some(frame)) = self.poll_next(cx) {
            let so_far = gathered.as_ref().map_or(first.len(), BytesMut::len);
            if frame.len() >= SMALL_BYTES || so_far + frame.len() > GATHERED_BYTES_MAX {
                self.next = Some(frame);
                break;
            }
            gathered.get_or_insert_with(|| BytesMut::from(first.as_ref())).extend_from_slice(&frame);
        }
        gathered.map_or(first, BytesMut::freeze)
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_next(cx).map(|next| {
            let frame = next?;
            let frame = if frame.len() < SMALL_BYTES { self.gather(frame, cx) } else { frame };
            self.metrics.sent(frame.len());
            Some(Ok(Frame::data(frame)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.next.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_go_together_and_keep_their_order() {
        let (outbound, mut body) = outbound(Arc::default());
        let sizes = [100, 200, SMALL_BYTES, 300, 10, SMALL_BYTES + 1, SMALL_BYTES - 1];
        let frames: Vec<Bytes> = (1u8..).zip(sizes).map(|(n, size)| Bytes::from(vec![n; size])).collect();
        frames.iter().for_each(|frame| outbound.send(frame.clone()));
        outbound.end();
        outbound.send(Bytes::from_static(b"nobody hears it"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut sent = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
            sent.push(frame.into_data().expect("only data are sent"));
        }
        let lengths: Vec<usize> = sent.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [300, SMALL_BYTES, 310, SMALL_BYTES + 1, SMALL_BYTES - 1]);
        assert_eq!(sent.concat(), frames.concat());
        assert!(body.is_end_stream());
    }
}
