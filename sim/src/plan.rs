//! What a seed decides before its run: the job's size, the processes, the faults and when they come.

use millstream_api::flinkjob::ExpiredTransactions;
use millstream_coordinator::job::{Millis, Random};

/// Faults come until here; then everything works and the job must finish.
pub const CALM_AT_MS: Millis = 6_000;
/// They begin within the time that an undisturbed run takes, more or less.
const FAULTS_BEGIN_WITHIN_MS: Millis = 2_200;
/// A job that is not finished by then is stuck.
pub const STUCK_AT_MS: Millis = 60_000;

/// How long a process hears nothing before it takes the other end of a connection for lost; a tenth of the product's, as
/// all limits here are.
pub const SILENCE_MS: Millis = 300;
/// Between two questions of a standby to the one that rules, and how long it waits for the answer.
pub const PROBE_INTERVAL_MS: Millis = 50;
pub const PROBE_TIMEOUT_MS: Millis = 60;
/// A coordinator that stood still for so long begins another term.
pub const STANDSTILL_MS: Millis = 150;
/// Task indexes that a worker can run.
const SLOTS_MAX: u64 = 3;
const WORKERS_MAX: u64 = 4;
/// Later workers come within.
const WORKERS_COME_WITHIN_MS: Millis = 1_500;

/// A fault of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody asks for another parallelism, up to the job's own.
    Rescale,
    /// Somebody wants a savepoint; now and then the job is to end with it, and goes on from it.
    Savepoint,
    /// kill -9 of a coordinator; in the one-process form the worker goes with it.
    Crash,
    /// A coordinator's process stands still; a second one may take over meanwhile.
    Pause {
        for_ms: Millis,
        takeover_after_ms: Option<Millis>,
    },
    /// A worker's threads stand still, the coordinator does not.
    PauseWorker {
        for_ms: Millis,
    },
    /// kill -9 of a coordinator while a worker's process stands still: the next one begins without it.
    CrashAndPause {
        for_ms: Millis,
    },
    /// kill -9 of a worker.
    KillWorker {
        back_after_ms: Millis,
    },
    /// One more than there were.
    WorkerComes,
    /// SIGTERM to a worker: its tasks are to move first.
    WorkerLeaves,
    /// A connection is cut; what is on its way is lost.
    Cut,
    /// Between two, messages are lost.
    Split {
        between: Between,
        ways: Ways,
        for_ms: Millis,
    },
    StoreAway {
        for_ms: Millis,
    },
    /// Only the tasks' uploads: epochs abort one after the other.
    UploadsFail {
        for_ms: Millis,
    },
    BrokerAway {
        for_ms: Millis,
    },
    /// Somebody sets the wall clock of a process's machine.
    ClockSet {
        by_ms: i64,
    },
    /// The machine of a process sleeps: it stands still, and its monotonic clock with it.
    Sleep {
        for_ms: Millis,
    },
    TaskFails,
    /// SIGTERM, then the job is started again.
    Stop,
}

/// In which direction messages are lost, from the first of the two to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    Both,
    There,
    Back,
}

/// Who cannot reach each other: any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    Coordinators,
    CoordinatorAndWorker,
    Workers,
    CoordinatorAndStore,
    /// In the one-process form; a coordinator alone asks the broker for nothing.
    CoordinatorAndBroker,
    WorkerAndStore,
    WorkerAndBroker,
}

/// Coordinator and workers in processes of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// When a worker comes, and its slots.
    pub workers: Vec<(Millis, u32)>,
    /// The job may begin with one slot.
    pub begins_smaller: bool,
    /// One rules, the others stand by.
    pub coordinators: u32,
    /// Of a coordinator that is gone the others know that it is.
    pub one_host: bool,
}

/// Everything about a run that does not depend on what happens in it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub splits: u32,
    pub records_per_split: u64,
    pub keys: u32,
    /// `None`: all in one process, as `millstream run` has it.
    pub cluster: Option<Cluster>,
    pub parallelism: u32,
    pub max_parallelism: u32,
    pub retained: u32,
    pub tolerable_failures: u32,
    pub transaction_timeout_ms: Millis,
    pub expired_transactions: ExpiredTransactions,
    pub faults: Vec<(Millis, Fault)>,
    /// Out of 1000 calls.
    pub unknown_rate: u64,
    pub unavailable_rate: u64,
    pub late_rate: u64,
    /// Requests that a client sends twice by itself.
    pub twice_rate: u64,
}

