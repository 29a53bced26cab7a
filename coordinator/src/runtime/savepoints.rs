//! Store calls of savepoints, beside the event loop: a copy takes as long as the state is large.

use std::sync::Arc;

use millstream_api::ids::{Epoch, Generation};
use millstream_api::log::{Manifest, Savepoint};

use super::{Clock, StoreCalls};
use crate::job::{Event, SavepointRequest};

impl StoreCalls {
    pub(super) fn copy_savepoint(&self, clock: Clock, request: SavepointRequest, manifest: Arc<Manifest>) {
        let (places, store, job_path) = (self.places.clone(), Arc::clone(&self.store), self.job_path.clone());
        self.answer(async move {
            let now = i64::try_from(clock.now()).unwrap_or(i64::MAX);
            let what = (request.target.as_str(), request.id.as_str(), now);
            let copied = places.write(store, &job_path, &manifest, what).await;
            Event::SavepointCopied { id: request.id.clone(), copied: copied.map_err(|failure| failure.to_string()) }
        });
    }

    pub(super) fn read_savepoint(&self, uri: String) {
        let places = self.places.clone();
        self.answer(async move {
            let read = places.read(&uri).await;
            Event::SavepointRead { read: read.map(Box::new).map_err(|failure| failure.problem()) }
        });
    }

    pub(super) fn import_savepoint(
        &self,
        uri: String,
        savepoint: Arc<Savepoint>,
        epoch: Epoch,
        generation: Generation,
    ) {
        let (places, store, job_path) = (self.places.clone(), Arc::clone(&self.store), self.job_path.clone());
        self.answer(async move {
            let imported = places.import(&uri, &savepoint, (store, &job_path), (generation, epoch)).await;
            Event::SavepointImported { imported: imported.map(Box::new).map_err(|failure| failure.problem()) }
        });
    }
}
