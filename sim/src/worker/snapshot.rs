//! Epochs as the tasks of a worker live them: trigger, snapshot, upload, acknowledgement, sealed or given up.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::control::{Mutation, Report};
use millstream_api::graph::Schema;
use millstream_api::ids::{Epoch, TaskId};
use millstream_api::log::{
    Manifest, ObjectName, ObjectRef, Segment, SegmentContent, SnapshotTiming, TableSnapshot, TaskSnapshot,
    transactional_ids,
};
use millstream_store::ObjectStore;

use crate::job::{COUNT, COUNT_UID, SOURCE, SOURCE_UID, TABLE, uid};
use crate::task::{Change, Element, Position};

use super::transactions::commit;
use super::{Done, Job, TRIES_MAX, Worker, transient};

impl Worker {
    pub(super) fn trigger(&mut self, epoch: Epoch, mutation: Mutation) -> Vec<Job> {
        if self.suspended {
            return Vec::new();
        }
        let Some(deployment) = &self.deployment else { return Vec::new() };
        let p = deployment.parallelism;
        self.record.epoch_max = self.record.epoch_max.max(Some(epoch));
        self.record.stopping |= mutation != Mutation::None;
        if mutation == Mutation::Drain {
            self.end_sources(p);
        }
        let live: Vec<u32> = self.sources.iter().filter(|(_, source)| !source.ended).map(|(index, _)| *index).collect();
        for (from, to) in live.into_iter().flat_map(|from| (0..p).map(move |to| (from, to))) {
            self.route(from, to, Element::Barrier(epoch));
        }
        let mut snapshots = Vec::new();
        for (index, source) in &mut self.sources {
            source.stopped |= mutation == Mutation::Stop;
            snapshots.push(TaskSnapshot {
                task: TaskId { vertex: SOURCE, index: *index },
                epoch,
                finished: source.ended,
                watermark: source.watermark(),
                processing_time_max_ms: i64::MIN,
                tables: Vec::new(),
                operator_state: BTreeMap::new(),
                splits: [(uid(SOURCE_UID), source.positions.iter().map(Position::stored).collect())].into(),
                transactions: Vec::new(),
                transactional_ids: BTreeMap::new(),
                timing: SnapshotTiming::default(),
            });
        }
        for snapshot in snapshots {
            self.report_deployed(Report::Acknowledged(Box::new(snapshot)));
        }
        for count in self.counts.values_mut() {
            count.triggered = Some(epoch);
        }
        let declines = self.chance(40) && self.running;
        if let Some(index) = self.counts.keys().next().copied().filter(|_| declines) {
            self.hits.push("declined");
            let task = TaskId { vertex: COUNT, index };
            self.report_deployed(Report::Declined { task, epoch, failure: transient("simulated") });
        }
        self.pump()
    }

    /// All input ends here, whatever the splits still have.
    fn end_sources(&mut self, parallelism: u32) {
        let live = self.sources.iter_mut().filter(|(_, source)| !source.ended);
        let ending: Vec<u32> = live
            .map(|(index, source)| {
                source.ended = true;
                *index
            })
            .collect();
        for (from, to) in ending.iter().copied().flat_map(|from| (0..parallelism).map(move |to| (from, to))) {
            self.route(from, to, Element::Watermark(i64::MAX));
            self.route(from, to, Element::End);
        }
        for index in ending {
            self.report_deployed(Report::EndOfInput { task: TaskId { vertex: SOURCE, index } });
        }
    }

    pub(super) fn sealed(&mut self, manifest: &Arc<Manifest>) -> Vec<Job> {
        if self.suspended {
            return Vec::new();
        }
        if self.record.note_sealed(manifest) {
            let is_over = |index| manifest.finished_tasks.contains(&TaskId { vertex: SOURCE, index });
            self.sources.retain(|index, _| !is_over(*index));
        }
        self.base = Some(Arc::clone(manifest));
        let mut jobs = Vec::new();
        for (index, count) in &mut self.counts {
            // A task that has decided the epoch already takes no notice.
            if !count.sealed(manifest.epoch) {
                continue;
            }
            for (producer, who) in count.sink.sealed(manifest) {
                jobs.push(commit(self.client.clone(), self.run, *index, producer, who));
            }
        }
        jobs.extend(self.pump());
        jobs
    }

