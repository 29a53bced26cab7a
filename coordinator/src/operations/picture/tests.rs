use std::collections::VecDeque;

use millstream_api::ids::VertexId;
use millstream_api::readings::{SourceReadings, SplitProgress, SplitReadings};

use super::super::fixture::{address, facts, readings};
use super::*;
use crate::job::{RestartStatus, TaskCheckpoint, WorkerOffer};

const HERE: WorkerId = WorkerId(4);

fn offer(slots: u32) -> WorkerOffer {
    WorkerOffer { slots, shuffle_address: Some("one:2".to_owned()), name: "one".to_owned() }
}

/// Two tasks of each vertex, on one worker.
fn running() -> Status {
    Status {
        state: JobState::Running,
        generation: Some(3),
        parallelism: 2,
        parallelism_wanted: 2,
        slots: 3,
        workers: Arc::new(vec![(HERE, offer(3))]),
        placement: Arc::new(vec![Some(HERE); 2]),
        tasks: 4,
        ..Status::default()
    }
}

fn picture(status: &Status, readings: &[(WorkerId, Readings)]) -> v1::JobStatus {
    let facts = facts();
    Parts { facts: &facts, status, readings, tracks: &Tracks::default(), now: 1_000 }.status()
}

fn split(name: &str, position: u64, end: Option<u64>) -> SplitReadings {
    let progress = SplitProgress { unit: SplitUnit::Records, position, end };
    SplitReadings { split: name.to_owned(), progress, watermark: Some(7), idle: false, finished: false }
}

fn source(index: u32, lag_records: Option<u64>, splits: Vec<SplitReadings>) -> TaskReadings {
    let splits_total = splits.len();
    let source = SourceReadings { uid: TransformUid("numbers".to_owned()), splits, splits_total };
    TaskReadings { lag_records, watermark: Some(7), source: Some(source), ..readings(0, index) }
}

#[test]
fn tasks_have_a_place_and_what_their_worker_tells() {
    let first = TaskReadings { records_in: 10, ..source(0, Some(0), vec![]) };
    // The second task ran there before, and that worker still has its counters.
    let elsewhere = (WorkerId(1), Arc::new(vec![TaskReadings { records_in: 99, ..source(1, Some(9), vec![]) }]));
    let status = picture(&running(), &[(HERE, Arc::new(vec![first])), elsewhere]);
    let seen: Vec<_> = status.tasks.iter().map(|t| (t.id.as_str(), t.worker, t.records_in, t.state())).collect();
    let running = v1::TaskState::Running;
    assert_eq!(
        seen,
        [
            ("0/0", Some(4), 10, running),
            ("0/1", Some(4), 0, running),
            ("1/0", Some(4), 0, running),
            ("1/1", Some(4), 0, running)
        ]
    );
    assert_eq!((status.tasks_total, status.watermark_ms, status.lag_records), (4, Some(7), Some(0)));
    assert_eq!((status.workers[0].slots, status.workers[0].slots_free, status.slots_missing), (3, 1, 0));
    assert_eq!(status.tasks[2].name, "count -> out");
}

#[test]
fn splits_that_are_furthest_behind_come_first_and_an_unknown_lag_is_not_zero() {
    let splits = vec![split("a/0", 5, Some(5)), split("a/1", 1, Some(100)), split("a/2", 0, None)];
    let told = [(HERE, Arc::new(vec![source(0, None, splits)]))];
    let status = picture(&running(), &told);
    let names: Vec<_> = status.splits.iter().map(|s| (s.name.as_str(), s.lag)).collect();
    assert_eq!(names, [("a/2", None), ("a/1", Some(99)), ("a/0", Some(0))]);
    assert_eq!((status.lag_records, status.splits_total), (None, 3));
    assert_eq!(status.splits[1].unit(), v1::SplitUnit::Records);
}

#[test]
fn the_end_of_input_is_no_event_time() {
    let told = [(HERE, Arc::new(vec![TaskReadings { watermark: Some(i64::MAX), ..source(0, Some(0), vec![]) }]))];
    let status = picture(&running(), &told);
    assert_eq!((status.watermark_ms, status.tasks[0].watermark_ms), (None, None));
}

#[test]
fn late_records_of_all_tasks_are_added_up() {
    let late = |index, n| {
        let counters = vec![(LATE_RECORDS.to_owned(), n), ("other".to_owned(), 5)];
        TaskReadings { transforms: [(TransformUid("count".to_owned()), counters)].into(), ..readings(1, index) }
    };
    let status = picture(&running(), &[(HERE, Arc::new(vec![late(0, 2), late(1, 3)]))]);
    let seen: Vec<_> = status.transforms.iter().map(|t| (t.uid.as_str(), t.vertex, t.late_records)).collect();
    assert_eq!(seen, [("numbers", 0, 0), ("count", 1, 5), ("out", 1, 0)]);
}

