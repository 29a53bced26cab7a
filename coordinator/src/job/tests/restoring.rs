//! From a failure, or from a log, back to running.

use millstream_api::control::{FailureKind, FinishOutcome, Report};
use millstream_api::ids::{Epoch, TransformUid, WorkerId};
use millstream_api::log::{EntryKind, LogEntry, Start};

use super::fixture::{Bench, COUNT_TASK, config, entry_after, manifest, registered, transaction};
use crate::job::{Event, JobState, Outcome, ProcessState, StopMode};

/// A log: start, manifest 0, manifest `epoch` with these transactions.
fn log(manifests: Vec<millstream_api::log::Manifest>) -> Vec<LogEntry> {
    let config = config();
    let start = Start { owner: config.owner, address: config.address, restores: None, job_uid: "a".repeat(16) };
    let mut log = Vec::new();
    log.push(entry_after(&log, EntryKind::Start(start)));
    for mut manifest in manifests {
        let ids = millstream_api::log::transactional_ids(&config.graph, &format!("{}-0", "a".repeat(16)), 1, 4);
        manifest.transactional_ids = ids;
        log.push(entry_after(&log, EntryKind::Manifest(Box::new(manifest))));
    }
    log
}

fn restart(manifests: Vec<millstream_api::log::Manifest>) -> (Bench, Vec<String>) {
    let (mut bench, commands) = Bench::on_log(config(), log(manifests), ProcessState::Gone);
    assert!(commands[0].contains("start"), "{commands:?}");
    bench.event(registered(0, 1));
    let commands = bench.won();
    (bench, commands)
}

#[test]
fn a_restart_finishes_settles_fences_deploys_and_starts_in_this_order() {
    let (mut bench, commands) = restart(vec![manifest(0, vec![]), manifest(1, vec![transaction(1, 0)])]);
    assert_eq!(commands, ["finish 1"]);
    let outcome = vec![(transaction(1, 0), FinishOutcome::Committed)];
    assert_eq!(bench.report(Report::TransactionsFinished { outcome }), ["put 4: settled Some(1)"]);
    // The ids of the term before, then the own ones.
    assert_eq!(bench.won(), ["fence -0-out 1x4"]);
    assert_eq!(bench.report(Report::TransactionsFenced), ["deploy 2 tasks from Some(1)"]);
    assert_eq!(bench.report(Report::Deployed), ["start"], "positions are in the manifest: no new epoch before it");
}

#[test]
fn a_failure_within_the_term_proves_the_term_and_resets_the_tasks() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    bench.won();
    assert_eq!(bench.task_fails(FailureKind::Transient), ["suspend"]);
    assert_eq!(bench.tick(1_100), ["put 3: settled Some(1)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 1x4"]);
    assert_eq!(bench.report(Report::TransactionsFenced), ["deploy 2 tasks from Some(1)"]);
    assert_eq!(bench.report(Report::Deployed), ["start"]);
    // One that fails before it ran is deployed anew.
    bench.task_fails(FailureKind::Transient);
    bench.tick(2_000);
    bench.won();
    bench.report(Report::TransactionsFenced);
    assert_eq!(bench.task_fails(FailureKind::Transient), ["cancel"]);
}

/// A job after checkpoint 1, sealed at 1,000, whose tasks failed then and run again at that time.
fn runs_again_at(min_pause_ms: u64, at: u64) -> Bench {
    let mut config = config();
    config.checkpoint.min_pause_ms = min_pause_ms;
    let mut bench = Bench::running_with(config);
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    bench.won();
    bench.task_fails(FailureKind::Transient);
    bench.tick(at);
    bench.won();
    bench.report(Report::TransactionsFenced);
    assert_eq!(bench.report(Report::Deployed), ["start"]);
    bench
}

