//! States of tasks that are to take over, read from the store beside what runs (design note 0017).
//!
//! Key groups that a task of this process has go over by pointer when the time comes. The others are read from the newest
//! manifest already, and at the switch only what has changed since. Owns: which key groups are read ahead, reading them, what
//! was read. Does not own: what follows at the switch (`restore`), nor when that is (`staged`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use millstream_api::control::Deployment;
use millstream_api::ids::{TaskId, TransformId, TransformUid, key_group_range};
use millstream_api::log::Manifest;
use millstream_api::readings::TaskReadings;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::deploy::{has_tables, own_config};
use super::restore::{load, uncovered};
use super::{StateBackend, blocking};
use crate::snapshot::Segments;
use crate::state::{State, StateConfig};
use crate::task::TaskError;
use crate::transform::Transform;
use crate::transform::build::{self, BuildContext};

/// The state of a transform in a task that is to be.
pub(super) struct Preloaded {
    pub(super) state: State,
    /// It declared the state's tables.
    pub(super) transform: Box<dyn Transform>,
    pub(super) read: ReadAhead,
}

/// By task and transform; those of which nothing had to be read are not in it.
pub(super) type PreloadedStates = BTreeMap<(TaskId, TransformUid), Preloaded>;

/// What such a state holds.
#[derive(Clone, Debug)]
pub(super) struct ReadAhead {
    /// As of this one.
    pub(super) manifest: Arc<Manifest>,
    /// Ascending; the other ones are to come by pointer.
    pub(super) groups: Vec<Range<u16>>,
}

impl ReadAhead {
    /// Whether what was read can be brought to this manifest. The line of both is the same: what is prepared is let go with the
    /// attempt that it was asked for in, and within one every manifest builds on the one before.
    pub(super) fn leads_to(&self, manifest: &Manifest) -> bool {
        self.manifest.epoch <= manifest.epoch && self.manifest.max_parallelism == manifest.max_parallelism
    }
}

/// What is to be read for one state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    task: TaskId,
    transform: TransformId,
    groups: Vec<Range<u16>>,
    /// What goes over by pointer will take about so much beside it.
    bytes_by_pointer: u64,
}

/// What is to be read of `manifest` for a deployment on this worker, beside what `running` has of it.
pub(super) fn shares(
    deployment: &Deployment,
    manifest: &Manifest,
    backend: &StateBackend,
    running: Option<(&Deployment, &[TaskReadings])>,
) -> Vec<Share> {
    let vertices = deployment.graph.vertices();
    let running = running.filter(|(running, _)| running.graph_hash == deployment.graph_hash);
    let mut shares = Vec::new();
    for task in deployment.own_tasks() {
        let groups = groups_of(deployment, task);
        let here: Vec<(TaskId, Range<u16>)> = running.map_or_else(Vec::new, |(running, _)| {
            let same = running.own_tasks().filter(|other| other.vertex == task.vertex);
            same.map(|other| (other, groups_of(running, other))).collect()
        });
        if here.iter().any(|(other, range)| *other == task && *range == groups) {
            // It keeps its states whole.
            continue;
        }
        let by_pointer: &[_] = if *backend == StateBackend::Memory { &here } else { &[] };
        let missing = uncovered(&groups, by_pointer.iter().map(|(_, range)| range.clone()).collect());
        for id in &vertices[task.vertex.0 as usize].transforms {
            let transform = deployment.graph.transform(*id);
            if !has_tables(transform) || !stores(manifest, &transform.uid, &missing) {
                continue;
            }
            let readings = running.map_or(&[][..], |(_, readings)| readings);
            let bytes_by_pointer = by_pointer
                .iter()
                .map(|(other, range)| bytes_in(readings, *other, &transform.uid, range, &groups))
                .sum();
            shares.push(Share { task, transform: *id, groups: missing.clone(), bytes_by_pointer });
        }
    }
    shares
}

fn groups_of(deployment: &Deployment, task: TaskId) -> Range<u16> {
    key_group_range(task.index, deployment.parallelism, deployment.max_parallelism)
}

