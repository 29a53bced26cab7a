//! The ways a job ends.

use millstream_api::control::{Failure, FailureKind, FinishOutcome, Report};
use millstream_api::ids::{Epoch, TaskId, WorkerId};
use millstream_api::log::TaskSnapshot;

use super::fixture::{Bench, COUNT_TASK, SOURCE_TASK, config, manifest, registered, snapshot, transaction};
use crate::job::{AppendOutcome, Event, JobState, Outcome, ProcessState, StopMode};

#[test]
fn a_stop_takes_a_last_checkpoint_commits_it_and_records_that() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(Event::StopRequested(StopMode::Suspend)), ["trigger 1 and stop"]);
    bench.acknowledge(1, vec![transaction(1, 0)]);
    assert_eq!(bench.won(), ["sealed 1"]);
    let commands = bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    assert_eq!(commands, ["put 3: stopped Stopped, committed Some(1)"]);
    assert_eq!(bench.won(), ["cancel", "end: stopped"]);
    let Some(Outcome::Stopped { checkpoint: Some(checkpoint), incomplete: None }) = bench.outcome else {
        panic!("must stop")
    };
    assert_eq!(checkpoint.path, "default/job/log/00000000000000000002");
}

/// A job of two tasks per chain, of which one has just lost its worker, after both had run.
fn after_a_loss() -> Bench {
    let mut two = config();
    (two.parallelism, two.min_parallelism) = (2, 2);
    let (mut bench, _) = Bench::on_log(two, Vec::new(), ProcessState::Gone);
    bench.event(registered(1, 1));
    bench.won();
    bench.event(registered(2, 1));
    bench.report_of(1, Report::Deployed);
    bench.report_of(2, Report::Deployed);
    for (worker, index) in [(1, 0), (2, 1)] {
        for task in [SOURCE_TASK, COUNT_TASK].map(|task| TaskId { index, ..task }) {
            bench.report_of(worker, Report::Acknowledged(Box::new(snapshot(task, 0))));
        }
    }
    bench.won();
    assert_eq!(bench.core.status().state, JobState::Running);
    let lost = Event::WorkerLost { worker: WorkerId(2), reason: "silent".to_owned() };
    assert_eq!(bench.event(lost), ["suspend"]);
    bench
}

fn waiting_for_slots() -> Bench {
    let mut bench = after_a_loss();
    let at = bench.core.deadline().unwrap();
    assert!(bench.tick(at).is_empty());
    assert_eq!(bench.core.status().state, JobState::AwaitingSlots);
    bench
}

#[test]
fn a_stop_that_finds_the_job_waiting_for_slots_ends_what_suspended_tasks_left_open() {
    let mut bench = waiting_for_slots();
    let commands = bench.event(Event::StopRequested(StopMode::Suspend));
    assert_eq!(commands, ["cancel", "put 2: settled Some(0)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 2x4"]);
    assert_eq!(bench.report_of(1, Report::TransactionsFenced), ["put 3: stopped Stopped, committed Some(0)"]);
    bench.won();
    assert!(matches!(bench.outcome, Some(Outcome::Stopped { incomplete: None, .. })), "{:?}", bench.outcome);
}

#[test]
fn a_stop_without_any_worker_leaves_that_to_the_next_run_and_ends_at_once() {
    let mut bench = waiting_for_slots();
    assert!(bench.event(Event::WorkerLost { worker: WorkerId(1), reason: "silent".to_owned() }).is_empty());
    let commands = bench.event(Event::StopRequested(StopMode::Suspend));
    assert_eq!(commands, ["put 2: stopped Stopped, committed Some(0)"]);
}

/// The stop comes between the loss and the next attempt, for which there are too few slots then.
#[test]
fn a_stop_before_an_attempt_without_enough_slots_ends_what_is_open_too() {
    let mut bench = after_a_loss();
    assert_eq!(bench.event(Event::StopRequested(StopMode::Suspend)), ["put 2: settled Some(0)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 2x4"]);
}

