//! A small blocking client of Kafka's protocol.
//!
//! Owns: connections, TLS, SASL, versions, correlation. Does not own: what is asked, and records; who carries them takes over
//! a connection once it is open. It blocks with bounded timeouts, so it runs on I/O threads, never on a slot's.

mod cluster;
mod connection;
mod deadline;
mod opener;
mod sasl;
mod scram;
mod tls;

pub(crate) use cluster::Cluster;
pub(crate) use connection::{Breaker, Connection, Opened, SocketOptions};
pub use deadline::Deadline;
pub(crate) use opener::Opener;
pub(crate) use tls::client_config;

use kafka_protocol::protocol::StrBytes;

/// Text in the codec's own type.
pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}
