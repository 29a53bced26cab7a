//! Who may run the job.

use millstream_api::log::{EntryKind, LogEntry, Owner, Start, StopReason};

use super::fixture::{Bench, config, entry_after};
use crate::job::{AppendOutcome, Outcome, ProcessState};

fn log_of(owner: &str) -> Vec<LogEntry> {
    let config = config();
    let start =
        Start { owner: Owner(owner.to_owned()), address: config.address, restores: None, job_uid: "a".repeat(16) };
    vec![entry_after(&[], EntryKind::Start(start))]
}

fn refusal(owner: &str, previous: ProcessState) -> String {
    let (bench, commands) = Bench::on_log(config(), log_of(owner), previous);
    assert_eq!(commands, ["end: failed"]);
    match bench.outcome {
        Some(Outcome::Failed { failure, .. }) => failure.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_owner_is_refused_and_both_are_named() {
    let message = refusal("you", ProcessState::Gone);
    assert!(message.contains("owner you") && message.contains("owner me"), "{message}");
}

#[test]
fn a_process_that_lives_is_refused_with_its_id() {
    let message = refusal("me", ProcessState::Alive);
    assert!(message.contains("kill 7"), "{message}");
}

#[test]
fn a_process_that_cannot_be_seen_needs_a_take_over() {
    let message = refusal("me", ProcessState::Unknown);
    assert!(message.contains("takeOver: me"), "{message}");
}

#[test]
fn the_same_owner_goes_on_at_once_when_the_old_process_is_gone() {
    let (_, commands) = Bench::on_log(config(), log_of("me"), ProcessState::Gone);
    assert_eq!(commands, ["put 1: start, restores None"]);
}

#[test]
fn a_stopped_job_is_free_and_a_named_owner_is_taken_over() {
    let mut log = log_of("you");
    let stopped = EntryKind::Stopped { reason: StopReason::Stopped, epoch: None, committed_through: None };
    log.push(entry_after(&log, stopped));
    let (_, commands) = Bench::on_log(config(), log, ProcessState::Unknown);
    assert_eq!(commands, ["put 2: start, restores None"]);

    let mut config = config();
    config.restore.take_over = Some("you".to_owned());
    let (_, commands) = Bench::on_log(config, log_of("you"), ProcessState::Alive);
    assert_eq!(commands, ["put 1: start, restores None"]);
}

#[test]
fn a_lost_race_for_the_start_entry_reads_the_log_again() {
    let (mut bench, _) = Bench::on_log(config(), vec![], ProcessState::Gone);
    assert!(bench.put_ends(AppendOutcome::Lost { by: None, stands: false }).is_empty());
    let again = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(again), ["read log"]);
}

#[test]
fn a_lost_race_later_ends_the_term() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    let lost = AppendOutcome::Lost { by: None, stands: false };
    assert_eq!(bench.put_ends(lost), ["abandon all after Some(Epoch(0))", "end: fenced"]);
}

#[test]
fn what_a_manifest_names_that_the_next_owner_may_have_found_is_left_to_it() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    let lost = AppendOutcome::Lost { by: None, stands: true };
    assert_eq!(bench.put_ends(lost), ["abandon all after Some(Epoch(1))", "end: fenced"]);
}
