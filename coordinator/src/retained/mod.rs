//! The checkpoints in a job's log, for whoever looks at it from outside of the job.
//!
//! Owns: which are retained and what each holds alone, which one a start restores, whether the log is whole (`reading`),
//! releasing one (`release`). Does not own: collection while the job runs (`job::retention`), nor what is in the segments.

mod reading;
mod release;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::ids::{Epoch, Seq};
use millstream_api::log::{Manifest, ObjectRef, SegmentContent};

use crate::job::LogView;

pub use reading::{LogReading, UnreadEntry};
pub use release::{ReleaseError, Released, release};

/// A checkpoint in effect.
#[derive(Clone, Debug)]
pub struct Retained {
    pub seq: Seq,
    /// Wall clock of the coordinator that sealed it, epoch ms.
    pub written_at_ms: i64,
    pub manifest: Arc<Manifest>,
    /// Of objects that no other checkpoint in effect names, and of segments in its own log entry.
    pub own_bytes: u64,
    /// Of objects that others name, too.
    pub shared_bytes: u64,
    /// What its sinks prepared is committed, and the log says so.
    pub committed: bool,
}

/// The checkpoints in effect, oldest first.
#[must_use]
pub fn retained(view: &LogView) -> Vec<Retained> {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for sealed in view.sealed() {
        for path in objects_of(&sealed.manifest).keys() {
            *named.entry(path).or_default() += 1;
        }
    }
    let through = committed_through(view);
    let describe = |sealed: &crate::job::Sealed| {
        let (mut own_bytes, mut shared_bytes) = (inline_bytes(&sealed.manifest), 0);
        for (path, object) in objects_of(&sealed.manifest) {
            *if named[path] == 1 { &mut own_bytes } else { &mut shared_bytes } += object.bytes;
        }
        Retained {
            seq: sealed.seq,
            written_at_ms: sealed.written_at_ms,
            manifest: Arc::clone(&sealed.manifest),
            own_bytes,
            shared_bytes,
            committed: through.is_some_and(|through| sealed.manifest.epoch <= through),
        }
    };
    view.sealed().iter().map(describe).collect()
}

/// Bytes of all segments of the checkpoints in effect, each object once.
#[must_use]
pub fn stored_bytes(view: &LogView) -> u64 {
    let all: BTreeMap<&str, &ObjectRef> = view.sealed().iter().flat_map(|s| objects_of(&s.manifest)).collect();
    let inline: u64 = view.sealed().iter().map(|s| inline_bytes(&s.manifest)).sum();
    inline + all.values().map(|object| object.bytes).sum::<u64>()
}

fn inline_bytes(manifest: &Manifest) -> u64 {
    let segments = manifest.tables.iter().flat_map(|table| &table.segments);
    let bytes = segments.map(|segment| match &segment.content {
        SegmentContent::Inline { data } => data.len() as u64,
        SegmentContent::Object(_) => 0,
    });
    bytes.sum()
}

/// After a change of parallelism a manifest names an object once for each range of key groups.
fn objects_of(manifest: &Manifest) -> BTreeMap<&str, &ObjectRef> {
    manifest.objects().map(|object| (object.path.as_str(), object)).collect()
}

/// Epochs up to this one are committed, as far as the log says.
fn committed_through(view: &LogView) -> Option<Epoch> {
    let tip = &view.tip()?.manifest;
    if view.pending().is_empty() { Some(tip.epoch) } else { tip.committed_through }
}

#[cfg(test)]
mod tests;
