//! What can go wrong with a store, and what the caller must do about it.

use thiserror::Error;

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// The store does not answer or is overloaded: the same call may go through later.
    Unavailable,
    /// A write was sent and its outcome is not known: read it back.
    Unknown,
    /// Wrong credentials, missing bucket, no permission, full disk, invalid setting: a person must act.
    Configuration,
    /// The object is there but is not what was written.
    Corrupt,
}

/// A failed call to a store.
#[derive(Debug, Error)]
#[error("failed to {verb} {object}: {reason}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// `read`, `write`, `list`, `delete`, `open`.
    pub verb: &'static str,
    /// Full name of the object or the store.
    pub object: String,
    pub reason: String,
}
