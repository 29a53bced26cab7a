//! Channels between workers: one connection per pair of them, all channels in it.
//!
//! A connection is one call in both directions (`dial`, `server`), begun by the worker with the larger id when the
//! deployment is built, and ended with it. Frames (`frame`, `rows`) go through the connection in the order in which they
//! were pushed (`outbound`); what arrives is handed to its channel at once (`link`), so that no channel waits for another's
//! receiver. What a channel may have in flight is its credit (`outlet`, `inlet`).
//! Owns: the connections, their frames, the credit across them. Does not own: which channels there are (`runtime::wiring`),
//! what follows from a connection that breaks (the coordinator).

mod cutter;
mod dial;
mod frame;
mod hello;
mod inlet;
mod link;
mod outbound;
mod outlet;
mod reception;
mod rows;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_api::ids::WorkerId;
use millstream_net::Security;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::metrics::ShuffleMetrics;
pub use frame::{ChannelId, FRAME_BYTES_MAX, FrameError, FrameRule};
pub use hello::Party;
pub(super) use inlet::Inlet;
use link::Channels;
pub use link::{LinkEnds, LinkError};
use outbound::Outbound;
pub(super) use outlet::Outlet;
use reception::Reception;
pub use rows::Compression;

/// A worker waits so long for the connection to another one: both are told to deploy at about the same time, but one may
/// still be busy with the end of the deployment before.
const LINK_UP_MAX: Duration = Duration::from_secs(30);

/// How rows go to other workers and come from them.
#[derive(Clone, Debug, Default)]
pub struct ShuffleConfig {
    /// Where the others reach this worker. `None`: it is on its own.
    pub listener: Option<Arc<std::net::TcpListener>>,
    pub compression: Compression,
    pub security: Security,
}

/// A worker's side of the shuffle, for its whole life.
#[derive(Debug)]
pub struct Shuffle {
    reception: Arc<Reception>,
    compression: Compression,
    security: Security,
    metrics: Arc<ShuffleMetrics>,
    io: Handle,
}

/// What became of the connection to another worker.
#[derive(Debug)]
pub enum LinkNews {
    Up {
        peer: WorkerId,
    },
    /// It never came up, or broke.
    Down {
        peer: WorkerId,
        error: LinkError,
    },
}

/// The connections of one deployment. Dropping it closes them without a word.
#[derive(Debug)]
pub struct Links {
    reception: Arc<Reception>,
    party: Party,
    outbound: Vec<Outbound>,
    /// One task per connection: it ends with it.
    _tasks: JoinSet<()>,
}

impl Shuffle {
    /// Begins to listen, if there is a listener.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn start(config: &ShuffleConfig, metrics: Arc<ShuffleMetrics>, io: &Handle) -> std::io::Result<Self> {
        let reception = Arc::new(Reception::new(LINK_UP_MAX, Arc::clone(&metrics)));
        if let Some(listener) = &config.listener {
            server::serve(listener, &config.security, Arc::clone(&reception), io)?;
        }
        let security = config.security.clone();
        Ok(Self { reception, compression: config.compression, security, metrics, io: io.clone() })
    }

    /// The channels to one other worker, none yet.
    #[must_use]
    pub fn ends(&self) -> LinkEnds {
        LinkEnds::new(self.compression, Arc::clone(&self.metrics))
    }

    /// Connects to the other workers of a deployment: dials those with a smaller id at their addresses, and awaits the
    /// others. `tell` hears of each one once it is up, and once when it is not, or no longer.
    pub fn link_up(
        &self,
        party: Party,
        ends: BTreeMap<WorkerId, LinkEnds>,
        addresses: &BTreeMap<WorkerId, String>,
        tell: impl Fn(LinkNews) + Clone + Send + 'static,
    ) -> Links {
        let mut tasks = JoinSet::new();
        let mut outbound = Vec::with_capacity(ends.len());
        let mut awaited = BTreeMap::new();
        for (peer, ends) in ends {
            let (channels, body) = ends.into_parts();
            outbound.push(channels.outbound().clone());
            let link = Link { peer, channels, metrics: Arc::clone(&self.metrics), tell: tell.clone() };
            if peer < party.worker {
                let address = addresses.get(&peer).cloned();
                tasks.spawn_on(link.dial(address, party.clone(), body, self.security.clone()), &self.io);
            } else {
                let (expected, arrival) = reception::awaited(body);
                awaited.insert(peer, expected);
                tasks.spawn_on(link.await_call(arrival), &self.io);
            }
        }
        self.reception.open(party.clone(), awaited);
        Links { reception: Arc::clone(&self.reception), party, outbound, _tasks: tasks }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.reception.close(&self.party);
        self.outbound.iter().for_each(Outbound::end);
    }
}

/// The connection to one worker, from its beginning to its end.
struct Link<T> {
    peer: WorkerId,
    channels: Channels,
    metrics: Arc<ShuffleMetrics>,
    tell: T,
}

impl<T: Fn(LinkNews)> Link<T> {
    async fn dial(self, address: Option<String>, party: Party, body: outbound::OutboundBody, security: Security) {
        let dial = async {
            let address = address.ok_or(LinkError::NoAddress)?;
            dial::dial(&address, &party, self.peer, body, &security).await
        };
        let dialled = tokio::time::timeout(LINK_UP_MAX, dial).await.unwrap_or(Err(LinkError::Late(LINK_UP_MAX)));
        match dialled {
            // The client keeps the connection.
            Ok((_client, incoming)) => self.receive(incoming).await,
            Err(error) => self.down(error),
        }
    }

    async fn await_call(self, arrival: reception::Arrival) {
        match tokio::time::timeout(LINK_UP_MAX, arrival).await {
            Ok(Ok(incoming)) => self.receive(incoming).await,
            // The reception was closed.
            Ok(Err(_)) => self.down(LinkError::Closed),
            Err(_) => self.down(LinkError::Late(LINK_UP_MAX)),
        }
    }

    async fn receive(self, incoming: tonic::body::Body) {
        let _open = ShuffleMetrics::connected(&self.metrics);
        (self.tell)(LinkNews::Up { peer: self.peer });
        let error = self.channels.receive(incoming, &self.metrics).await;
        self.down(error);
    }

    fn down(&self, error: LinkError) {
        self.channels.outbound().end();
        (self.tell)(LinkNews::Down { peer: self.peer, error });
    }
}

#[cfg(test)]
mod tests;
