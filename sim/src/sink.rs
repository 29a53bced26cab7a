//! The exactly-once sink of one task, as protocol section 4 has it, over a pool of producers.

use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::{Manifest, PreparedTransaction};

use crate::broker::{Identity, Output};
use crate::rules::Rules;

/// Records that wait to be sent; past it the sink refuses.
const BUFFER_MAX: usize = 12;

/// What a producer of the pool is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProducerState {
    Idle,
    /// Its transaction takes records.
    Open,
    /// Flushed, waiting for its manifest, or for the next acknowledgement when its epoch was aborted.
    Prepared(Epoch),
    Committing(Epoch),
    /// Committed; named by the newest manifest.
    Resting,
}

#[derive(Clone, Debug)]
pub struct Producer {
    pub who: Identity,
    pub state: ProducerState,
    sequence: u64,
}

/// A batch to send.
#[derive(Clone, Debug)]
pub struct Batch {
    pub producer: usize,
    pub who: Identity,
    pub sequence: u64,
    pub records: Vec<Output>,
}

/// What happened that the world wants counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Reopened,
    ListedUncovered,
    Refused,
}

#[derive(Debug)]
pub struct Sink {
    uid: TransformUid,
    task: u32,
    rules: Rules,
    producers: Vec<Producer>,
    current: Option<usize>,
    /// Of the epoch that is being written.
    buffer: Vec<Output>,
    /// Of the next one, while this one is being flushed.
    after: Vec<Output>,
    sending: bool,
    preparing: Option<Epoch>,
    /// No manifest names them yet.
    uncovered: Vec<(usize, PreparedTransaction)>,
    /// The newest sealed epoch whose commits are not reported.
    to_report: Option<Epoch>,
    just_prepared: Vec<Identity>,
    pub seen: Vec<Seen>,
}

impl Sink {
    #[must_use]
    pub fn new(uid: TransformUid, task: u32, identities: Vec<Identity>, rules: Rules) -> Self {
        let producer = |who| Producer { who, state: ProducerState::Idle, sequence: 0 };
        Self {
            uid,
            task,
            rules,
            producers: identities.into_iter().map(producer).collect(),
            current: None,
            buffer: Vec::new(),
            after: Vec::new(),
            sending: false,
            preparing: None,
            uncovered: Vec::new(),
            to_report: None,
            just_prepared: Vec::new(),
            seen: Vec::new(),
        }
    }

    #[must_use]
    pub fn ready(&self) -> bool {
        self.buffer.len() + self.after.len() < BUFFER_MAX
    }

    pub fn write(&mut self, record: Output) {
        // Nothing of the next epoch is sent before this one's flush is done.
        if self.preparing.is_some() { self.after.push(record) } else { self.buffer.push(record) }
    }

    /// The next batch, if one can go.
    pub fn next_batch(&mut self) -> Option<Batch> {
        if self.sending || self.buffer.is_empty() {
            return None;
        }
        if self.current.is_none() {
            let free = |p: &Producer| {
                p.state == ProducerState::Idle || (!self.rules.rest_producers && p.state == ProducerState::Resting)
            };
            self.current = self.producers.iter().position(free);
        }
        let Some(at) = self.current else {
            self.seen.push(Seen::Refused);
            return None;
        };
        let producer = &mut self.producers[at];
        producer.state = ProducerState::Open;
        producer.sequence += 1;
        self.sending = true;
        let (who, sequence) = (producer.who.clone(), producer.sequence);
        Some(Batch { producer: at, who, sequence, records: std::mem::take(&mut self.buffer) })
    }

    pub fn sent(&mut self) {
        self.sending = false;
    }

    pub fn prepare(&mut self, epoch: Epoch) {
        self.preparing = Some(epoch);
    }

