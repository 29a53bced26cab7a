//! A coordinator that did not move for a while, and what it goes on with.

use millstream_api::control::{FailureKind, Report, Running};
use millstream_api::ids::{Epoch, Generation, Seq, WorkerId};
use millstream_api::log::{EntryKind, LogEntry, Start};

use super::fixture::{Bench, config, entry_after, registered, running_tasks};
use crate::job::{AppendOutcome, Event, JobConfig, JobState, ProcessState, Rescale, SavepointRequest, StopMode};

fn cluster() -> JobConfig {
    let mut config = config();
    config.standby = true;
    config.address.listen = Some("first:1".to_owned());
    config
}

/// A job after checkpoint 1, which looked at the time last at 1,000.
fn ruling() -> Bench {
    let mut bench = Bench::running_with(cluster());
    bench.tick(1_000);
    bench.acknowledge(1, vec![]);
    bench.won();
    bench
}

fn lost(worker: u32) -> Event {
    Event::WorkerLost { worker: WorkerId(worker), reason: "its connection closed".to_owned() }
}

fn inspected(running: Running) -> Report {
    Report::Inspected { running: Some(Box::new(running)) }
}

#[test]
fn it_looks_at_the_time_while_tasks_run() {
    let mut bench = ruling();
    assert_eq!(bench.core.deadline(), Some(1_375));
    assert!(bench.tick(1_375).is_empty());
    assert_eq!(bench.core.deadline(), Some(1_750));
    // In one process nobody gives it up.
    assert_eq!(Bench::running().core.deadline(), Some(1_000));
}

#[test]
fn what_runs_goes_on_after_a_standstill() {
    let mut bench = ruling();
    let running = running_tasks(&bench);
    bench.now = 6_000;
    assert_eq!(bench.event(lost(0)), ["put 3: start, restores Some(2)"], "the workers are told nothing");
    assert_eq!(bench.core.status().state, JobState::Starting);
    assert!(bench.event(registered(1, 1)).is_empty(), "nor the one that has come back");
    assert_eq!(bench.won(), ["inspect"]);
    assert_eq!(bench.core.status().generation, Some(3));
    assert_eq!(bench.report_of(1, inspected(running)), ["adopt 1 without ", "trigger 2"]);
    assert_eq!(bench.core.status().restarts, 0);
}

#[test]
fn a_worker_that_is_really_gone_is_replaced() {
    let mut bench = ruling();
    bench.now = 6_000;
    bench.event(lost(0));
    bench.won();
    bench.event(registered(1, 1));
    assert!(bench.report_of(1, Report::Inspected { running: None }).is_empty(), "others may come");
    let commands = bench.tick(9_000);
    assert_eq!(commands[0], "suspend", "{commands:?}");
}

#[test]
fn who_was_replaced_meanwhile_stands_by() {
    let mut bench = ruling();
    bench.now = 6_000;
    bench.event(Event::Tick);
    let mut address = config().address;
    (address.listen, address.process_id) = (Some("second:1".to_owned()), 9);
    let owner = config().owner;
    let start = Start { owner, address, restores: Some(Seq(2)), job_uid: "a".repeat(16) };
    let successor = LogEntry { generation: Generation(3), ..entry_after(&bench.log, EntryKind::Start(start)) };
    bench.log.push(successor);
    assert!(bench.put_ends(AppendOutcome::Lost { by: None, stands: false }).is_empty());
    let at = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(at), ["read log"]);
    assert_eq!(bench.read_log(ProcessState::Unknown), ["probe second:1"]);
    assert_eq!((bench.core.status().state, bench.core.status().generation), (JobState::StandingBy, None));
}

#[test]
fn an_entry_on_its_way_is_settled_first() {
    let mut bench = ruling();
    let running = running_tasks(&bench);
    bench.tick(2_000);
    bench.acknowledge(2, vec![]);
    bench.now = 6_000;
    assert!(bench.event(Event::Tick).is_empty());
    assert!(bench.event(lost(0)).is_empty());
    assert_eq!(bench.won(), ["put 4: start, restores Some(3)"], "the manifest stands, and nobody has heard of it");
    bench.event(registered(1, 1));
    bench.won();
    let took_part = Running { acknowledged: Some(Epoch(2)), epoch_max: Some(Epoch(2)), ..running };
    assert_eq!(bench.report_of(1, inspected(took_part)), ["adopt 2 without ", "trigger 3"]);
}

#[test]
fn an_entry_that_lost_ends_the_term_for_good() {
    let mut bench = ruling();
    bench.tick(2_000);
    bench.acknowledge(2, vec![]);
    bench.now = 6_000;
    bench.event(Event::Tick);
    let commands = bench.put_ends(AppendOutcome::Lost { by: None, stands: false });
    assert_eq!(commands.last().map(String::as_str), Some("end: fenced"), "{commands:?}");
}

#[test]
fn what_was_asked_for_and_is_not_in_the_log_is_not_lost() {
    let asks: [fn(&mut Bench); 4] = [
        |bench| drop(bench.event(Event::StopRequested(StopMode::Suspend))),
        |bench| drop(bench.event(Event::StopRequested(StopMode::Drain))),
        |bench| {
            let request = SavepointRequest { id: "one".to_owned(), target: "/savepoints/one".to_owned(), then: None };
            drop(bench.event(Event::SavepointRequested { request }));
        },
        |bench| {
            let rescale = Rescale { id: "one".to_owned(), parallelism: 4 };
            drop(bench.event(Event::RescaleRequested { rescale }));
        },
    ];
    for ask in asks {
        let mut bench = ruling();
        ask(&mut bench);
        bench.now = 6_000;
        let commands = bench.event(lost(0));
        assert!(!commands.iter().any(|c| c.contains("start,")), "{commands:?}");
    }
}

#[test]
fn what_does_not_run_is_restored_as_ever() {
    let mut bench = ruling();
    bench.task_fails(FailureKind::Transient);
    bench.now = 6_000;
    assert_eq!(bench.event(Event::Tick), ["put 3: settled Some(1)"], "the next attempt begins");
}
