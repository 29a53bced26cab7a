//! Keyed state of new tasks: what survived in this process, what was read ahead of time, or segments from the store.

use std::collections::BTreeMap;
use std::ops::Range;

use millstream_api::ids::{Epoch, TaskId, TransformUid};
use millstream_api::log::Manifest;
use tokio::runtime::Handle;

use super::preload::ReadAhead;
use crate::snapshot::{Difference, Segments, SnapshotError, difference};
use crate::state::{ChangeBatch, State, StateError, StatePart, TableId};
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
    /// Fills the state of a transform. `read`: what it has of an earlier manifest, for which only what changed since is read.
    /// What is neither in that nor in a part is read from the segments that the manifest names.
    pub(super) async fn assemble(
        mut self,
        state: &mut State,
        read: Option<ReadAhead>,
        uid: &TransformUid,
        manifest: &Manifest,
        segments: &Segments,
    ) -> Result<(), TaskError> {
        self.parts.retain(|part| part.fits(state.tables().map(|(_, spec)| spec)));
        let mut here: Vec<Range<u16>> = self.parts.iter().map(|part| part.groups().clone()).collect();
        for ahead in read.iter().flat_map(|read| &read.groups) {
            forget_covered(state, ahead, &here)?;
        }
        let before = read.as_ref().map(|read| &*read.manifest);
        let ahead = read.iter().flat_map(|read| &read.groups).flat_map(|groups| uncovered(groups, here.clone()));
        let ahead: Vec<Range<u16>> = ahead.collect();
        for groups in &ahead {
            load(state, uid, groups, before, manifest, segments).await?;
        }
        here.extend(ahead);
        for groups in uncovered(&state.groups().clone(), here) {
            load(state, uid, &groups, None, manifest, segments).await?;
        }
        for part in self.parts {
            state.absorb(part)?;
        }
        state.loaded(manifest.epoch)?;
        Ok(())
    }
}

/// Takes out what was read ahead of key groups that come by pointer all the same.
fn forget_covered(state: &mut State, ahead: &Range<u16>, here: &[Range<u16>]) -> Result<(), StateError> {
    let tables: Vec<TableId> = state.tables().map(|(id, _)| id).collect();
    for range in here {
        let covered = range.start.max(ahead.start)..range.end.min(ahead.end);
        if !covered.is_empty() {
            tables.iter().try_for_each(|table| state.forget(*table, &covered))?;
        }
    }
    Ok(())
}

/// The key groups of `groups` that are in none of the ranges.
pub(super) fn uncovered(groups: &Range<u16>, mut ranges: Vec<Range<u16>>) -> Vec<Range<u16>> {
    ranges.sort_by_key(|range| range.start);
    let mut left = Vec::new();
    let mut next = groups.start;
    for range in ranges {
        if next < range.start.min(groups.end) {
            left.push(next..range.start.min(groups.end));
        }
        next = next.max(range.end);
    }
    if next < groups.end {
        left.push(next..groups.end);
    }
    left
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

/// Loads key groups of a transform's tables from the segments that the manifest names. `before`: the manifest as of which the
/// state has them already.
pub(super) async fn load(
    state: &mut State,
    uid: &TransformUid,
    groups: &Range<u16>,
    before: Option<&Manifest>,
    manifest: &Manifest,
    segments: &Segments,
) -> Result<(), TaskError> {
    let tables: Vec<_> = state.tables().map(|(id, spec)| (id, spec.clone())).collect();
    for (id, spec) in &tables {
        let of = |m: &'_ Manifest| m.tables.iter().position(|t| t.uid == *uid && t.table == spec.name);
        let was = before.and_then(|m| Some(&*m.tables[of(m)?].segments)).unwrap_or_default();
        let Some(table) = of(manifest).map(|at| &manifest.tables[at]) else {
            if !was.is_empty() {
                state.forget(*id, groups)?;
            }
            continue;
        };
        let Difference { stale, newer } = difference(was, &table.segments, groups);
        stale.iter().try_for_each(|range| state.forget(*id, range))?;
        let mut failed: Option<StateError> = None;
        let load = |batch| {
            let changes = ChangeBatch { table: *id, batch };
            state.load(&changes).map_err(|e| {
                let reason = e.to_string();
                failed = Some(e);
                SnapshotError::Mismatch { uid: uid.clone(), table: spec.name.clone(), reason }
            })
        };
        let read = segments.read(table, spec, &newer, load).await;
        // The state's own error says what the caller must do; the segment's wrapping of it does not.
        match (failed, read) {
            (Some(e), _) => return Err(e.into()),
            (None, read) => read?,
        }
    }
    Ok(())
}
