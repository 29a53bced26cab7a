//! One checkpoint or savepoint, opened for reading.

use std::sync::Arc;

use millstream_api::ids::Seq;
use millstream_api::log::{Manifest, TableManifest};
use millstream_coordinator::job::{LogView, Sealed, StoreProblemKind};
use millstream_coordinator::log::Log;
use millstream_coordinator::savepoint::Places;
use millstream_store::ObjectStore;
use millstream_worker::snapshot::{Segments, SnapshotError, table_spec};
use millstream_worker::state::TableSpec;

use crate::InspectError;

/// A checkpoint or savepoint.
#[derive(Clone, Debug)]
pub struct Stored {
    pub manifest: Arc<Manifest>,
    /// When it was sealed or taken, by the coordinator's wall clock, epoch ms.
    pub at_ms: i64,
    /// `namespace/name` of its job.
    pub job: String,
    pub segments: Segments,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Checkpoint { seq: Seq, log: Log },
    Savepoint,
}

/// What the log of the job at `job_path` retains.
///
/// # Errors
/// When the log cannot be read.
pub async fn checkpoints_of(store: &Arc<dyn ObjectStore>, job_path: &str) -> Result<LogView, InspectError> {
    let tail = Log::new(Arc::clone(store), job_path.to_owned()).read_tail().await?;
    Ok(LogView::of(&tail))
}

impl Stored {
    /// A checkpoint in a job's log.
    #[must_use]
    pub fn checkpoint(store: &Arc<dyn ObjectStore>, job_path: &str, sealed: &Sealed) -> Self {
        Self {
            manifest: Arc::clone(&sealed.manifest),
            at_ms: sealed.written_at_ms,
            job: job_path.to_owned(),
            segments: Segments::new(Arc::clone(store), job_path),
            place: Place::Checkpoint { seq: sealed.seq, log: Log::new(Arc::clone(store), job_path.to_owned()) },
        }
    }

    /// The savepoint in that place.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn savepoint(places: &Places, uri: &str) -> Result<Self, InspectError> {
        let (store, savepoint) = places.opened(uri).await?;
        Ok(Self {
            manifest: savepoint.manifest,
            at_ms: savepoint.taken_at_ms,
            job: savepoint.job,
            segments: Segments::new(store, ""),
            place: Place::Savepoint,
        })
    }

    /// Its number in the job's log. `None`: a savepoint.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        match &self.place {
            Place::Checkpoint { seq, .. } => Some(*seq),
            Place::Savepoint => None,
        }
    }

    /// For messages.
    #[must_use]
    pub fn title(&self) -> String {
        let (job, epoch) = (&self.job, self.manifest.epoch);
        match &self.place {
            Place::Checkpoint { seq, .. } => format!("checkpoint {seq} of {job}, epoch {epoch}"),
            Place::Savepoint => format!("savepoint of {job}, epoch {epoch}"),
        }
    }

    /// A table as the transform that wrote it had declared it.
    #[must_use]
    pub fn spec(&self, table: &TableManifest) -> TableSpec {
        table_spec(&self.manifest, table)
    }

    /// The time that decides what has expired: that of the checkpoint itself, so that the answer is the same tomorrow.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.manifest.processing_time_max_ms
    }

    /// What a failed read means: a running job drops checkpoints, and then their objects are missing for no bad reason.
    pub async fn explain(&self, error: InspectError) -> InspectError {
        let corrupt = matches!(&error, InspectError::Snapshot(SnapshotError::Corrupt { .. }));
        match self.seq().filter(|_| corrupt) {
            Some(seq) if self.was_dropped().await => InspectError::Dropped { seq: seq.0 },
            _ => error,
        }
    }

    /// Whether its entry has left the log since it was read.
    pub(crate) async fn was_dropped(&self) -> bool {
        let Place::Checkpoint { seq, log } = &self.place else { return false };
        let seq = *seq;
        matches!(log.read(seq).await, Err(problem) if problem.kind == StoreProblemKind::Corrupt)
            && matches!(log.read_tail().await, Ok(tail) if !tail.stored.contains(&seq))
    }
}