#[test]
fn the_first_checkpoint_after_a_failure_comes_when_it_would_have_come_without() {
    assert_eq!(runs_again_at(0, 1_300).core.deadline(), Some(2_000));
    assert_eq!(runs_again_at(0, 1_900).core.deadline(), Some(2_100), "what was lost is read again first");
    assert_eq!(runs_again_at(0, 9_000).core.deadline(), Some(9_200));
    assert_eq!(runs_again_at(4_000, 1_300).core.deadline(), Some(5_000));
    let mut bench = runs_again_at(0, 9_000);
    assert_eq!(bench.tick(9_200), ["trigger 2"]);
}

#[test]
fn checkpoints_that_fail_are_not_hurried_after_the_restart() {
    let mut bench = Bench::running();
    bench.tick(1_000);
    bench.tick(6_000);
    bench.tick(11_000);
    assert_eq!(bench.core.status().state, JobState::Restarting, "the second one was not complete in time either");
    let at = bench.core.deadline().unwrap();
    bench.tick(at);
    bench.won();
    bench.report(Report::TransactionsFenced);
    assert_eq!(bench.report(Report::Deployed), ["start"]);
    assert_eq!(bench.core.deadline(), Some(at + 1_000));
}

#[test]
fn a_job_that_begins_waits_for_its_interval() {
    assert_eq!(Bench::running().core.deadline(), Some(1_000));
    // Stopped long ago, nobody has waited for it.
    let mut before = Bench::running();
    before.event(Event::StopRequested(StopMode::Suspend));
    before.acknowledge(1, vec![]);
    before.won();
    before.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(1) });
    before.won();
    let (mut bench, _) = Bench::on_log(config(), before.log, ProcessState::Gone);
    bench.now = 60_000;
    bench.event(registered(0, 1));
    bench.won();
    bench.won();
    bench.report(Report::TransactionsFenced);
    assert_eq!(bench.report(Report::Deployed), ["start"]);
    assert_eq!(bench.core.deadline(), Some(61_000));
}

#[test]
fn an_epoch_that_the_broker_gave_up_is_voided_when_nothing_of_it_is_visible() {
    let both = vec![transaction(1, 0), transaction(1, 1)];
    let (mut bench, commands) = restart(vec![manifest(0, vec![]), manifest(1, both)]);
    assert_eq!(commands, ["finish 2"]);
    let expired = FinishOutcome::Expired { detail: String::new() };
    let outcome = vec![(transaction(1, 0), expired), (transaction(1, 1), FinishOutcome::Open)];
    assert_eq!(bench.report(Report::TransactionsFinished { outcome }), ["abort 1"]);
    let outcome = vec![(transaction(1, 1), FinishOutcome::Aborted)];
    assert_eq!(bench.report(Report::TransactionsAborted { outcome }), ["put 4: void 1"]);
    assert_eq!(bench.won(), ["put 5: settled Some(0)"]);
    assert_eq!(bench.won(), ["fence -0-out 1x4"]);
    assert_eq!(bench.report(Report::TransactionsFenced), ["deploy 2 tasks from Some(0)"]);
    bench.report(Report::Deployed);
    assert_eq!(bench.tick(1_000), ["trigger 2"], "the number of the voided epoch is not used again");
}

#[test]
fn a_partly_visible_epoch_stops_the_job_with_a_question() {
    let both = vec![transaction(1, 0), transaction(1, 1)];
    let (mut bench, _) = restart(vec![manifest(0, vec![]), manifest(1, both)]);
    let expired = FinishOutcome::Expired { detail: String::new() };
    let outcome = vec![(transaction(1, 0), expired), (transaction(1, 1), FinishOutcome::Committed)];
    let commands = bench.report(Report::TransactionsFinished { outcome });
    assert_eq!(commands, ["cancel", "put 4: stopped Failed, committed None"]);
    assert_eq!(bench.won(), ["end: failed"]);
    let Some(Outcome::Failed { failure, .. }) = bench.outcome else { panic!("must fail") };
    assert!(failure.message.contains("acceptDuplicates"), "{}", failure.message);
}

