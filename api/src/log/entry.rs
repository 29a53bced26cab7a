//! The envelope of an entry and its kinds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Manifest;
use crate::ids::{Epoch, Generation, Seq};

/// Version of the log's own format. An older binary refuses a newer one.
pub const LOG_VERSION: u32 = 1;

/// One object of the log, at `<storage>/<namespace>/<job>/log/<seq>`, written put-if-absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    pub version: u32,
    pub seq: Seq,
    /// The seq of the writer's own `start` entry.
    pub generation: Generation,
    /// Drawn anew for every put, so that a writer recognises its own entry after a lost reply.
    pub nonce: Nonce,
    /// Wall clock of the writer, for people.
    pub written_at_ms: i64,
    pub kind: EntryKind,
}

/// A random 128-bit value in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum EntryKind {
    /// A coordinator's term begins.
    Start(Start),
    /// An epoch is sealed. The permit to commit it.
    Manifest(Box<Manifest>),
    /// A sealed epoch is given up, because the broker gave up its transactions and nothing of it was published.
    Void { epoch: Epoch },
    /// The job ended or was stopped; the next owner needs no permission.
    Stopped { reason: StopReason, epoch: Option<Epoch> },
}

/// The first entry of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub owner: Owner,
    /// Where this coordinator can be reached, and the process that it is.
    pub address: Address,
    /// The manifest that this term restores, pinned against collection. `None`: a new job.
    pub restores: Option<Seq>,
}

/// Who may run a job: a Kubernetes resource, or a user's state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub String);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A coordinator's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub host: String,
    /// Host:port that it listens on, where it does.
    pub listen: Option<String>,
    pub process_id: u32,
    /// Tells a process from a later one with the same id: start time as the operating system states it.
    pub process_start: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// All input was read and everything is committed.
    Finished,
    /// A user stopped it; it can go on from the last manifest.
    Stopped,
    /// It failed and its restart attempts are used up.
    Failed,
}
