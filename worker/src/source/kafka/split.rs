//! Splits of a Kafka source: which are whose, and how a position is stored.

use millstream_api::log::SplitState;
use millstream_kafka::{TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::source::SourceError;

/// A split's position as a manifest stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Of the next record to read.
    pub(super) offset: i64,
    /// The bounded end (exclusive), resolved when the split was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<i64>,
    /// Identity of the topic that the offsets belong to; brokers before 2.8 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic_id: Option<TopicId>,
}

/// A partition that this task reads.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) at: TopicPartition,
    pub(super) position: Position,
    pub(super) status: SplitStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SplitStatus {
    /// The consumer has it under this index.
    Reading(usize),
    Finished,
}

impl Split {
    pub(super) fn name(&self) -> String {
        name(&self.at)
    }
}

/// Stable name of a split.
pub(super) fn name(at: &TopicPartition) -> String {
    format!("{}/{}", at.topic, at.partition)
}

/// Reads a stored split back.
pub(super) fn restore(state: &SplitState) -> Result<(TopicPartition, Position), SourceError> {
    let corrupt = |reason: String| SourceError::User {
        reason: format!("the checkpoint's position of split '{}' cannot be read: {reason}", state.split),
    };
    let (topic, partition) = state.split.rsplit_once('/').ok_or_else(|| corrupt("not topic/partition".to_owned()))?;
    let partition = partition.parse().map_err(|_| corrupt("not topic/partition".to_owned()))?;
    let position = serde_json::from_value(state.position.clone()).map_err(|e| corrupt(e.to_string()))?;
    Ok((TopicPartition { topic: topic.to_owned(), partition }, position))
}

/// The task that reads a partition: Flink's rule (`KafkaSourceEnumerator.getSplitOwner`), which spreads the partitions
/// of one topic evenly and starts each topic at another task.
pub(super) fn owner(at: &TopicPartition, parallelism: u32) -> u32 {
    let hash = at.topic.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let start = hash.wrapping_mul(31).cast_unsigned() & 0x7fff_ffff;
    (start % parallelism + at.partition.cast_unsigned() % parallelism) % parallelism
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.to_owned(), partition }
    }

    #[test]
    fn every_task_gets_its_share_of_a_topic() {
        for parallelism in 1..8 {
            let mut counts = vec![0; parallelism as usize];
            for partition in 0..24 {
                counts[owner(&at("clicks", partition), parallelism) as usize] += 1;
            }
            assert!(counts.iter().all(|c| (24 / parallelism..=24u32.div_ceil(parallelism)).contains(c)), "{counts:?}");
        }
        // "clicks".hashCode() is -1357714453 in Java, and (-1357714453 * 31) & MAX_VALUE = 860524917.
        assert_eq!(owner(&at("clicks", 0), 7), 860_524_917 % 7);
    }

    #[test]
    fn a_position_survives_its_storage() {
        let position = Position { offset: 7, end: Some(9), topic_id: None };
        let state = SplitState {
            split: "a/b/3".to_owned(),
            position: serde_json::to_value(&position).unwrap(),
            watermark: None,
            idle: false,
            finished: false,
        };
        assert_eq!(restore(&state).unwrap(), (at("a/b", 3), position));
        let broken = SplitState { position: serde_json::json!({"offset": "x"}), ..state };
        assert!(restore(&broken).unwrap_err().to_string().contains("a/b/3"));
    }
}