impl Plan {
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let mut below = |n: u64| random.next_u64() % n;
        let cluster = (below(2) == 0).then(|| draw_cluster(&mut below));
        let parallelism = 1 + below(if cluster.is_some() { 4 } else { 3 }) as u32;
        let rough = below(3);
        let (unknown_rate, unavailable_rate, late_rate) = (rough * below(60), rough * below(40), rough * below(40));
        let twice_rate = rough * below(30);
        let expired_transactions = match below(4) {
            0 => ExpiredTransactions::AcceptDuplicates,
            1 => ExpiredTransactions::AcceptLoss,
            _ => ExpiredTransactions::Fail,
        };
        let mut plan = Self {
            splits: 1 + below(5) as u32,
            records_per_split: 10 + below(60),
            keys: 1 + below(12) as u32,
            cluster,
            parallelism,
            max_parallelism: 8,
            retained: 1 + below(3) as u32,
            tolerable_failures: below(4) as u32,
            transaction_timeout_ms: 1_500 + below(2_000),
            expired_transactions,
            faults: Vec::new(),
            unknown_rate,
            unavailable_rate,
            late_rate,
            twice_rate,
        };
        let count = below(9);
        for _ in 0..count {
            let at = random.next_u64() % FAULTS_BEGIN_WITHIN_MS;
            let of_the_cluster = plan.cluster.is_some() && random.next_u64().is_multiple_of(2);
            let draw = if of_the_cluster { draw_cluster_fault } else { draw_fault };
            let fault = draw(random, plan.transaction_timeout_ms);
            plan.faults.push((at, fault));
        }
        plan
    }
}

fn draw_cluster(below: &mut impl FnMut(u64) -> u64) -> Cluster {
    let count = 1 + below(WORKERS_MAX);
    // Some are there from the beginning, some come later.
    let worker = |_| (below(2) * below(WORKERS_COME_WITHIN_MS), 1 + below(SLOTS_MAX) as u32);
    Cluster {
        workers: (0..count).map(worker).collect(),
        begins_smaller: below(3) == 0,
        coordinators: 1 + below(2) as u32,
        one_host: below(3) == 0,
    }
}

/// Mostly short; now and then longer than the broker keeps a transaction.
fn span(below: &mut impl FnMut(u64) -> u64, transaction_timeout_ms: Millis) -> Millis {
    match below(5) {
        0 => transaction_timeout_ms / 2 + below(transaction_timeout_ms),
        _ => 20 + below(2 * SILENCE_MS),
    }
}

fn draw_ways(below: &mut impl FnMut(u64) -> u64) -> Ways {
    match below(4) {
        0 => Ways::There,
        1 => Ways::Back,
        _ => Ways::Both,
    }
}

/// By how much a wall clock is set: by parts of a second, by minutes, or by days.
fn draw_step(below: &mut impl FnMut(u64) -> u64) -> i64 {
    let most = [1_000, 600_000, 3 * 24 * 60 * 60 * 1000][below(3) as usize];
    below(2 * most) as i64 - most as i64
}

fn draw_cluster_fault(random: &mut Random, transaction_timeout_ms: Millis) -> Fault {
    let mut below = |n: u64| random.next_u64() % n;
    let for_ms = span(&mut below, transaction_timeout_ms);
    match below(11) {
        0..=2 => Fault::KillWorker { back_after_ms: 10 + below(800) },
        3 | 4 => Fault::PauseWorker { for_ms },
        5 if below(2) == 0 => Fault::WorkerComes,
        5 => Fault::WorkerLeaves,
        6 | 7 => Fault::Cut,
        8 => Fault::CrashAndPause { for_ms },
        _ => {
            let between = match below(7) {
                0 => Between::CoordinatorAndWorker,
                1 => Between::Workers,
                2 => Between::CoordinatorAndStore,
                3 => Between::WorkerAndStore,
                4 => Between::WorkerAndBroker,
                5 => Between::Coordinators,
                _ => Between::CoordinatorAndBroker,
            };
            Fault::Split { between, ways: draw_ways(&mut below), for_ms }
        }
    }
}

fn draw_fault(random: &mut Random, transaction_timeout_ms: Millis) -> Fault {
    let mut below = |n: u64| random.next_u64() % n;
    let for_ms = span(&mut below, transaction_timeout_ms);
    let other = span(&mut below, transaction_timeout_ms);
    match below(14) {
        0..=2 => Fault::Crash,
        3 | 4 => {
            let takeover_after_ms = (below(3) > 0).then(|| below(for_ms.max(1)));
            Fault::Pause { for_ms, takeover_after_ms }
        }
        5 => Fault::PauseWorker { for_ms },
        6 => match below(3) {
            0 => Fault::StoreAway { for_ms },
            _ => Fault::UploadsFail { for_ms: 200 + below(800) },
        },
        7 => Fault::BrokerAway { for_ms: other },
        8 => Fault::TaskFails,
        9 => Fault::Stop,
        10 => Fault::ClockSet { by_ms: draw_step(&mut below) },
        11 => Fault::Sleep { for_ms },
        12 if below(2) == 0 => Fault::Savepoint,
        12 => Fault::Rescale,
        _ => {
            let between = if below(2) == 0 { Between::CoordinatorAndStore } else { Between::CoordinatorAndBroker };
            Fault::Split { between, ways: draw_ways(&mut below), for_ms }
        }
    }
}