/// Whether the manifest has something of the transform in these key groups.
fn stores(manifest: &Manifest, uid: &TransformUid, groups: &[Range<u16>]) -> bool {
    let mut segments = manifest.tables.iter().filter(|table| table.uid == *uid).flat_map(|table| &table.segments);
    segments
        .any(|segment| groups.iter().any(|range| segment.first_group < range.end && range.start < segment.end_group))
}

/// About what a task's state takes of the key groups that `range`, its own, has in common with `groups`: as of its last
/// checkpoint, and taking keys to be spread evenly, as the shares of the budget do.
fn bytes_in(
    readings: &[TaskReadings],
    task: TaskId,
    uid: &TransformUid,
    range: &Range<u16>,
    groups: &Range<u16>,
) -> u64 {
    let common = range.end.min(groups.end).saturating_sub(range.start.max(groups.start));
    let tables = readings.iter().filter(|reading| reading.task == task).filter_map(|reading| reading.tables.get(uid));
    let bytes: u64 = tables.flatten().map(|table| table.bytes).sum();
    let part = u128::from(bytes) * u128::from(common) / (range.len().max(1) as u128);
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// What all states are read with.
pub(super) struct Reader {
    pub(super) deployment: Deployment,
    pub(super) manifest: Arc<Manifest>,
    pub(super) segments: Segments,
    pub(super) state_config: StateConfig,
    pub(super) io: Handle,
}

impl Reader {
    /// Reads all shares, some at once, each on a thread of its own: decoding takes its time, and the threads that do I/O carry
    /// what runs. Once `stop` is told or closed nobody waits for it, and it ends between two segments.
    pub(super) async fn read(
        self: Arc<Self>,
        shares: Vec<Share>,
        at_once: usize,
        stop: watch::Receiver<()>,
    ) -> Result<PreloadedStates, TaskError> {
        let permits = Arc::new(Semaphore::new(at_once.max(1)));
        let mut reading = JoinSet::new();
        for share in shares {
            let (reader, permits, mut stop) = (Arc::clone(&self), Arc::clone(&permits), stop.clone());
            let one = async move {
                let _permit = permits.acquire_owned().await.map_err(|e| TaskError::Bug { reason: e.to_string() })?;
                let io = reader.io.clone();
                let on_thread = move || {
                    reader.io.block_on(async {
                        tokio::select! {
                            biased;
                            _ = stop.changed() => Ok(None),
                            loaded = reader.load(share) => loaded.map(Some),
                        }
                    })
                };
                blocking(&io, on_thread).await?
            };
            reading.spawn_on(one, &self.io);
        }
        let mut states = PreloadedStates::new();
        while let Some(done) = reading.join_next().await {
            match done.map_err(|panic| TaskError::Bug { reason: panic.to_string() }).flatten() {
                Ok(loaded) => states.extend(loaded),
                Err(error) => {
                    self.io.spawn_blocking(move || drop(states));
                    return Err(error);
                }
            }
        }
        Ok(states)
    }

    async fn load(&self, share: Share) -> Result<((TaskId, TransformUid), Preloaded), TaskError> {
        let Share { task, transform, groups, bytes_by_pointer } = share;
        let graph = &self.deployment.graph;
        let transform = graph.transform(transform);
        let config = own_config(&self.state_config, transform, task);
        let mut state = State::open(&config, groups_of(&self.deployment, task))?;
        let cx = BuildContext { graph, max_parallelism: self.deployment.max_parallelism };
        let built = build::build(transform, &cx, &mut state)?;
        for range in &groups {
            load(&mut state, &transform.uid, range, None, &self.manifest, &self.segments).await?;
            millstream_fault::reach("while-preloading");
        }
        state.check_room_for(bytes_by_pointer)?;
        let read = ReadAhead { manifest: Arc::clone(&self.manifest), groups };
        Ok(((task, transform.uid.clone()), Preloaded { state, transform: built, read }))
    }
}
