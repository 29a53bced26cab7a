//! A new coordinator goes on with what runs, where all of it comes from the log's tip.

use millstream_api::control::{Failure, FailureKind, Placement, Report, Running};
use millstream_api::ids::{Epoch, WorkerId};
use millstream_api::log::{EntryKind, PreparedTransaction, TaskSnapshot};

use super::fixture::{
    Bench, COUNT_TASK, SOURCE_TASK, config, entry_after, manifest, registered, running_tasks, snapshot, transaction,
};
use crate::job::{Event, JobConfig, JobState, ProcessState, StopMode};

fn cluster() -> JobConfig {
    let mut config = config();
    config.address.listen = Some("first:1".to_owned());
    config
}

fn inspected(running: Running) -> Report {
    Report::Inspected { running: Some(Box::new(running)) }
}

/// The successor of a coordinator that ran the job, up to its question to worker 0.
fn successor(before: &Bench) -> Bench {
    let (mut bench, _) = Bench::on_log(cluster(), before.log.clone(), ProcessState::Gone);
    bench.event(registered(0, 1));
    assert_eq!(bench.won(), ["inspect"]);
    assert_eq!(bench.core.status().state, JobState::TakingOver);
    bench
}

/// A job at checkpoint 1, with a transaction that nobody knows to be committed.
fn first() -> Bench {
    let mut first = Bench::running_with(cluster());
    first.tick(1_000);
    let ids = first.core.view().transactional_ids().last().unwrap().values().next().unwrap().clone();
    first.acknowledge(1, vec![PreparedTransaction { transactional_id: ids.id(0, 1), ..transaction(1, 0) }]);
    first.won();
    first
}

#[test]
fn what_runs_goes_on_and_the_next_checkpoint_is_due_at_once() {
    let first = first();
    let mut bench = successor(&first);
    bench.now = 5_000;
    let said = Running { epoch_max: Some(Epoch(3)), ..running_tasks(&first) };
    let commands = bench.report(inspected(said));
    assert_eq!(commands, ["adopt 1 without 2 3", "trigger 4"]);
    assert_eq!((bench.core.status().state, bench.core.status().commits_open), (JobState::Running, 1));
    bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    assert_eq!(bench.core.status().commits_open, 0);
    let sealed = bench.acknowledge(4, vec![]);
    assert_eq!(sealed, ["put 4: manifest 4, transactions of [], committed Some(1)"]);
    bench.won();
    let ids = |bench: &Bench| bench.core.view().transactional_ids().to_vec();
    assert_eq!(ids(&bench), ids(&first), "the tasks go on with the ids that they have");
    // After a failure they have new ones, and the old are fenced.
    bench.task_fails(FailureKind::Transient);
    let at = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(at), ["put 5: settled Some(4)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 1x4"]);
}

#[test]
fn a_manifest_that_the_workers_have_not_heard_of_is_theirs_when_they_took_part_in_it() {
    let first = first();
    let took_part = Running { decided: Some(Epoch(0)), acknowledged: Some(Epoch(1)), ..running_tasks(&first) };
    assert_eq!(successor(&first).report(inspected(took_part))[0], "adopt 1 without ");
    let did_not = Running { decided: Some(Epoch(0)), acknowledged: Some(Epoch(0)), ..running_tasks(&first) };
    assert_eq!(successor(&first).report(inspected(did_not))[0], "suspend");
}

#[test]
fn tasks_that_had_finished_at_another_parallelism_are_others() {
    let mut first = first();
    let EntryKind::Manifest(tip) = &mut first.log.last_mut().unwrap().kind else { panic!("a manifest is last") };
    tip.parallelism = 2;
    tip.finished_tasks.insert(SOURCE_TASK);
    let mut bench = successor(&first);
    assert_eq!(bench.report(inspected(running_tasks(&first)))[0], "adopt 1 without ");
    let of_count = Report::Acknowledged(Box::new(snapshot(COUNT_TASK, 2)));
    assert!(bench.report(of_count).is_empty(), "the source runs as well");
    let of_source = TaskSnapshot { splits: manifest(2, vec![]).splits, ..snapshot(SOURCE_TASK, 2) };
    let sealed = bench.report(Report::Acknowledged(Box::new(of_source)));
    assert!(sealed[0].contains("manifest 2"), "{sealed:?}");
    bench.won();
    let EntryKind::Manifest(sealed) = &bench.log.last().unwrap().kind else { panic!("a manifest is last") };
    assert!(sealed.finished_tasks.is_empty(), "{:?}", sealed.finished_tasks);
}

