//! The whole status of a job, put together from what the job master and the workers say.
//!
//! Owns: what is shown, in which order, and how much of it. Does not own: any of the values.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::graph::JobGraph;
use millstream_api::ids::{TaskId, TransformUid, VertexId, WorkerId};
use millstream_api::log::Address;
use millstream_api::proto::operations::v1;
use millstream_api::readings::{LATE_RECORDS, SplitUnit, TaskReadings};

use super::board::Readings;
use super::rates::Tracks;
use crate::job::{CheckpointEnd, CheckpointRecord, JobState, Millis, SavepointRequest, Status};

/// Bounds on the lists, as the API states them. Together they stay well below what a message may have.
const WORKERS_MAX: usize = 1_000;
const TASKS_MAX: usize = 2_000;
const TRANSFORMS_MAX: usize = 1_000;
const SPLITS_MAX: usize = 2_000;
/// Names of people's own choice: splits, transforms, chains of them.
const NAME_BYTES_MAX: usize = 512;

/// What does not change while a coordinator lives.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// `<namespace>/<name>`.
    pub job: String,
    /// What people call it.
    pub display_name: String,
    pub graph: Arc<JobGraph>,
    /// This process.
    pub address: Address,
}

/// What the parts say at a moment.
pub(super) struct Parts<'a> {
    pub(super) facts: &'a JobFacts,
    pub(super) status: &'a Status,
    pub(super) readings: &'a [(WorkerId, Readings)],
    pub(super) tracks: &'a Tracks,
    pub(super) now: Millis,
}

