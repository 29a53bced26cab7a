//! Building tasks: from what survived here, or from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::control::{Attempt, Deployment, Failure, FailureKind, Report};
use millstream_api::ids::{TaskId, key_group_range};
use millstream_api::log::{Manifest, Segment, SegmentContent, transactional_ids};
use millstream_store::{ObjectStore, StoreErrorKind};

use crate::broker::Identity;
use crate::job::{COUNT, COUNT_UID, SINK_UID, SOURCE, SOURCE_UID, group_of, uid};
use crate::sink::Sink;
use crate::task::{CountTask, Layer, Position, SourceTask, ended_inputs, owned};

use super::adopt::Record;
use super::transactions::initialise;
use super::{Done, Job, TRIES_MAX, Worker, transient};

/// What tasks start from.
#[derive(Debug)]
pub struct Restored {
    own: Vec<TaskId>,
    positions: Vec<Position>,
    layers: BTreeMap<u32, Layer>,
    producers: BTreeMap<u32, Vec<Identity>>,
}

/// Counts by task, as of a manifest.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    manifest: Option<Arc<Manifest>>,
    counts: BTreeMap<u32, BTreeMap<u32, u64>>,
}

impl Worker {
    /// Reads the states of tasks that are to be, from the newest manifest.
    pub(super) fn read_ahead(&self, attempt: Attempt, deployment: &Deployment) -> Job {
        let (store, job_path) = (Arc::clone(&self.store), self.job_path.clone());
        let (p, max, manifest) = (deployment.parallelism, deployment.max_parallelism, deployment.restore.clone());
        let own: Vec<u32> = deployment.own_tasks().filter(|task| task.vertex == COUNT).map(|task| task.index).collect();
        Box::pin(async move {
            let mut ahead = Ahead { manifest, counts: BTreeMap::new() };
            let Some(manifest) = ahead.manifest.clone() else { return Done::Ahead(attempt, Ok(ahead)) };
            for index in own {
                let groups = key_group_range(index, p, max);
                match load(store.as_ref(), &job_path, &manifest, None, groups, max).await {
                    Ok(counts) => drop(ahead.counts.insert(index, counts)),
                    Err(failure) => return Done::Ahead(attempt, Err(failure)),
                }
            }
            Done::Ahead(attempt, Ok(ahead))
        })
    }

    /// Replaces what is there by the tasks that are placed here. `ahead`: what was read for them beforehand.
    pub(super) fn deploy(&mut self, deployment: Deployment, ahead: Ahead) -> Job {
        let same = self.deployment.as_ref().is_some_and(|was| was.parallelism == deployment.parallelism);
        let epoch = deployment.restore.as_ref().map(|m| m.epoch);
        let own: Vec<TaskId> = if self.rules.own_by_placement {
            deployment.own_tasks().collect()
        } else {
            deployment.tasks.iter().copied().collect()
        };
        let known = self.record.shares_epochs(self.attempt.generation, epoch);
        let mut kept = BTreeMap::new();
        for task in own.iter().filter(|task| task.vertex == COUNT) {
            let survivor = self.counts.get_mut(&task.index).filter(|_| same && known);
            match epoch.and_then(|epoch| survivor?.layers.remove(&epoch)) {
                // Now and then the layer is over its bound and gone.
                Some(layer) if !self.random.next_u64().is_multiple_of(6) => {
                    self.hits.push("reset by undo layer");
                    kept.insert(task.index, layer);
                }
                _ => self.hits.push("reset from the store"),
            }
        }
        self.drop_tasks();
        self.deployed_in = self.attempt;
        self.record = Record::new(self.attempt, epoch);
        let job = self.restore(&deployment, own, kept, ahead);
        self.deployment = Some(deployment);
        job
    }

    /// Builds what tasks start from. `kept`: layers of survivors.
    fn restore(
        &mut self,
        deployment: &Deployment,
        own: Vec<TaskId>,
        kept: BTreeMap<u32, Layer>,
        mut ahead: Ahead,
    ) -> Job {
        let (client, run, store) = (self.client.clone(), self.run, Arc::clone(&self.store));
        // Where the topic stands now: another answer each time, until one is sealed.
        let (start, records) = (self.random.next_u64() % 4, self.plan.records_per_split);
        let fresh = (0..self.plan.splits).map(|split| Position { split, next: start, end: start + records });
        let of_manifest = deployment.restore.as_ref().and_then(|m| m.splits.get(&uid(SOURCE_UID)));
        let positions: Vec<Position> = match of_manifest {
            Some(splits) => splits.iter().map(Position::of).collect(),
            None => fresh.collect(),
        };
        let job_path = self.job_path.clone();
        let (p, max, manifest) = (deployment.parallelism, deployment.max_parallelism, deployment.restore.clone());
        let mut ids = transactional_ids(&deployment.graph, &deployment.job_uid, p, deployment.transaction_pool);
        let ids = ids.remove(&uid(SINK_UID)).expect("the sink of the simulated job is exactly-once");
        Box::pin(async move {
            let failed = |task, failure| Done::Broken(run, Report::TaskFailed { task, failure });
            let mut layers = kept;
            let mut producers = BTreeMap::new();
            for task in own.iter().filter(|t| t.vertex == COUNT) {
                if let (false, Some(manifest)) = (layers.contains_key(&task.index), &manifest) {
                    let groups = key_group_range(task.index, p, max);
                    let read = ahead.manifest.as_deref().zip(ahead.counts.remove(&task.index));
                    match load(store.as_ref(), &job_path, manifest, read, groups, max).await {
                        Ok(counts) => {
                            let watermarks = manifest.watermarks.get(&uid(COUNT_UID));
                            let watermark = watermarks.and_then(|w| w.iter().min()).copied().unwrap_or(i64::MIN);
                            layers.insert(task.index, Layer { counts, watermark, ended: false });
                        }
                        Err(failure) => return failed(*task, failure),
                    }
                }
                let mut pool = Vec::new();
                for k in 0..ids.pool {
                    match initialise(&client, ids.id(task.index, k)).await {
                        Ok(who) => pool.push(who),
                        Err(failure) => return failed(*task, failure),
                    }
                }
                producers.insert(task.index, pool);
            }
            Done::Restored(run, Box::new(Restored { own, positions, layers, producers }))
        })
    }

