//! Opens connections that somebody else then reads and writes.

use std::sync::Arc;

use super::connection::{Connection, Opened};
use super::deadline::Deadline;
use crate::config::ClientConfig;
use crate::error::KafkaError;

/// What a connection to any broker of a cluster needs.
#[derive(Clone)]
pub(crate) struct Opener {
    config: ClientConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Opener {
    pub(super) fn new(config: ClientConfig, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { config, tls }
    }

    /// Connects, encrypts, asks for the versions, authenticates. Blocks until the deadline at most.
    pub(crate) fn open(&self, address: &str, deadline: Deadline) -> Result<Opened, KafkaError> {
        Ok(Connection::open(address, &self.config, self.tls.as_ref(), deadline)?.into_opened())
    }
}
