//! Batches on their way: which goes where next, and what follows from the answers.
//!
//! A partition has one batch under way at a time, so its order holds through every repetition; requests take one batch
//! of each partition that they can, and several requests are under way at once for different partitions.
//! A batch is repeated with the same bytes and the same sequence number until the broker has it or its time is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Engine, UNKNOWN_PATIENCE};
use super::failure::{Verdict, judge, timed_out};
use super::handover::State;
use super::links::{Answered, LEADER_DOUBTED, Room, Sending};
use super::questions::LeaderTable;
use crate::error::KafkaError;
use crate::record_batch::Stamp;
use crate::transactions::ProducerIdentity;

/// Where a partition stands.
#[derive(Default)]
pub(super) struct Partition {
    /// Since when the cluster's answers do not hold it.
    unknown_since: Option<Instant>,
    /// Of the next record.
    sequence: i32,
    pub(super) in_transaction: bool,
    under_way: bool,
    /// What has to be sent again comes before everything else.
    again: Option<Sending>,
    not_before: Option<Instant>,
}

impl Partition {
    /// Something was sent, and whether the broker has it or will have it is not known.
    pub(super) fn outcome_unknown(&self) -> bool {
        self.under_way || self.again.is_some()
    }
}

/// Batches of the next requests by node.
type Requests = BTreeMap<i32, (usize, Vec<Sending>)>;

impl Engine {
    pub(super) fn partition(&mut self, partition: usize) -> &mut Partition {
        if self.partitions.len() <= partition {
            self.partitions.resize_with(partition + 1, Partition::default);
        }
        &mut self.partitions[partition]
    }

    /// Sends whatever can be sent.
    pub(super) fn dispatch(&mut self, now: Instant) -> Result<(), KafkaError> {
        if self.settings.idempotent && self.identity.is_none() {
            return Ok(());
        }
        loop {
            let requests = self.collect(now)?;
            if requests.is_empty() {
                return Ok(());
            }
            for (node, (_, mut batches)) in requests {
                batches.iter_mut().for_each(|sending| self.stamp(sending));
                self.links.send(node, batches, now);
            }
        }
    }

