//! The producers of an exactly-once sink, and which of them may do what when.
//!
//! Owns: protocol section 4 for one task. At restore whoever reads the log's last manifest commits by the ids that it
//! names, and such a commit ends whatever that producer has open *then*. So a producer whose transaction the newest
//! manifest names begins nothing new until a newer manifest without it is in the log. Hence a pool: one is written, one
//! waits for its manifest, one is being committed. Does not own: what is written.

use millstream_api::ids::Epoch;
use millstream_api::log::PreparedTransaction;
use millstream_kafka::{
    ClientConfig, KafkaError, Producer, ProducerEvent, ProducerIdentity, ProducerOptions, Throttle,
};

use crate::source::SlotWaker;

/// Producers that are started without being asked for; more are started when epochs are aborted in a row.
const STARTED: usize = 3;

/// What all producers of a pool have in common.
pub(super) struct PoolConfig {
    pub(super) client: ClientConfig,
    pub(super) topic: String,
    /// `<prefix>-<job uid>-<sink uid>-<index>`; a producer adds its number.
    pub(super) id_prefix: String,
    pub(super) transaction_timeout_ms: u32,
    pub(super) throttle: Throttle,
    /// At least `STARTED`.
    pub(super) size: usize,
    pub(super) waker: SlotWaker,
}

/// The producers of one sink task.
pub(super) struct Pool {
    config: PoolConfig,
    producers: Vec<Pooled>,
}

struct Pooled {
    id: String,
    producer: Producer,
    state: State,
    /// Its transaction was once listed, for an epoch that was given up.
    continued: bool,
}

/// Where a producer stands. `Starting -> Free -> Open -> Flushing -> Prepared -> Committing -> Committed -> Beginning
/// -> Free`; an aborted epoch's goes `Prepared -> Open` when nothing was written since.
///
/// `listed`: the epoch whose acknowledgement lists it; `None` while it is in none that still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    /// In a transaction that the broker has not heard of.
    Free,
    /// The one that is written; it holds records.
    Open,
    /// Everything was sent; the brokers acknowledge.
    Flushing {
        epoch: Epoch,
        listed: Option<Epoch>,
    },
    /// Flushed. `identity` is known soon after.
    Prepared {
        epoch: Epoch,
        identity: Option<ProducerIdentity>,
        listed: Option<Epoch>,
    },
    /// The manifest that names it is in the log.
    Committing,
    /// Committed, and the newest manifest may still name it.
    Committed,
    Beginning,
}

impl State {
    /// A transaction is open that no manifest up to `sealed` can name.
    fn holds_records_unknown_to(self, sealed: Option<Epoch>) -> bool {
        match self {
            State::Open => true,
            State::Flushing { listed, .. } | State::Prepared { listed, .. } => listed.is_none_or(|l| Some(l) > sealed),
            State::Starting | State::Free | State::Committing | State::Committed | State::Beginning => false,
        }
    }

    fn is_listed_in(self, epoch: Epoch) -> bool {
        matches!(self, State::Prepared { listed, .. } if listed == Some(epoch))
    }
}

/// What a look at the producers brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Advanced {
    /// The last commit that was under way is done.
    pub(super) committed: bool,
}

impl Pool {
    /// Starts the first producer; the others follow when it stands, so that they do not slow it down.
    pub(super) fn open(config: PoolConfig) -> Result<Self, KafkaError> {
        let mut pool = Self { config, producers: Vec::new() };
        pool.start_another()?;
        Ok(pool)
    }

    fn start_another(&mut self) -> Result<(), KafkaError> {
        let id = format!("{}-{}", self.config.id_prefix, self.producers.len());
        let options = ProducerOptions {
            topic: self.config.topic.clone(),
            transactional_id: Some(id.clone()),
            transaction_timeout_ms: self.config.transaction_timeout_ms,
            throttle: self.config.throttle.clone(),
            waker: self.config.waker.clone(),
        };
        let producer = Producer::open(&self.config.client, options)?;
        self.producers.push(Pooled { id, producer, state: State::Starting, continued: false });
        Ok(())
    }

