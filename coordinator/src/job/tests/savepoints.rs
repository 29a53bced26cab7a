//! Savepoints: taken beside what runs, as the end of the job, and gone on from.

use std::sync::Arc;

use millstream_api::control::{FailureKind, Report};
use millstream_api::ids::Epoch;
use millstream_api::log::{EntryKind, Manifest, Savepoint};

use super::fixture::{Bench, COUNT_TASK, config, manifest, registered, transaction};
use crate::job::{
    AppendOutcome, Event, JobConfig, JobState, LogTail, LogView, Outcome, ProcessState, SavepointEnd, SavepointRequest,
    StopMode, StoreProblem, StoreProblemKind,
};

fn asked(id: &str, then: Option<StopMode>) -> Event {
    let request = SavepointRequest { id: id.to_owned(), target: format!("/savepoints/{id}"), then };
    Event::SavepointRequested { request }
}

fn copied(id: &str, copied: Result<u64, String>) -> Event {
    Event::SavepointCopied { id: id.to_owned(), copied }
}

fn last(bench: &Bench) -> Option<SavepointEnd> {
    bench.core.status().savepoints.ended.last().map(|(_, end)| end.clone())
}

fn doing(bench: &Bench) -> Vec<String> {
    bench.core.status().savepoints.under_way.iter().map(|(_, doing)| doing.clone()).collect()
}

fn committed(epoch: u64) -> Report {
    Report::Committed { task: COUNT_TASK, epoch: Epoch(epoch) }
}

#[test]
fn a_checkpoint_is_taken_at_once_and_copied_when_its_commits_are_done() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(asked("a", None)), ["trigger 1"]);
    assert!(bench.event(asked("a", None)).is_empty(), "the same id asks for the same");
    bench.acknowledge(1, vec![transaction(1, 0)]);
    assert_eq!(bench.won(), ["sealed 1"]);
    assert_eq!(doing(&bench), ["the commits of checkpoint 1 are to end"]);
    assert_eq!(bench.report(committed(1)), ["copy 1 to /savepoints/a"]);
    bench.event(copied("a", Ok(7)));
    assert_eq!(last(&bench), Some(SavepointEnd::Taken { epoch: Epoch(1), bytes: 7 }));
    assert_eq!(bench.core.status().state, JobState::Running);
}

#[test]
fn a_checkpoint_that_was_triggered_before_the_request_does_not_count() {
    let mut bench = Bench::running();
    assert_eq!(bench.tick(1_000), ["trigger 1"]);
    assert!(bench.event(asked("a", None)).is_empty());
    bench.acknowledge(1, vec![]);
    assert_eq!(bench.won(), ["sealed 1", "trigger 2"]);
    bench.acknowledge(2, vec![]);
    assert!(bench.won().contains(&"copy 2 to /savepoints/a".to_owned()));
}

#[test]
fn what_is_copied_stays_however_many_checkpoints_follow() {
    let mut bench = Bench::running();
    bench.event(asked("a", None));
    bench.acknowledge(1, vec![]);
    bench.won();
    for epoch in 2..5 {
        bench.tick(epoch * 1_000);
        bench.acknowledge(epoch, vec![]);
        bench.won();
    }
    assert_eq!(bench.core.view().sealed().first().map(|s| s.manifest.epoch), Some(Epoch(1)));
    let gone = bench.event(copied("a", Err("away".to_owned())));
    assert!(gone.first().is_some_and(|deleted| deleted.starts_with("delete ")), "{gone:?}");
    assert_eq!(last(&bench), Some(SavepointEnd::Failed { reason: "away".to_owned() }));
}

#[test]
fn over_a_failure_the_request_goes_on() {
    let mut bench = Bench::running();
    bench.event(asked("a", None));
    bench.acknowledge(1, vec![transaction(1, 0)]);
    bench.won();
    bench.task_fails(FailureKind::Transient);
    assert_eq!(doing(&bench), ["the commits of checkpoint 1 are to end"]);
    let at = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(at), ["finish 1"], "the restart sees to the commits");
    let outcome = vec![(transaction(1, 0), millstream_api::control::FinishOutcome::Committed)];
    bench.report(Report::TransactionsFinished { outcome });
    bench.won();
    bench.report(Report::TransactionsFenced);
    let running = bench.report(Report::Deployed);
    assert!(running.contains(&"copy 1 to /savepoints/a".to_owned()), "{running:?}");
}

