//! Reads assigned partitions by the batch, records borrowed.
//!
//! Owns: fetching, buffering (bounded), positions. Does not own: which partitions, where they start, decoding. There is
//! no consumer group, so no group right is needed and nobody else can take a partition away.
//!
//! A thread per broker reads whole answers into buffers (`fetcher`), one thread looks for leaders (`leaders`); what they
//! share is the `plan`. The slot's thread takes answers from it and reads the records where they are: checksums,
//! decompression and the walk through a batch happen in [`Consumer::poll`], one batch at a time.

mod answer;
mod fetcher;
mod hub;
mod leaders;
mod options;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::hub::Hub;
use self::leaders::Leaders;
use self::options::FetchOptions;
use self::plan::{Answer, Delivery, Partition, Share};
use crate::Waker;
use crate::admin::TopicId;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::records::{Damage, Decompressor, Reading};
use crate::wire::{Cluster, client_config};

/// A consumer of assigned partitions.
pub struct Consumer {
    hub: Arc<Hub>,
    /// Until the first partition is assigned.
    leaders: Option<Cluster>,
    partitions: Vec<Assigned>,
    taken: VecDeque<Delivery>,
    /// How many shares of the first answer are read.
    shares_read: usize,
    decompressor: Decompressor,
    /// An error stays: what is behind it must not be read as if nothing had happened.
    failed: Option<KafkaError>,
}

struct Assigned {
    topic: Arc<str>,
    partition: i32,
    /// The offset after everything that was handed out, markers and aborted records included.
    next_offset: i64,
    stopped: bool,
    /// As of the newest answer.
    log_end: Option<i64>,
    /// Set while everything that may be read is read: where that was, and the end of the log then. The latter is further
    /// where a transaction is open.
    reached: Option<Reached>,
}

#[derive(Clone, Copy)]
struct Reached {
    offset: i64,
    log_end: i64,
}

/// A record, valid while it is visited.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    index: usize,
    reading: Reading<'a>,
}

impl<'a> Record<'a> {
    /// Index of its partition, in the order of assignment.
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    #[inline]
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.reading.offset
    }

    /// Epoch ms, as the producer or the broker set it; `None` where nobody did.
    #[inline]
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.reading.timestamp_ms
    }

    #[inline]
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.reading.key
    }

    /// `None`: a tombstone.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.reading.value
    }
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Records visited.
    pub records: usize,
    /// Nothing more is here: the waker will be called when there is.
    pub drained: bool,
}