    /// One request for each broker that takes one.
    fn collect(&mut self, now: Instant) -> Result<Requests, KafkaError> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let partitions = state.queues.len();
        if partitions > 0 {
            self.partition(partitions - 1);
        }
        let mut requests = Requests::new();
        self.partitions_to_add.clear();
        for at in 0..partitions {
            let partition = (self.first_partition + at) % partitions;
            if let Some(node) = self.destination(partition, &mut state, now)? {
                self.add_to(&mut requests, node, partition, &mut state);
            }
        }
        Ok(requests)
    }

    /// Where the next batch of the partition can go now.
    fn destination(&mut self, at: usize, state: &mut State, now: Instant) -> Result<Option<i32>, KafkaError> {
        let partition = &self.partitions[at];
        if partition.under_way || partition.again.is_none() && state.queues[at].is_empty() {
            return Ok(None);
        }
        if let Some(not_before) = partition.not_before.filter(|t| *t > now) {
            self.wake(not_before);
            return Ok(None);
        }
        if self.settings.transactional() && !partition.in_transaction {
            self.partitions_to_add.push(at as i32);
            return Ok(None);
        }
        let node = match self.table.leaders.get(&(at as i32)) {
            Some(Some(node)) => *node,
            None if !self.table.leaders.is_empty() => return self.missing(at, now).map(|()| None),
            None | Some(None) => {
                self.leaders_wanted = true;
                return Ok(None);
            }
        };
        match self.links.room(node, self.table.addresses.get(&node), now) {
            Room::Yes => return Ok(Some(node)),
            Room::Later => {}
            Room::At(at) => self.wake(at),
            Room::Unknown => self.leaders_wanted = true,
        }
        Ok(None)
    }

    /// The cluster does not know the partition: it is asked again, for a while.
    fn missing(&mut self, at: usize, now: Instant) -> Result<(), KafkaError> {
        self.leaders_wanted = true;
        let since = *self.partitions[at].unknown_since.get_or_insert(now);
        if now.saturating_duration_since(since) < UNKNOWN_PATIENCE {
            return Ok(());
        }
        Err(KafkaError::UnknownPartition { topic: self.settings.topic.clone(), partition: at as i32 })
    }

    /// The partition's next batch joins the request to this node, unless that is large enough.
    fn add_to(&mut self, requests: &mut Requests, node: i32, at: usize, state: &mut State) {
        let partition = &mut self.partitions[at];
        let bytes = match (&partition.again, state.queues[at].front()) {
            (Some(again), _) => again.batch.bytes().len(),
            (None, Some(queued)) => queued.batch.bytes().len(),
            (None, None) => return,
        };
        let (request_bytes, batches) = requests.entry(node).or_default();
        if !batches.is_empty() && *request_bytes + bytes > self.settings.request_bytes {
            return;
        }
        let next = partition.again.take().or_else(|| {
            let queued = state.queues[at].pop_front()?;
            let batch = Arc::new(queued.batch);
            Some(Sending { partition: at, batch, stamped: false, since: queued.since, failures: 0 })
        });
        if let Some(sending) = next {
            partition.under_way = true;
            partition.not_before = None;
            *request_bytes += bytes;
            batches.push(sending);
            self.first_partition = at + 1;
        }
    }

    /// Gives a batch its sequence number, once.
    fn stamp(&mut self, sending: &mut Sending) {
        if std::mem::replace(&mut sending.stamped, true) {
            return;
        }
        let transactional = self.settings.transactional();
        let stamp = self.identity.map(|identity| {
            let sequence = &mut self.partitions[sending.partition].sequence;
            let stamp = Stamp { identity, sequence: *sequence, transactional };
            // Numbers go round after the largest one.
            *sequence = (i64::from(*sequence) + sending.batch.records() as i64) as i32 & i32::MAX;
            stamp
        });
        // A connection that was given up may still hold the batch as it was.
        Arc::make_mut(&mut sending.batch).stamp(stamp);
    }

    /// Takes in what the brokers say about the batches of one request.
    pub(super) fn settle(&mut self, answered: Answered, now: Instant) -> Result<(), KafkaError> {
        let mut result = Ok(());
        for sending in answered.batches {
            let at = sending.partition;
            self.partitions[at].under_way = false;
            let verdict = match &answered.partitions {
                None => Verdict::Written,
                Some(partitions) => match partitions.iter().find(|p| p.partition == at as i32) {
                    Some(p) => {
                        judge(&self.settings, p.error_code, p.message.as_deref(), sending.batch.largest_record_bytes())
                    }
                    None => Verdict::Again { reason: "the answer does not hold the partition".to_owned() },
                },
            };
            match verdict {
                Verdict::Written => {
                    self.trouble_is_over();
                    let (records, bytes) = (sending.batch.records(), sending.batch.bytes().len());
                    let memory = Arc::into_inner(sending.batch).map(crate::record_batch::Batch::into_bytes);
                    self.shared.acknowledged(records, bytes, memory);
                }
                Verdict::Again { reason } => {
                    self.leaders_wanted = true;
                    result = result.and(self.send_again(sending, &reason, now));
                }
                Verdict::Renumber { reason } => {
                    self.renumber();
                    result = result.and(self.send_again(sending, &reason, now));
                }
                Verdict::Failed(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    fn send_again(&mut self, mut sending: Sending, reason: &str, now: Instant) -> Result<(), KafkaError> {
        self.trouble(reason);
        sending.failures = sending.failures.saturating_add(1);
        if sending.failures > self.settings.retries {
            let (topic, reason) = (self.settings.topic.clone(), format!("{reason}; no retries are left"));
            return Err(KafkaError::Delivery { topic, reason });
        }
        let partition = &mut self.partitions[sending.partition];
        partition.not_before = Some(now + self.settings.retry_backoff.pause(sending.failures));
        partition.again = Some(sending);
        Ok(())
    }

    /// The broker has lost count: everything that it has not acknowledged gets a new number under a new producer id. What
    /// it wrote without saying so is written twice then, as at-least-once allows.
    fn renumber(&mut self) {
        self.identity = None;
        self.identity_wanted = true;
    }

    /// A new producer id counts from zero.
    pub(super) fn identified(&mut self, identity: ProducerIdentity) {
        self.identity = Some(identity);
        for partition in &mut self.partitions {
            partition.sequence = 0;
            if let Some(again) = &mut partition.again {
                again.stamped = false;
            }
        }
    }

    /// Leaders as the cluster has just named them. Who does not answer and is not one any more is given up.
    pub(super) fn lead(&mut self, table: LeaderTable, now: Instant) -> Result<(), KafkaError> {
        for (at, partition) in (0i32..).zip(&mut self.partitions) {
            partition.unknown_since.take_if(|_| table.leaders.contains_key(&at));
        }
        self.table = table;
        let leader = |partition: usize| self.table.leaders.get(&(partition as i32)).copied().flatten();
        let forsaken = self.links.forsaken(now, leader);
        forsaken.into_iter().try_for_each(|(node, connection)| {
            self.lose(node, connection, "the broker does not answer, and another one leads the partition", now)
        })
    }

    /// A connection is gone, with an unknown outcome for what was under way on it.
    pub(super) fn lose(&mut self, node: i32, connection: u64, reason: &str, now: Instant) -> Result<(), KafkaError> {
        let under_way = self.links.lost(node, connection, now).unwrap_or_default();
        let mut result = Ok(());
        for sending in under_way {
            self.leaders_wanted = true;
            self.partitions[sending.partition].under_way = false;
            result = result.and(self.send_again(sending, reason, now));
        }
        result
    }

    /// Gives up what took too long.
    pub(super) fn expire(&mut self, now: Instant) -> Result<(), KafkaError> {
        for (node, connection) in self.links.overdue(now) {
            self.lose(node, connection, "the broker did not answer in time (properties.request.timeout.ms)", now)?;
        }
        let shared = self.shared.clone();
        let state = shared.lock();
        let oldest = |(at, partition): (usize, &Partition)| {
            let queued = || state.queues.get(at).and_then(|queue| queue.front()).map(|queued| queued.since);
            match &partition.again {
                Some(again) => Some(again.since),
                None if partition.under_way => None,
                None => queued(),
            }
        };
        let oldest = self.partitions.iter().enumerate().filter_map(oldest).min();
        drop(state);
        let waited = oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if waited > self.settings.delivery_timeout {
            return Err(timed_out(&self.settings, self.last_reason.as_deref()));
        }
        // A broker may hang while it is connected to, too.
        self.leaders_wanted |= waited > LEADER_DOUBTED || self.links.leaders_are_doubtful(now);
        Ok(())
    }
}
