//! Keyed state of new tasks: what survived in this process, or segments from the store.

use std::collections::BTreeMap;
use std::ops::Range;

use millstream_api::ids::{Epoch, TaskId, TransformUid};
use millstream_api::log::Manifest;

use crate::snapshot::{Segments, SnapshotError};
use crate::state::{ChangeBatch, State, StateError};
use crate::task::{Task, TaskError};

/// States of tasks that were suspended, with their undo layers.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    states: BTreeMap<(TaskId, TransformUid), State>,
}

impl Survivors {
    pub(super) fn extend(&mut self, more: Survivors) {
        self.states.extend(more.states);
    }

    /// The state of a transform in a task, if it holds these key groups and can go back to `epoch`. Another one of it is
    /// let go.
    pub(super) fn take(
        &mut self,
        task: TaskId,
        uid: &TransformUid,
        groups: &Range<u16>,
        epoch: Option<Epoch>,
    ) -> Option<State> {
        let state = self.states.remove(&(task, uid.clone()))?;
        epoch.is_some_and(|e| state.groups() == groups && state.can_roll_back(e)).then_some(state)
    }
}

/// Ends tasks. What may be half changed by a panic does not survive.
pub(super) fn dismantle(tasks: Vec<Task>) -> Survivors {
    let mut survivors = Survivors::default();
    for task in tasks {
        if let (id, Some(chain)) = task.into_chain() {
            survivors.states.extend(chain.into_states().map(|(uid, state)| ((id, uid), state)));
        }
    }
    survivors
}

/// Loads the key groups of a transform's tables from the segments that the manifest names.
pub(super) async fn load(
    state: &mut State,
    uid: &TransformUid,
    groups: Range<u16>,
    manifest: &Manifest,
    segments: &Segments,
) -> Result<(), TaskError> {
    let tables: Vec<_> = state.tables().map(|(id, spec)| (id, spec.clone())).collect();
    for (id, spec) in &tables {
        let Some(table) = manifest.tables.iter().find(|t| t.uid == *uid && t.table == spec.name) else { continue };
        let mut failed: Option<StateError> = None;
        let load = |batch| {
            let changes = ChangeBatch { table: *id, batch };
            state.load(&changes).map_err(|e| {
                let reason = e.to_string();
                failed = Some(e);
                SnapshotError::Mismatch { uid: uid.clone(), table: spec.name.clone(), reason }
            })
        };
        let read = segments.read(table, spec, groups.clone(), load).await;
        // The state's own error says what the caller must do; the segment's wrapping of it does not.
        match (failed, read) {
            (Some(e), _) => return Err(e.into()),
            (None, read) => read?,
        }
    }
    state.loaded(manifest.epoch)?;
    Ok(())
}