    /// Takes in what the producers finished.
    pub(super) fn advance(&mut self) -> Result<Advanced, KafkaError> {
        let mut advanced = Advanced::default();
        let committing = self.committing();
        for pooled in &mut self.producers {
            while let Some(event) = pooled.producer.poll()? {
                pooled.state = after(pooled.state, event);
            }
        }
        advanced.committed = committing && !self.committing();
        let first_stands = self.producers.iter().any(|p| p.state != State::Starting);
        while first_stands && self.producers.len() < STARTED.min(self.config.size) {
            self.start_another()?;
        }
        Ok(advanced)
    }

    /// The producer to write to now, for records that there are; `None`: wait for the waker.
    pub(super) fn writable(&mut self) -> Result<Option<&mut Producer>, KafkaError> {
        let find = |producers: &[Pooled], state| producers.iter().position(|p| p.state == state);
        let open = find(&self.producers, State::Open).or_else(|| find(&self.producers, State::Free));
        let Some(at) = open else {
            // One that is prepared or committed comes free only with a later manifest: better one more, within bounds.
            let soon = |p: &Pooled| matches!(p.state, State::Starting | State::Beginning);
            if !self.producers.iter().any(soon) && self.producers.len() < self.config.size {
                self.start_another()?;
            }
            return Ok(None);
        };
        let pooled = &mut self.producers[at];
        if pooled.state == State::Free {
            // Free => Open: the records that follow are its transaction.
            pooled.state = State::Open;
            pooled.continued = false;
        }
        Ok(Some(&mut pooled.producer))
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.producers.iter().map(|p| p.producer.unacknowledged()).sum()
    }

    /// Where none is open, one is flushing, or starts, and wakes the slot with that.
    pub(super) fn wake_for_room(&mut self) {
        if let Some(pooled) = self.producers.iter_mut().find(|p| p.state == State::Open) {
            pooled.producer.wake_for_room();
        }
    }

    /// What is sent now ends an epoch.
    pub(super) fn hurry(&mut self) {
        if let Some(pooled) = self.producers.iter_mut().find(|p| p.state == State::Open) {
            pooled.producer.hurry();
        }
    }

    /// Everything of the epoch was sent: flushes, and settles what the epoch's acknowledgement will list. An epoch
    /// without records has nothing to flush.
    pub(super) fn end_epoch(&mut self, epoch: Epoch) {
        for pooled in &mut self.producers {
            match &mut pooled.state {
                State::Open => {
                    // Open => Flushing: the epoch's last record was sent.
                    pooled.producer.flush();
                    pooled.state = State::Flushing { epoch, listed: Some(epoch) };
                }
                State::Prepared { listed: listed @ None, .. } | State::Flushing { listed: listed @ None, .. } => {
                    *listed = Some(epoch);
                }
                _ => {}
            }
        }
    }

    pub(super) fn flushing(&self) -> bool {
        self.producers.iter().any(|p| matches!(p.state, State::Flushing { .. }))
    }

    /// What the epoch's acknowledgement lists; `None`: not everything is identified yet.
    pub(super) fn listed_in(&self, epoch: Epoch) -> Option<Vec<Listed>> {
        let mut listed_in = Vec::new();
        for pooled in &self.producers {
            match pooled.state {
                State::Flushing { .. } => return None,
                State::Prepared { epoch: prepared, identity, listed } if listed == Some(epoch) => {
                    let transactional_id = pooled.id.clone();
                    listed_in.push(Listed { epoch: prepared, transactional_id, identity: identity? });
                }
                _ => {}
            }
        }
        Some(listed_in)
    }

    /// The epoch's acknowledgement lists something of this pool.
    pub(super) fn lists(&self, epoch: Epoch) -> bool {
        self.producers.iter().any(|p| p.state.is_listed_in(epoch))
    }

