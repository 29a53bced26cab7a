//! The receiving end of a channel whose sender is in another worker.
//!
//! The connection decodes the rows and queues them; the task pops, and what it popped is reported so that the sender may
//! go on. Owns: the queue, the bound that a sender which ignores its credit runs into, and when a report is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_schema::SchemaRef;

use super::frame::{self, ChannelId, Frame, FrameError, Kind};
use super::outbound::Outbound;
use super::rows::{Rows, RowsDecoder};
use crate::element::Element;
use crate::exchange::credit::{BUDGET_BYTES_MAX, ELEMENTS_MAX};
use crate::exchange::queue::{Queue, Queued};
use crate::slot::Wake;

/// Consumption is reported when it comes to so much, to half of what was queued, or when the queue is empty.
const REPORT_BYTES: usize = 64 * 1024;
/// The same for elements, of which those of control have no bytes.
const REPORT_ELEMENTS: u64 = 256;
/// Elements that a sender may have in flight: rows stop at `ELEMENTS_MAX`, and without rows there is little to say. A
/// sender that goes on past this keeps no rules at all.
const ELEMENTS_ENFORCED: usize = 16 * ELEMENTS_MAX;

/// The task's side.
#[derive(Debug)]
pub(crate) struct Inlet {
    shared: Arc<InletShared>,
    outbound: Outbound,
    /// Elements popped since the beginning.
    popped: u64,
    unreported_elements: u64,
    unreported_bytes: usize,
}

/// The connection's side: it brings what arrives.
#[derive(Debug)]
pub(super) struct InletShared {
    channel: ChannelId,
    decoder: RowsDecoder,
    queue: Queue,
    /// Bytes of rows that arrived and were not popped.
    bytes: AtomicUsize,
}

impl Inlet {
    pub(super) fn new(channel: ChannelId, schema: SchemaRef, outbound: Outbound, wake_receiver: Wake) -> Self {
        let shared = InletShared {
            channel,
            decoder: RowsDecoder::new(schema),
            queue: Queue::new(wake_receiver),
            bytes: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), outbound, popped: 0, unreported_elements: 0, unreported_bytes: 0 }
    }

    pub(super) fn shared(&self) -> &Arc<InletShared> {
        &self.shared
    }

    pub(crate) fn pop(&mut self) -> Option<Element> {
        let shared = &self.shared;
        let Queued { element, bytes, since: _ } = shared.queue.pop()?;
        let bytes_left = shared.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        self.popped += 1;
        self.unreported_elements += 1;
        self.unreported_bytes += bytes;
        let much = self.unreported_bytes >= REPORT_BYTES.min(bytes_left) && self.unreported_bytes > 0;
        if much || self.unreported_elements >= REPORT_ELEMENTS || shared.queue.is_empty() {
            (self.unreported_elements, self.unreported_bytes) = (0, 0);
            self.outbound.send(frame::consumed(shared.channel, self.popped));
        }
        Some(element)
    }
}

impl InletShared {
    /// Takes a frame of rows or of a control element.
    pub(super) fn arrived(&self, frame: Frame) -> Result<(), FrameError> {
        let (element, bytes) = if matches!(frame.header.kind, Kind::Rows { .. }) {
            // The sender has looked at its budget before, which is never more than this; then one frame may follow.
            self.enforce(self.bytes.load(Ordering::SeqCst) < BUDGET_BYTES_MAX)?;
            let Rows { batch, credit_bytes } = self.decoder.decode(frame)?;
            (Element::Batch(batch), credit_bytes.max(1))
        } else {
            (frame.control()?, 0)
        };
        self.enforce(self.queue.len() < ELEMENTS_ENFORCED)?;
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.queue.push(Queued { element, bytes, since: None });
        Ok(())
    }

    fn enforce(&self, kept: bool) -> Result<(), FrameError> {
        if kept { Ok(()) } else { Err(FrameError::Credit { channel: self.channel }) }
    }
}
