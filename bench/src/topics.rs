//! Topics: made, counted, digested.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde::Serialize;

pub const TIMEOUT: Duration = Duration::from_secs(60);

/// What a topic holds for a `read_committed` reader.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    pub records: u64,
    pub bytes: u64,
    /// Sum of the hashes of key and value of every record: equal for equal contents in any order.
    pub digest: String,
}

pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Makes the topic anew.
pub fn create(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    // A topic that is not there cannot be deleted, which is as good.
    let _ = runtime.block_on(admin.delete_topics(&[topic], &options))?;
    for _ in 0..100 {
        let made = runtime.block_on(admin.create_topics([&new], &options))?;
        match &made[..] {
            [Ok(_)] => return Ok(()),
            // The deletion is still under way.
            [Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists))] => {
                runtime.block_on(tokio::time::sleep(Duration::from_millis(100)));
            }
            other => bail!("failed to create topic {topic}: {other:?}"),
        }
    }
    bail!("topic {topic} is not deleted after 10 s")
}

/// A reader of all partitions from `from`.
pub fn reader(bootstrap: &str, topic: &str, isolation: &str, from: Offset) -> anyhow::Result<(BaseConsumer, usize)> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "millstream-bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "5")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions();
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        assignment.add_partition_offset(topic, partition.id(), from)?;
    }
    consumer.assign(&assignment)?;
    Ok((consumer, partitions.len()))
}

/// Digests every record of the topic.
pub fn digest(bootstrap: &str, topic: &str) -> anyhow::Result<Digest> {
    let (mut records, mut bytes, mut sum) = (0, 0, 0u64);
    read_to_end(bootstrap, topic, |key, value| {
        let value = value.unwrap_or_default();
        records += 1;
        bytes += value.len() as u64;
        sum = sum.wrapping_add(hash(key, value));
    })?;
    Ok(Digest { records, bytes, digest: format!("{sum:016x}") })
}

/// Digests the table that the topic's changes leave: the last value of each key. An updating result may come to it in
/// more steps or fewer.
pub fn digest_of_table(bootstrap: &str, topic: &str) -> anyhow::Result<Digest> {
    let mut table = HashMap::new();
    read_to_end(bootstrap, topic, |key, value| {
        match value {
            Some(value) => table.insert(key.to_vec(), (value.len() as u64, hash(key, value))),
            None => table.remove(key),
        };
    })?;
    let bytes = table.values().map(|(bytes, _)| bytes).sum();
    let sum = table.values().fold(0u64, |sum, (_, hash)| sum.wrapping_add(*hash));
    Ok(Digest { records: table.len() as u64, bytes, digest: format!("{sum:016x}") })
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(value, xxhash_rust::xxh3::xxh3_64(key))
}

fn read_to_end(bootstrap: &str, topic: &str, mut visit: impl FnMut(&[u8], Option<&[u8]>)) -> anyhow::Result<()> {
    let (consumer, partitions) = reader(bootstrap, topic, "read_committed", Offset::Beginning)?;
    let mut ended = HashSet::new();
    while ended.len() < partitions {
        match consumer.poll(Duration::from_secs(10)).context("the broker does not answer")? {
            Err(KafkaError::PartitionEOF(partition)) => {
                ended.insert(partition);
            }
            Err(error) => return Err(error.into()),
            Ok(message) => visit(message.key().unwrap_or_default(), message.payload()),
        }
    }
    Ok(())
}
