//! A savepoint: a copy of one completed checkpoint that needs nothing else to go on from.
//!
//! ```text
//! <savepoint>/savepoint.json       this, written last: a folder without it is no savepoint
//! <savepoint>/state/..             the objects that its manifest names, by the same paths
//! ```
//! Paths are relative to the folder, which may be moved and copied. It names no transaction: everything before it is
//! committed, so whoever restores it owes the broker nothing (Flink's "canonical" and self-contained savepoints).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Manifest;

/// Name of the object that makes a folder a savepoint.
pub const SAVEPOINT_OBJECT: &str = "savepoint.json";

/// Version of the format. A reader takes every version up to its own.
pub const SAVEPOINT_VERSION: u32 = 1;

/// The content of `savepoint.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Savepoint {
    pub version: u32,
    /// Drawn when it was taken: tells it apart from any other one, wherever it lies.
    pub id: String,
    /// `namespace/name` of the job that it was taken of; for people.
    pub job: String,
    /// Wall clock of the coordinator, epoch ms.
    pub taken_at_ms: i64,
    /// Epochs as the job counted them. No transactions, no ids of any.
    pub manifest: Arc<Manifest>,
}

/// Why an object is not a savepoint that can be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SavepointError {
    #[error("it has format version {found}, this binary reads up to {SAVEPOINT_VERSION}: use a newer millstream")]
    Newer { found: u32 },
    #[error("it is not what was written: {reason}")]
    Corrupt { reason: String },
}

impl Savepoint {
    /// A savepoint of a completed checkpoint all of whose commits are done.
    #[must_use]
    pub fn of(id: String, job: String, taken_at_ms: i64, manifest: &Manifest) -> Self {
        let mut manifest = manifest.clone();
        manifest.committed_through = Some(manifest.epoch);
        manifest.transactions.clear();
        manifest.transactional_ids.clear();
        manifest.next_transactional_ids.clear();
        manifest.earlier_transactional_ids.clear();
        manifest.scale = None;
        manifest.restored_from = None;
        manifest.restored_savepoint = None;
        Self { version: SAVEPOINT_VERSION, id, job, taken_at_ms, manifest: Arc::new(manifest) }
    }

    /// Reads the content of `savepoint.json`.
    ///
    /// # Errors
    /// It is of a newer version, or no savepoint.
    pub fn parse(bytes: &[u8]) -> Result<Self, SavepointError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let corrupt = |error: serde_json::Error| SavepointError::Corrupt { reason: error.to_string() };
        // First the version alone: what a newer one holds may not be readable.
        let Versioned { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version == 0 || version > SAVEPOINT_VERSION {
            return Err(SavepointError::Newer { found: version });
        }
        serde_json::from_slice(bytes).map_err(corrupt)
    }
}
