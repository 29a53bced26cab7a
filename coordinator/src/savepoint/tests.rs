//! Copies on a local store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_api::ids::{Epoch, Generation};
use millstream_api::log::{Manifest, ObjectRef, Segment, SegmentContent, TableManifest};
use millstream_store::{LocalStore, ObjectStore};

use super::{Places, SavepointFailure};

const JOB: &str = "default/job";

fn object(path: &str, content: &[u8]) -> ObjectRef {
    ObjectRef { path: path.to_owned(), bytes: content.len() as u64, crc32c: crc32c::crc32c(content) }
}

/// A manifest with one object in two segments, one of its own and an inline one.
fn manifest() -> Manifest {
    let segment = |content| Segment { epoch: Epoch(3), first_group: 0, end_group: 8, rows: 1, content };
    let inline = SegmentContent::Inline { data: "AAAA".to_owned() };
    let shared = || SegmentContent::Object(object("state/aa/1-2-0.0-aa.parquet", b"shared"));
    let own = SegmentContent::Object(object("state/bb/1-3-0.0-bb.parquet", b"own"));
    let schema = || serde_json::from_str("[]").unwrap();
    let table = TableManifest {
        uid: serde_json::from_str("\"count\"").unwrap(),
        table: "groups".to_owned(),
        key: schema(),
        value: schema(),
        segments: [shared(), shared(), own, inline].map(segment).to_vec(),
    };
    Manifest { tables: vec![table], ..crate::job::fixture::manifest(3, vec![]) }
}

async fn job_store(folder: &std::path::Path) -> Arc<dyn ObjectStore> {
    let store = LocalStore::open(&folder.join("job")).unwrap();
    for (path, content) in [("state/aa/1-2-0.0-aa.parquet", "shared"), ("state/bb/1-3-0.0-bb.parquet", "own")] {
        store.put(&format!("{JOB}/{path}"), Bytes::from_static(content.as_bytes())).await.unwrap();
    }
    Arc::new(store)
}

fn contents(manifest: &Manifest) -> BTreeMap<&str, u64> {
    manifest.objects().map(|object| (object.path.as_str(), object.bytes)).collect()
}

#[tokio::test]
async fn a_savepoint_goes_on_elsewhere_when_all_else_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = job_store(folder.path()).await;
    let uri = folder.path().join("savepoint").to_string_lossy().into_owned();
    let (places, manifest) = (Places::default(), manifest());
    assert!(matches!(places.read(&uri).await, Err(SavepointFailure::None { .. })));
    assert!(!folder.path().join("savepoint").exists(), "looking makes no folder");
    places.check_target(&uri, "one").await.unwrap();
    assert_eq!(places.write(Arc::clone(&store), JOB, &manifest, (&uri, "one", 7)).await.unwrap(), 15);
    // Asked for again it is there, and another one is not written over it.
    assert_eq!(places.write(Arc::clone(&store), JOB, &manifest, (&uri, "one", 8)).await.unwrap(), 15);
    let other = places.write(store, JOB, &manifest, (&uri, "two", 9)).await;
    assert!(matches!(other, Err(SavepointFailure::Taken { id, .. }) if id == "one"));

    // Moved, and its job deleted.
    let moved = folder.path().join("moved");
    std::fs::rename(&uri, &moved).unwrap();
    std::fs::remove_dir_all(folder.path().join("job")).unwrap();
    let uri = moved.to_string_lossy().into_owned();
    let savepoint = places.read(&uri).await.unwrap();
    assert_eq!((savepoint.taken_at_ms, savepoint.job.as_str()), (7, JOB));
    assert!(savepoint.manifest.transactions.is_empty() && savepoint.manifest.transactional_ids.is_empty());
    let next: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(&folder.path().join("next")).unwrap());
    let there = (Arc::clone(&next), "default/next");
    let imported = places.import(&uri, &savepoint, there, (Generation(9), Epoch(4))).await.unwrap();
    assert_eq!(contents(&imported).len(), 2, "the shared one is one still");
    for object in imported.objects() {
        assert!(object.path.contains("/9-4-0.0-"), "{}", object.path);
        let bytes = next.get(&format!("default/next/{}", object.path)).await.unwrap();
        assert_eq!(crc32c::crc32c(&bytes), object.crc32c);
    }
}

#[tokio::test]
async fn what_is_damaged_or_gone_makes_no_savepoint() {
    let folder = tempfile::tempdir().unwrap();
    let store = job_store(folder.path()).await;
    let uri = folder.path().join("savepoint").to_string_lossy().into_owned();
    let path = folder.path().join("job").join(JOB).join("state/bb/1-3-0.0-bb.parquet");
    for (content, said) in [(&b"owm"[..], "its crc32c is"), (b"ow", "it has 2 bytes, 3 were written")] {
        std::fs::write(&path, content).unwrap();
        let failure = Places::default().write(Arc::clone(&store), JOB, &manifest(), (&uri, "one", 7)).await;
        assert!(failure.unwrap_err().to_string().contains(said));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Places::default().write(store, JOB, &manifest(), (&uri, "one", 7)).await.is_err());
    assert!(matches!(Places::default().read(&uri).await, Err(SavepointFailure::None { .. })));
}
