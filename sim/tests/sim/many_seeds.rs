//! The reader sees each number once, whatever happens; and every kind of fault did happen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_sim::{Coverage, Rules, Watch, simulate};

/// What the suite runs, within twenty seconds on two cores in the `ci` profile.
const SEEDS: u64 = 10_000;
/// A soak's.
const SOAK_SEEDS: u64 = 100_000;

/// What a full run must have seen.
const MUST_SEE: &[&str] = &[
    "a coordinator that stood still claims again",
    "a coordinator that stood still lost the job",
    "a fenced process aborted what it had open",
    "a worker registers with tasks",
    "aborted epoch goes on in its transaction",
    "aborted epoch's transaction listed again",
    "adopted",
    "adopted after a standstill",
    "another parallelism asked for",
    "another statement edited",
    "another version started",
    "asked for a choice",
    "broker away",
    "broker's answer lost",
    "clock days ahead",
    "clock days behind",
    "clock set back",
    "clock set forwards",
    "command of an earlier attempt dropped",
    "commits finished on restore",
    "connection between workers lost",
    "connection cut",
    "coordinator killed while a worker is paused",
    "crash between attempts",
    "crash between checkpoints",
    "crash while a manifest is put",
    "crash while barriers travel",
    "crash while ending",
    "crash while restoring",
    "crash while slots are missing",
    "crash while standing by",
    "crash while starting",
    "crash while taking over",
    "crash with commits open",
    "declined",
    "drain requested",
    "epoch given up",
    "fenced",
    "finished by a drain",
    "first run failed",
    "found finished",
    "given up by the end that hears nothing",
    "late request fenced",
    "live producer fenced",
    "lost by a split",
    "lost by silence",
    "machine asleep",
    "merge",
    "message late by a split",
    "message lost",
    "no producer free",
    "no room for the tasks of a worker that leaves",
    "not collected",
    "process paused",
    "put carried out late",
    "put carried out, answer lost",
    "put lost",
    "put of unknown outcome",
    "question timed out while its process stood still",
    "refused: alive",
    "request carried out after a split",
    "request carried out twice",
    "request carried out, answer lost by a split",
    "request lost by a split",
    "request of a dead process arrived",
    "reset by undo layer",
    "reset from the store",
    "request for another parallelism over",
    "rescaled",
    "rest of an epoch lost by choice",
    "restart at another parallelism",
    "restart of a finished job",
    "savepoint taken",
    "sealed after aborted epochs in a row",
    "slow connection",
    "sources paused",
    "sources paused: no coordinator was heard",
    "sources resumed",
    "split in one direction",
    "split of coordinator and broker",
    "split of coordinator and store",
    "split of coordinator and worker",
    "split of coordinators",
    "split of worker and broker",
    "split of worker and store",
    "split of workers",
    "standing by",
    "starting smaller",
    "stood by to the end",
    "stopped with a last checkpoint",
    "stopped without one",
    "stopped without one and nothing left open",
    "store away",
    "stored graph runs",
    "taken over while paused",
    "switch",
    "task failed",
    "tasks adopted",
    "tasks gone to other places",
    "tasks move away from a worker",
    "to go on from the savepoint that it ended with",
    "transaction expired",
    "uploads fail",
    "visible epoch given up by choice",
    "waiting for slots",
    "worker comes",
    "worker is asked to stop",
    "worker killed at the beginning or the end",
    "worker killed between attempts",
    "worker killed between epochs",
    "worker killed while restoring",
    "worker killed while slots are missing",
    "worker killed within an epoch",
    "worker killed without a coordinator",
    "worker left unreleased",
    "workers prepare a change",
    "worker paused",
    "worker released",
    "worker's process paused",
    "workers connected",
];

/// The verdict over one seed, a panic included.
pub fn broken(seed: u64, rules: Rules, watch: Watch, trace: bool) -> (Option<String>, Coverage) {
    match catch_unwind(AssertUnwindSafe(|| simulate(seed, rules, watch, trace))) {
        Ok(verdict) => (verdict.broken, verdict.coverage),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            (Some(format!("panic: {}", text.unwrap_or_default())), Coverage::default())
        }
    }
}

#[test]
fn a_reader_sees_each_number_once() {
    if let Ok(seed) = std::env::var("MILLSTREAM_SIM_SEED") {
        let seed = seed.parse().expect("MILLSTREAM_SIM_SEED is a number");
        let (broken, coverage) = broken(seed, Rules::default(), Watch::All, true);
        eprintln!("{coverage:#?}");
        assert_eq!(broken, None, "seed {seed}");
        return;
    }
    let usual = if std::env::var_os("MILLSTREAM_SOAK").is_some() { SOAK_SEEDS } else { SEEDS };
    let seeds = std::env::var("MILLSTREAM_SIM_SEEDS").map_or(usual, |n| n.parse().expect("a number"));
    let (next, failed, coverage) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(Coverage::default()));
    let work = || {
        let mut own = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failed.lock().expect("no panic while held").len() >= 10 {
                break;
            }
            let (broken, seen) = broken(seed, Rules::default(), Watch::All, false);
            own.add(&seen);
            if let Some(why) = broken {
                failed.lock().expect("no panic while held").push((seed, why));
            }
        }
        coverage.lock().expect("no panic while held").add(&own);
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let coverage = coverage.into_inner().expect("no panic while held");
    eprintln!("{coverage:#?}");
    let failed = failed.into_inner().expect("no panic while held");
    for (seed, why) in &failed {
        eprintln!(
            "seed {seed}: {why}\n  replay: MILLSTREAM_SIM_SEED={seed} cargo test -p millstream-sim a_reader -- --nocapture"
        );
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    if seeds >= SEEDS {
        let unseen: Vec<_> = MUST_SEE.iter().filter(|name| coverage.of(name) == 0).collect();
        assert!(unseen.is_empty(), "never seen: {unseen:?}");
    }
}
