//! What a seed decides before its run: the job's size, the faults and when they come; and the rules that a test switches
//! off to see that the oracle notices.

use millstream_api::flinkjob::ExpiredTransactions;
use millstream_coordinator::job::{Millis, Random};

/// Faults come until here; then everything works and the job must finish.
pub const CALM_AT_MS: Millis = 6_000;
/// They begin within the time that an undisturbed run takes, more or less.
const FAULTS_BEGIN_WITHIN_MS: Millis = 2_200;
/// A job that is not finished by then is stuck.
pub const STUCK_AT_MS: Millis = 60_000;

/// Rules of the protocol that the simulated worker and the world keep. All true: the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A sink commits only what a sealed manifest names.
    pub commit_after_seal: bool,
    /// A restart initialises every transactional id ever used.
    pub fence: bool,
    /// An acknowledgement lists what earlier, aborted epochs prepared.
    pub list_uncovered: bool,
    /// A producer that the newest manifest names begins nothing.
    pub rest_producers: bool,
    /// A put to the log goes through only if the key is free.
    pub put_if_absent: bool,
    /// A dirty key stays dirty until a manifest covers it.
    pub merge_aborted: bool,
    /// A restart finishes what the last manifest left open.
    pub finish: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            commit_after_seal: true,
            fence: true,
            list_uncovered: true,
            rest_producers: true,
            put_if_absent: true,
            merge_aborted: true,
            finish: true,
        }
    }
}

/// A fault of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9.
    Crash,
    /// The process stands still; a second one may take over meanwhile.
    Pause {
        for_ms: Millis,
        takeover_after_ms: Option<Millis>,
    },
    /// The worker's threads stand still, the coordinator does not.
    PauseWorker {
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
    TaskFails,
    /// SIGTERM, then the job is started again.
    Stop,
}

/// Everything about a run that does not depend on what happens in it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub splits: u32,
    pub records_per_split: u64,
    pub keys: u32,
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
}

impl Plan {
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let mut below = |n: u64| random.next_u64() % n;
        let parallelism = 1 + below(3) as u32;
        let rough = below(3);
        let (unknown_rate, unavailable_rate, late_rate) = (rough * below(60), rough * below(40), rough * below(40));
        let expired_transactions = match below(4) {
            0 => ExpiredTransactions::AcceptDuplicates,
            1 => ExpiredTransactions::AcceptLoss,
            _ => ExpiredTransactions::Fail,
        };
        let mut plan = Self {
            splits: 1 + below(5) as u32,
            records_per_split: 10 + below(60),
            keys: 1 + below(12) as u32,
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
        };
        let count = below(9);
        for _ in 0..count {
            let at = random.next_u64() % FAULTS_BEGIN_WITHIN_MS;
            let fault = draw_fault(random, plan.transaction_timeout_ms);
            plan.faults.push((at, fault));
        }
        plan
    }
}

fn draw_fault(random: &mut Random, transaction_timeout_ms: Millis) -> Fault {
    let mut below = |n: u64| random.next_u64() % n;
    // Mostly short; now and then longer than the broker keeps a transaction.
    let mut span = || match below(5) {
        0 => transaction_timeout_ms / 2 + below(transaction_timeout_ms),
        _ => 20 + below(400),
    };
    let (for_ms, other) = (span(), span());
    match below(10) {
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
        _ => Fault::Stop,
    }
}