    pub(super) fn restored(&mut self, restored: Restored) {
        let Restored { own, positions, mut layers, mut producers } = restored;
        self.moves += 1;
        let Some(deployment) = &self.deployment else { return };
        let (p, max) = (deployment.parallelism, deployment.max_parallelism);
        let indexes = |vertex| own.iter().filter(move |t: &&TaskId| t.vertex == vertex).map(|t| t.index);
        self.sources = indexes(SOURCE).map(|i| (i, SourceTask::new(owned(&positions, i, p)))).collect();
        let is_finished = |index: &u32| !deployment.tasks.contains(&TaskId { vertex: SOURCE, index: *index });
        let finished: BTreeSet<u32> = (0..p).filter(is_finished).collect();
        let inputs = ended_inputs(&finished, p);
        // Segments start after what is restored, so a change of the first epoch counts as newer.
        let through = deployment.restore.as_ref().map(|m| m.epoch);
        let processing_time_ms = if self.rules.keep_processing_time { self.restored_time() } else { i64::MIN };
        self.counts = indexes(COUNT)
            .map(|index| {
                let pool = producers.remove(&index).unwrap_or_default();
                let sink = Sink::new(uid(SINK_UID), index, pool, self.rules);
                let layer = layers.remove(&index).unwrap_or(Layer { watermark: i64::MIN, ..Layer::default() });
                let mut count = CountTask::new(key_group_range(index, p, max), layer, &inputs, sink, self.rules);
                count.done_through = through;
                count.processing_time_ms = processing_time_ms;
                (index, count)
            })
            .collect();
        self.base.clone_from(&deployment.restore);
        if self.connect() {
            self.is_deployed();
        }
    }
}

/// `read`: what is known of an earlier manifest. Nothing is ever deleted here, so that whatever follows what both have in common
/// can be laid on it.
async fn load(
    store: &dyn ObjectStore,
    job_path: &str,
    manifest: &Manifest,
    read: Option<(&Manifest, BTreeMap<u32, u64>)>,
    own: std::ops::Range<u16>,
    max_parallelism: u32,
) -> Result<BTreeMap<u32, u64>, Failure> {
    let common = |segment: &Segment| segment.first_group.max(own.start)..segment.end_group.min(own.end);
    let of = |manifest: &Manifest| -> Vec<Segment> {
        let segments = manifest.tables.iter().flat_map(|table| &table.segments);
        segments.filter(|segment| !common(segment).is_empty()).cloned().collect()
    };
    let now = of(manifest);
    let before = read.as_ref().map_or_else(Vec::new, |(before, _)| of(before));
    let same = |(one, other): &(&Segment, &Segment)| one.epoch == other.epoch && one.content == other.content;
    let kept = before.iter().zip(&now).take_while(same).count();
    let mut counts = read.map(|(_, counts)| counts).unwrap_or_default();
    for segment in &now[kept..] {
        let groups = common(segment);
        let data = match &segment.content {
            SegmentContent::Inline { data } => data.clone().into_bytes(),
            SegmentContent::Object(object) => get(store, &format!("{job_path}/{}", object.path)).await?,
        };
        let rows: Vec<(u32, u64)> = serde_json::from_slice(&data)
            .map_err(|e| Failure { kind: FailureKind::Corrupt, message: e.to_string() })?;
        counts.extend(rows.into_iter().filter(|(key, _)| groups.contains(&group_of(*key, max_parallelism))));
    }
    Ok(counts)
}

async fn get(store: &dyn ObjectStore, path: &str) -> Result<Vec<u8>, Failure> {
    let mut last = transient("not tried");
    for _ in 0..TRIES_MAX {
        match store.get(path).await {
            Ok(data) => return Ok(data.to_vec()),
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                return Err(Failure { kind: FailureKind::Corrupt, message: error.to_string() });
            }
            Err(error) => last = transient(&error.to_string()),
        }
    }
    Err(last)
}