    /// The epoch's manifest is in the log: commits what it names of this pool.
    pub(super) fn commit(&mut self, epoch: Epoch) {
        for pooled in self.producers.iter_mut().filter(|p| p.state.is_listed_in(epoch)) {
            // Prepared => Committing: the permit is there.
            pooled.producer.commit();
            pooled.state = State::Committing;
        }
    }

    fn committing(&self) -> bool {
        self.producers.iter().any(|p| p.state == State::Committing)
    }

    /// The epoch was given up: its transactions stay open, the next acknowledgement lists them.
    pub(super) fn abort(&mut self, epoch: Epoch) {
        for pooled in &mut self.producers {
            if let State::Prepared { listed, .. } | State::Flushing { listed, .. } = &mut pooled.state {
                listed.take_if(|listed| *listed == epoch);
            }
        }
        let unlisted = |p: &Pooled| matches!(p.state, State::Prepared { identity: Some(_), listed: None, .. });
        if self.producers.iter().any(|p| p.state == State::Open) || self.flushing() {
            return;
        }
        if let Some(at) = self.producers.iter().rposition(unlisted) {
            // Prepared => Open: nothing was written since, so its epoch simply goes on.
            self.producers[at].state = State::Open;
            self.producers[at].continued = true;
        }
    }

    /// The newest manifest names these transactions: producers that it no longer names may begin again.
    pub(super) fn release(&mut self, named: &[PreparedTransaction]) {
        for pooled in &mut self.producers {
            if pooled.state == State::Committed && !named.iter().any(|t| t.transactional_id == pooled.id) {
                // Committed => Beginning: no restore will end what this producer has open.
                pooled.producer.begin();
                pooled.state = State::Beginning;
            }
        }
    }

    /// The job is another's: aborts what no manifest up to `sealed` can name. The rest is for the next owner to commit.
    pub(super) fn abandon(&mut self, sealed: Option<Epoch>) {
        for pooled in self.producers.drain(..) {
            if pooled.state.holds_records_unknown_to(sealed) {
                pooled.producer.abort();
            }
        }
    }

    /// Nothing is under way that a look at the producers would find done.
    pub(super) fn idle(&self) -> bool {
        self.producers.iter().all(|p| match p.state {
            State::Free | State::Open | State::Committed => true,
            State::Prepared { identity, .. } => identity.is_some(),
            State::Starting | State::Flushing { .. } | State::Committing | State::Beginning => false,
        })
    }
}

impl Drop for Pool {
    /// Ends what nobody else can know of, so that its topic's readers need not wait for its time-out. What an
    /// acknowledgement may have listed stays open: a manifest may name it.
    fn drop(&mut self) {
        for pooled in self.producers.drain(..) {
            if pooled.state == State::Open && !pooled.continued {
                pooled.producer.abort();
            }
        }
    }
}

/// A transaction that is flushed and identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) epoch: Epoch,
    pub(super) transactional_id: String,
    pub(super) identity: ProducerIdentity,
}

/// The state that follows an event.
fn after(state: State, event: ProducerEvent) -> State {
    match (state, event) {
        // Starting => Free: initialised and begun.
        (State::Starting, ProducerEvent::Ready) | (State::Beginning, ProducerEvent::Begun) => State::Free,
        // Flushing => Prepared: the brokers have it all; the next epoch may be sent by another producer.
        (State::Flushing { epoch, listed }, ProducerEvent::Flushed) => {
            State::Prepared { epoch, identity: None, listed }
        }
        (State::Prepared { epoch, listed, .. }, ProducerEvent::Identified(identity)) => {
            State::Prepared { epoch, identity: Some(identity), listed }
        }
        // Committing => Committed: it waits for a manifest that does not name it.
        (State::Committing, ProducerEvent::Committed) => State::Committed,
        (state, _) => state,
    }
}
