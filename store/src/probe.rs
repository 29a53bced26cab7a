//! The start-up probe: does the store keep the promises on which a job rests?
//!
//! Owns: one small round of calls that a job makes once before it starts. Does not own: what happens later.

use crate::{ObjectStore, PutOutcome, StoreError, StoreErrorKind};
use bytes::Bytes;

/// Puts the same key twice, reads, lists and deletes it.
///
/// # Errors
/// What a call answers (wrong credentials, missing bucket, no such host); `Configuration` when the store does not keep
/// what it promises, above all when it lets the second conditional put overwrite the first: exactly-once rests on it.
pub async fn probe(store: &dyn ObjectStore) -> Result<(), StoreError> {
    let mut nonce = [0_u8; 12];
    getrandom::fill(&mut nonce).expect("the system's random source works once the process runs");
    let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("probe/{nonce}");
    let outcome = rounds(store, &path).await;
    let removed = store.delete(std::slice::from_ref(&path)).await;
    outcome.and(removed)
}

async fn rounds(store: &dyn ObjectStore, path: &str) -> Result<(), StoreError> {
    let first = Bytes::from_static(b"first");
    // Either answer is fine: after a lost reply the retry finds its own object.
    store.put_if_absent(path, first.clone()).await?;
    let second = store.put_if_absent(path, Bytes::from_static(b"second")).await?;
    let found = store.get(path).await?;
    if second != PutOutcome::Exists || found != first {
        return Err(broken(
            store,
            "it ignores conditional puts (If-None-Match: *), so two coordinators could overwrite each other's \
             checkpoints: use a server that honours them",
        ));
    }
    if !store.list("probe/", None).await?.iter().any(|object| object.path == path) {
        return Err(broken(store, "it does not list an object that it has just stored: use a consistent store"));
    }
    Ok(())
}

fn broken(store: &dyn ObjectStore, reason: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Configuration,
        verb: "use",
        object: format!("store {}", store.describe()),
        reason: reason.to_owned(),
    }
}