impl Consumer {
    /// Reads settings and certificates; connects in the background once a partition is assigned. `waker` is called when
    /// `poll` has something again.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn open(config: &ClientConfig, waker: Waker) -> Result<Self, KafkaError> {
        let options = FetchOptions::new(config)?;
        let tls = config.security.tls.as_ref().map(client_config).transpose()?;
        let leaders = Some(Cluster::new(config.clone())?);
        Ok(Self {
            hub: Arc::new(Hub::new(config.clone(), options, tls, waker)),
            leaders,
            partitions: Vec::new(),
            taken: VecDeque::new(),
            shares_read: 0,
            decompressor: Decompressor::default(),
            failed: None,
        })
    }

    /// Starts to read a partition at `offset`; returns its index. Never blocks: what is wrong with the partition
    /// shows in a later poll.
    ///
    /// `id`: only the topic with this id is read, not one of the same name that is made later. `None`: the one that there
    /// is when it is looked for.
    pub fn assign(
        &mut self,
        topic: &str,
        id: Option<TopicId>,
        partition: i32,
        offset: i64,
    ) -> Result<usize, KafkaError> {
        let known = self.partitions.iter().find(|p| *p.topic == *topic);
        let topic: Arc<str> = known.map_or_else(|| topic.into(), |p| p.topic.clone());
        if let Some(cluster) = self.leaders.take() {
            Leaders::spawn(self.hub.clone(), cluster).map_err(|e| KafkaError::Broker {
                action: "start a thread that looks for leaders".to_owned(),
                reason: e.to_string(),
                retriable: true,
            })?;
        }
        let mut plan = self.hub.plan();
        plan.partitions.push(Partition::new(topic.clone(), id, partition, offset));
        plan.leaders_wanted = true;
        drop(plan);
        self.hub.changed();
        let (stopped, log_end, reached) = (false, None, None);
        self.partitions.push(Assigned { topic, partition, next_offset: offset, stopped, log_end, reached });
        Ok(self.partitions.len() - 1)
    }

    /// Visits up to `max` records that are there now. Positions advance with the visits, and over markers and aborted
    /// records. Never blocks.
    ///
    /// # Errors
    /// About a partition or the whole client; records before it were visited. It comes again with every further call.
    pub fn poll(&mut self, max: usize, mut visit: impl FnMut(Record<'_>)) -> Result<Taken, KafkaError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take();
        let mut visited = 0;
        while visited < max {
            match self.taken.front_mut() {
                None => break,
                // What was visited comes first; the error is next.
                Some(Delivery::Failed(_)) if visited > 0 => break,
                Some(Delivery::Failed(error)) => {
                    self.failed = Some(error.clone());
                    return Err(error.clone());
                }
                Some(Delivery::Answer(answer)) => {
                    let Some(share) = answer.shares.get_mut(self.shares_read) else {
                        self.give_back();
                        continue;
                    };
                    let assigned = &mut self.partitions[share.index];
                    let wanted = max - visited;
                    let read = assigned.read(&answer.buffer, share, &mut self.decompressor, wanted, &mut visit);
                    let read = read.map_err(|damage| assigned.error(damage)).inspect_err(|error| {
                        self.failed = Some(error.clone());
                    })?;
                    visited += read;
                    self.shares_read += usize::from(read < wanted);
                }
            }
        }
        Ok(Taken { records: visited, drained: self.taken.is_empty() })
    }

    /// Takes over what came; the ends of logs are as of now.
    fn take(&mut self) {
        let ready = self.hub.plan().take_ready();
        for delivery in ready {
            if let Delivery::Answer(answer) = &delivery {
                for share in &answer.shares {
                    self.partitions[share.index].log_end = Some(share.log_end);
                }
            }
            self.taken.push_back(delivery);
        }
    }

    /// The first answer is read.
    fn give_back(&mut self) {
        self.shares_read = 0;
        if let Some(Delivery::Answer(Answer { node, buffer, .. })) = self.taken.pop_front() {
            self.hub.plan().give_back(node, buffer, &self.hub.options);
            self.hub.freed();
        }
    }

    /// The offset after everything that was handed out of a partition.
    #[must_use]
    pub fn position(&self, index: usize) -> i64 {
        self.partitions[index].next_offset
    }

    /// Stops fetching a partition; records that were fetched before are dropped. Never blocks.
    pub fn stop(&mut self, index: usize) {
        self.partitions[index].stopped = true;
        self.hub.plan().partitions[index].over = true;
    }

    /// Whether records of the partition wait to be read, here or at the broker. `None`: not known yet.
    #[must_use]
    pub fn backlog(&self, index: usize) -> Option<bool> {
        let Assigned { next_offset, log_end, reached, .. } = self.partitions[index];
        let end = log_end?;
        // Up to the end, or to an open transaction behind which nothing was added since.
        let read = reached.is_some_and(|reached| next_offset >= end || reached.log_end == end);
        if !read && next_offset >= end {
            return None;
        }
        Some(!read)
    }

    /// The end of the partition's log as of the last fetch. `None`: nothing fetched yet.
    #[must_use]
    pub fn log_end(&self, index: usize) -> Option<i64> {
        self.partitions[index].log_end
    }
}

impl Assigned {
    /// Reads up to `max` records of a share. Fewer: it is read to its end.
    #[inline]
    fn read(
        &mut self,
        buffer: &[u8],
        share: &mut Share,
        decompressor: &mut Decompressor,
        max: usize,
        visit: &mut impl FnMut(Record<'_>),
    ) -> Result<usize, Damage> {
        if self.stopped {
            return Ok(0);
        }
        let (index, set) = (share.index, &buffer[share.records.clone()]);
        let read = share.cursor.read(set, decompressor, &mut self.next_offset, max, |reading| {
            visit(Record { index, reading });
        })?;
        if read > 0 {
            self.reached = None;
        }
        // The end that was reached first counts: what is added behind an open transaction meanwhile waits.
        let offset = self.next_offset;
        if read < max && offset >= share.readable_end && self.reached.is_none_or(|r| r.offset != offset) {
            self.reached = Some(Reached { offset, log_end: share.log_end });
        }
        Ok(read)
    }

    #[cold]
    fn error(&self, damage: Damage) -> KafkaError {
        KafkaError::Broker {
            action: format!(
                "read topic '{}', partition {}, at offset {}",
                self.topic, self.partition, self.next_offset
            ),
            reason: damage.to_string(),
            retriable: false,
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.hub.close();
    }
}
