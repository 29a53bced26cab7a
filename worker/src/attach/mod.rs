//! A worker's life with the coordinators of a job over the network.
//!
//! A session with every coordinator stands all the time: one of them rules, the others stand by, and whoever commands in the
//! newest generation is the one that rules. While none is heard the tasks go on: only a coordinator ends them. Owns:
//! registering, heartbeats, carrying commands in and reports out, leaving politely. Does not own: what commands mean
//! (`runtime`).

mod hub;
mod session;

use std::time::Duration;

use millstream_api::control::WorkerSettings;
pub use millstream_net::Pace;
use millstream_net::Security;
use thiserror::Error;
use tokio::sync::watch;

use crate::runtime::Worker;
use hub::Hub;

mod calls {
    #![allow(clippy::all)]
    tonic::include_proto!("millstream.control.v1");
}

/// How a worker presents itself.
#[derive(Clone, Debug)]
pub struct AttachConfig {
    /// `host:port` of each coordinator of the job; one of them rules.
    pub coordinators: Vec<String>,
    /// `<namespace>/<name>`; empty: whatever job they have.
    pub job: String,
    pub slots: u32,
    /// Where others send rows to; `None`: nowhere.
    pub shuffle: Option<ShuffleAddress>,
    /// What people know it by.
    pub name: String,
    /// Coordinators of another version refuse it.
    pub version: String,
    pub pace: Pace,
    pub security: Security,
    /// How long tasks may take to move away when the process is asked to stop.
    pub drain_timeout: Duration,
}

/// Where a worker takes rows from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShuffleAddress {
    /// `None`: the address by which this machine reaches the coordinator that it registers with.
    pub host: Option<String>,
    pub port: u16,
}

/// The version of this binary, which its coordinators must have.
#[must_use]
pub fn own_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Why a worker's life ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The coordinator says that the job is over.
    JobOver,
    /// It was asked to stop, and nothing of the job was left here.
    Released,
    /// It was asked to stop, and its tasks had not moved in time.
    NotReleased,
}

/// Why a worker ends although its job goes on.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("no coordinator is given: name at least one, as host:port")]
    NoCoordinator,
    /// No coordinator wants it, and none will.
    #[error("{}", refusals(.0))]
    Refused(Vec<(String, String)>),
    /// What `start` says.
    #[error("{0}")]
    Start(String),
    #[error("the worker's threads have ended (a defect of Millstream)")]
    ThreadsEnded,
}

fn refusals(refusals: &[(String, String)]) -> String {
    let one = |(coordinator, reason): &(String, String)| {
        format!("the coordinator at {coordinator} refused this worker: {reason}")
    };
    refusals.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Serves the job until it is over, or until `leave` turns true and the tasks have moved. `start` makes the worker with what
/// the first coordinator says of the job.
///
/// # Errors
/// Refusals, or what `start` says.
pub async fn run(
    config: AttachConfig,
    leave: watch::Receiver<bool>,
    start: impl AsyncFnOnce(WorkerSettings) -> Result<Worker, String>,
) -> Result<Parting, AttachError> {
    if config.coordinators.is_empty() {
        return Err(AttachError::NoCoordinator);
    }
    let mut hub = Hub::new(config);
    let parting = hub.run(leave, start).await;
    hub.close().await;
    parting
}
