//! What happens to the cluster. Each fault asserts that it met what it was meant for.

use std::time::{Duration, Instant};

use millstream_e2e::numbers::{LIMIT, READER_WAIT_MAX, START_MAX};
use millstream_e2e::process::Process;
use millstream_e2e::proxy::{Proxy, Trouble};
use millstream_e2e::services::Cluster as Brokers;
use millstream_e2e::{Random, wait_for, wait_until};

use crate::cluster::Cluster;
use crate::seats::wait_until_ended;

/// A process that says nothing for so long counts as gone.
const SILENCE: Duration = Duration::from_secs(3);
/// Of workers, and of standbys, to the coordinator that rules: the newest sign of it may be so old when it dies.
const HEARTBEAT: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the three brokers take to notice that one is gone, and to lead its partitions and transactions elsewhere.
const BROKER_FAILOVER: Duration = Duration::from_secs(8);
/// A fault comes at any point of a checkpoint's interval, and of what follows it.
const DELAY_MAX_MS: u64 = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillWorker,
    KillCoordinator,
    KillBoth,
    PauseWorker,
    PauseCoordinator,
    CutWorker,
    CutCoordinator,
    CutShuffle,
    StoreSlow,
    StoreFails,
    StoreLosesReplies,
    KillBroker,
    StopWorker,
    LoseCoordinator,
    RevokeRights,
}

/// A fault that has happened.
pub struct Struck {
    pub begin: Instant,
    /// How long readers may have to wait for output.
    pub allowed: Duration,
    /// For people.
    pub what: String,
}

/// Every kind once; only those that `MILLSTREAM_TEST_FAULTS` names, where it is set.
pub fn wanted() -> Vec<Fault> {
    let Ok(names) = std::env::var("MILLSTREAM_TEST_FAULTS") else { return Fault::ALL.to_vec() };
    let find = |name: &str| Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
    names.split(',').map(|name| find(name).unwrap_or_else(|| panic!("there is no fault {name}"))).collect()
}

/// In an order of chance.
pub fn shuffled<T>(random: &mut Random, mut all: Vec<T>) -> Vec<T> {
    for last in (1..all.len()).rev() {
        all.swap(last, draw(random, last + 1));
    }
    all
}

fn draw(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).unwrap())).unwrap()
}

fn millis(random: &mut Random, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(range.start + random.below(range.end - range.start))
}

impl Fault {
    pub const ALL: [Self; 15] = [
        Self::KillWorker,
        Self::KillCoordinator,
        Self::KillBoth,
        Self::PauseWorker,
        Self::PauseCoordinator,
        Self::CutWorker,
        Self::CutCoordinator,
        Self::CutShuffle,
        Self::StoreSlow,
        Self::StoreFails,
        Self::StoreLosesReplies,
        Self::KillBroker,
        Self::StopWorker,
        Self::LoseCoordinator,
        Self::RevokeRights,
    ];

    /// Makes it happen to a cluster that is whole, and mends what a machine's keeper would.
    pub fn strike(self, cluster: &mut Cluster, brokers: &Brokers, random: &mut Random) -> Struck {
        let worker = draw(random, cluster.workers.len());
        let ruler = cluster.ruler().expect("it has settled");
        let delay = millis(random, 0..DELAY_MAX_MS);
        let mut scene = Scene { cluster, random, worker, ruler, delay, begin: Instant::now() };
        let (broken, what) = match self {
            Self::KillWorker => scene.kill_worker(),
            Self::KillCoordinator => scene.kill_coordinator(),
            Self::KillBoth => scene.kill_both(),
            Self::PauseWorker => scene.pause_worker(),
            Self::PauseCoordinator => scene.pause_coordinator(),
            Self::CutWorker => scene.cut_worker(),
            Self::CutCoordinator => scene.cut_coordinator(),
            Self::CutShuffle => scene.cut_shuffle(),
            Self::StoreSlow => scene.slow_store(),
            Self::StoreFails => scene.trouble_store(Trouble::Fail),
            Self::StoreLosesReplies => scene.trouble_store(Trouble::LoseReplies),
            Self::KillBroker => scene.kill_broker(brokers),
            Self::StopWorker => scene.stop_worker(),
            Self::LoseCoordinator => scene.lose_coordinator(),
            Self::RevokeRights => scene.revoke_rights(),
        };
        Struck { begin: scene.begin, allowed: broken + START_MAX + READER_WAIT_MAX, what }
    }
}

