//! Which checkpoints stay, and what goes with those that do not (protocol section 10).

use std::collections::BTreeSet;

use millstream_api::ids::{Epoch, Generation, Seq};
use millstream_api::log::ObjectName;

use super::message::{Millis, StoredObject};
use super::view::LogView;

/// An object that no manifest names may belong to a put that is still on its way: it is left alone for a day.
pub const ORPHAN_AGE_MIN_MS: Millis = 24 * 60 * 60 * 1000;
/// And for this many checkpoint time-outs.
pub const ORPHAN_TIMEOUTS_MIN: u64 = 10;

/// What can be deleted now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superfluous {
    /// Entries of the log.
    pub entries: Vec<Seq>,
    /// State objects, relative to the job's path.
    pub objects: Vec<String>,
    /// The oldest manifest that stays.
    pub first_kept: Seq,
}

/// Keeps the newest `retained` manifests, and all back to the newest whose commits are recorded: until then an epoch
/// can still be given up (protocol section 6), and all back to `pinned`, which is being copied or read. `None`: nothing can go.
#[must_use]
pub fn superfluous(
    view: &LogView,
    retained: u32,
    committed_through: Option<Epoch>,
    pinned: Option<Seq>,
    generation: Generation,
) -> Option<Superfluous> {
    let sealed = view.sealed();
    let by_count = sealed.len().saturating_sub(retained.max(1) as usize);
    // Nothing recorded yet: everything stays.
    let by_commit = committed_through
        .map_or(0, |through| sealed.partition_point(|s| s.manifest.epoch <= through).saturating_sub(1));
    let by_pin = pinned.map_or(usize::MAX, |seq| sealed.partition_point(|s| s.seq < seq));
    below(view, by_count.min(by_commit).min(by_pin), generation)
}

/// What goes when the manifest at position `first` of those in effect is to be the oldest that stays. The `start` entry of
/// `generation` stays in any case. `None`: there is no such manifest.
#[must_use]
pub fn below(view: &LogView, first: usize, generation: Generation) -> Option<Superfluous> {
    let sealed = view.sealed();
    let first_kept = sealed.get(first)?.seq;
    let kept: BTreeSet<&str> =
        sealed[first..].iter().flat_map(|s| s.manifest.objects()).map(|o| o.path.as_str()).collect();
    let gone = sealed[..first].iter().chain(view.dropped());
    let objects: BTreeSet<String> = gone
        .flat_map(|s| s.manifest.objects().map(|o| o.path.clone()).collect::<Vec<_>>())
        .filter(|path| !kept.contains(path.as_str()))
        .collect();
    // The entry that says who rules stays as long as that term does.
    let entries: Vec<Seq> = view.stored().range(..first_kept).copied().filter(|seq| seq.0 != generation.0).collect();
    Some(Superfluous { entries, objects: objects.into_iter().collect(), first_kept })
}

/// Objects that no manifest names, old enough and of an older generation than `generation`. The age is by the store's clock,
/// which the newest object tells: this process's own may be days ahead of it, and tasks that another term deployed and this
/// one adopted go on writing objects under that term's number.
#[must_use]
pub fn orphans(
    view: &LogView,
    listed: &[StoredObject],
    generation: Generation,
    checkpoint_timeout_ms: Millis,
) -> Vec<String> {
    let age_min_ms = ORPHAN_AGE_MIN_MS.max(checkpoint_timeout_ms.saturating_mul(ORPHAN_TIMEOUTS_MIN));
    let manifests = view.sealed().iter().chain(view.dropped());
    let named: BTreeSet<&str> = manifests.flat_map(|s| s.manifest.objects()).map(|o| o.path.as_str()).collect();
    let newest_ms = listed.iter().map(|object| object.modified_ms).max().unwrap_or_default();
    let old_enough = |object: &&StoredObject| {
        u64::try_from(newest_ms.saturating_sub(object.modified_ms)).is_ok_and(|age_ms| age_ms >= age_min_ms)
    };
    listed
        .iter()
        .filter(|object| !named.contains(object.path.as_str()))
        .filter(|object| ObjectName::generation_of(&object.path).is_some_and(|of| of < generation))
        .filter(old_enough)
        .map(|object| object.path.clone())
        .collect()
}
