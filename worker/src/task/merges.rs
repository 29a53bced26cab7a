//! Merges of a task's segments: asked for when a manifest has too many, run on the I/O threads, handed in with the
//! next acknowledgement.
//!
//! ```text
//! Running --> Done --acknowledged--> HandedIn --sealed--> gone
//!    |          ^------- aborted ------'
//!    +--> gone, when the store was away: the next manifest asks again
//! ```
//! Owns: one merge per table at a time, and in which epoch it stands. Does not own: what is merged (`snapshot`).

use std::ops::Range;
use std::sync::Arc;

use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::{Manifest, TableManifest, TableSnapshot, TaskSnapshot};
use millstream_store::StoreErrorKind;

use super::chain::Chain;
use crate::snapshot::{MergePlan, Merged, SegmentWriter, SnapshotError, inline_bytes, merge_plan};
use crate::state::TableSpec;

/// Segments of one table that are to become one.
#[derive(Debug)]
pub(crate) struct MergeRequest {
    pub(crate) writer: SegmentWriter,
    pub(crate) table: TableManifest,
    pub(crate) spec: TableSpec,
    pub(crate) groups: Range<u16>,
    pub(crate) plan: MergePlan,
    pub(crate) now_ms: i64,
    /// What the result may take in the manifest itself.
    pub(crate) inline_bytes_left: usize,
}

/// The merge's answer, for a table of a transform.
#[derive(Debug)]
pub(crate) struct MergeAnswer {
    pub(crate) uid: TransformUid,
    pub(crate) table: String,
    pub(crate) merged: Result<Merged, SnapshotError>,
}

/// The merges of one task.
#[derive(Debug, Default)]
pub(super) struct Merges {
    merges: Vec<Merge>,
}

#[derive(Debug)]
struct Merge {
    uid: TransformUid,
    spec: TableSpec,
    state: MergeState,
}

#[derive(Debug)]
enum MergeState {
    Running,
    Done(Merged),
    HandedIn(Merged, Epoch),
}

impl Merges {
    /// Looks at a new manifest: which of the task's tables want a merge.
    pub(super) fn plan(
        &mut self,
        manifest: &Arc<Manifest>,
        chain: &mut Chain,
        groups: &Range<u16>,
        writer: &SegmentWriter,
        now_ms: i64,
    ) -> Vec<MergeRequest> {
        let mut requests = Vec::new();
        for (uid, state) in chain.states() {
            for (_, spec) in state.tables() {
                if self.merges.iter().any(|m| m.uid == *uid && m.spec.name == spec.name) {
                    continue;
                }
                let table = manifest.tables.iter().find(|t| t.uid == *uid && t.table == spec.name);
                let Some((table, plan)) = table.and_then(|t| Some((t, merge_plan(t, groups)?))) else { continue };
                self.merges.push(Merge { uid: uid.clone(), spec: spec.clone(), state: MergeState::Running });
                requests.push(MergeRequest {
                    writer: writer.clone(),
                    table: table.clone(),
                    spec: spec.clone(),
                    groups: groups.clone(),
                    plan,
                    now_ms,
                    // The merged inline segments make room for what comes of them.
                    inline_bytes_left: inline_bytes(table, groups),
                });
            }
        }
        requests
    }

    /// A merge has ended. One for which the store was away is forgotten; the next manifest asks again.
    pub(super) fn answered(&mut self, answer: MergeAnswer) -> Result<(), SnapshotError> {
        let running =
            |m: &Merge| m.uid == answer.uid && m.spec.name == answer.table && matches!(m.state, MergeState::Running);
        let Some(at) = self.merges.iter().position(running) else { return Ok(()) };
        match answer.merged {
            Ok(merged) => {
                // Running => Done
                self.merges[at].state = MergeState::Done(merged);
                Ok(())
            }
            Err(error) => {
                self.merges.remove(at);
                match error {
                    // An object of the newest manifest that is gone or altered: the checkpoint is broken.
                    SnapshotError::Store(error)
                        if !matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Corrupt) =>
                    {
                        tracing::warn!(uid = %answer.uid, table = answer.table, %error, "segments were not merged");
                        Ok(())
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Puts what is done into the task's share of an epoch.
    pub(super) fn hand_in(&mut self, snapshot: &mut TaskSnapshot) {
        for merge in &mut self.merges {
            let MergeState::Done(merged) = &merge.state else { continue };
            let merged = merged.clone();
            let known = snapshot.tables.iter().position(|t| t.uid == merge.uid && t.table == merge.spec.name);
            let at = known.unwrap_or_else(|| {
                snapshot.tables.push(unchanged(&merge.uid, &merge.spec));
                snapshot.tables.len() - 1
            });
            merged.clone().apply(&mut snapshot.tables[at]);
            // Done => HandedIn
            merge.state = MergeState::HandedIn(merged, snapshot.epoch);
        }
    }

    pub(super) fn sealed(&mut self, epoch: Epoch) {
        self.merges.retain(|m| !matches!(m.state, MergeState::HandedIn(_, e) if e == epoch));
    }

    pub(super) fn aborted(&mut self, epoch: Epoch) {
        for merge in &mut self.merges {
            if let MergeState::HandedIn(merged, e) = &merge.state
                && *e == epoch
            {
                // HandedIn => Done: it goes in with the next one.
                merge.state = MergeState::Done(merged.clone());
            }
        }
    }
}

/// Bytes that the manifest holds inline of these key groups.
pub(super) fn inline_bytes_in(manifest: &Manifest, chain: &mut Chain, groups: &Range<u16>) -> usize {
    let mut bytes = 0;
    for (uid, _) in chain.states() {
        bytes += manifest.tables.iter().filter(|t| t.uid == *uid).map(|t| inline_bytes(t, groups)).sum::<usize>();
    }
    bytes
}

fn unchanged(uid: &TransformUid, spec: &TableSpec) -> TableSnapshot {
    TableSnapshot {
        uid: uid.clone(),
        table: spec.name.clone(),
        key: spec.key.clone(),
        value: spec.value.clone(),
        added: Vec::new(),
        replaced: Vec::new(),
        replaced_inline_through: None,
    }
}