/// One fault while it happens. What happens returns how long something was broken, beside the restart that may follow.
struct Scene<'a> {
    cluster: &'a mut Cluster,
    random: &'a mut Random,
    /// Which one it happens to.
    worker: usize,
    ruler: usize,
    delay: Duration,
    begin: Instant,
}

type Happened = (Duration, String);

impl Scene<'_> {
    /// The moment from which output may stay away.
    fn begin(&mut self) {
        wait_until(Instant::now() + self.delay);
        self.begin = Instant::now();
    }

    /// In half of all cases.
    fn add_spare(&mut self) -> bool {
        let spare = self.random.below(2) == 0;
        if spare {
            self.cluster.add_worker();
            self.cluster.settle();
        }
        spare
    }

    /// In half of all cases there is a free slot, otherwise the dead worker's successor brings it.
    fn kill_worker(&mut self) -> Happened {
        let spare = self.add_spare();
        self.begin();
        self.cluster.kill_worker(self.worker);
        if spare {
            self.cluster.workers.remove(self.worker);
        } else {
            self.cluster.restart_worker(self.worker);
        }
        (Duration::ZERO, if spare { "with a spare" } else { "without a spare" }.to_owned())
    }

    fn kill_coordinator(&mut self) -> Happened {
        self.begin();
        self.cluster.kill_coordinator(self.ruler);
        self.cluster.restart_coordinator(self.ruler);
        (Duration::ZERO, String::new())
    }

    /// With its machine, so nobody sees that it is gone: the other one waits until it has been silent for long enough.
    fn lose_coordinator(&mut self) -> Happened {
        self.begin();
        self.cluster.kill_coordinator(self.ruler);
        wait_for("a coordinator that takes over", LIMIT, || self.cluster.ruler());
        let after = self.begin.elapsed();
        let last_sign = PROBE_INTERVAL + HEARTBEAT;
        assert!(after >= SILENCE - last_sign, "taken over after {after:?}: it was seen that the process is gone");
        self.cluster.restart_coordinator(self.ruler);
        (SILENCE, format!("taken over after {after:.1?}"))
    }

    /// Whoever takes over waits for what the workers say that are left, and for the one that is missing.
    fn kill_both(&mut self) -> Happened {
        self.begin();
        self.cluster.kill_worker(self.worker);
        self.cluster.kill_coordinator(self.ruler);
        self.cluster.restart_coordinator(self.ruler);
        self.cluster.restart_worker(self.worker);
        (SILENCE, String::new())
    }

    /// Without a free slot elsewhere the job waits for it.
    fn pause_worker(&mut self) -> Happened {
        let spare = self.add_spare();
        self.begin();
        let time = millis(self.random, 1_000..8_000);
        pause(&self.cluster.workers[self.worker].process, self.begin + time);
        if spare {
            // Its tasks moved, or came through; either way it is one too many now.
            self.stop_drawn();
            return (SILENCE, format!("for {time:?} with a spare"));
        }
        (time.max(SILENCE), format!("for {time:?} without a spare"))
    }

    fn pause_coordinator(&mut self) -> Happened {
        self.begin();
        let time = millis(self.random, 1_000..8_000);
        pause(&self.cluster.coordinators[self.ruler].process, self.begin + time);
        (time.max(SILENCE), format!("for {time:?}"))
    }

    /// Between a worker and all coordinators.
    fn cut_worker(&mut self) -> Happened {
        self.begin();
        let links: Vec<&Proxy> = self.cluster.workers[self.worker].links.iter().collect();
        cut(&links, self.random)
    }

    /// Between the coordinator that rules and everybody else but the store and the brokers.
    fn cut_coordinator(&mut self) -> Happened {
        self.begin();
        let links = self.cluster.workers.iter().map(|seat| &seat.links[self.ruler]);
        let links: Vec<&Proxy> = links.chain([&self.cluster.coordinators[self.ruler].peers]).collect();
        cut(&links, self.random)
    }

    /// Between a worker and those that dialled it. One of two dials, for both ways: nobody may have dialled the drawn one.
    fn cut_shuffle(&mut self) -> Happened {
        self.begin();
        let workers = &self.cluster.workers;
        let from_drawn = (self.worker..workers.len()).chain(0..self.worker);
        let mut dialled = from_drawn.map(|number| &workers[number].shuffle).filter(|shuffle| shuffle.connections() > 0);
        let shuffle = dialled.next().expect("the workers of a job that runs are connected");
        cut(&[shuffle], self.random)
    }

    fn slow_store(&mut self) -> Happened {
        let delay = millis(self.random, 50..300);
        self.trouble_store(Trouble::Slow(delay))
    }

    fn trouble_store(&mut self, trouble: Trouble) -> Happened {
        self.begin();
        let time = millis(self.random, 1_000..4_000);
        let hits = trouble_for(&[self.cluster.numbers.store()], trouble, time);
        (time, format!("{trouble:?} for {time:?}, {hits} times"))
    }

    /// The two that are left go on; it is back before the next fault.
    fn kill_broker(&mut self, brokers: &Brokers) -> Happened {
        let leader = self.cluster.numbers.broker.leader(self.cluster.numbers.output_topics()[0]);
        self.begin();
        brokers.kill(leader);
        self.cluster.catch_up();
        brokers.start(leader);
        (BROKER_FAILOVER, format!("broker {leader}"))
    }

    /// Nobody may write to an output, or under the transactional ids of its sink, for a while.
    fn revoke_rights(&mut self) -> Happened {
        let [topic, ids] = self.cluster.numbers.rights_to_copy();
        let resource = if self.random.below(2) == 0 { topic } else { ids };
        let refusals = |cluster: &Cluster| cluster.said("the Kafka user has no right to ");
        let before = refusals(self.cluster);
        self.begin();
        let time = millis(self.random, 1_000..5_000);
        self.cluster.numbers.broker.deny_writes(&resource);
        wait_until(self.begin + time);
        self.cluster.numbers.broker.allow_writes(&resource);
        let hits = refusals(self.cluster) - before;
        assert!(hits > 0, "nothing was refused within {time:?}");
        (time, format!("of {} for {time:?}, {hits} times", resource.name))
    }

    /// Its tasks move to a spare one before it ends.
    fn stop_worker(&mut self) -> Happened {
        self.cluster.add_worker();
        self.cluster.settle();
        self.begin();
        self.stop_drawn();
        (Duration::ZERO, format!("gone after {:?}", self.begin.elapsed()))
    }

    fn stop_drawn(&mut self) {
        let mut seat = self.cluster.workers.remove(self.worker);
        seat.process.signal(libc::SIGTERM);
        let status = wait_until_ended(&seat.name, &mut seat.process);
        let log = seat.process.stderr();
        assert!(status.success() && log.contains("nothing of the job runs here any more"), "{} left: {log}", seat.name);
    }
}