#[test]
fn a_broker_that_is_away_is_asked_again() {
    let (mut bench, _) = restart(vec![manifest(0, vec![]), manifest(1, vec![transaction(1, 0)])]);
    let outcome = vec![(transaction(1, 0), FinishOutcome::Unavailable { detail: String::new() })];
    assert!(bench.report(Report::TransactionsFinished { outcome }).is_empty());
    let again = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(again), ["finish 1"]);
}

#[test]
fn a_named_checkpoint_is_restored_once_and_sends_no_commit() {
    let manifests = vec![manifest(0, vec![]), manifest(1, vec![]), manifest(2, vec![transaction(2, 0)])];
    let mut named = config();
    named.restore.from = Some(2);
    let (mut bench, commands) = Bench::on_log(named.clone(), log(manifests), ProcessState::Gone);
    assert_eq!(commands, ["put 4: start, restores Some(2)"]);
    bench.event(registered(0, 1));
    assert_eq!(bench.won(), ["put 5: settled Some(1)"], "manifest 2's transaction is left to be fenced");
    bench.won();
    assert_eq!(bench.report(Report::TransactionsFenced), ["deploy 2 tasks from Some(1)"]);
    bench.report(Report::Deployed);
    bench.tick(1_000);
    assert_eq!(bench.acknowledge(3, vec![]), ["put 6: manifest 3, transactions of [], committed Some(1)"]);
    bench.won();
    // The same setting again: the job has gone on from there.
    let (_, commands) = Bench::on_log(named, bench.log.clone(), ProcessState::Gone);
    assert_eq!(commands, ["put 7: start, restores Some(6)"]);
}

#[test]
fn a_checkpoint_that_is_not_there_is_refused_with_those_that_are() {
    let mut named = config();
    named.restore.from = Some(9);
    let (bench, commands) = Bench::on_log(named, log(vec![manifest(0, vec![])]), ProcessState::Gone);
    assert_eq!(commands, ["end: failed"]);
    let Some(Outcome::Failed { failure, .. }) = bench.outcome else { panic!("must fail") };
    assert!(failure.message.contains("1 (checkpoint 0)"), "{}", failure.message);
}

#[test]
fn state_without_a_home_is_refused_by_name() {
    let mut old = manifest(1, vec![]);
    old.graph_hash = 1;
    old.splits.insert(TransformUid("gone".to_owned()), old.splits[&TransformUid("numbers".to_owned())].clone());
    let (bench, commands) = Bench::on_log(config(), log(vec![old.clone()]), ProcessState::Gone);
    assert_eq!(commands, ["end: failed"]);
    let Some(Outcome::Failed { failure, .. }) = bench.outcome else { panic!("must fail") };
    assert_eq!(failure.kind, FailureKind::State);
    assert!(failure.message.contains("gone has state"), "{}", failure.message);
    let mut allowed = config();
    allowed.restore.allow_non_restored_state = true;
    let (_, commands) = Bench::on_log(allowed, log(vec![old]), ProcessState::Gone);
    assert_eq!(commands, ["put 2: start, restores Some(1)"]);
}

#[test]
fn the_number_of_key_groups_is_frozen() {
    let mut other = config();
    other.max_parallelism = 16;
    let (bench, _) = Bench::on_log(other, log(vec![manifest(1, vec![])]), ProcessState::Gone);
    let Some(Outcome::Failed { failure, .. }) = bench.outcome else { panic!("must fail") };
    assert!(failure.message.contains("spec.maxParallelism: 8"), "{}", failure.message);
}

#[test]
fn a_report_of_an_earlier_attempt_is_dropped() {
    let mut bench = Bench::running();
    bench.task_fails(FailureKind::Transient);
    let stale = millstream_api::control::WorkerReport {
        attempt: millstream_api::control::Attempt { generation: Default::default(), number: 1 },
        report: Report::Committed { task: super::fixture::COUNT_TASK, epoch: Epoch(0) },
    };
    assert!(bench.event(Event::Worker { worker: WorkerId(0), report: stale }).is_empty());
}
