//! Keyed state of new tasks: what survived in this process, or segments from the store.

use std::collections::BTreeMap;
use std::ops::Range;

use millstream_api::ids::{Epoch, TaskId, TransformUid};
use millstream_api::log::Manifest;
use tokio::runtime::Handle;

use crate::snapshot::{Segments, SnapshotError};
use crate::state::{ChangeBatch, State, StateError, StatePart};
use crate::task::{Task, TaskError};

/// States of tasks that were suspended, with their undo layers.
///
/// A task of another deployment has other key groups: it takes what it can of each, by pointer.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    states: BTreeMap<(TaskId, TransformUid), State>,
}

impl Survivors {
    pub(super) fn extend(&mut self, more: Survivors) {
        self.states.extend(more.states);
    }

    /// What there is for a transform in a task that owns `groups`, as of `epoch`.
    pub(super) fn take(
        &mut self,
        task: TaskId,
        uid: &TransformUid,
        groups: &Range<u16>,
        epoch: Option<Epoch>,
    ) -> Result<Survived, StateError> {
        let Some(epoch) = epoch else { return Ok(Survived::default()) };
        let at = (task, uid.clone());
        if self.states.get(&at).is_some_and(|state| state.groups() == groups && state.can_roll_back(epoch)) {
            return Ok(Survived { whole: self.states.remove(&at), parts: Vec::new() });
        }
        let mut parts = Vec::new();
        for ((_, of), state) in &mut self.states {
            let shares = state.groups().start < groups.end && groups.start < state.groups().end;
            if of == uid && shares && state.can_roll_back(epoch) {
                parts.extend(state.split_off(groups, epoch)?);
            }
        }
        Ok(Survived { whole: None, parts })
    }
}

/// What survived of one transform in one task.
#[derive(Debug, Default)]
pub(super) struct Survived {
    /// All of it, with its undo layers.
    pub(super) whole: Option<State>,
    /// Some of its key groups, from tasks that had others.
    pub(super) parts: Vec<StatePart>,
}

impl Survived {
    /// The key groups of `groups` that are in no part.
    fn missing(&self, groups: &Range<u16>) -> Vec<Range<u16>> {
        let mut here: Vec<Range<u16>> = self.parts.iter().map(|part| part.groups().clone()).collect();
        here.sort_by_key(|range| range.start);
        let mut missing = Vec::new();
        let mut next = groups.start;
        for range in here {
            if next < range.start {
                missing.push(next..range.start);
            }
            next = next.max(range.end);
        }
        if next < groups.end {
            missing.push(next..groups.end);
        }
        missing
    }

    /// Fills the state of a transform: what is in no part is read from the segments that the manifest names.
    pub(super) async fn assemble(
        mut self,
        state: &mut State,
        uid: &TransformUid,
        manifest: &Manifest,
        segments: &Segments,
    ) -> Result<(), TaskError> {
        self.parts.retain(|part| part.fits(state.tables().map(|(_, spec)| spec)));
        for groups in self.missing(&state.groups().clone()) {
            load(state, uid, groups, manifest, segments).await?;
        }
        for part in self.parts {
            state.absorb(part)?;
        }
        state.loaded(manifest.epoch)?;
        Ok(())
    }
}

/// Takes the states of tasks. What may be half changed by a panic does not survive. The tasks themselves go beside
/// everything else: their clients say goodbye to brokers, which takes its time.
pub(super) fn dismantle(mut tasks: Vec<Task>, io: &Handle) -> Survivors {
    let mut survivors = Survivors::default();
    for task in &mut tasks {
        let id = task.id();
        survivors.states.extend(task.take_states().into_iter().map(|(uid, state)| ((id, uid), state)));
    }
    io.spawn_blocking(move || drop(tasks));
    survivors
}

/// Loads key groups of a transform's tables from the segments that the manifest names.
async fn load(
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
    Ok(())
}