/// SIGSTOP, and SIGCONT at that time.
fn pause(process: &Process, until: Instant) {
    process.signal(libc::SIGSTOP);
    wait_for("the pause", LIMIT, || process.is_paused().then_some(()));
    wait_until(until);
    process.signal(libc::SIGCONT);
}

/// Connections close once, or can not be made for a while, or nothing passes over them for a while.
fn cut(links: &[&Proxy], random: &mut Random) -> Happened {
    let trouble = match random.below(3) {
        0 => {
            let before = hits(links);
            links.iter().for_each(|link| link.cut());
            let closed = hits(links) - before;
            assert!(closed > 0, "no connection was there to be closed");
            return (Duration::ZERO, format!("{closed} connections closed"));
        }
        1 => Trouble::Cut,
        _ => Trouble::Silence,
    };
    let time = millis(random, 500..6_000);
    let hits = trouble_for(links, trouble, time);
    (time.max(SILENCE), format!("{trouble:?} for {time:?}, {hits} times"))
}

/// Returns how often it met something.
fn trouble_for(links: &[&Proxy], trouble: Trouble, time: Duration) -> usize {
    let before = hits(links);
    links.iter().for_each(|link| link.make(trouble));
    wait_until(Instant::now() + time);
    links.iter().for_each(|link| link.release());
    let met = hits(links) - before;
    assert!(met > 0, "{trouble:?} met nothing within {time:?}");
    met
}

fn hits(links: &[&Proxy]) -> usize {
    links.iter().map(|link| link.hits()).sum()
}
