//! The envelope of an entry and its kinds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Manifest, TransactionalIds};
use crate::ids::{Epoch, Generation, Seq, TransformUid};

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
    /// Nonce of the entry at `seq - 1`. An entry that a stale writer put where the real one had been pruned has the wrong
    /// neighbours, and so is no part of the log.
    pub previous: Option<Nonce>,
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
    /// Written by a restart between finishing and fencing: fencing makes a finished transaction look like one that the
    /// broker gave up, so that it is finished must be known before.
    Settled(Settled),
    /// The job ended or was stopped; the next owner needs no permission.
    /// `committed_through`: sealed epochs up to this one are committed, recorded here.
    Stopped { reason: StopReason, epoch: Option<Epoch>, committed_through: Option<Epoch> },
}

/// What a restart found and is about to use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Everything that the manifest of this epoch left uncommitted is committed. `None`: there is no manifest.
    pub epoch: Option<Epoch>,
    /// Ids that this term may use from here on, beside those before.
    pub transactional_ids: BTreeMap<TransformUid, TransactionalIds>,
    /// Of the ids in the log before this entry, only the newest may have a transaction open: the others were fenced.
    #[serde(default)]
    pub fenced: bool,
}

/// The first entry of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub owner: Owner,
    /// Where this coordinator can be reached, and the process that it is.
    pub address: Address,
    /// The manifest that this term restores, pinned against collection. `None`: a new job.
    pub restores: Option<Seq>,
    /// Names the log in transactional ids, before the generation; drawn with its first entry, repeated by every `start`.
    pub job_uid: String,
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
