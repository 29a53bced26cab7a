//! The plan behind its lock, and what its threads do with it: wait, answer, fail, start one another, end.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{Asked, Parts};
use super::fetcher::Fetcher;
use super::options::FetchOptions;
use super::plan::{Answer, Delivery, Link, Next, Plan, Question};
use crate::Waker;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::wire::Connection;

/// A broker that nothing was read from for so long needs no thread.
const UNUSED_MAX: Duration = Duration::from_secs(30);

pub(super) struct Hub {
    plan: Mutex<Plan>,
    /// For the brokers' threads: a partition, a buffer, the end.
    work: Condvar,
    /// For the thread that looks for leaders.
    leaders: Condvar,
    waker: Waker,
    pub(super) config: ClientConfig,
    pub(super) options: FetchOptions,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Hub {
    pub(super) fn new(
        config: ClientConfig,
        options: FetchOptions,
        tls: Option<Arc<rustls::ClientConfig>>,
        waker: Waker,
    ) -> Self {
        let (plan, work, leaders) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { plan, work, leaders, waker, config, options, tls }
    }

    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        // A thread that panicked left the plan between two of its steps, each of which leaves it whole.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the plan was changed.
    pub(super) fn changed(&self) {
        self.work.notify_all();
        self.leaders.notify_all();
    }

    /// After a buffer came back.
    pub(super) fn freed(&self) {
        self.work.notify_all();
    }

    /// What the thread of `node` asks next, when there is something. `None`: the thread is no longer needed.
    pub(super) fn question(&self, node: i32) -> Option<Box<Question>> {
        let mut plan = self.plan();
        loop {
            let now = Instant::now();
            let until = match plan.next(node, &self.options, now) {
                Next::Ask(question) => return Some(question),
                Next::Close => return None,
                Next::Wait(until) => until.map_or(UNUSED_MAX, |at| at.saturating_duration_since(now)),
            };
            let waited = self.work.wait_timeout(plan, until).unwrap_or_else(PoisonError::into_inner);
            plan = waited.0;
            if waited.1.timed_out() && plan.unused(node) {
                plan.links.remove(&node);
                return None;
            }
        }
    }

    /// Waits, unless the consumer closes meanwhile.
    pub(super) fn pause(&self, pause: Duration) {
        let plan = self.plan();
        // Either way the caller looks at the plan again.
        drop(self.work.wait_timeout_while(plan, pause, |plan| !plan.closed));
    }

    /// Waits for something that concerns leaders, until `until` at most.
    pub(super) fn wait_for_leaders<'a>(&'a self, plan: MutexGuard<'a, Plan>, until: Duration) -> MutexGuard<'a, Plan> {
        self.leaders.wait_timeout(plan, until).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Makes a connection one that closing ends. False: the consumer is closed.
    pub(super) fn register(&self, node: i32, connection: &Connection) -> io::Result<bool> {
        let breaker = connection.breaker()?;
        let mut plan = self.plan();
        let open = !plan.closed;
        if let Some(link) = plan.links.get_mut(&node).filter(|_| open) {
            link.breaker = Some(breaker);
        }
        Ok(open)
    }

    /// Takes in what a broker answered.
    pub(super) fn answered(self: &Arc<Self>, node: i32, asked: &[Asked], parts: Parts, buffer: Vec<u8>) {
        let now = Instant::now();
        let mut plan = self.plan();
        if plan.closed {
            return;
        }
        if parts.error_code != 0 {
            asked.iter().for_each(|one| plan.try_again(one.index, parts.error_code, &self.options, now));
        }
        let (shares, errors) = plan.take_in(node, asked, parts.partitions, &buffer, &self.options, now);
        let mut wake = false;
        if shares.is_empty() {
            plan.give_back(node, buffer, &self.options);
        } else {
            wake |= plan.deliver(Delivery::Answer(Answer { node, buffer, shares }));
        }
        for error in errors {
            wake |= plan.deliver(Delivery::Failed(error));
        }
        let leaders_wanted = plan.leaders_wanted;
        wake |= self.start_missing(&mut plan);
        drop(plan);
        if leaders_wanted {
            self.leaders.notify_all();
        }
        if wake {
            (self.waker)();
        }
    }

    /// A broker cannot be reached: its partitions may have moved.
    pub(super) fn lost(&self, node: i32, buffer: Vec<u8>) {
        let mut plan = self.plan();
        plan.give_back(node, buffer, &self.options);
        plan.leaders_wanted = true;
        // It holds the connection open.
        if let Some(link) = plan.links.get_mut(&node) {
            link.breaker = None;
        }
        drop(plan);
        self.leaders.notify_all();
    }

    /// Nothing can be read any more.
    pub(super) fn failed(&self, error: KafkaError) {
        let mut plan = self.plan();
        if plan.closed {
            return;
        }
        plan.partitions.iter_mut().for_each(|p| p.over = true);
        self.tell(plan, vec![error]);
    }

    /// Errors about single partitions.
    pub(super) fn report(&self, errors: Vec<KafkaError>) {
        self.tell(self.plan(), errors);
    }

    fn tell(&self, mut plan: MutexGuard<'_, Plan>, errors: Vec<KafkaError>) {
        let mut wake = false;
        for error in errors {
            wake |= plan.deliver(Delivery::Failed(error));
        }
        drop(plan);
        if wake {
            (self.waker)();
        }
    }

    /// Starts a thread for each broker that is to be read from and has none. Returns whether the slot must be woken: for
    /// the error that a thread could not be started.
    pub(super) fn start_missing(self: &Arc<Self>, plan: &mut Plan) -> bool {
        let wanted: Vec<i32> = plan.partitions.iter().filter(|p| !p.over).filter_map(|p| p.node).collect();
        let mut wake = false;
        for node in wanted {
            if plan.closed || plan.links.contains_key(&node) {
                continue;
            }
            match Fetcher::spawn(self.clone(), node) {
                Ok(()) => drop(plan.links.insert(node, Link::default())),
                Err(e) => {
                    let action = "start a thread that reads from a broker".to_owned();
                    let error = KafkaError::Broker { action, reason: e.to_string(), retriable: true };
                    plan.partitions.iter_mut().for_each(|p| p.over = true);
                    wake |= plan.deliver(Delivery::Failed(error));
                }
            }
        }
        wake
    }

    /// As [`Self::start_missing`], with the plan not locked.
    pub(super) fn start_threads(self: &Arc<Self>) {
        let mut plan = self.plan();
        let wake = self.start_missing(&mut plan);
        drop(plan);
        self.work.notify_all();
        if wake {
            (self.waker)();
        }
    }

    /// Ends all threads soon: nobody waits for them.
    pub(super) fn close(&self) {
        self.plan().close();
        self.changed();
    }
}