    /// Ends the epoch that is being prepared, once everything of it was sent.
    pub fn flush(&mut self) {
        let Some(epoch) = self.preparing.filter(|_| !self.sending && self.buffer.is_empty()) else { return };
        self.preparing = None;
        self.buffer = std::mem::take(&mut self.after);
        let Some(at) = self.current.take() else { return };
        let producer = &mut self.producers[at];
        producer.state = ProducerState::Prepared(epoch);
        let transaction = PreparedTransaction {
            epoch,
            uid: self.uid.clone(),
            task: self.task,
            transactional_id: producer.who.id.clone(),
            producer_id: producer.who.producer_id,
            producer_epoch: producer.who.producer_epoch,
            topic: "out".to_owned(),
        };
        if !self.rules.commit_after_seal {
            self.just_prepared.push(producer.who.clone());
        }
        self.uncovered.push((at, transaction));
    }

    /// All transactions that no manifest covers, once everything of the epoch is flushed.
    pub fn prepared(&mut self, epoch: Epoch) -> Option<Vec<PreparedTransaction>> {
        self.flush();
        if self.preparing.is_some() {
            return None;
        }
        let all: Vec<_> = self.uncovered.iter().map(|(_, t)| t.clone()).collect();
        if all.iter().any(|t| t.epoch < epoch) {
            self.seen.push(Seen::ListedUncovered);
        }
        if self.rules.list_uncovered {
            return Some(all);
        }
        Some(all.into_iter().filter(|t| t.epoch == epoch).collect())
    }

    /// The epoch is given up for certain.
    pub fn aborted(&mut self, epoch: Epoch) {
        if self.preparing == Some(epoch) {
            self.preparing = None;
            self.buffer.append(&mut self.after);
            return;
        }
        // Nothing of the next epoch went out: it goes on in the same transaction.
        let last = self.uncovered.last().filter(|(_, t)| t.epoch == epoch).map(|(at, _)| *at);
        if let (None, Some(at)) = (self.current, last) {
            self.uncovered.pop();
            self.producers[at].state = ProducerState::Open;
            self.current = Some(at);
            self.seen.push(Seen::Reopened);
        }
    }

    /// The manifest is in the log: what it names is committed, who it does not name is free.
    pub fn sealed(&mut self, manifest: &Manifest) -> Vec<(usize, Identity)> {
        let names = |id: &str| manifest.transactions.iter().any(|t| t.transactional_id == id);
        for producer in &mut self.producers {
            if producer.state == ProducerState::Resting && !names(&producer.who.id) {
                producer.state = ProducerState::Idle;
            }
        }
        self.to_report = Some(manifest.epoch);
        let producers = &mut self.producers;
        let mut commits = Vec::new();
        self.uncovered.retain(|(at, transaction)| {
            let covered = manifest.transactions.contains(transaction);
            if covered {
                producers[*at].state = ProducerState::Committing(manifest.epoch);
                commits.push((*at, producers[*at].who.clone()));
            }
            !covered
        });
        commits
    }

    /// What is open and no manifest up to `sealed` can name.
    pub fn unknown_to(&self, sealed: Option<Epoch>) -> Vec<Identity> {
        let unknown = |p: &Producer| match p.state {
            ProducerState::Open => true,
            ProducerState::Prepared(epoch) => Some(epoch) > sealed,
            ProducerState::Idle | ProducerState::Committing(_) | ProducerState::Resting => false,
        };
        self.producers.iter().filter(|p| unknown(p)).map(|p| p.who.clone()).collect()
    }

    /// For the broken rule: what was prepared since the last time, to be committed at once.
    pub fn commit_early(&mut self) -> Vec<Identity> {
        std::mem::take(&mut self.just_prepared)
    }

    pub fn committed(&mut self, producer: usize) {
        self.producers[producer].state = ProducerState::Resting;
    }

    /// The epoch up to which all is committed, once.
    pub fn report(&mut self) -> Option<Epoch> {
        let open = self.producers.iter().any(|p| matches!(p.state, ProducerState::Committing(_)));
        if open { None } else { self.to_report.take() }
    }
}
