//! What only the local store has; what all stores have in common is in the contract test.

use super::*;

#[tokio::test]
async fn leftovers_of_a_killed_writer_are_swept_and_those_of_a_living_one_are_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unfinished = folder.path().join(object_path::RESERVED_COMPONENT);
    std::fs::create_dir_all(&unfinished).expect("made");
    std::fs::write(unfinished.join("dead"), b"half").expect("written");
    let living = std::fs::File::create(unfinished.join("living")).expect("made");
    living.lock().expect("locked");

    LocalStore::open(folder.path()).expect("opens");

    assert!(!unfinished.join("dead").exists());
    assert!(unfinished.join("living").exists());
}

#[tokio::test]
async fn a_file_in_the_way_of_a_folder_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalStore::open(folder.path()).expect("opens");
    store.put("a", Bytes::from_static(b"1")).await.expect("written");
    let error = store.put("a/b", Bytes::from_static(b"2")).await.expect_err("`a` is a file");
    assert_eq!(error.kind, StoreErrorKind::Configuration);
    assert!(error.to_string().contains("a file stands where a folder is needed"), "{error}");
}

#[tokio::test]
async fn paths_cannot_leave_the_root() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalStore::open(&folder.path().join("root")).expect("opens");
    for path in ["../x", "/etc/x", "a/../../x"] {
        let error = store.put(path, Bytes::new()).await.expect_err(path);
        assert_eq!(error.kind, StoreErrorKind::Configuration);
        assert!(store.get(path).await.is_err());
        assert!(store.delete(&[path.to_owned()]).await.is_err());
    }
    assert!(!folder.path().join("x").exists());
}

#[tokio::test]
async fn a_root_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("file"), b"").expect("written");
    let error = LocalStore::open(&folder.path().join("file/root")).expect_err("below a file");
    assert_eq!(error.kind, StoreErrorKind::Configuration);
}

/// `/dev/full` answers every write with "no space left": the folder of unfinished files cannot be it, but what the
/// store says for that error is the same on every path through `classify`.
#[tokio::test]
async fn a_full_disk_is_reported_with_its_path() {
    use std::io::Write;
    let error = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .and_then(|mut full| full.write_all(b"x"))
        .expect_err("always full");
    let error = classify("write", "file:///data/x", Path::new("/data"), &error);
    assert_eq!(error.kind, StoreErrorKind::Configuration);
    assert!(error.to_string().contains("the disk that holds /data is full"), "{error}");
}
