//! Where a sink sends its records: one producer, or a pool of transactional ones.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_api::graph::DeliveryGuarantee;
use millstream_api::graph::kafka_properties::KafkaClient;
use millstream_api::ids::Epoch;
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use millstream_kafka::{
    Admin, ClientConfig, Deadline, KafkaError, Producer, ProducerEvent, ProducerOptions, RecordBuffer, Sent, Throttle,
};

use super::pool::{Advanced, Listed, Pool, PoolConfig};
use crate::sink::{SinkContext, SinkError};
use crate::source::SlotWaker;
use crate::source::kafka::connection::{Connection, filled_in};

/// For all questions at a start together: longer than a broker's restart.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// As long as brokers allow unless they are told otherwise (`transaction.max.timeout.ms`).
const TRANSACTION_TIMEOUT_MS: u32 = 900_000;
/// One is written, one waits for its manifest, one is being committed.
const POOL_LEAST: u32 = 3;
/// Room for the batch's own header in a topic's `max.message.bytes`.
const BATCH_HEADER_BYTES: usize = 512;

/// A sink's connection, checked, before its producers are started.
pub(super) struct Setup {
    config: ClientConfig,
    topic: String,
    partitions: u32,
    batch_bytes_max: usize,
    waker: SlotWaker,
    throttle: Throttle,
    transactions: Option<TransactionSetup>,
}

struct TransactionSetup {
    ids: TransactionalIds,
    index: u32,
    timeout_ms: u32,
}

impl Setup {
    /// Asks the cluster about the topic and the limits that matter.
    pub(super) fn new(
        topic: &str,
        properties: &BTreeMap<String, String>,
        guarantee: DeliveryGuarantee,
        prefix: Option<&str>,
        context: &SinkContext,
    ) -> Result<Self, SinkError> {
        let topic = &filled_in("topic", topic)?;
        let name = format!("{}-{}-{}", context.job, context.uid, context.index);
        let Connection { mut config, transaction_timeout_ms, .. } =
            Connection::new(properties, KafkaClient::Producer, &name)?;
        let mut admin = Admin::new(config.clone())?;
        let deadline = Deadline::after(START_TIMEOUT);
        let described = admin.topics(std::slice::from_ref(topic), deadline)?;
        let partitions = described.first().map_or(0, |t| t.leaders.len());
        limit_batches(&mut config, &mut admin, topic, deadline)?;
        let batch_bytes_max = Producer::batch_bytes_max(&config)?;
        let transactions = if guarantee == DeliveryGuarantee::ExactlyOnce {
            let timeout_ms = transaction_timeout_ms.unwrap_or(TRANSACTION_TIMEOUT_MS);
            check_timeout(&mut admin, timeout_ms, deadline)?;
            let pool = context.transaction_pool.max(POOL_LEAST);
            let ids = TransactionalIds::new(prefix, &context.job_uid, &context.uid, context.parallelism, pool);
            Some(TransactionSetup { ids, index: context.index, timeout_ms })
        } else {
            None
        };
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        let (topic, waker) = (topic.clone(), context.waker.clone());
        let throttle = Throttle::default();
        Ok(Self { config, topic, partitions, batch_bytes_max, waker, throttle, transactions })
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn partitions(&self) -> Result<u32, SinkError> {
        match self.partitions {
            0 => Err(SinkError::Transient { reason: format!("topic '{}' has no partitions yet", self.topic) }),
            partitions => Ok(partitions),
        }
    }

    /// One for each partition.
    pub(super) fn buffers(&self) -> Vec<RecordBuffer> {
        (0..self.partitions).map(|_| RecordBuffer::new(self.batch_bytes_max)).collect()
    }

    /// What the producers will know of brokers that do not listen.
    pub(super) fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }

    pub(super) fn transactional_ids(&self) -> Option<TransactionalIds> {
        self.transactions.as_ref().map(|t| t.ids.clone())
    }

    /// Starts the producers; they initialise in the background.
    pub(super) fn start(self) -> Result<Target, SinkError> {
        let Some(TransactionSetup { ids, index, timeout_ms }) = self.transactions else {
            let options = ProducerOptions {
                topic: self.topic,
                transactional_id: None,
                transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
                throttle: self.throttle,
                waker: self.waker,
            };
            let producer = Producer::open(&self.config, options)?;
            return Ok(Target::Plain { producer, flushing: false });
        };
        let pool = Pool::open(PoolConfig {
            client: self.config,
            topic: self.topic,
            id_prefix: format!("{}-{index}", ids.prefix),
            transaction_timeout_ms: timeout_ms,
            throttle: self.throttle,
            size: ids.pool as usize,
            waker: self.waker,
        })?;
        Ok(Target::Pool(Box::new(pool)))
    }
}

/// Many small records in one batch must not make a batch that the topic refuses.
fn limit_batches(
    config: &mut ClientConfig,
    admin: &mut Admin,
    topic: &str,
    deadline: Deadline,
) -> Result<(), KafkaError> {
    let limit = admin.topic_setting(topic, "max.message.bytes", deadline)?;
    let Some(limit) = limit.and_then(|l| l.parse::<usize>().ok()) else { return Ok(()) };
    let largest = limit.saturating_sub(BATCH_HEADER_BYTES).max(1);
    if largest < Producer::batch_bytes_max(config)? {
        config.settings.entry("batch.size".to_owned()).or_insert_with(|| largest.to_string());
    }
    Ok(())
}

