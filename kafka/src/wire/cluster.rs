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
        Ok(Self { config, tls, brokers: BTreeMap::new(), connections: HashMap::new() })
    }

    /// Opens connections like this cluster's.
    pub(crate) fn opener(&self) -> Opener {
        Opener::new(self.config.clone(), self.tls.clone())
    }

    /// Asks whichever broker answers; one try each.
    pub(crate) fn ask_any<R: Request>(
        &mut self,
        request: &R,
        cap: i16,
        deadline: Deadline,
    ) -> Result<R::Response, KafkaError> {
        let mut addresses: Vec<String> = self.connections.keys().cloned().collect();
        addresses.extend(self.brokers.values().cloned());
        addresses.extend(self.config.servers());
        let mut tried: Vec<String> = Vec::new();
        let mut reasons = Vec::new();
        for address in addresses {
            if tried.contains(&address) {
                continue;
            }
            match self.ask(&address, request, cap, deadline) {
                Err(KafkaError::Unreachable { brokers, reason }) => reasons.push(format!("{brokers}: {reason}")),
                other => return other,
            }
            tried.push(address);
        }
        let brokers = self.config.bootstrap_servers.clone();
        Err(KafkaError::Unreachable { brokers, reason: reasons.join("; ") })
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
        let reused = self.connections.contains_key(address);
        let result = self.ask_once(address, request, cap, deadline);
        // An idle connection may have been closed by the broker long ago: that says nothing about the broker now.
        // All requests of this layer may be sent twice.
        match result {
            Err(KafkaError::Unreachable { .. }) if reused && !deadline.passed() => {
                self.ask_once(address, request, cap, deadline)
            }
            other => other,
        }
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
