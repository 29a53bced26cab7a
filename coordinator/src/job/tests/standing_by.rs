//! Coordinators that wait, and when they no longer do.

use millstream_api::control::FailureKind;
use millstream_api::ids::{Generation, Seq, WorkerId};
use millstream_api::log::{EntryKind, LogEntry, Owner, Start, StopReason};

use super::fixture::{Bench, config, entry_after, registered};
use crate::job::{AppendOutcome, Event, JobConfig, JobState, Millis, Outcome, ProcessState, StopMode};

fn standby() -> JobConfig {
    let mut config = config();
    config.standby = true;
    config.address.listen = Some("second:1".to_owned());
    config
}

fn start(listen: Option<&str>) -> EntryKind {
    let mut address = config().address;
    (address.listen, address.process_id) = (listen.map(str::to_owned), 5);
    EntryKind::Start(Start { owner: Owner("me".to_owned()), address, restores: None, job_uid: "a".repeat(16) })
}

fn led() -> Vec<LogEntry> {
    vec![entry_after(&[], start(Some("first:1")))]
}

/// A standby that has asked its leader once.
fn standing_by() -> Bench {
    let (bench, commands) = Bench::on_log(standby(), led(), ProcessState::Unknown);
    assert_eq!(commands, ["probe first:1"]);
    assert_eq!(bench.core.status().state, JobState::StandingBy);
    bench
}

fn silent(bench: &mut Bench) -> Vec<String> {
    bench.event(Event::LeaderProbed { rules: None })
}

/// The log as it stands, once more.
fn read(bench: &mut Bench, previous: ProcessState) -> Vec<String> {
    bench.read_log(previous)
}

/// Asks in vain at every interval, up to before then.
fn in_vain(bench: &mut Bench, until: Millis) {
    while bench.now + 500 < until {
        assert_eq!(bench.tick(bench.now + 500), ["probe first:1"]);
        assert_eq!(silent(bench), ["read log"]);
        assert!(read(bench, ProcessState::Unknown).is_empty(), "too early at {}", bench.now);
    }
}

#[test]
fn a_leader_that_answers_is_left_alone() {
    let mut bench = standing_by();
    for at in [500, 1_000, 60_000] {
        assert!(bench.event(Event::LeaderProbed { rules: Some(Generation(0)) }).is_empty());
        assert_eq!(bench.tick(at), ["probe first:1"]);
    }
}

#[test]
fn one_that_is_dead_is_replaced_once_nobody_has_heard_it_and_the_log_rests() {
    let mut bench = standing_by();
    assert_eq!(silent(&mut bench), ["read log"]);
    assert!(read(&mut bench, ProcessState::Unknown).is_empty());
    in_vain(&mut bench, 3_000);
    bench.tick(3_000);
    assert_eq!(silent(&mut bench), ["read log"]);
    assert_eq!(read(&mut bench, ProcessState::Unknown), ["put 1: start, restores None"]);
}

#[test]
fn a_worker_that_hears_it_or_a_log_that_moves_keeps_it_in_its_place() {
    let mut bench = standing_by();
    bench.event(registered(0, 1));
    silent(&mut bench);
    read(&mut bench, ProcessState::Unknown);
    in_vain(&mut bench, 3_000);
    bench.tick(3_000);
    bench.event(Event::WorkerHeard { worker: WorkerId(0), generation: Generation(0), age_ms: 100 });
    assert_eq!(silent(&mut bench), ["read log"]);
    assert!(read(&mut bench, ProcessState::Unknown).is_empty(), "a worker hears it");
    in_vain(&mut bench, 5_500);
    bench.tick(5_500);
    let settled = millstream_api::log::Settled { epoch: None, transactional_ids: Default::default(), fenced: false };
    let entry = entry_after(&bench.log, EntryKind::Settled(settled));
    bench.log.push(entry);
    assert_eq!(silent(&mut bench), ["read log"]);
    assert!(read(&mut bench, ProcessState::Unknown).is_empty(), "the log moved");
    in_vain(&mut bench, 8_500);
    bench.tick(8_500);
    assert_eq!(silent(&mut bench), ["read log"]);
    assert_eq!(read(&mut bench, ProcessState::Unknown), ["put 2: start, restores None"]);
}

#[test]
fn time_in_which_it_stood_still_does_not_count() {
    let mut bench = standing_by();
    silent(&mut bench);
    read(&mut bench, ProcessState::Unknown);
    assert_eq!(bench.tick(500), ["probe first:1"]);
    // The time-out of the question and the answer to it came meanwhile; the time-out is seen first.
    bench.now = 20_000;
    assert_eq!(silent(&mut bench), ["read log"]);
    assert!(read(&mut bench, ProcessState::Unknown).is_empty(), "it stood still after a question");
    assert_eq!(bench.tick(60_000), ["probe first:1"]);
    assert_eq!(silent(&mut bench), ["read log"]);
    assert!(read(&mut bench, ProcessState::Unknown).is_empty(), "it stood still before one");
    in_vain(&mut bench, 61_000);
    bench.tick(61_000);
    silent(&mut bench);
    assert_eq!(read(&mut bench, ProcessState::Unknown), ["put 1: start, restores None"]);
}

