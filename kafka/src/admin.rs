//! Questions about topics, offsets and groups.
//!
//! Owns: finding the broker that knows, asking again while leaders move. Does not own: what an offset means for a job.
//! It blocks until its deadline at most.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    BrokerId, DescribeConfigsRequest, DescribeConfigsResponse, FindCoordinatorRequest, GroupId, ListOffsetsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use serde::{Deserialize, Serialize};

use crate::config::ClientConfig;
use crate::error::{ErrorKind, KafkaError};
use crate::wire::{Cluster, Deadline, text};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// A topic that was just made is not known to every broker at once: "unknown" is believed after so many tries.
pub(crate) const UNKNOWN_TOPIC_TRIES: u32 = 5;
/// DescribeConfigs' numbers for kinds of resources.
const CONFIG_OF_TOPIC: i8 = 2;
const CONFIG_OF_BROKER: i8 = 4;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// The identity of a topic: one that is deleted and made again under the same name has another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// The id in an answer; all zeroes stand for none.
    pub(crate) fn from_answer(id: &uuid::Uuid) -> Option<Self> {
        (!id.is_nil()).then(|| Self(*id.as_bytes()))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// As Kafka's tools print it: URL-safe base64.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl From<TopicId> for String {
    fn from(id: TopicId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TopicId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&text);
        bytes.ok().and_then(|b| b.try_into().ok()).map(Self).ok_or_else(|| format!("'{text}' is not a topic id"))
    }
}

/// What the cluster says about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    /// `None`: the broker is older than topic ids (2.8).
    pub id: Option<TopicId>,
    /// Partition -> node id of its leader (-1: none right now).
    pub leaders: BTreeMap<i32, i32>,
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    Beginning,
    /// One after the last record, or the last stable offset for `Isolation::ReadCommitted`.
    End,
    /// The first record that is not older, or the end where there is none.
    Timestamp {
        millis: i64,
    },
}

/// Whether records of transactions that are not committed are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

