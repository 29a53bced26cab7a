//! Another parallelism, and other places, while tasks run.

use std::collections::BTreeMap;

use millstream_api::control::{Failure, FailureKind, FinishOutcome, Report};
use millstream_api::ids::{Epoch, WorkerId};
use millstream_api::log::{EntryKind, TaskSnapshot};

use super::fixture::{Bench, COUNT_TASK, SOURCE_TASK, config, manifest, registered, snapshot, transaction};
use crate::job::{
    AppendOutcome, ChangeCost, Event, JobState, ProcessState, Rescale, RescaleEnd, StopMode, StoreProblem,
    StoreProblemKind,
};

fn rescale(parallelism: u32) -> Event {
    Event::RescaleRequested { rescale: Rescale { id: format!("to-{parallelism}"), parallelism } }
}

fn last(bench: &Bench) -> Option<(u32, RescaleEnd)> {
    bench.core.status().rescale.ended.last().map(|(request, end)| (request.parallelism, end.clone()))
}

/// A job with one task of each kind, asked for two, with a slot for each.
fn prepared() -> Bench {
    let mut bench = Bench::running();
    bench.event(registered(1, 1));
    let prepare = "prepare 4 tasks for attempt 2";
    assert_eq!(bench.event(rescale(2)), [prepare, prepare]);
    assert!(bench.report_of(1, Report::Prepared).is_empty());
    bench
}

fn cut() -> Bench {
    let mut bench = prepared();
    assert_eq!(bench.report_of(0, Report::Prepared), ["trigger 1 and stop", "trigger 1 and stop"]);
    bench
}

#[test]
fn prepared_tasks_go_on_from_the_manifest_and_the_commits_follow() {
    let mut bench = cut();
    bench.acknowledge(1, vec![transaction(1, 0)]);
    bench.now = 100;
    let EntryKind::Manifest(manifest) = &bench.put.as_ref().unwrap().kind else { panic!("no manifest is put") };
    assert_eq!(manifest.scale.map(|scale| (scale.spec, scale.wanted)), Some((1, 2)));
    assert!(manifest.next_transactional_ids.values().all(|ids| ids.prefix.contains("-0-2-out") && ids.indexes == 2));
    assert_eq!(bench.won(), ["switch to 1", "switch to 1", "finish 1"]);
    assert!(bench.tick(3_000).is_empty(), "no checkpoint before all are over there");
    bench.report_of(1, Report::Restoring { bytes: 7 });
    bench.report_of(0, Report::Deployed);
    assert_eq!(bench.report_of(1, Report::Deployed), ["trigger 2", "trigger 2"], "which is due by then");
    let cost = ChangeCost { prepare_ms: 0, prepare_bytes: 0, switch_ms: 2_900, switch_bytes: 7 };
    assert_eq!(last(&bench), Some((2, RescaleEnd::Done { cost: Some(cost) })));
    assert_eq!((bench.core.status().changes_completed, bench.core.status().last_change), (1, Some(cost)));
    let outcome = vec![(transaction(1, 0), FinishOutcome::Committed)];
    bench.report_of(1, Report::TransactionsFinished { outcome });
    assert_eq!(bench.core.status().commits_open, 0);
    assert_eq!(bench.core.status().state, JobState::Running);
    assert_eq!((bench.core.status().restarts, bench.core.status().parallelism), (0, 2));
}

#[test]
fn what_the_tasks_before_left_is_not_taken_for_committed_by_those_of_the_same_number() {
    let mut bench = cut();
    bench.acknowledge(1, vec![transaction(1, 0)]);
    bench.won();
    bench.report_of(0, Report::Deployed);
    bench.report_of(1, Report::Deployed);
    let unavailable = FinishOutcome::Unavailable { detail: "away".to_owned() };
    bench.report_of(1, Report::TransactionsFinished { outcome: vec![(transaction(1, 0), unavailable)] });
    bench.report(Report::Committed { task: COUNT_TASK, epoch: Epoch(2) });
    assert_eq!(bench.core.status().commits_open, 1);
    let at = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(at), ["finish 1"], "it is asked again");
}

