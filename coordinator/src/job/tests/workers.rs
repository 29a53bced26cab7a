//! Workers that come and go, and orders of earlier attempts that they carry out late.

use millstream_api::control::{Attempt, Failure, FailureKind, Report, WorkerReport};
use millstream_api::ids::{Generation, WorkerId};

use super::fixture::{Bench, config, registered};
use crate::job::{Event, JobState, ProcessState};

fn lost(worker: u32) -> Event {
    Event::WorkerLost { worker: WorkerId(worker), reason: "silent".to_owned() }
}

fn next_tick(bench: &mut Bench) -> Vec<String> {
    let at = bench.core.deadline().unwrap();
    bench.tick(at)
}

/// A worker may be told to fence, hang, and go on when a later attempt runs elsewhere.
#[test]
fn what_an_attempt_fences_is_never_used_after_it() {
    let mut bench = Bench::running();
    bench.task_fails(FailureKind::Transient);
    assert_eq!(next_tick(&mut bench), ["put 2: settled Some(0)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 1x4"]);
    // No answer: the next attempt uses the ids that this one did not come to use, and fences the same.
    assert_eq!(next_tick(&mut bench), ["suspend"]);
    assert_eq!(next_tick(&mut bench), ["put 3: settled Some(0)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 1x4"]);
    assert_eq!(bench.report(Report::TransactionsFenced), ["deploy 2 tasks from Some(0)"]);
    bench.report(Report::Deployed);
    bench.task_fails(FailureKind::Transient);
    assert_eq!(next_tick(&mut bench), ["put 4: settled Some(0)"]);
    assert_eq!(bench.won(), ["fence -0-2-out 1x4"], "the first ones are fenced, and the log says so");
    let known: Vec<_> = bench.core.view().transactional_ids().iter().flat_map(|ids| ids.values()).collect();
    assert_eq!(known.len(), 2, "{known:?}");
}

#[test]
fn a_job_waits_for_slots_and_keeps_what_survives_a_loss() {
    let mut two = config();
    (two.parallelism, two.min_parallelism) = (2, 2);
    let (mut bench, _) = Bench::on_log(two, Vec::new(), ProcessState::Gone);
    bench.event(registered(1, 1));
    bench.won();
    assert_eq!((bench.core.status().state, bench.core.status().slots), (JobState::AwaitingSlots, 1));
    assert_eq!(bench.core.deadline(), None, "it waits without end");
    let commands = bench.event(registered(2, 1));
    assert_eq!(commands, ["suspend", "deploy 4 tasks from None", "deploy 4 tasks from None"], "to each of the two");
    // Nobody knows what the lost one had done, and a third takes its place.
    assert_eq!(bench.event(lost(2)), ["cancel"]);
    bench.event(registered(3, 1));
    let commands = next_tick(&mut bench);
    assert_eq!(commands, ["put 1: settled None"]);
    assert_eq!(bench.won(), ["deploy 4 tasks from None", "deploy 4 tasks from None"]);
}

#[test]
fn losing_a_worker_that_runs_nothing_harms_nothing() {
    let mut bench = Bench::running();
    bench.event(registered(5, 4));
    assert!(bench.event(lost(5)).is_empty());
    assert_eq!(bench.core.status().state, JobState::Running);
}

/// It lost the connection while its tasks ran, and came again as another worker before its place was given away.
#[test]
fn a_worker_that_comes_again_with_old_tasks_does_not_speak_for_new_ones() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(registered(7, 1)), ["suspend"], "what runs there is of an earlier attempt");
    let at = bench.core.deadline().unwrap();
    bench.tick(at);
    let epoch = bench.core.checkpoint().unwrap().epoch;
    let waiting = bench.core.checkpoint().unwrap().waiting.clone();
    let failure = Failure { kind: FailureKind::Transient, message: "fenced".to_owned() };
    let attempt = Attempt { generation: Generation(0), number: 1 };
    for task in waiting.iter().copied() {
        let declined = Report::Declined { task, epoch, failure: failure.clone() };
        let failed = Report::TaskFailed { task, failure: failure.clone() };
        for report in [declined, failed] {
            bench.event(Event::Worker { worker: WorkerId(7), report: WorkerReport { attempt, report } });
        }
    }
    assert_eq!(bench.core.status().state, JobState::Running);
    assert_eq!(bench.core.checkpoint().unwrap().waiting, waiting);
}

#[test]
fn with_fewer_slots_a_job_begins_smaller_and_grows_when_they_come() {
    let mut job = config();
    (job.parallelism, job.min_parallelism, job.slot_timeout_ms) = (2, 1, 3_000);
    let (mut bench, _) = Bench::on_log(job, Vec::new(), ProcessState::Gone);
    bench.won();
    bench.event(registered(0, 1));
    assert_eq!(bench.core.deadline(), Some(3_000));
    assert_eq!(bench.tick(3_000), ["deploy 2 tasks from None"]);
    bench.report(Report::Deployed);
    bench.acknowledge(0, vec![]);
    assert_eq!(bench.won(), ["sealed 0", "start"]);
    let prepare = "prepare 4 tasks for attempt 2";
    assert_eq!(bench.event(registered(1, 1)), ["suspend", prepare, prepare]);
    assert!(bench.report_of(0, Report::Prepared).is_empty());
    assert_eq!(bench.report_of(1, Report::Prepared), ["trigger 1 and stop", "trigger 1 and stop"]);
    bench.acknowledge(1, vec![]);
    assert_eq!(bench.won(), ["switch to 1", "switch to 1"]);
    assert_eq!(bench.core.status().restarts, 0, "it is no failure");
    assert_eq!(bench.core.status().parallelism, 2);
}

#[test]
fn a_worker_that_leaves_is_let_go_once_its_tasks_run_elsewhere() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    bench.won();
    assert!(bench.event(Event::WorkerLeaving { worker: WorkerId(0) }).is_empty(), "there is no other place");
    bench.now = 1_100;
    assert_eq!(bench.event(registered(1, 1)), ["suspend", "prepare 2 tasks for attempt 2"], "now there is one");
    assert_eq!(bench.report_of(1, Report::Prepared), ["trigger 2 and stop", "trigger 2 and stop"]);
    bench.acknowledge(2, vec![]);
    let delete = "delete default/job/log/00000000000000000001";
    assert_eq!(bench.won(), [delete, "switch to 2", "cancel", "release 0"]);
    assert_eq!(bench.core.status().restarts, 0, "it is no failure");
    assert!(bench.event(lost(0)).is_empty(), "it runs nothing any more");
}

#[test]
fn a_worker_that_runs_nothing_may_leave_at_once() {
    let mut bench = Bench::running();
    bench.event(registered(1, 1));
    assert_eq!(bench.event(Event::WorkerLeaving { worker: WorkerId(1) }), ["release 1"]);
    assert!(bench.event(Event::WorkerLeaving { worker: WorkerId(1) }).is_empty(), "once");
}