/// Asks a cluster.
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    /// Reads certificates; connects to nothing yet.
    pub fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self { cluster: Cluster::new(config)? })
    }

    /// The topics in the order asked for.
    ///
    /// # Errors
    /// `UnknownTopic` where one is missing; `Unreachable` after the deadline.
    pub fn topics(&mut self, names: &[String], deadline: Deadline) -> Result<Vec<TopicDescription>, KafkaError> {
        let request = MetadataRequest::default().with_allow_auto_topic_creation(false).with_topics(Some(
            names.iter().map(|n| MetadataRequestTopic::default().with_name(Some(name(n)))).collect(),
        ));
        let mut retries = deadline.retries();
        let mut unknown = 0;
        loop {
            let response = self.cluster.metadata(&request, deadline)?;
            let described: Result<Vec<_>, _> = response.topics.iter().map(describe).collect();
            let error = match described {
                Ok(found) => return in_order(names, found),
                Err(error) => error,
            };
            unknown += u32::from(matches!(error, KafkaError::UnknownTopic { .. }));
            let again = unknown < UNKNOWN_TOPIC_TRIES && (unknown > 0 || error.kind() == ErrorKind::Retry);
            if !again || !retries.wait() {
                return Err(error);
            }
        }
    }

    /// An offset of each partition.
    pub fn offsets(
        &mut self,
        partitions: &[TopicPartition],
        at: OffsetAt,
        isolation: Isolation,
        deadline: Deadline,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        let mut found = BTreeMap::new();
        let mut retries = deadline.retries();
        loop {
            let missing: Vec<&TopicPartition> = partitions.iter().filter(|p| !found.contains_key(*p)).collect();
            if missing.is_empty() {
                break;
            }
            if let Err(e) = self.offsets_once(&missing, at, isolation, deadline, &mut found)
                && (e.kind() != ErrorKind::Retry || !retries.wait())
            {
                return Err(e);
            }
        }
        if let OffsetAt::Timestamp { .. } = at {
            let none: Vec<TopicPartition> = found.iter().filter(|(_, o)| **o < 0).map(|(p, _)| p.clone()).collect();
            found.extend(self.offsets(&none, OffsetAt::End, isolation, deadline)?);
        }
        Ok(found)
    }

    /// Asks each leader once. What it knows goes to `found`; the error is the last one that may pass.
    fn offsets_once(
        &mut self,
        partitions: &[&TopicPartition],
        at: OffsetAt,
        isolation: Isolation,
        deadline: Deadline,
        found: &mut BTreeMap<TopicPartition, i64>,
    ) -> Result<(), KafkaError> {
        let names: BTreeSet<String> = partitions.iter().map(|p| p.topic.clone()).collect();
        let topics = self.topics(&names.into_iter().collect::<Vec<_>>(), deadline)?;
        let mut by_leader: BTreeMap<i32, Vec<&TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            let leader = topics
                .iter()
                .find(|t| t.name == partition.topic)
                .and_then(|t| t.leaders.get(&partition.partition))
                .ok_or_else(|| KafkaError::UnknownPartition {
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                })?;
            by_leader.entry(*leader).or_default().push(partition);
        }
        let mut last_error = Ok(());
        for (leader, partitions) in by_leader {
            let Some(address) = self.cluster.address_of(leader) else {
                last_error = Err(no_leader(partitions[0]));
                continue;
            };
            let request = list_offsets(&partitions, at, isolation);
            let response = self.cluster.ask(&address, &request, 7, deadline)?;
            for topic in &response.topics {
                for p in &topic.partitions {
                    let partition =
                        TopicPartition { topic: topic.name.as_str().to_owned(), partition: p.partition_index };
                    match p.error_code {
                        0 => drop(found.insert(partition, p.offset)),
                        code => {
                            let action = format!(
                                "read the offsets of topic '{}', partition {}",
                                partition.topic, partition.partition
                            );
                            last_error = Err(KafkaError::from_code(code, &action));
                        }
                    }
                }
            }
        }
        last_error
    }

    /// The offsets that a group committed; partitions without one are left out.
    pub fn group_offsets(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
        deadline: Deadline,
    ) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
        let topics = by_topic(partitions)
            .into_iter()
            .map(|(topic, partitions)| {
                let indexes = partitions.iter().map(|p| p.partition).collect();
                OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(indexes)
            })
            .collect();
        let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(Some(topics));
        let action = format!("read the offsets of group '{group}'");
        self.ask_coordinator(group, deadline, |cluster, address| {
            let response = cluster.ask(address, &request, 7, deadline)?;
            check(response.error_code, &action)?;
            let mut found = BTreeMap::new();
            for topic in &response.topics {
                for p in &topic.partitions {
                    check(p.error_code, &action)?;
                    if p.committed_offset >= 0 {
                        let topic = topic.name.as_str().to_owned();
                        found.insert(TopicPartition { topic, partition: p.partition_index }, p.committed_offset);
                    }
                }
            }
            Ok(found)
        })
    }

    /// Commits offsets for a group without members, so that lag tools can see the progress.
    pub fn commit_group_offsets(
        &mut self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
        deadline: Deadline,
    ) -> Result<(), KafkaError> {
        let partitions: Vec<TopicPartition> = offsets.keys().cloned().collect();
        let topics = by_topic(&partitions)
            .into_iter()
            .map(|(topic, partitions)| {
                let partitions = partitions
                    .into_iter()
                    .map(|p| {
                        OffsetCommitRequestPartition::default()
                            .with_partition_index(p.partition)
                            .with_committed_offset(offsets[p])
                    })
                    .collect();
                OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions)
            })
            .collect();
        // Generation -1 and no member: a commit from outside of the group protocol.
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics);
        let action = format!("commit the offsets of group '{group}'");
        self.ask_coordinator(group, deadline, |cluster, address| {
            let response = cluster.ask(address, &request, 8, deadline)?;
            response.topics.iter().flat_map(|t| &t.partitions).try_for_each(|p| check(p.error_code, &action))
        })
    }

    /// Finds the group's coordinator and asks it; again until the deadline while it moves or loads.
    fn ask_coordinator<T>(
        &mut self,
        group: &str,
        deadline: Deadline,
        mut ask: impl FnMut(&mut Cluster, &str) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        let mut retries = deadline.retries();
        loop {
            let result = self.cluster.ask_any_until(&request, 3, deadline).and_then(|found| {
                check(found.error_code, &format!("find the coordinator of group '{group}'"))?;
                let address = format!("{}:{}", found.host.as_str(), found.port);
                ask(&mut self.cluster, &address)
            });
            match result {
                Err(e) if e.kind() == ErrorKind::Retry && retries.wait() => {}
                other => return other,
            }
        }
    }

    /// A setting of the brokers (of the one that answers first), such as `transaction.max.timeout.ms`. `None`: this
    /// user may not read it, or there is no such setting.
    pub fn broker_setting(&mut self, setting: &str, deadline: Deadline) -> Result<Option<String>, KafkaError> {
        let metadata = self.cluster.metadata(&MetadataRequest::default().with_topics(Some(Vec::new())), deadline)?;
        let Some(broker) = metadata.brokers.first() else { return Ok(None) };
        let address = format!("{}:{}", broker.host.as_str(), broker.port);
        let request = describe_configs(CONFIG_OF_BROKER, &broker.node_id.0.to_string(), setting);
        Ok(config_value(&self.cluster.ask(&address, &request, 4, deadline)?, setting))
    }

    /// A setting of a topic, such as `max.message.bytes`. `None` as for [`Self::broker_setting`].
    pub fn topic_setting(
        &mut self,
        topic: &str,
        setting: &str,
        deadline: Deadline,
    ) -> Result<Option<String>, KafkaError> {
        let request = describe_configs(CONFIG_OF_TOPIC, topic, setting);
        Ok(config_value(&self.cluster.ask_any_until(&request, 4, deadline)?, setting))
    }
}

