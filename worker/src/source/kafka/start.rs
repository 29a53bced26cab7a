//! Where the splits of a Kafka source start and end: resolved once, before the first read.
//!
//! Owns: startup and bounded modes, restored positions, the checks that a stored position still means the same. Does
//! not own: reading. Blocks, within a bounded time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use millstream_api::graph::{KafkaEnd, KafkaSource, KafkaStart};
use millstream_api::log::SplitState;
use millstream_kafka::{Admin, Deadline, KafkaError, OffsetAt, TopicDescription, TopicPartition};

use super::connection::{Connection, OffsetReset};
use super::split::{self, Position, Split, SplitStatus};
use crate::source::SourceError;

/// For all questions at a start together: longer than a broker's restart.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the cluster on behalf of one task.
pub(super) struct Resolver<'a> {
    pub(super) source: &'a KafkaSource,
    pub(super) connection: &'a Connection,
    pub(super) admin: Admin,
    pub(super) index: u32,
    pub(super) parallelism: u32,
    pub(super) deadline: Deadline,
}

impl Resolver<'_> {
    /// This task's splits, none of them given to a consumer yet.
    pub(super) fn splits(&mut self, restored: Option<&[SplitState]>) -> Result<Vec<Split>, SourceError> {
        let topics = self.admin.topics(&self.source.topics, self.deadline)?;
        let Some(states) = restored else {
            let own = self.own(&topics);
            let offsets = self.starts(&own)?;
            return self.fresh(&topics, offsets);
        };
        let (mut splits, known) = self.restored_splits(&topics, states)?;
        let mut new: Vec<TopicPartition> = self.own(&topics).into_iter().filter(|at| !known.contains_key(at)).collect();
        if self.source.bounded.is_some() {
            // The end of such a table was resolved once, for the partitions that there were.
            new.clear();
        }
        // A partition that appeared since the checkpoint: everything in it is new.
        let offsets = self.offsets(&new, OffsetAt::Beginning)?;
        splits.extend(self.fresh(&topics, offsets)?);
        self.check_ranges(&splits)?;
        Ok(splits)
    }

    fn own(&self, topics: &[TopicDescription]) -> Vec<TopicPartition> {
        own_partitions(topics, self.index, self.parallelism)
    }

    /// Splits that no checkpoint knows.
    fn fresh(
        &mut self,
        topics: &[TopicDescription],
        offsets: BTreeMap<TopicPartition, i64>,
    ) -> Result<Vec<Split>, SourceError> {
        let partitions: Vec<TopicPartition> = offsets.keys().cloned().collect();
        let mut ends = self.ends(&partitions)?;
        let splits: Vec<Split> = offsets
            .into_iter()
            .map(|(at, offset)| {
                let end = ends.as_mut().and_then(|ends| ends.remove(&at));
                let topic_id = topics.iter().find(|t| t.name == at.topic).and_then(|t| t.id);
                Split { at, position: Position { offset, end, topic_id }, status: SplitStatus::Finished }
            })
            .collect();
        self.check_ranges(&splits)?;
        Ok(splits)
    }

    /// This task's share of the stored splits, and the names of all stored ones.
    fn restored_splits(
        &self,
        topics: &[TopicDescription],
        states: &[SplitState],
    ) -> Result<(Vec<Split>, HashMap<TopicPartition, ()>), SourceError> {
        let mut own = Vec::new();
        let mut known = HashMap::new();
        for state in states {
            let (at, position) = split::restore(state)?;
            known.insert(at.clone(), ());
            if split::owner(&at, self.parallelism) != self.index {
                continue;
            }
            check_topic(topics, &at, &position)?;
            own.push(Split { at, position, status: SplitStatus::Finished });
        }
        Ok((own, known))
    }

    fn offsets(
        &mut self,
        partitions: &[TopicPartition],
        at: OffsetAt,
    ) -> Result<BTreeMap<TopicPartition, i64>, SourceError> {
        Ok(self.admin.offsets(partitions, at, self.connection.isolation, self.deadline)?)
    }

    /// `scan.startup.mode`.
    fn starts(&mut self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, SourceError> {
        match &self.source.startup {
            KafkaStart::EarliestOffset => self.offsets(partitions, OffsetAt::Beginning),
            KafkaStart::LatestOffset => self.offsets(partitions, OffsetAt::End),
            KafkaStart::Timestamp { millis } => self.offsets(partitions, OffsetAt::Timestamp { millis: *millis }),
            KafkaStart::GroupOffsets => {
                let found = self.group_offsets(partitions, "scan.startup.mode")?;
                self.fill(partitions, found, self.connection.offset_reset)
            }
            KafkaStart::SpecificOffsets { offsets } => {
                let found = self.specific(partitions, offsets)?;
                // As Flink: partitions that are not named start at the group's offset, or at the beginning.
                let mut found = found;
                if self.connection.group_id.is_some() {
                    for (at, offset) in self.group_offsets(partitions, "scan.startup.mode")? {
                        found.entry(at).or_insert(offset);
                    }
                }
                self.fill(partitions, found, Some(OffsetReset::Earliest))
            }
        }
    }

    /// `scan.bounded.mode`.
    fn ends(&mut self, partitions: &[TopicPartition]) -> Result<Option<BTreeMap<TopicPartition, i64>>, SourceError> {
        let Some(bounded) = &self.source.bounded else { return Ok(None) };
        let ends = match bounded {
            KafkaEnd::LatestOffset => self.offsets(partitions, OffsetAt::End)?,
            KafkaEnd::Timestamp { millis } => self.offsets(partitions, OffsetAt::Timestamp { millis: *millis })?,
            KafkaEnd::GroupOffsets => {
                let found = self.group_offsets(partitions, "scan.bounded.mode")?;
                self.fill(partitions, found, self.connection.offset_reset)?
            }
            KafkaEnd::SpecificOffsets { offsets } => {
                let found = self.specific(partitions, offsets)?;
                if let Some(at) = partitions.iter().find(|at| !found.contains_key(at)) {
                    return Err(SourceError::User {
                        reason: format!(
                            "'scan.bounded.specific-offsets' has no offset for partition {} of topic '{}'",
                            at.partition, at.topic
                        ),
                    });
                }
                found
            }
        };
        Ok(Some(ends))
    }

    fn specific(
        &self,
        partitions: &[TopicPartition],
        offsets: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, SourceError> {
        if let [_, _, ..] = self.source.topics[..] {
            return Err(SourceError::User {
                reason: "specific offsets name partitions only, so the table must read exactly one topic".to_owned(),
            });
        }
        let found = partitions.iter().filter_map(|at| Some((at.clone(), *offsets.get(&at.partition)?)));
        Ok(found.collect())
    }

    fn group_offsets(
        &mut self,
        partitions: &[TopicPartition],
        option: &str,
    ) -> Result<BTreeMap<TopicPartition, i64>, SourceError> {
        let Some(group) = &self.connection.group_id else {
            return Err(SourceError::User {
                reason: format!("'{option}' = 'group-offsets' needs 'properties.group.id'"),
            });
        };
        Ok(self.admin.group_offsets(group, partitions, self.deadline)?)
    }

    /// Adds an offset for each partition that has none.
    fn fill(
        &mut self,
        partitions: &[TopicPartition],
        mut found: BTreeMap<TopicPartition, i64>,
        reset: Option<OffsetReset>,
    ) -> Result<BTreeMap<TopicPartition, i64>, SourceError> {
        let missing: Vec<TopicPartition> = partitions.iter().filter(|at| !found.contains_key(*at)).cloned().collect();
        let Some(first) = missing.first() else { return Ok(found) };
        let at = match reset {
            Some(OffsetReset::Earliest) => OffsetAt::Beginning,
            Some(OffsetReset::Latest) => OffsetAt::End,
            None => {
                return Err(SourceError::User {
                    reason: format!(
                        "group '{}' has no offset for topic '{}', partition {}; set 'properties.auto.offset.reset' to \
                         earliest or latest",
                        self.connection.group_id.as_deref().unwrap_or_default(),
                        first.topic,
                        first.partition
                    ),
                });
            }
        };
        found.extend(self.offsets(&missing, at)?);
        Ok(found)
    }

    /// An offset that the broker does not hold (any more) is an error now, with the range, and not a silent jump.
    fn check_ranges(&mut self, splits: &[Split]) -> Result<(), SourceError> {
        let partitions: Vec<TopicPartition> = splits.iter().filter(|s| !s.at_end()).map(|s| s.at.clone()).collect();
        let first = self.offsets(&partitions, OffsetAt::Beginning)?;
        // Uncommitted records count here: a position may be behind the last stable offset after the isolation changed.
        let uncommitted = millstream_kafka::Isolation::ReadUncommitted;
        let end = self.admin.offsets(&partitions, OffsetAt::End, uncommitted, self.deadline)?;
        for split in splits.iter().filter(|s| !s.at_end()) {
            let (first, end) = (first[&split.at], end[&split.at]);
            let offset = split.position.offset;
            if offset < first || offset > end {
                return Err(KafkaError::OffsetOutOfRange {
                    topic: split.at.topic.clone(),
                    partition: split.at.partition,
                    offset,
                    range: Some((first, end)),
                }
                .into());
            }
        }
        Ok(())
    }
}

impl Split {
    /// Nothing is left to read, so nothing has to be there.
    pub(super) fn at_end(&self) -> bool {
        self.position.end.is_some_and(|end| self.position.offset >= end)
    }
}

/// A task's share of the topics' partitions.
pub(super) fn own_partitions(topics: &[TopicDescription], index: u32, parallelism: u32) -> Vec<TopicPartition> {
    let all =
        topics.iter().flat_map(|t| t.leaders.keys().map(|p| TopicPartition { topic: t.name.clone(), partition: *p }));
    all.filter(|at| split::owner(at, parallelism) == index).collect()
}

/// A stored position belongs to this very topic.
pub(super) fn check_topic(
    topics: &[TopicDescription],
    at: &TopicPartition,
    position: &Position,
) -> Result<(), SourceError> {
    let user = |reason: String| Err(SourceError::State { reason });
    let Some(topic) = topics.iter().find(|t| t.name == at.topic) else {
        return user(format!(
            "the checkpoint holds positions in topic '{}', which the table no longer reads; add it to 'topic' again, \
             or start without the checkpoint",
            at.topic
        ));
    };
    match (position.topic_id, topic.id) {
        (Some(stored), Some(now)) if stored != now => {
            return user(format!(
                "topic '{}' was deleted and made again (its id was {stored}, now it is {now}), so the checkpoint's \
                 offsets mean nothing in it; start without the checkpoint to read the new topic",
                at.topic
            ));
        }
        _ => {}
    }
    if !topic.leaders.contains_key(&at.partition) {
        return user(format!(
            "topic '{}' has no partition {} any more, but the checkpoint does",
            at.topic, at.partition
        ));
    }
    Ok(())
}
