//! Topics: made, counted, digested.

use std::collections::HashSet;
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

/// Reads the topic to its end.
pub fn digest(bootstrap: &str, topic: &str) -> anyhow::Result<Digest> {
    let (consumer, partitions) = reader(bootstrap, topic, "read_committed", Offset::Beginning)?;
    let (mut records, mut bytes, mut sum, mut ended) = (0, 0, 0u64, HashSet::new());
    while ended.len() < partitions {
        match consumer.poll(Duration::from_secs(10)).context("the broker does not answer")? {
            Err(KafkaError::PartitionEOF(partition)) => {
                ended.insert(partition);
            }
            Err(error) => return Err(error.into()),
            Ok(message) => {
                let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
                records += 1;
                bytes += u64::try_from(value.len())?;
                let hash = xxhash_rust::xxh3::xxh3_64_with_seed(value, xxhash_rust::xxh3::xxh3_64(key));
                sum = sum.wrapping_add(hash);
            }
        }
    }
    Ok(Digest { records, bytes, digest: format!("{sum:016x}") })
}
