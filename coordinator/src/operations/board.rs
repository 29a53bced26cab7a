//! What the workers count, as they told it last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_api::ids::WorkerId;
use millstream_api::readings::TaskReadings;
use tokio::sync::watch;

/// All tasks of one worker at one moment.
pub type Readings = Arc<Vec<TaskReadings>>;

/// The newest readings of every worker. Whoever links a worker puts it here; nothing of it goes through the event loop.
#[derive(Clone, Debug, Default)]
pub struct Board {
    workers: Arc<Mutex<BTreeMap<WorkerId, watch::Receiver<Readings>>>>,
}

impl Board {
    pub(crate) fn register(&self, worker: WorkerId, readings: watch::Receiver<Readings>) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, readings);
    }

    pub(crate) fn remove(&self, worker: WorkerId) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }

    /// By worker.
    #[must_use]
    pub fn read(&self) -> Vec<(WorkerId, Readings)> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|(worker, readings)| (*worker, Arc::clone(&readings.borrow()))).collect()
    }
}
