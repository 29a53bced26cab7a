//! What can go wrong when stored state is looked at.

use millstream_coordinator::job::{StoreProblem, StoreProblemKind};
use millstream_coordinator::savepoint::SavepointFailure;
use millstream_store::{StoreError, StoreErrorKind};
use millstream_worker::snapshot::SnapshotError;
use thiserror::Error;

/// A failed look.
#[derive(Debug, Error)]
pub enum InspectError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.message)]
    Log(StoreProblem),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The place, or what was asked of it, is not what the command is for.
    #[error("{0}")]
    Asked(String),
    /// A savepoint that cannot be read.
    #[error(transparent)]
    Savepoint(#[from] SavepointFailure),
    /// A checkpoint that went while it was read.
    #[error(
        "checkpoint {seq} was dropped by the running job while it was read: read a newer one, take a savepoint, or keep more \
         of them (spec.checkpoint.retained)"
    )]
    Dropped { seq: u64 },
    /// A statement that the engine refuses.
    #[error("{0}")]
    Sql(String),
}

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectErrorKind {
    /// Ask for something else.
    Asked,
    /// Something outside must be put right.
    Environment,
    /// What is stored is not what was written.
    Damaged,
}

impl InspectError {
    /// What the caller must do.
    #[must_use]
    pub fn kind(&self) -> InspectErrorKind {
        use InspectErrorKind::{Asked, Damaged, Environment};
        match self {
            Self::Asked(_) | Self::Sql(_) | Self::Savepoint(SavepointFailure::None { .. }) => Asked,
            Self::Store(error) | Self::Savepoint(SavepointFailure::Store(error))
                if error.kind == StoreErrorKind::Corrupt =>
            {
                Damaged
            }
            Self::Log(problem) if problem.kind == StoreProblemKind::Corrupt => Damaged,
            Self::Snapshot(
                SnapshotError::Corrupt { .. } | SnapshotError::Mismatch { .. } | SnapshotError::Encode { .. },
            )
            | Self::Savepoint(SavepointFailure::Unreadable { .. } | SavepointFailure::Damaged { .. }) => Damaged,
            Self::Snapshot(SnapshotError::Store(error)) if error.kind == StoreErrorKind::Corrupt => Damaged,
            Self::Store(_) | Self::Savepoint(_) | Self::Log(_) | Self::Snapshot(_) | Self::Dropped { .. } => {
                Environment
            }
        }
    }
}

impl From<StoreProblem> for InspectError {
    fn from(problem: StoreProblem) -> Self {
        Self::Log(problem)
    }
}