#[test]
fn a_job_that_waits_names_what_is_missing_and_why_it_failed() {
    let reasons = VecDeque::from([RestartStatus { at_ms: 5, reason: "lost worker".to_owned() }]);
    let waiting = Status {
        state: JobState::AwaitingSlots,
        slots: 1,
        tasks: 0,
        placement: Arc::new(vec![Some(HERE), None]),
        restart_reasons: reasons,
        ..running()
    };
    let status = picture(&waiting, &[]);
    assert_eq!((status.state(), status.slots_missing), (v1::JobState::AwaitingSlots, 1));
    assert!(status.tasks.iter().all(|t| t.state() == v1::TaskState::Waiting));
    assert_eq!((status.tasks[0].worker, status.tasks[1].worker), (Some(4), None));
    assert_eq!(status.failures[0].reason, "lost worker");
}

#[test]
fn the_ruling_coordinator_is_named_by_one_that_does_not_rule() {
    let ruler = millstream_api::log::Address { process_id: 9, ..address(Some("there:1")) };
    let status = Status { generation: None, holder: Some(Arc::new(ruler)), ..running() };
    let seen = picture(&status, &[]).coordinators;
    let seen: Vec<_> = seen.iter().map(|c| (c.address.as_str(), c.process_id, c.ruling, c.answering)).collect();
    assert_eq!(seen, [("here:1", 1, false, true), ("there:1", 9, true, false)]);
    let own = Status { holder: Some(Arc::new(address(Some("here:1")))), ..running() };
    let seen = picture(&own, &[]).coordinators;
    assert_eq!((seen.len(), seen[0].ruling), (1, true));
}

#[test]
fn checkpoints_have_their_costs_per_task() {
    let task = TaskCheckpoint {
        task: TaskId { vertex: VertexId(1), index: 0 },
        acknowledged_after_ms: 40,
        alignment_us: 3,
        stall_us: 2,
        bytes: 100,
    };
    let record = |epoch, end| {
        Arc::new(CheckpointRecord {
            epoch,
            triggered_at_ms: 10,
            duration_ms: 50,
            end,
            tasks: vec![task],
            tasks_total: 700,
        })
    };
    let sealed = CheckpointEnd::Completed { path: "default/job/log/5".to_owned(), bytes: 100, state_bytes: 900 };
    let aborted = CheckpointEnd::Aborted { reason: "too slow".to_owned() };
    let checkpoints = VecDeque::from([record(5, sealed), record(6, aborted)]);
    let status = picture(&Status { checkpoints, ..running() }, &[]);
    let history = status.checkpoints.unwrap().history;
    assert_eq!((history[0].state(), history[0].state_bytes), (v1::CheckpointState::Completed, 900));
    assert_eq!((history[1].state(), history[1].failure.as_str()), (v1::CheckpointState::Aborted, "too slow"));
    let shown = &history[0].tasks[0];
    assert_eq!((shown.task.as_str(), shown.stall_us, history[0].tasks_total), ("1/0", 2, 700));
}

/// The largest status that the bounds allow, with names of usual length.
#[test]
fn a_status_at_its_bounds_fits_a_message() {
    let parallelism = 2_000;
    let name = "a-topic-with-a-name-of-usual-length/123";
    let tasks = (0..parallelism).map(|index| source(index, Some(1), vec![split(name, 1, Some(2)); 20]));
    let told = [(HERE, Arc::new(tasks.collect::<Vec<_>>()))];
    let task = TaskCheckpoint {
        task: TaskId { vertex: VertexId(1), index: 0 },
        acknowledged_after_ms: u64::MAX,
        alignment_us: u64::MAX,
        stall_us: u64::MAX,
        bytes: u64::MAX,
    };
    let end = CheckpointEnd::Aborted { reason: "x".repeat(crate::job::REASON_BYTES_MAX) };
    let record = CheckpointRecord {
        epoch: u64::MAX,
        triggered_at_ms: u64::MAX,
        duration_ms: 0,
        end,
        tasks: vec![task; 256],
        tasks_total: 256,
    };
    let status = Status {
        parallelism,
        workers: Arc::new((0..parallelism).map(|id| (WorkerId(id), offer(1))).collect()),
        placement: Arc::new(vec![Some(HERE); parallelism as usize]),
        checkpoints: std::iter::repeat_n(Arc::new(record), 16).collect(),
        ..running()
    };
    let status = picture(&status, &told);
    assert_eq!((status.tasks.len(), status.splits.len(), status.workers.len()), (2_000, 2_000, 1_000));
    assert_eq!((status.tasks_total, status.splits_total), (4_000, 40_000));
    let bytes = prost::Message::encoded_len(&status);
    assert!(bytes < super::super::server::RESPONSE_BYTES_MAX / 2, "{bytes}");
}
