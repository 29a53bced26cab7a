//! Where keyed state lives and how large it may be.

use std::path::PathBuf;

/// Where the rows of a [`State`] live and how much they may take.
#[derive(Clone, Debug)]
pub struct StateConfig {
    /// What messages call it: its transform and task.
    pub owner: String,
    pub backend: BackendConfig,
    /// Rows, keys and indexes of this state may take so much memory (or local disk).
    pub bytes_max: u64,
    /// Pre-images kept for roll back and for the snapshot in flight, in memory. Past it roll back to the epochs of now
    /// is given up, not the job: what is in flight is snapshotted at once, and only the keys of changed entries stay.
    pub undo_bytes_max: u64,
}

impl StateConfig {
    /// For state that holds nothing.
    pub(super) fn unbounded() -> Self {
        Self { owner: String::new(), backend: BackendConfig::Memory, bytes_max: u64::MAX, undo_bytes_max: u64::MAX }
    }
}

/// The backend.
#[derive(Clone, Debug)]
pub enum BackendConfig {
    Memory,
    /// `dir`: scratch folder of this state alone, emptied at open and removed when the state is dropped.
    Disk {
        dir: PathBuf,
    },
}