fn describe_configs(kind: i8, resource: &str, setting: &str) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configuration_keys(Some(vec![text(setting)]));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

fn config_value(response: &DescribeConfigsResponse, setting: &str) -> Option<String> {
    let found = response.results.iter().filter(|r| r.error_code == 0).flat_map(|r| &r.configs);
    found.filter(|c| c.name.as_str() == setting).find_map(|c| c.value.as_ref().map(|v| v.to_string()))
}

fn check(code: i16, action: &str) -> Result<(), KafkaError> {
    if code == 0 { Ok(()) } else { Err(KafkaError::from_code(code, action)) }
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn no_leader(partition: &TopicPartition) -> KafkaError {
    KafkaError::Broker {
        action: format!("read topic '{}', partition {}", partition.topic, partition.partition),
        reason: "the partition has no leader right now".to_owned(),
        retriable: true,
    }
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<&TopicPartition>> {
    let mut topics: BTreeMap<&str, Vec<&TopicPartition>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition);
    }
    topics
}

fn describe(topic: &MetadataResponseTopic) -> Result<TopicDescription, KafkaError> {
    let name = topic.name.as_ref().map_or_else(String::new, |n| n.as_str().to_owned());
    match topic.error_code {
        0 => {}
        UNKNOWN_TOPIC_OR_PARTITION => return Err(KafkaError::UnknownTopic { topic: name }),
        code => return Err(KafkaError::from_code(code, &format!("describe topic '{name}'"))),
    }
    let id = TopicId::from_answer(&topic.topic_id);
    let leaders = topic.partitions.iter().map(|p| (p.partition_index, p.leader_id.0)).collect();
    Ok(TopicDescription { name, id, leaders })
}

fn in_order(names: &[String], found: Vec<TopicDescription>) -> Result<Vec<TopicDescription>, KafkaError> {
    let find = |name: &String| {
        let topic = found.iter().find(|t| t.name == *name).cloned();
        topic.ok_or_else(|| KafkaError::UnknownTopic { topic: name.clone() })
    };
    names.iter().map(find).collect()
}

fn list_offsets(partitions: &[&TopicPartition], at: OffsetAt, isolation: Isolation) -> ListOffsetsRequest {
    let timestamp = match at {
        OffsetAt::Beginning => -2,
        OffsetAt::End => -1,
        OffsetAt::Timestamp { millis } => millis,
    };
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for p in partitions {
        topics
            .entry(&p.topic)
            .or_default()
            .push(ListOffsetsPartition::default().with_partition_index(p.partition).with_timestamp(timestamp));
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions))
        .collect();
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(i8::from(isolation == Isolation::ReadCommitted))
        .with_topics(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_written_as_kafka_writes_it() {
        let id = TopicId([0xff; 16]);
        let json = serde_json::to_string(&id).expect("serialisable");
        assert_eq!(json, "\"_____________________w\"");
        assert_eq!(serde_json::from_str::<TopicId>(&json).expect("valid"), id);
        assert!(serde_json::from_str::<TopicId>("\"short\"").is_err());
    }
}
