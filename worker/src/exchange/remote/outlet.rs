//! The sending end of a channel whose receiver is in another worker.
//!
//! The slot's thread makes the frames; the connection writes them. What was sent and is not yet reported as consumed is
//! in flight, and judged by the same credit as a channel within the process. What a transform emits beyond that waits
//! here, so that the receiver never gets more than it must have room for.
//! Owns: the frames that wait for credit, and the ledger of those in flight. Does not own: the connection (`link`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use super::Compression;
use super::frame::{self, ChannelId, FrameError};
use super::outbound::Outbound;
use super::rows::RowsEncoder;
use crate::element::Element;
use crate::exchange::ExchangeError;
use crate::exchange::credit::{Credit, ELEMENTS_MAX, Settling};
use crate::slot::Wake;

/// The task's side.
#[derive(Debug)]
pub(crate) struct Outlet {
    channel: ChannelId,
    encoder: RowsEncoder,
    shared: Arc<OutletShared>,
}

/// The connection's side: it hears what the receiver consumed.
#[derive(Debug)]
pub(super) struct OutletShared {
    credit: Credit,
    flight: Mutex<Flight>,
    outbound: Outbound,
}

#[derive(Debug, Default)]
struct Flight {
    /// Sent and not consumed, oldest first.
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    /// Elements consumed since the beginning, as the receiver last said.
    consumed: u64,
    settling: Settling,
    /// Beyond the credit, oldest first: what one call of a transform emitted, and what came behind it.
    held: VecDeque<(Sent, Bytes)>,
}

/// What the ledger keeps of an element.
#[derive(Debug)]
struct Sent {
    /// 0 for control elements.
    bytes: usize,
    /// When rows were pushed.
    since: Option<Instant>,
}

impl Outlet {
    pub(super) fn new(
        channel: ChannelId,
        schema: &SchemaRef,
        compression: Compression,
        outbound: Outbound,
        wake_sender: Wake,
    ) -> Result<Self, ArrowError> {
        let encoder = RowsEncoder::new(channel, schema, compression)?;
        let shared = OutletShared { credit: Credit::new(wake_sender), flight: Mutex::default(), outbound };
        Ok(Self { channel, encoder, shared: Arc::new(shared) })
    }

    pub(super) fn shared(&self) -> &Arc<OutletShared> {
        &self.shared
    }

    pub(crate) fn has_room(&self) -> bool {
        self.shared.credit.has_room()
    }

    pub(crate) fn push(&mut self, element: Element) -> Result<(), ExchangeError> {
        let shared = &self.shared;
        match &element {
            Element::Batch(batch) => {
                let since = Some(Instant::now());
                self.encoder
                    .encode(batch, |rows| shared.push(Sent { bytes: rows.credit_bytes.max(1), since }, rows.bytes))
            }
            control => {
                if let Some(frame) = frame::control(self.channel, control) {
                    shared.push(Sent { bytes: 0, since: None }, frame);
                }
                Ok(())
            }
        }
    }
}

impl OutletShared {
    fn push(&self, sent: Sent, frame: Bytes) {
        self.credit.pushed(sent.bytes);
        let mut flight = self.flight.lock().expect("nothing panics while it holds the lock");
        if flight.held.is_empty() && self.may_go(&flight, &sent) {
            self.go(&mut flight, sent, frame);
        } else {
            flight.held.push_back((sent, frame));
        }
    }

    /// The receiver said that its task has taken so many elements since the beginning.
    pub(super) fn consumed(&self, channel: ChannelId, elements: u64) -> Result<(), FrameError> {
        let mut flight = self.flight.lock().expect("nothing panics while it holds the lock");
        let flight = &mut *flight;
        let news = elements.checked_sub(flight.consumed).filter(|news| *news <= flight.sent.len() as u64);
        let Some(news) = news else {
            let sent = flight.consumed + flight.sent.len() as u64;
            let reason = format!("{elements} elements consumed of {sent}, after {}", flight.consumed);
            return Err(FrameError::Payload { channel, reason });
        };
        flight.consumed = elements;
        for _ in 0..news {
            let Some(Sent { bytes, since }) = flight.sent.pop_front() else { break };
            flight.sent_bytes -= bytes;
            self.credit.consumed(&mut flight.settling, bytes, since.map(|s| s.elapsed()));
        }
        while let Some((sent, frame)) = flight.held.pop_front() {
            if !self.may_go(flight, &sent) {
                flight.held.push_front((sent, frame));
                break;
            }
            self.go(flight, sent, frame);
        }
        Ok(())
    }

    /// As for a channel within the process: while less than the budget is under way, or nothing at all.
    fn may_go(&self, flight: &Flight, sent: &Sent) -> bool {
        let fits = flight.sent_bytes == 0 || flight.sent_bytes < self.credit.budget_bytes();
        sent.bytes == 0 || fits && flight.sent.len() < ELEMENTS_MAX
    }

    fn go(&self, flight: &mut Flight, sent: Sent, frame: Bytes) {
        flight.sent_bytes += sent.bytes;
        flight.sent.push_back(sent);
        self.outbound.send(frame);
    }
}