#[test]
fn a_drain_ends_the_input_at_its_barrier_and_the_job_has_finished() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(Event::StopRequested(StopMode::Drain)), ["trigger 1 and drain"]);
    assert_eq!(bench.core.status().state, JobState::Stopping);
    assert!(bench.event(Event::StopRequested(StopMode::Drain)).is_empty(), "twice is once");
    drained(&mut bench, 1);
    let commands = bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    assert_eq!(commands, ["put 3: stopped Finished, committed Some(1)"]);
    bench.won();
    assert!(matches!(bench.outcome, Some(Outcome::Finished { already: false, .. })), "{:?}", bench.outcome);
}

/// All tasks hand in that they ended within the epoch, and it is sealed.
fn drained(bench: &mut Bench, epoch: u64) {
    for task in [SOURCE_TASK, COUNT_TASK] {
        bench.report(Report::EndOfInput { task });
        let transactions = if task == COUNT_TASK { vec![transaction(epoch, 0)] } else { Vec::new() };
        let splits = if task == SOURCE_TASK { manifest(epoch, vec![]).splits } else { Default::default() };
        let ended = TaskSnapshot { finished: true, transactions, splits, ..snapshot(task, epoch) };
        bench.report(Report::Acknowledged(Box::new(ended)));
    }
    assert_eq!(bench.won(), [format!("sealed {epoch}")]);
}

#[test]
fn a_drain_that_fails_restarts_the_job_and_drains_it_again() {
    let mut bench = Bench::running();
    bench.event(Event::StopRequested(StopMode::Drain));
    assert_eq!(bench.task_fails(FailureKind::Transient), ["suspend"]);
    bench.tick(1_100);
    bench.won();
    assert_eq!(bench.report(Report::TransactionsFenced), ["deploy 2 tasks from Some(0)"]);
    assert_eq!(bench.report(Report::Deployed), ["start", "trigger 2 and drain"]);
}

#[test]
fn a_stop_after_a_drain_has_a_deadline() {
    let mut bench = Bench::running();
    bench.event(Event::StopRequested(StopMode::Drain));
    assert!(bench.event(Event::StopRequested(StopMode::Suspend)).is_empty());
    assert!(bench.core.deadline().is_some_and(|at| at <= 60_000));
    drained(&mut bench, 1);
    bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    bench.won();
    assert!(
        matches!(bench.outcome, Some(Outcome::Finished { .. })),
        "what was drained has finished: {:?}",
        bench.outcome
    );
}

#[test]
fn a_stop_waits_for_the_checkpoint_in_flight() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    assert!(bench.event(Event::StopRequested(StopMode::Suspend)).is_empty());
    bench.acknowledge(1, vec![]);
    assert_eq!(bench.won(), ["sealed 1", "trigger 2 and stop"]);
}

#[test]
fn a_stop_ends_in_time_whatever_is_missing() {
    let mut bench = Bench::running();
    bench.event(Event::StopRequested(StopMode::Suspend));
    let mut said = Vec::new();
    while bench.outcome.is_none() && bench.now < 200_000 {
        let next = bench.core.deadline().unwrap();
        said.extend(bench.tick(next));
        if said.last().is_some_and(|s| s.starts_with("put")) {
            said.extend(bench.won());
        }
    }
    assert!(bench.now <= 70_000, "{said:?}");
    let Some(Outcome::Stopped { incomplete: Some(why), .. }) = bench.outcome else { panic!("must stop") };
    assert!(why.contains("last checkpoint"), "{why}");
}

#[test]
fn a_stop_that_runs_late_still_ends_what_the_sinks_left_open() {
    let mut bench = Bench::running();
    bench.event(Event::StopRequested(StopMode::Suspend));
    let mut said = bench.tick(59_999);
    while !said.iter().any(|s| s.starts_with("put")) {
        let next = bench.core.deadline().unwrap();
        said.extend(bench.tick(next));
    }
    // The time for the stop is over when the ids are about to be fenced.
    bench.now = 60_000;
    let commands = bench.won();
    assert_eq!(commands.last().map(String::as_str), Some("fence -0-1-out 1x4"), "{commands:?}, {said:?}");
    assert_eq!(bench.report(Report::TransactionsFenced), ["put 3: stopped Stopped, committed Some(0)"]);
}