impl Parts<'_> {
    pub(super) fn status(&self) -> v1::JobStatus {
        let Self { facts, status, .. } = self;
        let readings = self.placed_readings();
        let tasks = self.tasks(&readings);
        let (splits, splits_total) = splits(&readings);
        let watermarks = readings.values().filter_map(|r| event_time(r.watermark));
        v1::JobStatus {
            job: facts.job.clone(),
            display_name: short(&facts.display_name),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: self.now,
            state: state(status.state).into(),
            generation: status.generation,
            attempt: status.attempt,
            parallelism: status.parallelism,
            parallelism_wanted: status.parallelism_wanted,
            slots: status.slots,
            slots_missing: status.parallelism_wanted.saturating_sub(status.slots),
            coordinators: self.coordinators(),
            workers: self.workers(),
            workers_total: count(status.workers.len()),
            tasks_total: count(self.tasks_total()),
            tasks,
            tasks_ended: count(status.ended.len()),
            transforms: self.transforms(&readings),
            lag_records: lag(&readings),
            splits,
            splits_total,
            watermark_ms: watermarks.min(),
            checkpoints: Some(checkpoints(status)),
            restarts: status.restarts,
            failures: status
                .restart_reasons
                .iter()
                .map(|r| v1::Restart { at_ms: r.at_ms, reason: r.reason.clone() })
                .collect(),
            sources_paused: status.sources_paused,
            commits_open: status.commits_open as u64,
            savepoints: savepoints(status),
            change: status.rescale.doing.as_ref().map(|doing| v1::Change {
                parallelism: status.rescale.pending.as_ref().map(|pending| pending.parallelism),
                doing: doing.clone(),
            }),
        }
    }

    /// What is said of a task by the worker that runs it. One that ran it before may still say something, too.
    fn placed_readings(&self) -> BTreeMap<TaskId, &TaskReadings> {
        let mut placed = BTreeMap::new();
        for (worker, tasks) in self.readings {
            for readings in tasks.iter().filter(|r| self.place(r.task.index) == Some(*worker)) {
                placed.insert(readings.task, readings);
            }
        }
        placed
    }

    fn place(&self, index: u32) -> Option<WorkerId> {
        *self.status.placement.get(index as usize)?
    }

    fn tasks_total(&self) -> usize {
        self.facts.graph.vertices().len() * self.status.parallelism as usize
    }

    fn tasks(&self, readings: &BTreeMap<TaskId, &TaskReadings>) -> Vec<v1::Task> {
        let vertices = self.facts.graph.vertices();
        let indexes = 0..self.status.parallelism;
        let all = vertices.iter().flat_map(|v| indexes.clone().map(move |index| (v, TaskId { vertex: v.id, index })));
        let task = |(vertex, id): (&millstream_api::graph::Vertex, TaskId)| {
            let names = vertex.transforms.iter().map(|t| self.facts.graph.transform(*t).name.as_str());
            self.task(id, short(&names.collect::<Vec<_>>().join(" -> ")), readings.get(&id).copied())
        };
        all.take(TASKS_MAX).map(task).collect()
    }

    fn task(&self, id: TaskId, name: String, readings: Option<&TaskReadings>) -> v1::Task {
        let status = self.status;
        let state = match status.state {
            _ if status.ended.contains(&id) => v1::TaskState::Ended,
            _ if status.tasks == 0 => v1::TaskState::Waiting,
            JobState::Running | JobState::Stopping => v1::TaskState::Running,
            JobState::Restoring => v1::TaskState::Deploying,
            _ => v1::TaskState::Waiting,
        };
        let rates = self.tracks.of(self.now, id).filter(|_| state == v1::TaskState::Running);
        v1::Task {
            id: id.to_string(),
            vertex: id.vertex.0,
            index: id.index,
            name,
            worker: self.place(id.index).map(|worker| worker.0),
            state: state.into(),
            records_in: readings.map_or(0, |r| r.records_in),
            records_out: readings.map_or(0, |r| r.records_out),
            records_in_per_second: rates.map(|r| r.records_in_per_second),
            records_out_per_second: rates.map(|r| r.records_out_per_second),
            busy_share: rates.map(|r| r.busy),
            idle_share: rates.map(|r| r.idle),
            backpressured_share: rates.map(|r| r.backpressured),
            watermark_ms: readings.and_then(|r| event_time(r.watermark)),
            records_skipped: readings.map_or(0, |r| r.skipped_records),
        }
    }

    fn coordinators(&self) -> Vec<v1::Coordinator> {
        let own = &self.facts.address;
        let rules = self.status.generation.is_some() && self.status.state != JobState::Fenced;
        let coordinator = |address: &Address, ruling: bool, answering: bool| v1::Coordinator {
            address: address.listen.clone().unwrap_or_default(),
            host: short(&address.host),
            process_id: address.process_id,
            ruling,
            answering,
        };
        let process = |address: &Address| (address.host.clone(), address.process_id, address.process_start);
        let holder = self.status.holder.as_deref().filter(|holder| process(holder) != process(own) && !rules);
        let holder = holder.map(|holder| coordinator(holder, true, false));
        std::iter::once(coordinator(own, rules, true)).chain(holder).collect()
    }

    fn workers(&self) -> Vec<v1::Worker> {
        let status = self.status;
        let worker = |(id, offer): &(WorkerId, crate::job::WorkerOffer)| {
            let used = status.placement.iter().filter(|place| **place == Some(*id)).count();
            v1::Worker {
                id: id.0,
                name: short(&offer.name),
                slots: offer.slots,
                slots_free: offer.slots.saturating_sub(count(used)),
                shuffle_address: offer.shuffle_address.clone().unwrap_or_default(),
            }
        };
        status.workers.iter().take(WORKERS_MAX).map(worker).collect()
    }

    fn transforms(&self, readings: &BTreeMap<TaskId, &TaskReadings>) -> Vec<v1::Transform> {
        let mut late: BTreeMap<&TransformUid, u64> = BTreeMap::new();
        for (uid, counters) in readings.values().flat_map(|r| &r.transforms) {
            for (_, n) in counters.iter().filter(|(name, _)| name == LATE_RECORDS) {
                *late.entry(uid).or_default() += n;
            }
        }
        let graph = &self.facts.graph;
        let vertices = graph.vertices();
        let vertex_of = |id| vertices.iter().find(|v| v.transforms.contains(&id)).map_or(VertexId(0), |v| v.id);
        let transform = |t: &millstream_api::graph::Transform| v1::Transform {
            uid: t.uid.0.clone(),
            name: short(&t.name),
            vertex: vertex_of(t.id).0,
            late_records: late.get(&t.uid).copied().unwrap_or(0),
        };
        graph.transforms.iter().take(TRANSFORMS_MAX).map(transform).collect()
    }
}

