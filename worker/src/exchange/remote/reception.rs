//! Which worker may connect: one of a deployment that is here (one runs, one may be prepared), of the same version, once.
//!
//! A caller that is ahead, because its order to deploy came earlier, waits. One of an older deployment, of another job or
//! version is refused by name, and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_api::control::Attempt;
use millstream_api::ids::WorkerId;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::hello::{Hello, Party, VERSION};
use super::outbound::OutboundBody;
use crate::metrics::ShuffleMetrics;

/// Callers that may wait for their deployment: as many workers as a job may have, and no flood of anything else.
const WAITING_MAX: usize = 1_024;

/// What arrives on a connection, once it is there.
pub(super) type Arrival = oneshot::Receiver<Body>;

/// A connection that another worker is to open.
#[derive(Debug)]
pub(super) struct Awaited {
    outgoing: OutboundBody,
    arrived: oneshot::Sender<Body>,
}

pub(super) fn awaited(outgoing: OutboundBody) -> (Awaited, Arrival) {
    let (arrived, arrival) = oneshot::channel();
    (Awaited { outgoing, arrived }, arrival)
}

/// The calls that are welcome.
#[derive(Debug)]
pub(super) struct Reception {
    state: Mutex<State>,
    /// Told when a deployment opens or closes.
    changed: watch::Sender<()>,
    waiting: AtomicUsize,
    wait_max: Duration,
    metrics: Arc<ShuffleMetrics>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Open>,
    /// The newest deployment that has ended.
    closed: Option<Attempt>,
}

#[derive(Debug)]
struct Open {
    party: Party,
    awaited: BTreeMap<WorkerId, Awaited>,
}

/// What to do with a caller.
enum Decision {
    Admit(Awaited),
    Wait,
    Refuse(Status),
}

impl Reception {
    /// `wait_max`: how long a caller that is ahead may wait.
    pub(super) fn new(wait_max: Duration, metrics: Arc<ShuffleMetrics>) -> Self {
        let (state, changed, waiting) = (Mutex::default(), watch::Sender::new(()), AtomicUsize::new(0));
        Self { state, changed, waiting, wait_max, metrics }
    }

    /// A deployment is here; it awaits these workers.
    pub(super) fn open(&self, party: Party, awaited: BTreeMap<WorkerId, Awaited>) {
        self.state().open.push(Open { party, awaited });
        self.changed.send_replace(());
    }

    /// It is no longer here.
    pub(super) fn close(&self, party: &Party) {
        let mut state = self.state();
        state.closed = state.closed.max(Some(party.attempt));
        state.open.retain(|open| open.party != *party);
        drop(state);
        self.changed.send_replace(());
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, status: Status) -> Status {
        self.metrics.connection_refused();
        tracing::warn!(reason = status.message(), "refused a connection for rows");
        status
    }

    /// What is to be sent to the caller, once its deployment is here.
    pub(super) async fn admit(&self, hello: &Hello, incoming: Body) -> Result<OutboundBody, Status> {
        let deadline = Instant::now() + self.wait_max;
        let _place = Place::take(&self.waiting)
            .ok_or_else(|| self.refuse(Status::resource_exhausted("too many connections wait here")))?;
        let mut changed = self.changed.subscribe();
        loop {
            match self.decide(hello) {
                Decision::Admit(Awaited { outgoing, arrived }) => {
                    let closed = || Status::aborted("the deployment has just ended here");
                    return arrived.send(incoming).map(|()| outgoing).map_err(|_| self.refuse(closed()));
                }
                Decision::Refuse(status) => return Err(self.refuse(status)),
                Decision::Wait => {
                    if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                        let reason = format!("attempt {} has not begun here", name(hello.attempt));
                        return Err(self.refuse(Status::deadline_exceeded(reason)));
                    }
                }
            }
        }
    }

    fn decide(&self, hello: &Hello) -> Decision {
        let refuse = |reason: String| Decision::Refuse(Status::failed_precondition(reason));
        if hello.version != VERSION {
            return refuse(format!("this worker is of version {VERSION}, the caller of {}", hello.version));
        }
        let mut state = self.state();
        if let Some(other) = state.open.iter().map(|open| &open.party).find(|party| party.job != hello.job) {
            return refuse(format!("this worker is of job {}, the caller of {}", other.job, hello.job));
        }
        let newest = state.open.iter().map(|open| open.party.attempt).max();
        let ended = state.closed.is_some_and(|closed| hello.attempt <= closed);
        let Some(open) = state.open.iter_mut().find(|open| open.party.attempt == hello.attempt) else {
            return match newest {
                _ if ended => refuse(format!("attempt {} has ended here", name(hello.attempt))),
                Some(newest) if hello.attempt < newest => {
                    refuse(format!("attempt {} is here, not {}", name(newest), name(hello.attempt)))
                }
                _ => Decision::Wait,
            };
        };
        if hello.to != open.party.worker {
            return refuse(format!("this is worker {}, not {}", open.party.worker, hello.to));
        }
        match open.awaited.remove(&hello.from) {
            Some(awaited) => Decision::Admit(awaited),
            None => refuse(format!("worker {} is connected, or not of this deployment", hello.from)),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

fn name(attempt: Attempt) -> String {
    format!("{} of generation {}", attempt.number, attempt.generation)
}

/// One of those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::SeqCst) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