#[test]
fn bounded_input_ends_with_a_checkpoint_whose_commits_are_recorded() {
    let mut bench = Bench::running();
    bench.report(Report::EndOfInput { task: SOURCE_TASK });
    let commands = bench.report(Report::EndOfInput { task: COUNT_TASK });
    assert_eq!(commands, ["trigger 1"], "nothing more comes: no wait for the interval");
    let splits = manifest(1, vec![]).splits;
    let source = TaskSnapshot { finished: true, splits, ..snapshot(SOURCE_TASK, 1) };
    bench.report(Report::Acknowledged(Box::new(source)));
    let count = TaskSnapshot { finished: true, transactions: vec![transaction(1, 0)], ..snapshot(COUNT_TASK, 1) };
    bench.report(Report::Acknowledged(Box::new(count)));
    assert_eq!(bench.won(), ["sealed 1"]);
    let commands = bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    assert_eq!(commands, ["put 3: stopped Finished, committed Some(1)"]);
    assert_eq!(bench.won(), ["cancel", "end: finished"]);

    // Again: there is nothing to do, and nothing is written.
    let (again, commands) = Bench::on_log(config(), bench.log, ProcessState::Gone);
    assert_eq!(commands, ["end: finished"]);
    assert!(matches!(again.outcome, Some(Outcome::Finished { already: true, .. })));
}

#[test]
fn a_commit_that_is_reported_while_the_next_manifest_is_written_is_done() {
    let mut bench = Bench::running();
    bench.report(Report::EndOfInput { task: COUNT_TASK });
    bench.tick(1_000);
    let splits = manifest(1, vec![]).splits;
    bench.report(Report::Acknowledged(Box::new(TaskSnapshot { splits, ..snapshot(SOURCE_TASK, 1) })));
    let count = TaskSnapshot { finished: true, transactions: vec![transaction(1, 0)], ..snapshot(COUNT_TASK, 1) };
    bench.report(Report::Acknowledged(Box::new(count)));
    assert_eq!(bench.won(), ["sealed 1"]);
    assert_eq!(bench.report(Report::EndOfInput { task: SOURCE_TASK }), ["trigger 2"]);
    let splits = manifest(2, vec![]).splits;
    let source = TaskSnapshot { finished: true, splits, ..snapshot(SOURCE_TASK, 2) };
    let commands = bench.report(Report::Acknowledged(Box::new(source)));
    assert_eq!(commands, ["put 3: manifest 2, transactions of [1], committed Some(0)"]);
    assert!(bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) }).is_empty());
    let commands = bench.won();
    assert_eq!(commands.last().map(String::as_str), Some("put 4: stopped Finished, committed Some(2)"), "{commands:?}");
}

#[test]
fn a_deterministic_failure_does_not_restart() {
    for kind in [FailureKind::UserData, FailureKind::User, FailureKind::Corrupt] {
        let mut bench = Bench::running();
        let commands = bench.task_fails(kind);
        assert_eq!(commands, ["cancel", "put 2: settled Some(0)"]);
        bench.won();
        assert_eq!(bench.report(Report::TransactionsFenced), ["put 3: stopped Failed, committed Some(0)"]);
        assert_eq!(bench.won(), ["end: failed"]);
        assert!(matches!(bench.outcome, Some(Outcome::Failed { failure, .. }) if failure.kind == kind));
    }
}

#[test]
fn what_is_refused_to_a_job_that_ran_is_tried_again() {
    let mut bench = Bench::running();
    assert_eq!(bench.task_fails(FailureKind::Refused), ["suspend"]);
    assert_eq!(bench.core.status().state, JobState::Restarting);
    // Nor does it matter to a coordinator that takes such a job over.
    let (mut successor, _) = Bench::on_log(config(), bench.log.clone(), ProcessState::Gone);
    successor.event(registered(0, 1));
    assert_eq!(successor.won(), ["put 3: settled Some(0)"]);
    assert_eq!(successor.won(), ["fence -0-1-out 1x4"]);
    let failure = Failure { kind: FailureKind::Refused, message: "no right to write".to_owned() };
    successor.report(Report::CommandFailed { failure });
    assert_eq!(successor.core.status().state, JobState::Restarting);
}

#[test]
fn what_is_refused_at_once_is_to_be_put_right_by_who_started_the_job() {
    let (mut bench, _) = Bench::on_log(config(), Vec::new(), ProcessState::Gone);
    bench.event(registered(0, 1));
    bench.won();
    bench.task_fails(FailureKind::Refused);
    bench.won();
    assert!(matches!(bench.outcome, Some(Outcome::Failed { failure, .. }) if failure.kind == FailureKind::User));
}

