//! Copying objects from store to store: several at a time, within a bound of memory.

use std::sync::Arc;

use millstream_api::log::ObjectRef;
use millstream_store::ObjectStore;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::SavepointFailure;

/// Objects on their way at a time: enough to cover the time that a store takes to answer.
const OBJECTS_AT_ONCE_MAX: usize = 8;
/// Bytes of all of them, in memory between the two stores. A larger object goes alone.
const BYTES_AT_ONCE_MAX: u32 = 64 << 20;

/// One object, by its paths in both stores.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) object: ObjectRef,
}

/// Copies them all, or says what is wrong with the first that cannot be.
pub(super) async fn all(
    from: Arc<dyn ObjectStore>,
    to: Arc<dyn ObjectStore>,
    copies: Vec<Copy>,
) -> Result<(), SavepointFailure> {
    let room = Arc::new(Semaphore::new(BYTES_AT_ONCE_MAX as usize));
    let mut on_their_way = JoinSet::new();
    for copy in copies {
        if on_their_way.len() == OBJECTS_AT_ONCE_MAX {
            joined(on_their_way.join_next().await)?;
        }
        let bytes = u32::try_from(copy.object.bytes).unwrap_or(u32::MAX).min(BYTES_AT_ONCE_MAX);
        let taken = Arc::clone(&room).acquire_many_owned(bytes).await.expect("it is never closed");
        let (from, to) = (Arc::clone(&from), Arc::clone(&to));
        on_their_way.spawn(async move {
            let copied = one(&*from, &*to, &copy).await;
            drop(taken);
            copied
        });
    }
    while let Some(ended) = on_their_way.join_next().await {
        joined(Some(ended))?;
    }
    Ok(())
}

fn joined(ended: Option<Result<Result<(), SavepointFailure>, tokio::task::JoinError>>) -> Result<(), SavepointFailure> {
    match ended {
        None => Ok(()),
        Some(ended) => ended.unwrap_or_else(|error| {
            Err(SavepointFailure::Damaged { object: "an object".to_owned(), reason: error.to_string() })
        }),
    }
}

async fn one(from: &dyn ObjectStore, to: &dyn ObjectStore, copy: &Copy) -> Result<(), SavepointFailure> {
    let bytes = from.get(&copy.from).await?;
    let damaged =
        |reason: String| SavepointFailure::Damaged { object: format!("{} in {}", copy.from, from.describe()), reason };
    if bytes.len() as u64 != copy.object.bytes {
        return Err(damaged(format!("it has {} bytes, {} were written", bytes.len(), copy.object.bytes)));
    }
    let found = crc32c::crc32c(&bytes);
    if found != copy.object.crc32c {
        return Err(damaged(format!("its crc32c is {found:08x}, {:08x} was written", copy.object.crc32c)));
    }
    to.put(&copy.to, bytes).await?;
    Ok(())
}
