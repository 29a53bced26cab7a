//! The simulated broker: transactions as Kafka has them, EndTxn version 4 and below.
//!
//! A producer id keeps its epoch from one transaction to the next; InitProducerId aborts what is open and raises the
//! epoch; a transaction that is open too long is aborted and its epoch raised; EndTxn ends whatever is open *now* under the
//! given id and epoch.

use std::collections::BTreeMap;

use millstream_coordinator::job::Millis;

/// A record of the output: a number of the input, its key, and how many of that key there were up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    pub number: u64,
    pub key: u32,
    pub count: u64,
}

/// What a producer is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
}

#[derive(Clone, Debug)]
pub enum BrokerRequest {
    Init {
        id: String,
    },
    /// `sequence` of the batch: one that came before is not appended again.
    Produce {
        who: Identity,
        sequence: u64,
        records: Vec<Output>,
    },
    End {
        who: Identity,
        commit: bool,
    },
    Describe {
        id: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerError {
    /// Not carried out, or carried out and the answer lost.
    Unavailable,
    /// The epoch is not the current one.
    Fenced,
    /// Nothing is open that could be ended this way.
    InvalidState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    Ongoing,
    Committed,
    Aborted,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Producer(Identity),
    Done,
    Described { producer_id: i64, producer_epoch: i16, state: State },
    NoSuchId,
}

pub type BrokerReply = Result<Answer, BrokerError>;

#[derive(Clone, Debug)]
struct Producer {
    producer_id: i64,
    producer_epoch: i16,
    state: State,
    since: Millis,
    open: Vec<Output>,
    last_sequence: Option<u64>,
}

/// A commit that became visible.
#[derive(Clone, Debug)]
pub struct Visible {
    pub who: Identity,
    pub records: Vec<Output>,
}

/// The broker.
#[derive(Debug, Default)]
pub struct Broker {
    producers: BTreeMap<String, Producer>,
    /// What a `read_committed` reader sees.
    pub visible: Vec<Output>,
    pub expired: u64,
    /// Requests under an epoch that is over.
    pub fenced_requests: u64,
    /// Requests are refused until then.
    pub away_until: Millis,
    /// How the newest transaction of each producer and epoch stands, also of epochs that are over.
    newest: BTreeMap<(String, i64, i16), State>,
    timeout_ms: Millis,
    /// No transaction is older than the time-out before then.
    none_expires_until: Millis,
}

impl Broker {
    #[must_use]
    pub fn new(timeout_ms: Millis) -> Self {
        Self { timeout_ms, ..Self::default() }
    }

    /// Whether the newest transaction of this producer and epoch was committed, whatever came after it.
    #[must_use]
    pub fn is_committed(&self, who: &Identity) -> bool {
        let key = (who.id.clone(), who.producer_id, who.producer_epoch);
        self.newest.get(&key) == Some(&State::Committed)
    }

    /// Open transactions: their ids, and since when they hold readers back.
    pub fn open(&self) -> impl Iterator<Item = (&str, Millis)> {
        self.producers.iter().filter(|(_, p)| p.state == State::Ongoing).map(|(id, p)| (id.as_str(), p.since))
    }

    fn expire(&mut self, now: Millis) {
        if now <= self.none_expires_until {
            return;
        }
        for (id, producer) in &mut self.producers {
            if producer.state == State::Ongoing && now.saturating_sub(producer.since) > self.timeout_ms {
                let key = (id.clone(), producer.producer_id, producer.producer_epoch);
                self.newest.insert(key, State::Aborted);
                producer.state = State::Aborted;
                producer.producer_epoch += 1;
                producer.open.clear();
                self.expired += 1;
            }
        }
        let oldest = self.open().map(|(_, since)| since).min().unwrap_or(now);
        self.none_expires_until = oldest + self.timeout_ms;
    }

    /// Carries a request out. A commit is reported, so that the world can ask the log whether it was permitted.
    pub fn execute(&mut self, now: Millis, request: &BrokerRequest) -> (BrokerReply, Option<Visible>) {
        self.expire(now);
        match request {
            BrokerRequest::Init { id } => (self.init(id), None),
            BrokerRequest::Produce { who, sequence, records } => (self.produce(now, who, *sequence, records), None),
            BrokerRequest::End { who, commit } => self.end(who, *commit),
            BrokerRequest::Describe { id } => {
                let described = |p: &Producer| Answer::Described {
                    producer_id: p.producer_id,
                    producer_epoch: p.producer_epoch,
                    state: p.state,
                };
                (Ok(self.producers.get(id).map_or(Answer::NoSuchId, described)), None)
            }
        }
    }

    fn init(&mut self, id: &str) -> BrokerReply {
        let new_id = self.producers.len() as i64 + 1;
        let producer = self.producers.entry(id.to_owned()).or_insert(Producer {
            producer_id: new_id,
            producer_epoch: -1,
            state: State::Empty,
            since: 0,
            open: Vec::new(),
            last_sequence: None,
        });
        if producer.state == State::Ongoing {
            let key = (id.to_owned(), producer.producer_id, producer.producer_epoch);
            self.newest.insert(key, State::Aborted);
        }
        producer.producer_epoch += 1;
        producer.state = State::Empty;
        producer.open.clear();
        producer.last_sequence = None;
        let Producer { producer_id, producer_epoch, .. } = *producer;
        Ok(Answer::Producer(Identity { id: id.to_owned(), producer_id, producer_epoch }))
    }

    fn current(&mut self, who: &Identity) -> Result<&mut Producer, BrokerError> {
        let known = self.producers.get_mut(&who.id);
        let current = known.filter(|p| p.producer_id == who.producer_id && p.producer_epoch == who.producer_epoch);
        if current.is_none() {
            self.fenced_requests += 1;
        }
        current.ok_or(BrokerError::Fenced)
    }

    fn produce(&mut self, now: Millis, who: &Identity, sequence: u64, records: &[Output]) -> BrokerReply {
        let producer = self.current(who)?;
        if producer.last_sequence.is_some_and(|last| sequence <= last) {
            return Ok(Answer::Done);
        }
        producer.last_sequence = Some(sequence);
        if producer.state != State::Ongoing {
            producer.state = State::Ongoing;
            producer.since = now;
        }
        producer.open.extend_from_slice(records);
        self.newest.insert((who.id.clone(), who.producer_id, who.producer_epoch), State::Ongoing);
        Ok(Answer::Done)
    }

    fn end(&mut self, who: &Identity, commit: bool) -> (BrokerReply, Option<Visible>) {
        let producer = match self.current(who) {
            Ok(producer) => producer,
            Err(error) => return (Err(error), None),
        };
        match (producer.state, commit) {
            (State::Ongoing, true) => {
                producer.state = State::Committed;
                let records = std::mem::take(&mut producer.open);
                self.visible.extend_from_slice(&records);
                self.newest.insert((who.id.clone(), who.producer_id, who.producer_epoch), State::Committed);
                (Ok(Answer::Done), Some(Visible { who: who.clone(), records }))
            }
            (State::Ongoing, false) => {
                producer.state = State::Aborted;
                producer.open.clear();
                self.newest.insert((who.id.clone(), who.producer_id, who.producer_epoch), State::Aborted);
                (Ok(Answer::Done), None)
            }
            (State::Committed, true) | (State::Aborted, false) => (Ok(Answer::Done), None),
            _ => (Err(BrokerError::InvalidState), None),
        }
    }
}
