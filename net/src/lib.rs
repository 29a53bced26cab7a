//! Connections between the processes of a job: plain, or mutual TLS when certificates are given.
//!
//! Owns: certificates and their renewal, who a peer is and whether it may connect, taking connections in and making them, the
//! count of those refused. Does not own: what is said over a connection, and what its loss means.
//!
//! Without certificates anybody who reaches the port is heard: such a job belongs on one machine or in a closed network.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod connect;
mod files;
mod identity;
mod io;
mod listener;
mod pace;
mod refusal;
mod security;
mod verify;

pub use connect::{ConnectError, connect, with_causes};
pub use files::{TlsFileError, TlsFiles};
pub use identity::{Identity, IdentityError, Role, Roles};
pub use listener::{Connection, Incoming, Listener, Peer};
pub use pace::Pace;
pub use refusal::{Reason, RefusedConnections};
pub use security::{Security, SecurityError};

#[cfg(test)]
mod tests;