#[test]
fn a_process_that_is_provably_gone_needs_no_wait() {
    let mut bench = standing_by();
    silent(&mut bench);
    assert_eq!(read(&mut bench, ProcessState::Gone), ["put 1: start, restores None"]);
}

#[test]
fn a_lost_race_means_standing_by_for_the_winner() {
    let mut bench = standing_by();
    silent(&mut bench);
    read(&mut bench, ProcessState::Gone);
    let winner = entry_after(&bench.log, start(Some("third:1")));
    bench.log.push(LogEntry { generation: Generation(1), ..winner });
    bench.put_ends(AppendOutcome::Lost { by: None, stands: false });
    let again = bench.core.deadline().unwrap();
    assert_eq!(bench.tick(again), ["read log"]);
    assert_eq!(read(&mut bench, ProcessState::Alive), ["probe third:1"]);
}

#[test]
fn the_end_of_the_job_is_the_end_of_a_standby() {
    let mut bench = standing_by();
    let stopped = EntryKind::Stopped { reason: StopReason::Finished, epoch: None, committed_through: None };
    let stopped = entry_after(&bench.log, stopped);
    bench.log.push(stopped);
    silent(&mut bench);
    assert_eq!(read(&mut bench, ProcessState::Gone), ["end: stood by"]);
    assert!(matches!(bench.outcome, Some(Outcome::StoodBy { over: Some(StopReason::Finished) })));
    let mut bench = standing_by();
    assert_eq!(bench.event(Event::StopRequested(StopMode::Suspend)), ["end: stood by"]);
}

#[test]
fn what_cannot_be_asked_is_not_replaced() {
    let log = vec![entry_after(&[], start(None))];
    let (_, commands) = Bench::on_log(standby(), log, ProcessState::Unknown);
    assert_eq!(commands, ["end: failed"]);
}

#[test]
fn a_store_that_is_away_keeps_it_waiting() {
    let mut bench = standing_by();
    silent(&mut bench);
    let problem =
        crate::job::StoreProblem { message: "away".to_owned(), kind: crate::job::StoreProblemKind::Transient };
    assert!(bench.event(Event::LogUnreadable { problem }).is_empty());
    bench.tick(5_000);
    assert_eq!(silent(&mut bench), ["read log"]);
}

/// Worker 0 has heard a later coordinator.
fn heard_a_later_one(bench: &Bench) -> Event {
    let generation = bench.core.view().generation().unwrap().next();
    Event::WorkerHeard { worker: WorkerId(0), generation, age_ms: 0 }
}

#[test]
fn what_a_worker_says_of_a_later_term_is_looked_up_in_the_log() {
    let mut bench = Bench::running_with(standby());
    let generation = bench.core.view().generation().unwrap();
    assert!(bench.event(Event::WorkerHeard { worker: WorkerId(0), generation, age_ms: 0 }).is_empty());
    let later = generation.next();
    let of_a_stranger = Event::WorkerHeard { worker: WorkerId(9), generation: later, age_ms: 0 };
    assert!(bench.event(of_a_stranger).is_empty());
    assert_eq!(bench.event(heard_a_later_one(&bench)), ["read log"]);
    assert!(bench.event(heard_a_later_one(&bench)).is_empty(), "one look at a time");
    // The log knows of none, so this one goes on; the next word makes it look again.
    assert!(bench.read_log(ProcessState::Alive).is_empty());
    assert_eq!(bench.tick(1_000), ["trigger 1"]);
    assert_eq!(bench.event(heard_a_later_one(&bench)), ["read log"]);
    let problem =
        crate::job::StoreProblem { message: "away".to_owned(), kind: crate::job::StoreProblemKind::Transient };
    assert!(bench.event(Event::LogUnreadable { problem }).is_empty());
    assert_eq!(bench.event(heard_a_later_one(&bench)), ["read log"]);
}

#[test]
fn a_later_term_in_the_log_ends_this_one_also_while_it_waits_for_answers() {
    let mut bench = Bench::running_with(standby());
    bench.task_fails(FailureKind::Transient);
    assert_eq!(bench.event(heard_a_later_one(&bench)), ["read log"]);
    let seq = Seq(bench.log.len() as u64);
    bench.log.push(LogEntry { generation: Generation(seq.0), ..entry_after(&bench.log, start(Some("third:1"))) });
    let commands = bench.read_log(ProcessState::Unknown);
    assert_eq!(commands.last().map(String::as_str), Some("end: fenced"), "{commands:?}");
    assert!(matches!(bench.outcome, Some(Outcome::Fenced { by: Some(_) })));
}