#[test]
fn before_its_manifest_a_failure_restores_the_job_as_it_was_and_it_is_tried_again() {
    let mut bench = cut();
    bench.acknowledge(1, vec![]);
    let suspended = bench.event(Event::WorkerLost { worker: WorkerId(0), reason: "silent".to_owned() });
    assert_eq!(suspended, ["suspend"]);
    assert_eq!(bench.core.status().parallelism, 1);
    assert_eq!(bench.core.status().rescale.pending.as_ref().map(|r| r.parallelism), Some(2));
}

#[test]
fn after_its_manifest_a_failure_restores_the_new_tasks() {
    let mut bench = cut();
    bench.acknowledge(1, vec![]);
    bench.won();
    bench.task_fails(FailureKind::Transient);
    let at = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(at), ["put 3: settled Some(1)"]);
    assert_eq!(bench.won(), ["fence -0-1-out 1x4"]);
    assert_eq!(bench.report(Report::TransactionsFenced), ["fence -0-2-out 2x4"], "both may have something open");
    let deploy = "deploy 4 tasks from Some(1)";
    assert_eq!(bench.report(Report::TransactionsFenced), [deploy, deploy]);
}

#[test]
fn another_coordinator_keeps_what_was_asked_for_until_the_resource_says_something_else() {
    let mut bench = cut();
    bench.acknowledge(1, vec![]);
    bench.won();
    let (next, _) = Bench::on_log(config(), bench.log.clone(), ProcessState::Gone);
    assert_eq!(next.core.status().parallelism_wanted, 2);
    let mut edited = config();
    (edited.parallelism, edited.min_parallelism) = (3, 3);
    let (next, _) = Bench::on_log(edited, bench.log.clone(), ProcessState::Gone);
    assert_eq!(next.core.status().parallelism_wanted, 3);
}

#[test]
fn what_waits_for_slots_says_so_and_begins_when_they_come() {
    let mut bench = Bench::running();
    assert!(bench.event(rescale(3)).is_empty());
    assert_eq!(bench.core.status().rescale.doing.as_deref(), Some("2 slots are missing"));
    bench.event(registered(1, 1));
    assert_eq!(bench.core.status().rescale.doing.as_deref(), Some("1 slots are missing"));
    let prepare = "prepare 6 tasks for attempt 2".to_owned();
    let expected = ["suspend".to_owned(), prepare.clone(), prepare.clone(), prepare];
    assert_eq!(bench.event(registered(2, 1)), expected);
}

#[test]
fn what_is_read_beforehand_stays_in_the_store_for_as_long() {
    let mut bench = prepared();
    let seal = |bench: &mut Bench, epoch: u64| {
        bench.tick(epoch * 1_000);
        bench.acknowledge(epoch, vec![]);
        bench.won()
    };
    let first = bench.core.view().tip().unwrap().seq;
    assert_eq!(seal(&mut bench, 1), ["sealed 1", "sealed 1"], "the first manifest is being read");
    bench.report_of(0, Report::Restoring { bytes: 30 });
    bench.report_of(0, Report::Restoring { bytes: 50 });
    let doing = bench.core.status().rescale.doing.clone();
    assert_eq!(doing.as_deref(), Some("1 workers get ready, 50 bytes are read"));
    assert_eq!(seal(&mut bench, 2), ["sealed 2", "sealed 2"], "it is still being read");
    bench.report_of(0, Report::Restoring { bytes: 51 });
    bench.report_of(0, Report::Prepared);
    bench.acknowledge(3, vec![]);
    let gone = bench.won();
    assert!(gone[0].starts_with(&format!("delete {}", crate::log::entry_path("default/job", first))), "{gone:?}");
    bench.report_of(0, Report::Deployed);
    bench.report_of(1, Report::Deployed);
    let cost = bench.core.status().last_change.unwrap();
    assert_eq!((cost.prepare_ms, cost.prepare_bytes, cost.switch_bytes), (2_000, 51, 0));
}

