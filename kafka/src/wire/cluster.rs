//! The brokers of a cluster: which to ask, and a connection to each that was asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Request;

use super::connection::Connection;
use super::deadline::Deadline;
use super::opener::Opener;
use super::tls;
use crate::config::ClientConfig;
use crate::error::{ErrorKind, KafkaError};

/// From version 10 on an answer holds the topics' ids. 13 changes nothing that is used here.
const METADATA_VERSION: i16 = 12;

/// A client of the whole cluster.
pub(crate) struct Cluster {
    config: ClientConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// Node id -> `host:port`, as the last metadata said.
    brokers: BTreeMap<i32, String>,
    connections: HashMap<String, Connection>,
    /// Did not answer when they were asked last, in that order.
    unreachable: Vec<String>,
}

impl Cluster {
    /// Reads certificates; connects to nothing yet.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        if config.servers().is_empty() {
            return Err(KafkaError::Setting {
                name: "bootstrap.servers".to_owned(),
                reason: "it names no broker".to_owned(),
            });
        }
        let tls = config.security.tls.as_ref().map(tls::client_config).transpose()?;
        Ok(Self { config, tls, brokers: BTreeMap::new(), connections: HashMap::new(), unreachable: Vec::new() })
    }

    /// Opens connections like this cluster's.
    pub(crate) fn opener(&self) -> Opener {
        Opener::new(self.config.clone(), self.tls.clone())
    }

    /// Asks whichever broker answers; one try each. Who did not answer last time is asked last: one that hangs would take
    /// the time of all others, again and again.
    pub(crate) fn ask_any<R: Request>(
        &mut self,
        request: &R,
        cap: i16,
        deadline: Deadline,
    ) -> Result<R::Response, KafkaError> {
        let mut reasons = Vec::new();
        for address in self.addresses() {
            match self.ask(&address, request, cap, deadline) {
                Err(KafkaError::Unreachable { brokers, reason }) => reasons.push(format!("{brokers}: {reason}")),
                other => return other,
            }
        }
        let brokers = self.config.bootstrap_servers.clone();
        Err(KafkaError::Unreachable { brokers, reason: reasons.join("; ") })
    }

    /// Whom to ask, in this order.
    fn addresses(&mut self) -> Vec<String> {
        let known = self.connections.keys().chain(self.brokers.values()).cloned().chain(self.config.servers());
        let mut addresses = Vec::new();
        for address in known {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        self.unreachable.retain(|unreachable| addresses.contains(unreachable));
        addresses.sort_by_key(|address| self.unreachable.iter().position(|unreachable| unreachable == address));
        addresses
    }

    /// Asks whichever broker answers, again until the deadline while none can be reached.
    pub(crate) fn ask_any_until<R: Request>(
        &mut self,
        request: &R,
        cap: i16,
        deadline: Deadline,
    ) -> Result<R::Response, KafkaError> {
        let mut retries = deadline.retries();
        loop {
            match self.ask_any(request, cap, deadline) {
                Err(e) if e.kind() == ErrorKind::Retry && retries.wait() => {}
                other => return other,
            }
        }
    }

    /// Asks the broker at `address`. After an error its connection is closed.
    pub(crate) fn ask<R: Request>(
        &mut self,
        address: &str,
        request: &R,
        cap: i16,
        deadline: Deadline,
    ) -> Result<R::Response, KafkaError> {
        let (reused, in_time) = (self.connections.contains_key(address), !deadline.passed());
        let result = self.ask_once(address, request, cap, deadline);
        // An idle connection may have been closed by the broker long ago: that says nothing about the broker now.
        // All requests of this layer may be sent twice.
        let result = match result {
            Err(KafkaError::Unreachable { .. }) if reused && !deadline.passed() => {
                self.ask_once(address, request, cap, deadline)
            }
            other => other,
        };
        // Whose turn came too late was not asked.
        if in_time {
            self.unreachable.retain(|unreachable| unreachable != address);
            if let Err(KafkaError::Unreachable { .. }) = result {
                self.unreachable.push(address.to_owned());
            }
        }
        result
    }

    fn ask_once<R: Request>(
        &mut self,
        address: &str,
        request: &R,
        cap: i16,
        deadline: Deadline,
    ) -> Result<R::Response, KafkaError> {
        let mut connection = match self.connections.remove(address) {
            Some(connection) => connection,
            None => Connection::open(address, &self.config, self.tls.as_ref(), deadline)?,
        };
        connection.set_deadline(deadline);
        let response = connection.call(request, cap)?;
        self.connections.insert(address.to_owned(), connection);
        Ok(response)
    }

    /// The newest version of `R`, at most `cap`, that a broker which answers speaks.
    pub(crate) fn version<R: Request>(&self, cap: i16) -> Option<i16> {
        self.connections.values().next().and_then(|c| c.version::<R>(cap).ok())
    }

    /// Topics, their partitions' leaders, and the brokers' addresses, which are kept for [`Self::address_of`].
    pub(crate) fn metadata(
        &mut self,
        request: &MetadataRequest,
        deadline: Deadline,
    ) -> Result<MetadataResponse, KafkaError> {
        let response = self.ask_any_until(request, METADATA_VERSION, deadline)?;
        self.brokers =
            response.brokers.iter().map(|b| (b.node_id.0, format!("{}:{}", b.host.as_str(), b.port))).collect();
        Ok(response)
    }

    /// Where a broker listens, as the last metadata said.
    pub(crate) fn address_of(&self, node_id: i32) -> Option<String> {
        self.brokers.get(&node_id).cloned()
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        &self.config.bootstrap_servers
    }
}