#[test]
fn what_does_not_come_from_the_tip_is_restored() {
    let first = first();
    let good = running_tasks(&first);
    let other_attempt = { good.attempt.number + 1 };
    let mut of_an_earlier_term = good.clone();
    of_an_earlier_term.attempt.generation = first.core.view().generation().unwrap().next();
    for (what, said) in [
        ("a task failed", Running { sound: false, ..good.clone() }),
        ("another graph", Running { graph_hash: 1, ..good.clone() }),
        ("other ids", Running { job_uid: format!("x-0-{other_attempt}"), ..good.clone() }),
        ("past the tip", Running { decided: Some(Epoch(2)), ..good.clone() }),
        ("another term", of_an_earlier_term),
    ] {
        let mut bench = successor(&first);
        let commands = bench.report(inspected(said));
        assert_eq!(commands[0], "suspend", "{what}");
        assert_eq!(commands.len(), 2, "{what}: the transaction is finished first: {commands:?}");
    }
}

#[test]
fn an_epoch_that_was_given_up_after_it_was_sealed_is_nothing_to_go_on_from() {
    let mut first = first();
    let void = entry_after(&first.log, EntryKind::Void { epoch: Epoch(1) });
    first.log.push(void);
    let mut bench = successor(&first);
    let said = Running { decided: Some(Epoch(0)), ..running_tasks(&first) };
    assert_eq!(bench.report(inspected(said))[0], "suspend");
}

#[test]
fn all_of_it_must_be_there_and_who_is_missing_is_waited_for_a_short_time() {
    let first = first();
    let placement = Placement { by_index: vec![WorkerId(4), WorkerId(7)], ..Placement::default() };
    let half = Running { parallelism: 1, worker: WorkerId(7), placement, ..running_tasks(&first) };
    let mut bench = successor(&first);
    assert!(bench.report(inspected(half.clone())).is_empty());
    // The other one lost its connection a moment later.
    assert_eq!(bench.event(registered(1, 1)), ["inspect"]);
    let other = Running { worker: WorkerId(4), ..half.clone() };
    let commands = bench.report_of(1, inspected(other));
    assert_eq!(commands[0], "adopt 1 without ");

    let mut bench = successor(&first);
    bench.report(inspected(half));
    let at = bench.core.deadline().unwrap();
    assert_eq!(at, 1_000);
    assert_eq!(bench.tick(at)[0], "suspend");
}

#[test]
fn workers_that_run_nothing_are_no_reason_to_wait_longer_than_the_limit() {
    let first = first();
    let mut bench = successor(&first);
    assert!(bench.report(Report::Inspected { running: None }).is_empty());
    assert_eq!(bench.core.deadline(), Some(3_000));
    assert_eq!(bench.tick(3_000), ["suspend", "finish 1"], "one that is slow to answer may run something");
}

#[test]
fn what_fails_while_it_is_looked_at_is_in_the_answer() {
    let first = first();
    let mut bench = successor(&first);
    let failure = Failure { kind: FailureKind::Transient, message: "broken".to_owned() };
    assert!(bench.report(Report::TaskFailed { task: SOURCE_TASK, failure }).is_empty());
    assert_eq!(bench.report(inspected(Running { sound: false, ..running_tasks(&first) }))[0], "suspend");
}

#[test]
fn a_request_to_stop_meanwhile_ends_with_a_last_checkpoint() {
    let first = first();
    let mut bench = successor(&first);
    bench.event(Event::StopRequested(StopMode::Suspend));
    // Restored instead of adopted: nothing had been answered.
    assert_eq!(bench.core.status().state, JobState::Stopping);
}