#[test]
fn who_reads_much_may_take_long_as_long_as_it_goes_on() {
    let mut impatient = config();
    let patience_ms = 2_000;
    impatient.limits.deploy_timeout_ms = patience_ms;
    let mut bench = Bench::running_with(impatient);
    bench.event(registered(1, 1));
    bench.event(rescale(2));
    for part in 1..4 {
        bench.now += patience_ms - 1;
        assert!(bench.report_of(0, Report::Restoring { bytes: part }).iter().all(|command| command != "discard"));
    }
    let at = bench.now + patience_ms;
    let given_up = bench.tick(at);
    assert_eq!(given_up.iter().filter(|command| *command == "discard").count(), 2, "{given_up:?}");
    assert!(
        matches!(last(&bench), Some((2, RescaleEnd::Failed { reason })) if reason.contains("not get ready in time"))
    );
}

#[test]
fn a_later_request_replaces_an_earlier_one() {
    let mut bench = prepared();
    assert_eq!(bench.event(rescale(3)), ["discard", "discard"]);
    assert_eq!(last(&bench), Some((2, RescaleEnd::Replaced)));
    assert_eq!(bench.event(rescale(1)), Vec::<String>::new());
    assert_eq!(last(&bench), Some((1, RescaleEnd::Already)));
    bench.event(rescale(9));
    assert!(matches!(last(&bench), Some((9, RescaleEnd::Failed { reason })) if reason.contains("maxParallelism")));
}

#[test]
fn a_worker_that_cannot_get_ready_ends_the_request_and_harms_nothing() {
    let mut bench = prepared();
    let failure = Failure { kind: FailureKind::User, message: "no topic".to_owned() };
    assert_eq!(bench.report_of(0, Report::PrepareFailed { failure }), ["discard", "discard"]);
    assert!(matches!(last(&bench), Some((2, RescaleEnd::Failed { reason })) if reason == "host-0: no topic"));
    assert_eq!(bench.core.status().state, JobState::Running);
    assert_eq!(bench.tick(1_000), ["trigger 1", "trigger 1"]);
}

#[test]
fn what_may_pass_by_itself_is_tried_again_a_few_times() {
    let mut bench = prepared();
    let failure = || Failure { kind: FailureKind::Transient, message: "nobody there".to_owned() };
    for attempt in 3..5 {
        let failed = bench.report_of(0, Report::PrepareFailed { failure: failure() });
        assert_eq!(failed, ["discard", "discard"]);
        let at = bench.core.deadline().unwrap();
        let prepare = format!("prepare 4 tasks for attempt {attempt}");
        assert_eq!(bench.tick(at)[..2], [prepare.clone(), prepare]);
    }
    bench.report_of(0, Report::PrepareFailed { failure: failure() });
    assert!(
        matches!(last(&bench), Some((2, RescaleEnd::Failed { reason })) if reason.ends_with("host-0: nobody there"))
    );
    assert_eq!(bench.core.status().state, JobState::Running);
}

#[test]
fn a_worker_that_was_only_prepared_is_lost_without_harm() {
    let mut bench = prepared();
    let lost = bench.event(Event::WorkerLost { worker: WorkerId(1), reason: "silent".to_owned() });
    assert_eq!(lost, ["discard"]);
    assert_eq!(bench.core.status().state, JobState::Running);
    let prepare = "prepare 4 tasks for attempt 3";
    assert_eq!(bench.event(registered(2, 1)), ["suspend", prepare, prepare]);
}

