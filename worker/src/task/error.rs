//! Why a task ended, and what the coordinator must do about it.

use millstream_api::control::{Failure, FailureKind};
use millstream_store::{StoreError, StoreErrorKind};
use thiserror::Error;

use crate::exchange::ExchangeError;
use crate::expr::{EvalError, ExprError};
use crate::sink::SinkError;
use crate::snapshot::SnapshotError;
use crate::source::SourceError;
use crate::state::StateError;
use crate::transform::TransformError;
use crate::transform::build::BuildError;

/// A failed task.
#[derive(Debug, Error)]
pub enum TaskError {
    #[error(transparent)]
    Transform(#[from] TransformError),
    #[error("table {table}: {source}")]
    Source { table: String, source: SourceError },
    #[error("table {table}: {source}")]
    Sink { table: String, source: SinkError },
    /// A computed column or the watermark of a source, for some row.
    #[error("table {table}, {place}: {source}")]
    Evaluation { table: String, place: String, source: EvalError },
    #[error("table {table}, {place}: {source}")]
    Expression { table: String, place: String, source: ExprError },
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(
        "table {table}: event-time column {column} is NULL; a row without event time cannot be placed in time: filter such records out before, or make the column NOT NULL in the data"
    )]
    NullEventTime { table: String, column: String },
    #[error(
        "table {table}: column {column} is NOT NULL but a row has NULL there; to drop such rows set 'table.exec.sink.not-null-enforcer' = 'DROP'"
    )]
    NullInSink { table: String, column: String },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Restore(#[from] SnapshotError),
    /// Batches that do not fit each other: a defect.
    #[error("failed to route rows: {0} (a defect of Millstream)")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// The same row would not fit again.
    #[error("failed to send rows to another worker: {0}")]
    RowTooLarge(ExchangeError),
    #[error("{reason} (a defect of Millstream)")]
    Bug { reason: String },
}

impl TaskError {
    /// What the coordinator is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure { kind: self.kind(), message: self.to_string() }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Transform(TransformError::UserData { .. }) => FailureKind::UserData,
            Self::Evaluation { source, .. } => match source {
                EvalError::UserData(_) => FailureKind::UserData,
                EvalError::Kernel(_) => FailureKind::Bug,
            },
            Self::Expression { .. } | Self::Build(BuildError::Unsupported { .. }) => FailureKind::User,
            Self::Build(BuildError::State(e)) => state_kind(e),
            Self::NullEventTime { .. } | Self::NullInSink { .. } | Self::RowTooLarge(_) => FailureKind::UserData,
            Self::Transform(TransformError::State(e)) | Self::State(e) => state_kind(e),
            Self::Source { source, .. } => match source {
                SourceError::Decode { .. } => FailureKind::UserData,
                SourceError::User { .. } => FailureKind::User,
                SourceError::Refused { .. } => FailureKind::Refused,
                SourceError::State { .. } => FailureKind::State,
                SourceError::Transient { .. } => FailureKind::Transient,
            },
            Self::Sink { source, .. } => match source {
                SinkError::UserData { .. } => FailureKind::UserData,
                SinkError::User { .. } => FailureKind::User,
                SinkError::Refused { .. } => FailureKind::Refused,
                SinkError::Transient { .. } => FailureKind::Transient,
            },
            Self::Restore(e) => restore_kind(e),
            Self::Transform(TransformError::Bug { .. }) | Self::Arrow(_) | Self::Bug { .. } => FailureKind::Bug,
        }
    }
}

impl From<ExchangeError> for TaskError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Arrow(error) => Self::Arrow(error),
            ExchangeError::RowTooLarge { .. } => Self::RowTooLarge(error),
        }
    }
}

fn state_kind(error: &StateError) -> FailureKind {
    match error {
        StateError::Disk { .. } => FailureKind::Transient,
        StateError::Mismatch { .. } => FailureKind::State,
        StateError::Full(_) | StateError::Limit { .. } | StateError::DiskFull { .. } => FailureKind::User,
        StateError::Bug { .. } => FailureKind::Bug,
    }
}

/// What a write of a segment that failed means for its epoch.
pub(super) fn refused_write(error: &StoreError) -> Failure {
    let kind = match error.kind {
        StoreErrorKind::Corrupt => FailureKind::Corrupt,
        StoreErrorKind::Configuration => FailureKind::User,
        StoreErrorKind::NotFound | StoreErrorKind::Unavailable | StoreErrorKind::Unknown => FailureKind::Transient,
    };
    Failure { kind, message: error.to_string() }
}

fn restore_kind(error: &SnapshotError) -> FailureKind {
    match error {
        SnapshotError::Corrupt { .. } => FailureKind::Corrupt,
        SnapshotError::Mismatch { .. } => FailureKind::State,
        SnapshotError::Spool { .. } => FailureKind::User,
        SnapshotError::Encode { .. } => FailureKind::Bug,
        SnapshotError::Store(e) => match e.kind {
            // An object that a manifest names and that is not there is a broken checkpoint, not a passing trouble.
            StoreErrorKind::NotFound | StoreErrorKind::Corrupt => FailureKind::Corrupt,
            StoreErrorKind::Unavailable | StoreErrorKind::Unknown => FailureKind::Transient,
            StoreErrorKind::Configuration => FailureKind::User,
        },
    }
}
