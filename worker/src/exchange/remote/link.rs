//! One connection: its channels, and the way of what arrives to them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{ArrowError, SchemaRef};
use http_body::Body as _;
use thiserror::Error;
use tonic::body::Body;

use super::Compression;
use super::cutter::Cutter;
use super::frame::{ChannelId, Frame, FrameError, Kind};
use super::inlet::{Inlet, InletShared};
use super::outbound::{Outbound, OutboundBody, outbound};
use super::outlet::{Outlet, OutletShared};
use crate::exchange::{Receiver, Sender};
use crate::metrics::ShuffleMetrics;
use crate::slot::Wake;

/// Why there is no connection, or no longer one.
#[derive(Debug, Error)]
pub enum LinkError {
    #[error("its address is not known")]
    NoAddress,
    #[error("failed to connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("refused at {address}: {reason}")]
    Refused { address: String, reason: String },
    #[error("no connection within {} s", .0.as_secs())]
    Late(Duration),
    #[error("closed by the other side")]
    Closed,
    #[error("broken: {reason}")]
    Broken { reason: String },
    #[error("closed because of what arrived: {0}")]
    Frame(#[from] FrameError),
}

/// The channels to another worker while they are made.
#[derive(Debug)]
pub struct LinkEnds {
    channels: Channels,
    body: OutboundBody,
    compression: Compression,
}

/// The connection's side of all its channels.
#[derive(Debug)]
pub(super) struct Channels {
    outbound: Outbound,
    outlets: HashMap<ChannelId, Arc<OutletShared>>,
    inlets: HashMap<ChannelId, Arc<InletShared>>,
}

impl LinkEnds {
    pub(super) fn new(compression: Compression, metrics: Arc<ShuffleMetrics>) -> Self {
        let (outbound, body) = outbound(metrics);
        let channels = Channels { outbound, outlets: HashMap::new(), inlets: HashMap::new() };
        Self { channels, body, compression }
    }

    /// The end of a channel whose receiver is there. The schema is that of its rows, on both sides.
    ///
    /// # Errors
    /// A type that Arrow's IPC does not have.
    pub fn sender(&mut self, id: ChannelId, schema: &SchemaRef, wake_sender: Wake) -> Result<Sender, ArrowError> {
        let outlet = Outlet::new(id, schema, self.compression, self.channels.outbound.clone(), wake_sender)?;
        self.channels.outlets.insert(id, Arc::clone(outlet.shared()));
        Ok(outlet.into())
    }

    /// The end of a channel whose sender is there.
    pub fn receiver(&mut self, id: ChannelId, schema: SchemaRef, wake_receiver: Wake) -> Receiver {
        let inlet = Inlet::new(id, schema, self.channels.outbound.clone(), wake_receiver);
        self.channels.inlets.insert(id, Arc::clone(inlet.shared()));
        inlet.into()
    }

    pub(super) fn into_parts(self) -> (Channels, OutboundBody) {
        (self.channels, self.body)
    }
}

impl Channels {
    pub(super) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Hands what arrives to its channels, until the connection ends.
    pub(super) async fn receive(&self, mut incoming: Body, metrics: &ShuffleMetrics) -> LinkError {
        let mut cutter = Cutter::default();
        loop {
            let next = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await;
            let arrived = match next {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        metrics.received(bytes.len());
                        self.arrived(&mut cutter, bytes)
                    }
                    // Trailers: the end comes next.
                    Err(_) => Ok(()),
                },
                Some(Err(status)) => return LinkError::Broken { reason: reason(&status) },
                None => match cutter.end() {
                    Ok(()) => return LinkError::Closed,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = arrived {
                metrics.frame_refused(error.rule());
                return LinkError::Frame(error);
            }
        }
    }

    fn arrived(&self, cutter: &mut Cutter, mut bytes: bytes::Bytes) -> Result<(), FrameError> {
        while let Some(frame) = cutter.take(&mut bytes)? {
            self.deliver(frame)?;
        }
        Ok(())
    }

    fn deliver(&self, frame: Frame) -> Result<(), FrameError> {
        let channel = frame.header.channel;
        let unknown = FrameError::Channel { channel };
        match frame.header.kind {
            Kind::Consumed => self.outlets.get(&channel).ok_or(unknown)?.consumed(channel, frame.consumed()?),
            _ => self.inlets.get(&channel).ok_or(unknown)?.arrived(frame),
        }
    }
}

/// What a status says, with the causes that it has.
pub(super) fn reason(status: &tonic::Status) -> String {
    let mut reason = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    reason
}
