//! Topics of a real broker: made, filled and read back.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A broker that tests may use.
#[derive(Clone, Debug)]
pub struct Broker {
    pub bootstrap: String,
    /// How many brokers hold each topic.
    pub copies: i32,
}

/// A record as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    /// `None`: a tombstone.
    pub value: Option<String>,
}

impl Broker {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// A topic whose name nobody else uses.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let unique = format!("{name}-{:016x}", rand_id());
        self.create_topic_named(&unique, partitions, settings);
        unique
    }

    pub fn create_topic_named(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.copies));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let results = block_on(admin.create_topics([&topic], &options)).unwrap();
        for result in results {
            result.unwrap();
        }
        crate::wait_for("the topic's leaders", TIMEOUT, || self.all_led(name, partitions).then_some(()));
    }

    fn all_led(&self, topic: &str, partitions: i32) -> bool {
        let consumer: BaseConsumer = self.config().create().unwrap();
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), TIMEOUT) else { return false };
        let led =
            metadata.topics().iter().flat_map(|t| t.partitions()).filter(|p| p.leader() >= 0 && p.error().is_none());
        i32::try_from(led.count()).unwrap() == partitions
    }

    pub fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        for result in block_on(admin.delete_topics(&[name], &options)).unwrap() {
            result.unwrap();
        }
    }

    pub fn producer(&self, topic: &str) -> TopicProducer {
        let mut config = self.config();
        config.set("linger.ms", "2").set("queue.buffering.max.messages", "1000000");
        // What is sent again because a broker died is not there twice.
        config.set("enable.idempotence", "true");
        TopicProducer { producer: config.create().unwrap(), topic: topic.to_owned() }
    }

    /// Writes the values round robin over `partitions` and waits until the broker has them.
    pub fn produce(&self, topic: &str, partitions: i32, values: impl IntoIterator<Item = String>) {
        let producer = self.producer(topic);
        for (i, value) in values.into_iter().enumerate() {
            producer.send(i32::try_from(i % usize::try_from(partitions).unwrap()).unwrap(), &value);
        }
        producer.flush();
    }

    /// The broker that leads the topic's first partition.
    pub fn leader(&self, topic: &str) -> i32 {
        let consumer: BaseConsumer = self.config().create().unwrap();
        crate::wait_for("a leader", TIMEOUT, || {
            let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).ok()?;
            let leader = metadata.topics().first()?.partitions().first()?.leader();
            (leader >= 0).then_some(leader)
        })
    }

    /// By partition: where the topic ends for a reader of what is committed, and for one of everything.
    ///
    /// # Errors
    /// A broker that has just become a leader does not know it yet.
    pub fn ends(&self, topic: &str) -> Result<Vec<(i64, i64)>, KafkaError> {
        let ends = |isolation: &str| -> Result<Vec<i64>, KafkaError> {
            let consumer: BaseConsumer = self.config().set("isolation.level", isolation).create()?;
            let ids = partitions(&consumer, topic).into_iter();
            ids.map(|id| Ok(consumer.fetch_watermarks(topic, id, TIMEOUT)?.1)).collect()
        };
        // In this order: what becomes committed meanwhile does not look pending the other way round.
        let committed = ends("read_committed")?;
        Ok(committed.into_iter().zip(ends("read_uncommitted")?).collect())
    }

    /// Partitions in which a transaction is pending: a reader of what is committed stops before the end.
    pub fn pending_partitions(&self, topic: &str) -> usize {
        self.ends(topic).unwrap().iter().filter(|(committed, all)| committed < all).count()
    }

    /// A reader that sees only what is committed.
    pub fn reader(&self, topic: &str) -> CommittedReader {
        let mut config = self.config();
        config
            .set("group.id", "millstream-test-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "20");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in partitions(&consumer, topic) {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        CommittedReader { consumer, seen: Vec::new() }
    }
}

/// The topic's partitions. Not every broker knows a topic as soon as one does: from one that lags behind, or has just
/// started, none at all would come, and a reader of none waits for ever.
fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    crate::wait_for("the topic's partitions", TIMEOUT, || {
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).ok()?;
        let ids: Vec<_> = metadata.topics().first()?.partitions().iter().map(|p| p.id()).collect();
        (!ids.is_empty()).then_some(ids)
    })
}

/// Writes records to chosen partitions.
pub struct TopicProducer {
    producer: BaseProducer,
    topic: String,
}

impl TopicProducer {
    pub fn send(&self, partition: i32, value: &str) {
        let mut record = BaseRecord::<(), str>::to(&self.topic).partition(partition).payload(value);
        while let Err((error, unsent)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "{:?}", self.state());
            self.producer.poll(Duration::from_millis(10));
            record = unsent;
        }
        self.producer.poll(Duration::ZERO);
    }

    pub fn flush(&self) {
        self.producer.flush(TIMEOUT).unwrap();
    }

    /// Records that the brokers have not acknowledged, and why nothing more will be, if that is so.
    pub fn state(&self) -> (i32, Option<String>) {
        let fatal = self.producer.client().fatal_error();
        (self.producer.in_flight_count(), fatal.map(|(code, reason)| format!("{code}: {reason}")))
    }
}

/// Collects what a `read_committed` reader sees.
pub struct CommittedReader {
    consumer: BaseConsumer,
    pub seen: Vec<Seen>,
}

impl CommittedReader {
    /// Takes what is there now; returns how many records are new.
    pub fn poll(&mut self) -> usize {
        let before = self.seen.len();
        let mut wait = Duration::from_millis(20);
        while let Some(message) = self.consumer.poll(wait) {
            let message = match message {
                // A broker died, or came back and does not know its topics yet: the client asks again by itself.
                Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::UnknownTopicOrPartition,
                )) => continue,
                message => message.expect("the reader reads"),
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("records are text");
            self.seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(text),
                value: message.payload().map(text),
            });
            wait = Duration::ZERO;
        }
        self.seen.len() - before
    }

    /// Reads until `count` records were seen, then a moment more, so that surplus records are seen too.
    pub fn read_exactly(&mut self, count: usize, limit: Duration) {
        let end = Instant::now() + limit;
        while self.seen.len() < count {
            self.poll();
            assert!(Instant::now() < end, "{} of {count} records visible after {limit:?}", self.seen.len());
        }
        let settle = Instant::now() + Duration::from_millis(300);
        while Instant::now() < settle {
            self.poll();
        }
        assert_eq!(self.seen.len(), count, "more records than expected are visible");
    }

    pub fn values(&self) -> Vec<serde_json::Value> {
        self.seen.iter().filter_map(|s| s.value.as_deref()).map(|v| serde_json::from_str(v).unwrap()).collect()
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn rand_id() -> u64 {
    getrandom::u64().unwrap()
}