#[test]
fn a_job_that_ends_with_a_savepoint_ends_once_it_is_copied() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(asked("a", Some(StopMode::Suspend))), ["trigger 1 and stop"]);
    bench.acknowledge(1, vec![transaction(1, 0)]);
    bench.won();
    assert_eq!(bench.report(committed(1)), ["copy 1 to /savepoints/a"]);
    assert_eq!(bench.core.status().state, JobState::Stopping);
    assert_eq!(bench.core.deadline(), None, "a copy takes as long as the state is large");
    let stopped = bench.event(copied("a", Ok(7)));
    assert_eq!(stopped, ["put 3: stopped Stopped, committed Some(1)"]);
    bench.won();
    assert!(matches!(bench.outcome, Some(Outcome::Stopped { incomplete: None, .. })));
    assert!(matches!(last(&bench), Some(SavepointEnd::Taken { .. })));
}

#[test]
fn a_job_that_does_not_run_yet_ends_with_a_savepoint_of_its_last_checkpoint() {
    let mut before = Bench::running();
    before.tick(1_000);
    before.acknowledge(1, vec![]);
    before.won();
    let (mut bench, _) = Bench::on_log(config(), before.log.clone(), ProcessState::Gone);
    bench.won();
    let stopped = bench.event(asked("a", Some(StopMode::Suspend)));
    assert_eq!(stopped, ["copy 1 to /savepoints/a"]);
    let ended = bench.event(copied("a", Ok(7)));
    assert!(ended.iter().any(|said| said.contains("stopped Stopped, committed Some(1)")), "{ended:?}");
    assert_eq!(last(&bench), Some(SavepointEnd::Taken { epoch: Epoch(1), bytes: 7 }));
}

/// A job whose settings name a savepoint of checkpoint 40.
fn from_savepoint() -> JobConfig {
    let mut config = config();
    config.restore.savepoint = Some("/savepoints/a/".to_owned());
    config
}

fn savepoint() -> Savepoint {
    Savepoint::of("a".to_owned(), "default/other".to_owned(), 0, &manifest(40, vec![transaction(40, 0)]))
}

fn read(bench: &mut Bench) -> Vec<String> {
    bench.event(Event::SavepointRead { read: Ok(Box::new(savepoint())) })
}

fn imported(bench: &mut Bench) -> Vec<String> {
    bench.event(Event::SavepointImported { imported: Ok(Box::new(Manifest::clone(&savepoint().manifest))) })
}

#[test]
fn a_new_job_goes_on_from_a_savepoint() {
    let (mut bench, commands) = Bench::on_log(from_savepoint(), Vec::new(), ProcessState::Gone);
    assert_eq!(commands, ["read savepoint /savepoints/a/"]);
    assert_eq!(read(&mut bench), ["put 0: start, restores None"]);
    assert_eq!(bench.won(), ["import /savepoints/a/ as 41"]);
    assert_eq!(imported(&mut bench), ["put 1: manifest 41, transactions of [], committed Some(41)"]);
    bench.won();
    let deployed = bench.event(registered(0, 1));
    assert_eq!(deployed, ["suspend", "put 2: settled Some(41)"]);
    bench.won();
    let EntryKind::Manifest(manifest) = &bench.log[1].kind else { panic!("no manifest") };
    assert_eq!(manifest.restored_savepoint.as_deref(), Some("/savepoints/a"));
}

