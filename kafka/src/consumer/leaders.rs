//! The thread that knows which broker leads which partition: it asks when somebody has to know, and now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::hub::Hub;
use super::plan::Partition;
use crate::admin::{TopicId, UNKNOWN_TOPIC_TRIES};
use crate::error::{ErrorKind, KafkaError};
use crate::wire::{Cluster, Deadline, text};

/// As the wire layer asks elsewhere: ids of topics from version 10 on.
const METADATA_VERSION: i16 = 12;
/// For one broker to answer; then the next one is asked.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Leaders {
    hub: Arc<Hub>,
    cluster: Cluster,
    /// Which broker is asked first: another one after each failure.
    first: usize,
    /// In a row: no broker answers, or a partition has no leader.
    failures: u32,
    asked_at: Instant,
}

impl Leaders {
    pub(super) fn spawn(hub: Arc<Hub>, cluster: Cluster) -> std::io::Result<()> {
        let leaders = Self { hub, cluster, first: 0, failures: 0, asked_at: Instant::now() };
        std::thread::Builder::new().name("kafka-leaders".to_owned()).spawn(move || leaders.run()).map(drop)
    }

    fn run(mut self) {
        while let Some(topics) = self.wait() {
            let answer = self.ask(&topics);
            self.asked_at = Instant::now();
            match answer {
                Ok(metadata) => self.apply(&metadata),
                Err(error) if error.kind() == ErrorKind::Retry => {
                    self.failures = self.failures.saturating_add(1);
                    self.hub.plan().leaders_wanted = true;
                    if self.failures == 2 {
                        tracing::warn!("{error}; trying again");
                    }
                }
                Err(error) => self.hub.failed(error),
            }
        }
    }

    /// Waits until leaders have to be looked for. Returns the topics; `None`: the consumer is closed.
    fn wait(&self) -> Option<Vec<String>> {
        let options = &self.hub.options;
        let rest = if self.failures == 0 { Duration::ZERO } else { options.retry_pause.pause(self.failures) };
        let mut plan = self.hub.plan();
        loop {
            if plan.closed {
                return None;
            }
            let topics: BTreeSet<&str> = plan.partitions.iter().filter(|p| !p.over).map(|p| &*p.topic).collect();
            let since = self.asked_at.elapsed();
            let due = if plan.leaders_wanted { rest } else { options.metadata_age_max };
            if !topics.is_empty() && since >= due {
                let topics = topics.into_iter().map(str::to_owned).collect();
                plan.leaders_wanted = false;
                return Some(topics);
            }
            // Without a topic, for one.
            let wait = if topics.is_empty() { options.metadata_age_max } else { due - since };
            plan = self.hub.wait_for_leaders(plan, wait);
        }
    }

    /// Asks one broker after the other, each once.
    fn ask(&mut self, topics: &[String]) -> Result<MetadataResponse, KafkaError> {
        let name = |topic: &String| MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request = MetadataRequest::default()
            .with_allow_auto_topic_creation(false)
            .with_topics(Some(topics.iter().map(name).collect()));
        let mut addresses: Vec<String> = self.hub.plan().brokers.values().cloned().collect();
        for server in self.hub.config.servers() {
            if !addresses.contains(&server) {
                addresses.push(server);
            }
        }
        let mut reasons = Vec::new();
        for turn in 0..addresses.len() {
            let address = &addresses[(self.first + turn) % addresses.len()];
            match self.cluster.ask(address, &request, METADATA_VERSION, Deadline::after(TRY_TIMEOUT)) {
                Err(KafkaError::Unreachable { brokers, reason }) => {
                    self.first = self.first.wrapping_add(1);
                    reasons.push(format!("{brokers}: {reason}"));
                }
                other => return other,
            }
            if self.hub.plan().closed {
                break;
            }
        }
        let brokers = self.hub.config.bootstrap_servers.clone();
        Err(KafkaError::Unreachable { brokers, reason: reasons.join("; ") })
    }

    /// Gives each partition its leader.
    fn apply(&mut self, metadata: &MetadataResponse) {
        let mut plan = self.hub.plan();
        let address = |b: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
            (b.node_id.0, format!("{}:{}", b.host.as_str(), b.port))
        };
        plan.brokers = metadata.brokers.iter().map(address).collect();
        let mut errors = Vec::new();
        let mut complete = true;
        for partition in plan.partitions.iter_mut().filter(|p| !p.over) {
            let of = |t: &&MetadataResponseTopic| t.name.as_ref().is_some_and(|n| n.as_str() == &*partition.topic);
            // One that was assigned after the question is part of the next one.
            let Some(topic) = metadata.topics.iter().find(of) else {
                complete &= partition.node.is_some();
                continue;
            };
            match led(partition, topic) {
                Ok(known) => complete &= known,
                Err(error) => {
                    partition.over = true;
                    errors.push(error);
                }
            }
        }
        plan.leaders_wanted |= !complete;
        self.failures = if complete { 0 } else { self.failures.saturating_add(1) };
        drop(plan);
        self.hub.report(errors);
        self.hub.start_threads();
    }
}

/// Takes over what the cluster says of a partition. `Ok(false)`: ask again.
fn led(partition: &mut Partition, topic: &MetadataResponseTopic) -> Result<bool, KafkaError> {
    let name = || partition.topic.to_string();
    match ResponseError::try_from_code(topic.error_code) {
        None => {}
        Some(ResponseError::UnknownTopicOrPartition) => {
            return unknown(&mut partition.unknown, KafkaError::UnknownTopic { topic: name() });
        }
        Some(error) if error.is_retriable() => return Ok(false),
        Some(_) => return Err(KafkaError::from_code(topic.error_code, &format!("read topic '{}'", partition.topic))),
    }
    match (partition.id, TopicId::from_answer(&topic.topic_id)) {
        (Some(wanted), Some(found)) if wanted != found => {
            return Err(KafkaError::TopicMadeAgain { topic: name(), wanted, found });
        }
        (None, found) => partition.id = found,
        _ => {}
    }
    let Some(found) = topic.partitions.iter().find(|p| p.partition_index == partition.number) else {
        let error = KafkaError::UnknownPartition { topic: name(), partition: partition.number };
        return unknown(&mut partition.unknown, error);
    };
    partition.unknown = 0;
    let leader = found.leader_id.0;
    // Without an id a topic that was made again begins anew with its epochs.
    let stale = partition.id.is_some() && found.leader_epoch < partition.leader_epoch;
    if leader < 0 || stale {
        return Ok(false);
    }
    partition.leader = Some(leader);
    partition.leader_epoch = found.leader_epoch;
    partition.node = Some(leader);
    Ok(true)
}

/// What was just made is not known to every broker at once.
fn unknown(times: &mut u32, error: KafkaError) -> Result<bool, KafkaError> {
    *times += 1;
    if *times < UNKNOWN_TOPIC_TRIES { Ok(false) } else { Err(error) }
}
