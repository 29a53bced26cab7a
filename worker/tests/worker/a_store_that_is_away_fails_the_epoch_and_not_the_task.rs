//! The store does not answer for a while: epochs are declined, rows go on, and the next manifest has everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use millstream_store::{LocalStore, ObjectMeta, ObjectStore, PutOutcome, StoreError, StoreErrorKind};

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

/// A real store behind a cable that can be pulled.
#[derive(Debug)]
struct Pluggable {
    store: LocalStore,
    unplugged: AtomicBool,
}

impl Pluggable {
    fn check(&self, object: &str) -> Result<(), StoreError> {
        if !self.unplugged.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError {
            kind: StoreErrorKind::Unavailable,
            verb: "write",
            object: object.to_owned(),
            reason: "the cable is pulled".to_owned(),
        })
    }
}

#[async_trait]
impl ObjectStore for Pluggable {
    async fn put_if_absent(&self, path: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        self.check(path)?;
        self.store.put_if_absent(path, data).await
    }

    async fn put(&self, path: &str, data: Bytes) -> Result<(), StoreError> {
        self.check(path)?;
        self.store.put(path, data).await
    }

    async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.store.get(path).await
    }

    async fn get_part(&self, path: &str, offset: u64, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.store.get_part(path, offset, bytes_max).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        self.store.list(prefix, after).await
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StoreError> {
        self.store.delete(paths).await
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

#[test]
fn a_store_that_is_away_fails_the_epoch_and_not_the_task() {
    console::capture();
    let job = jobs::running("unplugged");
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&dir.path().join("store")).unwrap();
    let store = Arc::new(Pluggable { store, unplugged: AtomicBool::new(false) });
    let mut coordinator = Coordinator::with_store(&job.graph, 2, dir.path(), false, Arc::clone(&store) as _);
    coordinator.deploy(None);
    coordinator.wait_for_rows(ROWS as u64 / 4);
    store.unplugged.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(coordinator.declined_checkpoint().contains("the cable is pulled"));
    }
    store.unplugged.store(false, Ordering::SeqCst);
    coordinator.checkpoint();
    let manifest = coordinator.kill().unwrap();
    assert!(manifest.objects().count() > 0, "the state was to be too large for the manifest");
    let mut coordinator = Coordinator::new(&job.graph, 1, dir.path(), false);
    coordinator.deploy(Some(manifest));
    coordinator.finish();
    job.assert_printed();
}