#[test]
fn what_was_gone_on_from_counts_once_and_its_place_may_be_gone() {
    let (mut bench, _) = Bench::on_log(from_savepoint(), Vec::new(), ProcessState::Gone);
    read(&mut bench);
    bench.won();
    imported(&mut bench);
    bench.won();
    let (_, commands) = Bench::on_log(from_savepoint(), bench.log.clone(), ProcessState::Gone);
    assert_eq!(commands, ["put 2: start, restores Some(1)"]);
    let mut again = from_savepoint();
    again.restore.savepoint_nonce = Some(1);
    let (_, commands) = Bench::on_log(again, bench.log.clone(), ProcessState::Gone);
    assert_eq!(commands, ["read savepoint /savepoints/a/"], "asked for once more");
}

#[test]
fn until_its_manifest_is_in_the_log_the_job_is_as_it_was() {
    let mut before = Bench::running();
    before.tick(1_000);
    before.acknowledge(1, vec![transaction(1, 0)]);
    before.won();
    let (mut bench, _) = Bench::on_log(from_savepoint(), before.log.clone(), ProcessState::Gone);
    read(&mut bench);
    bench.won();
    assert_eq!(bench.core.view().tip().map(|tip| tip.manifest.epoch), Some(Epoch(1)));
    // Killed here, and started without the savepoint: it goes on where it was.
    let (next, _) = Bench::on_log(config(), bench.log.clone(), ProcessState::Gone);
    assert_eq!(next.core.view().pending().len(), 1);
    imported(&mut bench);
    bench.won();
    assert_eq!(bench.core.view().tip().map(|tip| tip.manifest.epoch), Some(Epoch(41)));
    assert!(bench.core.view().pending().is_empty(), "what came before is left behind");
    assert_eq!(bench.core.view().transactional_ids().len(), 1, "and may have something open still");
}

#[test]
fn its_manifest_says_what_may_be_open_when_the_entries_before_it_are_gone() {
    let mut before = Bench::running();
    before.tick(1_000);
    let (mut bench, _) = Bench::on_log(from_savepoint(), before.log.clone(), ProcessState::Gone);
    read(&mut bench);
    bench.won();
    imported(&mut bench);
    bench.won();
    let known = bench.core.view().transactional_ids().to_vec();
    assert!(known.iter().any(|ids| !ids.is_empty()));
    let manifest = bench.log.last().cloned().into_iter().collect();
    let start = bench.core.view().holder().cloned();
    let view = LogView::of(&LogTail { entries: manifest, start, stored: Vec::new() });
    assert_eq!(view.transactional_ids(), known);
}

#[test]
fn one_that_was_named_before_another_coordinator_went_on_is_passed_over() {
    let mut other = Bench::running();
    let (mut bench, commands) = Bench::on_log(from_savepoint(), other.log.clone(), ProcessState::Gone);
    assert_eq!(commands, ["read savepoint /savepoints/a/"]);
    read(&mut bench);
    // The other one was not gone, only slow.
    other.tick(1_000);
    other.acknowledge(1, vec![]);
    other.won();
    bench.log.clone_from(&other.log);
    bench.put_ends(AppendOutcome::Lost { by: None, stands: false });
    bench.tick(bench.core.deadline().unwrap());
    assert_eq!(bench.read_log(ProcessState::Gone), ["put 3: start, restores Some(2)"]);
}

#[test]
fn one_that_cannot_be_read_or_does_not_fit_ends_the_start_and_touches_nothing() {
    let (mut bench, _) = Bench::on_log(from_savepoint(), Vec::new(), ProcessState::Gone);
    let problem = StoreProblem { kind: StoreProblemKind::User, message: "it is none".to_owned() };
    bench.event(Event::SavepointRead { read: Err(problem) });
    assert!(matches!(&bench.outcome, Some(Outcome::Failed { failure, .. })
        if failure.message == "spec.restore.savepoint: it is none"));
    let (mut bench, _) = Bench::on_log(from_savepoint(), Vec::new(), ProcessState::Gone);
    let mut other = savepoint();
    Arc::make_mut(&mut other.manifest).max_parallelism = 64;
    bench.event(Event::SavepointRead { read: Ok(Box::new(other)) });
    assert!(matches!(&bench.outcome, Some(Outcome::Failed { failure, .. })
        if failure.message.contains("maxParallelism is 8 but checkpoint 40 was written with 64")));
    assert!(bench.log.is_empty());
}