    pub(super) fn aborted(&mut self, epoch: Epoch) {
        if self.suspended {
            return;
        }
        for count in self.counts.values_mut() {
            count.aborted(epoch, self.rules.merge_aborted);
        }
    }

    /// The state of the epoch is in the store. Kept until the sink has flushed as well.
    pub(super) fn uploaded(&mut self, index: u32, epoch: Epoch, table: TableSnapshot) {
        let Some(count) = self.counts.get_mut(&index) else { return };
        if let Some(change) = count.uploading.get_mut(&epoch) {
            change.uploaded = Some(table);
        }
    }

    /// The acknowledgement of a task whose state is in the store and whose sink has flushed.
    pub(super) fn acknowledgement(&mut self, index: u32) -> Option<Report> {
        let deployment = self.deployment.as_ref()?;
        let (p, pool) = (deployment.parallelism, deployment.transaction_pool);
        let count = self.counts.get_mut(&index)?;
        let epoch = *count.uploading.iter().find(|(_, change)| change.uploaded.is_some())?.0;
        let transactions = count.sink.prepared(epoch)?;
        let change = count.uploading.remove(&epoch)?;
        let table = change.uploaded?;
        Some(Report::Acknowledged(Box::new(TaskSnapshot {
            task: TaskId { vertex: COUNT, index },
            epoch,
            finished: change.ended,
            watermark: change.watermark,
            processing_time_max_ms: change.processing_time_ms,
            tables: if table.added.is_empty() { Vec::new() } else { vec![table] },
            operator_state: BTreeMap::new(),
            splits: BTreeMap::new(),
            transactions,
            transactional_ids: transactional_ids(&deployment.graph, &deployment.job_uid, p, pool),
            timing: SnapshotTiming::default(),
        })))
    }

    /// Writes what changed since the last sealed epoch, or everything, as a merge.
    pub(super) fn upload(&mut self, index: u32, change: Change) -> Job {
        let count = &self.counts[&index];
        let (own, epoch) = (count.groups.clone(), change.epoch);
        let merge = self.random.next_u64().is_multiple_of(4);
        let segments: Vec<Segment> = self
            .base
            .iter()
            .flat_map(|m| &m.tables)
            .flat_map(|t| &t.segments)
            .filter(|s| s.first_group < own.end && s.end_group > own.start)
            .cloned()
            .collect();
        let counts = if merge { count.layers[&epoch].counts.clone() } else { change.counts };
        let mut table = TableSnapshot {
            uid: uid(COUNT_UID),
            table: TABLE.to_owned(),
            key: Schema::default(),
            value: Schema::default(),
            added: Vec::new(),
            replaced: Vec::new(),
            replaced_inline_through: None,
        };
        if merge && !counts.is_empty() {
            self.hits.push("merge");
            table.replaced_inline_through = segments.iter().map(|s| s.epoch).max();
            table.replaced = segments
                .into_iter()
                .filter_map(|s| match s.content {
                    SegmentContent::Object(object) => Some(object),
                    SegmentContent::Inline { .. } => None,
                })
                .collect();
        }
        let data = serde_json::to_string(&counts.iter().collect::<Vec<_>>()).expect("plain data");
        let inline = self.random.next_u64().is_multiple_of(3);
        let name = ObjectName {
            // Whoever adopted them since: that term's name stays.
            generation: self.deployed_in.generation,
            epoch,
            task: TaskId { vertex: COUNT, index },
            nonce: self.random.nonce(),
        };
        let (store, run, job_path) = (Arc::clone(&self.store), self.run, self.job_path.clone());
        Box::pin(async move {
            if !counts.is_empty() {
                let content = if inline {
                    SegmentContent::Inline { data }
                } else {
                    let object = ObjectRef { path: name.path("json"), bytes: data.len() as u64, crc32c: 0 };
                    let path = format!("{job_path}/{}", object.path);
                    if let Err(reason) = put(store.as_ref(), &path, data).await {
                        return Done::Uploaded { run, index, epoch, result: Err(reason) };
                    }
                    SegmentContent::Object(object)
                };
                let rows = counts.len() as u64;
                table.added.push(Segment { epoch, first_group: own.start, end_group: own.end, rows, content });
            }
            Done::Uploaded { run, index, epoch, result: Ok(table) }
        })
    }
}

async fn put(store: &dyn ObjectStore, path: &str, data: String) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES_MAX {
        match store.put(path, data.clone().into()).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}