#[test]
fn what_was_prepared_and_not_sealed_is_aborted_when_the_job_ends() {
    let ends: [fn(&mut Bench) -> Vec<String>; 3] = [
        |bench| bench.report(Report::TransactionsFenced),
        |bench| {
            let failure = Failure { kind: FailureKind::Transient, message: "away".to_owned() };
            bench.report(Report::CommandFailed { failure })
        },
        |bench| bench.tick(1_000 + 5_000),
    ];
    for end in ends {
        let mut bench = Bench::running();
        bench.tick(1_000);
        let count = TaskSnapshot { transactions: vec![transaction(1, 0)], ..snapshot(COUNT_TASK, 1) };
        bench.report(Report::Acknowledged(Box::new(count)));
        assert_eq!(bench.task_fails(FailureKind::UserData), ["cancel", "put 2: settled Some(0)"]);
        assert_eq!(bench.won(), ["fence -0-1-out 1x4"], "the term's own ids, after the proof that it still rules");
        let commands = end(&mut bench);
        assert_eq!(commands.last().unwrap(), "put 3: stopped Failed, committed Some(0)");
        assert_eq!(bench.won(), ["end: failed"]);
    }
}

#[test]
fn a_worker_that_is_gone_for_good_ends_the_job() {
    let mut bench = Bench::running();
    let commands = bench.event(Event::NoWorkerLeft { reason: "a defect".to_owned() });
    assert_eq!(commands, ["put 2: stopped Failed, committed Some(0)"]);
    assert_eq!(bench.won(), ["end: failed"]);
    assert!(matches!(bench.outcome, Some(Outcome::Failed { failure, .. }) if failure.kind == FailureKind::Bug));
}

#[test]
fn restarts_are_counted_and_the_chain_of_failures_is_kept() {
    let mut config = config();
    config.restart.attempts = Some(1);
    let mut bench = Bench::running_with(config);
    bench.task_fails(FailureKind::Transient);
    bench.tick(1_000);
    bench.won();
    bench.report(Report::TransactionsFenced);
    bench.task_fails(FailureKind::Transient);
    bench.tick(2_000);
    bench.won();
    bench.report(Report::TransactionsFenced);
    bench.won();
    let Some(Outcome::Failed { failure, earlier, .. }) = bench.outcome else { panic!("must fail") };
    assert!(failure.message.contains("after 1 restarts"), "{}", failure.message);
    assert_eq!(earlier.len(), 1);
}

#[test]
fn a_job_that_ends_without_its_store_says_so() {
    let mut bench = Bench::running();
    bench.event(Event::StopRequested(StopMode::Suspend));
    bench.acknowledge(1, vec![]);
    bench.won();
    bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    bench.put_ends(AppendOutcome::Unknown { reason: "away".to_owned() });
    bench.tick(31_000);
    let Some(Outcome::Stopped { incomplete: Some(why), .. }) = bench.outcome else { panic!("must stop") };
    assert!(why.contains("not recorded"), "{why}");
}

#[test]
fn a_failure_that_cannot_be_recorded_is_not_final() {
    let mut before = Bench::running();
    before.tick(1_000);
    let transactions = vec![transaction(1, 0), transaction(1, 1)];
    before.acknowledge(1, transactions.clone());
    before.won();
    let (mut bench, _) = Bench::on_log(config(), before.log.clone(), ProcessState::Gone);
    bench.won();
    assert_eq!(bench.event(registered(0, 1)), ["suspend", "finish 2"]);
    let given_up = FinishOutcome::Expired { detail: "timed out".to_owned() };
    let outcome = transactions.into_iter().zip([FinishOutcome::Committed, given_up]).collect();
    let commands = bench.report(Report::TransactionsFinished { outcome });
    assert_eq!(commands, ["cancel", "put 4: stopped Failed, committed Some(0)"]);
    bench.put_ends(AppendOutcome::Unknown { reason: "away".to_owned() });
    bench.tick(31_000);
    let Some(Outcome::Failed { failure, .. }) = bench.outcome else { panic!("must fail") };
    assert_eq!(failure.kind, FailureKind::Transient, "another coordinator may know better");
    assert!(failure.message.contains("not recorded") && failure.message.contains("choice"), "{}", failure.message);
}