#[test]
fn a_cut_that_cannot_be_stored_is_not_gone_back_on() {
    let mut bench = cut();
    bench.acknowledge(1, vec![]);
    let problem = StoreProblem { kind: StoreProblemKind::Transient, message: "full".to_owned() };
    let commands = bench.put_ends(AppendOutcome::Rejected { problem });
    assert_eq!(commands, ["aborted 1", "aborted 1", "suspend", "suspend"]);
    assert_eq!(bench.core.status().parallelism, 1);
}

#[test]
fn a_stop_ends_a_change() {
    let mut bench = prepared();
    assert_eq!(
        bench.event(Event::StopRequested(StopMode::Suspend)),
        ["discard", "discard", "trigger 1 and stop", "trigger 1 and stop"]
    );
    let mut bench = cut();
    bench.event(Event::StopRequested(StopMode::Suspend));
    bench.acknowledge(1, vec![]);
    assert_eq!(bench.won(), ["sealed 1", "sealed 1"], "its last checkpoint is the last one of all");
}

/// Every task acknowledges, that of index n on worker n, and the manifest is put.
fn seal(bench: &mut Bench, epoch: u64) -> Vec<String> {
    let splits = manifest(epoch, vec![]).splits;
    for task in bench.core.checkpoint().unwrap().waiting.clone() {
        let splits = if task == SOURCE_TASK { splits.clone() } else { BTreeMap::new() };
        let snapshot = TaskSnapshot { splits, ..snapshot(task, epoch) };
        bench.report_of(task.index, Report::Acknowledged(Box::new(snapshot)));
    }
    bench.won()
}

/// A job that may run with one task of each kind and is to have two, with a slot for so many.
fn of_at_least_one(slots: u32) -> Bench {
    let mut smaller = config();
    (smaller.parallelism, smaller.min_parallelism, smaller.slot_timeout_ms) = (2, 1, 3_000);
    let (mut bench, _) = Bench::on_log(smaller, Vec::new(), ProcessState::Gone);
    bench.won();
    (0..slots).for_each(|worker| drop(bench.event(registered(worker, 1))));
    bench.tick(3_000);
    (0..slots).for_each(|worker| drop(bench.report_of(worker, Report::Deployed)));
    seal(&mut bench, 0);
    assert_eq!((bench.core.status().state, bench.core.status().parallelism), (JobState::Running, slots));
    bench
}

#[test]
fn where_a_worker_leaves_and_fewer_tasks_will_do_the_others_take_over() {
    let mut bench = of_at_least_one(2);
    let commands = bench.event(Event::WorkerLeaving { worker: WorkerId(1) });
    assert_eq!(commands, ["prepare 2 tasks for attempt 2"]);
    assert_eq!(bench.report_of(0, Report::Prepared), ["trigger 1 and stop", "trigger 1 and stop"]);
    seal(&mut bench, 1);
    bench.report_of(0, Report::Deployed);
    let status = bench.core.status();
    assert_eq!((status.parallelism, status.parallelism_wanted, status.restarts), (1, 2, 0), "it grows again later");
}

#[test]
fn a_request_that_waits_for_slots_is_not_decided_by_a_worker_that_leaves() {
    let mut bench = of_at_least_one(2);
    assert!(bench.event(rescale(3)).is_empty());
    bench.event(Event::WorkerLeaving { worker: WorkerId(1) });
    bench.report_of(0, Report::Prepared);
    seal(&mut bench, 1);
    bench.report_of(0, Report::Deployed);
    let status = bench.core.status();
    assert_eq!((status.parallelism, status.parallelism_wanted), (1, 2));
    assert_eq!(status.rescale.pending.as_ref().map(|request| request.parallelism), Some(3), "it waits on");
}

#[test]
fn a_request_for_what_runs_where_more_was_wanted_ends_at_once() {
    let mut bench = of_at_least_one(1);
    assert_eq!(bench.core.status().parallelism_wanted, 2);
    assert!(bench.event(rescale(1)).is_empty());
    assert_eq!(last(&bench), Some((1, RescaleEnd::Done { cost: None })));
    assert_eq!(bench.core.status().parallelism_wanted, 1);
}