fn check_timeout(admin: &mut Admin, timeout_ms: u32, deadline: Deadline) -> Result<(), SinkError> {
    let limit = admin.broker_setting("transaction.max.timeout.ms", deadline)?;
    match limit.and_then(|l| l.parse::<u64>().ok()) {
        Some(limit) if u64::from(timeout_ms) > limit => Err(SinkError::User {
            reason: format!(
                "'properties.transaction.timeout.ms' is {timeout_ms}, but the brokers allow {limit} at most \
                 (transaction.max.timeout.ms): lower the one or raise the other; it must be longer than the longest \
                 time between two checkpoints, restarts included"
            ),
        }),
        // A user who may not read it learns of it when the first producer initialises.
        _ => Ok(()),
    }
}

/// One producer that is flushed at every barrier, or a pool of transactional ones.
pub(super) enum Target {
    Plain {
        producer: Producer,
        flushing: bool,
    },
    /// Boxed: it is several times larger.
    Pool(Box<Pool>),
}

impl Target {
    /// Takes in what the producers finished.
    pub(super) fn advance(&mut self) -> Result<Advanced, KafkaError> {
        match self {
            Self::Pool(pool) => pool.advance(),
            Self::Plain { producer, flushing } => {
                while let Some(event) = producer.poll()? {
                    *flushing &= event != ProducerEvent::Flushed;
                }
                Ok(Advanced::default())
            }
        }
    }

    /// Hands over what is in the buffers. False: something is left, and the slot is woken when there is room for it.
    pub(super) fn send(&mut self, buffers: &mut [RecordBuffer]) -> Result<bool, KafkaError> {
        let producer = match self {
            Self::Plain { producer, .. } => producer,
            Self::Pool(pool) => match pool.writable()? {
                Some(producer) => producer,
                None => return Ok(false),
            },
        };
        let mut all = true;
        for (partition, buffer) in (0..).zip(buffers).filter(|(_, buffer)| !buffer.is_empty()) {
            all &= producer.send(partition, buffer)? == Sent::All;
        }
        Ok(all)
    }

    /// Records that the brokers have not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        match self {
            Self::Pool(pool) => pool.unacknowledged(),
            Self::Plain { producer, .. } => producer.unacknowledged(),
        }
    }

    /// The slot is to be woken when less is under way.
    pub(super) fn wake_for_room(&mut self) {
        match self {
            Self::Pool(pool) => pool.wake_for_room(),
            Self::Plain { producer, .. } => producer.wake_for_room(),
        }
    }

    /// What is sent now ends an epoch: it waits for nothing.
    pub(super) fn hurry(&mut self) {
        match self {
            Self::Pool(pool) => pool.hurry(),
            Self::Plain { producer, .. } => producer.hurry(),
        }
    }

    /// Everything of the epoch was sent.
    pub(super) fn end_epoch(&mut self, epoch: Epoch) {
        match self {
            Self::Pool(pool) => pool.end_epoch(epoch),
            Self::Plain { producer, flushing } => {
                *flushing = true;
                producer.flush();
            }
        }
    }

    /// Nothing may be sent now.
    pub(super) fn flushing(&self) -> bool {
        match self {
            Self::Pool(pool) => pool.flushing(),
            Self::Plain { flushing, .. } => *flushing,
        }
    }

    /// The transactions of the epoch's acknowledgement; `None`: not all are known yet.
    pub(super) fn listed_in(&self, epoch: Epoch) -> Option<Vec<Listed>> {
        match self {
            Self::Pool(pool) => pool.listed_in(epoch),
            Self::Plain { .. } => Some(Vec::new()),
        }
    }

    /// The epoch's acknowledgement listed something.
    pub(super) fn lists(&self, epoch: Epoch) -> bool {
        match self {
            Self::Pool(pool) => pool.lists(epoch),
            Self::Plain { .. } => false,
        }
    }

    /// Begins to commit what the epoch's acknowledgement listed.
    pub(super) fn commit(&mut self, epoch: Epoch) {
        if let Self::Pool(pool) = self {
            pool.commit(epoch);
        }
    }

    pub(super) fn abort(&mut self, epoch: Epoch) {
        if let Self::Pool(pool) = self {
            pool.abort(epoch);
        }
    }

    pub(super) fn abandon(&mut self, sealed: Option<Epoch>) {
        if let Self::Pool(pool) = self {
            pool.abandon(sealed);
        }
    }

    /// The newest manifest names these transactions.
    pub(super) fn release(&mut self, named: &[PreparedTransaction]) {
        if let Self::Pool(pool) = self {
            pool.release(named);
        }
    }

    pub(super) fn idle(&self) -> bool {
        match self {
            Self::Pool(pool) => pool.idle(),
            Self::Plain { flushing, .. } => !flushing,
        }
    }
}