/// Those that are furthest behind first, and the number of all.
fn splits(readings: &BTreeMap<TaskId, &TaskReadings>) -> (Vec<v1::Split>, u32) {
    let mut splits = Vec::new();
    let mut total = 0;
    for (task, source) in readings.iter().filter_map(|(task, r)| Some((task, r.source.as_ref()?))) {
        total += source.splits_total;
        splits.extend(source.splits.iter().map(|split| (*task, &source.uid, split)));
    }
    // What is not known may be the worst; among equals the order of tasks stays.
    splits.sort_by_key(|(_, _, split)| std::cmp::Reverse(split.progress.lag().unwrap_or(u64::MAX)));
    let split = |(task, uid, split): (TaskId, &TransformUid, &millstream_api::readings::SplitReadings)| v1::Split {
        source: uid.0.clone(),
        name: short(&split.split),
        task: task.to_string(),
        unit: match split.progress.unit {
            SplitUnit::Records => v1::SplitUnit::Records,
            SplitUnit::Bytes => v1::SplitUnit::Bytes,
        }
        .into(),
        position: split.progress.position,
        end: split.progress.end,
        lag: split.progress.lag(),
        watermark_ms: event_time(split.watermark),
        idle: split.idle,
        finished: split.finished,
    };
    (splits.into_iter().take(SPLITS_MAX).map(split).collect(), count(total))
}

/// Of all sources together; `None`: one of them cannot tell, or none has told.
fn lag(readings: &BTreeMap<TaskId, &TaskReadings>) -> Option<u64> {
    let mut lags = readings.values().filter(|r| r.role.has_source).map(|r| r.lag_records).peekable();
    lags.peek()?;
    lags.try_fold(0u64, |sum, lag| Some(sum.saturating_add(lag?)))
}

fn savepoints(status: &Status) -> Vec<v1::SavepointProgress> {
    let progress = |(request, doing): &(SavepointRequest, String)| v1::SavepointProgress {
        operation_id: request.id.clone(),
        location: short(&request.target),
        doing: doing.clone(),
    };
    status.savepoints.under_way.iter().map(progress).collect()
}

fn checkpoints(status: &Status) -> v1::Checkpoints {
    v1::Checkpoints {
        completed: status.checkpoints_completed,
        failed: status.checkpoints_failed,
        failed_in_row: status.checkpoints_failed_in_row,
        last_failure: status.last_checkpoint_failure.clone().unwrap_or_default(),
        in_flight_epoch: status.epoch,
        in_flight_since_ms: status.epoch_since_ms,
        restored_epoch: status.restored.as_ref().map(|r| r.epoch),
        history: status.checkpoints.iter().map(|record| checkpoint(record)).collect(),
    }
}

fn checkpoint(record: &CheckpointRecord) -> v1::Checkpoint {
    let tasks = record.tasks.iter().map(|task| v1::TaskCheckpoint {
        task: task.task.to_string(),
        acknowledged_after_ms: task.acknowledged_after_ms,
        alignment_us: task.alignment_us,
        stall_us: task.stall_us,
        bytes: task.bytes,
    });
    let begun = v1::Checkpoint {
        epoch: record.epoch,
        triggered_at_ms: record.triggered_at_ms,
        duration_ms: record.duration_ms,
        tasks: tasks.collect(),
        tasks_total: count(record.tasks_total),
        ..v1::Checkpoint::default()
    };
    match &record.end {
        CheckpointEnd::Completed { path, bytes, state_bytes } => v1::Checkpoint {
            state: v1::CheckpointState::Completed.into(),
            path: path.clone(),
            bytes: *bytes,
            state_bytes: *state_bytes,
            ..begun
        },
        CheckpointEnd::Aborted { reason } => {
            v1::Checkpoint { state: v1::CheckpointState::Aborted.into(), failure: reason.clone(), ..begun }
        }
    }
}

fn state(state: JobState) -> v1::JobState {
    match state {
        JobState::Starting => v1::JobState::Starting,
        JobState::AwaitingSlots => v1::JobState::AwaitingSlots,
        JobState::Restoring => v1::JobState::Restoring,
        JobState::Running => v1::JobState::Running,
        JobState::Restarting => v1::JobState::Restarting,
        JobState::Stopping => v1::JobState::Stopping,
        JobState::Finished => v1::JobState::Finished,
        JobState::Stopped => v1::JobState::Stopped,
        JobState::Failed => v1::JobState::Failed,
        JobState::Fenced => v1::JobState::Fenced,
        JobState::StandingBy => v1::JobState::StandingBy,
        JobState::TakingOver => v1::JobState::TakingOver,
    }
}

/// A watermark that is a time: at the end of input it is not.
fn event_time(watermark: Option<i64>) -> Option<i64> {
    watermark.filter(|w| *w != i64::MAX && *w != i64::MIN)
}

fn short(name: &str) -> String {
    crate::job::shortened(name, NAME_BYTES_MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
