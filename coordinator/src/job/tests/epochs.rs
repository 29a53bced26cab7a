//! The life of epochs.

use millstream_api::control::{Failure, FailureKind, Report};
use millstream_api::ids::Epoch;

use super::fixture::{Bench, COUNT_TASK, config, registered, transaction};
use crate::job::{AppendOutcome, ProcessState, StoreProblem, StoreProblemKind};

#[test]
fn a_new_job_seals_its_positions_before_anything_is_read() {
    let (mut bench, commands) = Bench::on_log(config(), vec![], ProcessState::Gone);
    assert_eq!(commands, ["put 0: start, restores None"]);
    assert!(bench.event(registered(0, 1)).is_empty());
    assert_eq!(bench.won(), ["deploy 2 tasks from None"]);
    assert_eq!(bench.report(Report::Deployed), ["trigger 0"]);
    assert_eq!(bench.acknowledge(0, vec![]), ["put 1: manifest 0, transactions of [], committed None"]);
    assert_eq!(bench.won(), ["sealed 0", "start"]);
}

#[test]
fn a_commit_is_recorded_by_the_next_manifest() {
    let mut bench = Bench::running();
    assert_eq!(bench.tick(1_000), ["trigger 1"]);
    let commands = bench.acknowledge(1, vec![transaction(1, 0)]);
    assert_eq!(commands, ["put 2: manifest 1, transactions of [1], committed Some(0)"]);
    assert_eq!(bench.won(), ["sealed 1"], "nothing goes before the commit is recorded");
    bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    assert_eq!(bench.tick(2_000), ["trigger 2"]);
    let commands = bench.acknowledge(2, vec![transaction(2, 0)]);
    assert_eq!(commands, ["put 3: manifest 2, transactions of [2], committed Some(1)"]);
    let commands = bench.won();
    assert_eq!(commands, ["sealed 2", "delete default/job/log/00000000000000000001"]);
}

#[test]
fn a_manifest_names_what_earlier_ones_left_open() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![transaction(1, 0)]);
    bench.won();
    bench.tick(2_000);
    let commands = bench.acknowledge(2, vec![transaction(2, 0)]);
    assert_eq!(commands, ["put 3: manifest 2, transactions of [1, 2], committed Some(0)"]);
}

#[test]
fn an_epoch_whose_put_is_unknown_is_not_aborted() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![transaction(1, 0)]);
    assert!(bench.put_ends(AppendOutcome::Unknown { reason: "lost".to_owned() }).is_empty());
    // Long after the checkpoint's time-out the same put goes out again, and nothing else.
    let commands = bench.tick(10_000);
    assert_eq!(commands, ["put 2: manifest 1, transactions of [1], committed Some(0)"]);
    assert_eq!(bench.won(), ["sealed 1", "trigger 2"]);
}

#[test]
fn a_failure_while_a_put_is_open_waits_for_what_it_decides() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![transaction(1, 0)]);
    bench.put_ends(AppendOutcome::Unknown { reason: "lost".to_owned() });
    assert_eq!(bench.task_fails(millstream_api::control::FailureKind::Transient), ["suspend"]);
    assert_eq!(bench.tick(5_000), ["put 2: manifest 1, transactions of [1], committed Some(0)"]);
    assert_eq!(bench.won(), ["finish 1"], "the manifest is in the log, so its commits are finished");
}

#[test]
fn an_aborted_epoch_is_tolerated_and_its_number_not_used_again() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    let commands = bench.report(declined(1, FailureKind::Transient));
    assert_eq!(commands, ["aborted 1"]);
    assert_eq!(bench.tick(2_000), ["trigger 2"]);
    // The second in a row is one more than is tolerable.
    let commands = bench.report(declined(2, FailureKind::Transient));
    assert_eq!(commands, ["aborted 2", "suspend"]);
}

fn declined(epoch: u64, kind: FailureKind) -> Report {
    let failure = Failure { kind, message: "no".to_owned() };
    Report::Declined { task: COUNT_TASK, epoch: Epoch(epoch), failure }
}

#[test]
fn a_store_that_refuses_segments_ends_the_job_when_no_more_failures_are_tolerable() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.report(declined(1, FailureKind::User));
    bench.tick(2_000);
    let commands = bench.report(declined(2, FailureKind::User));
    assert_eq!(commands[..2], ["aborted 2", "cancel"], "{commands:?}");
    assert!(!commands.contains(&"suspend".to_owned()), "no restart: {commands:?}");
}

#[test]
fn a_checkpoint_that_takes_too_long_is_aborted_and_names_who_is_missing() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    assert_eq!(bench.tick(6_000), ["aborted 1", "trigger 2"]);
    let reason = bench.core.status().last_checkpoint_failure.clone().unwrap();
    assert!(reason.contains("1/0 (count)"), "{reason}");
}

#[test]
fn a_full_store_fails_the_job_with_the_store_s_words() {
    let mut bench = Bench::running();
    for (at, epoch) in [(1_000, 1), (2_000, 2)] {
        bench.tick(at);
        bench.acknowledge(epoch, vec![]);
        let problem = StoreProblem { message: "disk full".to_owned(), kind: StoreProblemKind::User };
        bench.put_ends(AppendOutcome::Rejected { problem });
    }
    assert!(bench.core.status().restart_reasons.back().unwrap().reason.contains("disk full"));
    assert_eq!(bench.core.status().restarts, 0);
}

#[test]
fn sources_pause_at_half_of_the_transaction_time_out_and_go_on_with_the_next_manifest() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    bench.put_ends(AppendOutcome::Unknown { reason: "away".to_owned() });
    let commands = bench.tick(30_000);
    assert!(commands.contains(&"pause true".to_owned()), "{commands:?}");
    assert_eq!(bench.won(), ["sealed 1", "pause false", "trigger 2"]);
}
