//! What a producer asks the cluster and its transaction coordinator, on threads that may block.
//!
//! Owns: the calls and their time-outs. Does not own: when to ask, and what follows from the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{InitProducerIdRequest, MetadataRequest, ProducerId, TopicName};

use super::settings::Settings;
use crate::error::KafkaError;
use crate::transactions::{
    Ending, INIT_PRODUCER_ID_VERSION, ProducerIdentity, StoredTransaction, TransactionDescription, TransactionOutcome,
    Transactions,
};
use crate::wire::{Cluster, Deadline, text};

/// For taking an id over, adding partitions and committing in all: longer than a broker's restart.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// For asking who we are, after a flush that the same broker just acknowledged.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// For one look at the leaders, so that a second broker is asked where the first one hangs; the next one follows.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(20);

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// Who leads which partition, and where.
#[derive(Debug, Default)]
pub(super) struct LeaderTable {
    /// Partition -> node; `None`: there is none right now.
    pub(super) leaders: BTreeMap<i32, Option<i32>>,
    pub(super) addresses: BTreeMap<i32, String>,
}

#[derive(Clone, Debug)]
pub(super) enum ClusterQuestion {
    Leaders,
    /// A producer id without a transactional one.
    Identity,
}

pub(super) enum ClusterAnswer {
    Leaders(LeaderTable),
    Identity(ProducerIdentity),
}

impl ClusterQuestion {
    pub(super) fn ask(&self, cluster: &mut Cluster, settings: &Settings) -> Result<ClusterAnswer, KafkaError> {
        match self {
            Self::Leaders => leaders(cluster, &settings.topic).map(ClusterAnswer::Leaders),
            Self::Identity => identity(cluster).map(ClusterAnswer::Identity),
        }
    }
}

fn leaders(cluster: &mut Cluster, topic: &str) -> Result<LeaderTable, KafkaError> {
    let asked = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
    let request = MetadataRequest::default().with_allow_auto_topic_creation(false).with_topics(Some(vec![asked]));
    let response = cluster.metadata(&request, Deadline::after(LEADERS_TIMEOUT))?;
    let unknown = || KafkaError::UnknownTopic { topic: topic.to_owned() };
    let found = response.topics.first().ok_or_else(unknown)?;
    match found.error_code {
        0 => {}
        UNKNOWN_TOPIC_OR_PARTITION => return Err(unknown()),
        code => return Err(KafkaError::from_code(code, &format!("find the leaders of topic '{topic}'"))),
    }
    let leader = |id: i32| Some(id).filter(|id| *id >= 0);
    let addresses = response.brokers.iter().map(|b| (b.node_id.0, format!("{}:{}", b.host.as_str(), b.port)));
    Ok(LeaderTable {
        leaders: found.partitions.iter().map(|p| (p.partition_index, leader(p.leader_id.0))).collect(),
        addresses: addresses.collect(),
    })
}

fn identity(cluster: &mut Cluster) -> Result<ProducerIdentity, KafkaError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let deadline = Deadline::after(CALL_TIMEOUT);
    let response = cluster.ask_any_until(&request, INIT_PRODUCER_ID_VERSION, deadline)?;
    match response.error_code {
        0 => Ok(ProducerIdentity { producer_id: response.producer_id.0, producer_epoch: response.producer_epoch }),
        code => Err(KafkaError::from_code(code, "get a producer id")),
    }
}

/// About the transaction of one id.
#[derive(Debug)]
pub(super) enum CoordinatorQuestion {
    Initialise,
    Add { partitions: Vec<i32> },
    Describe,
    Commit,
}

#[derive(Debug)]
pub(super) enum CoordinatorAnswer {
    Initialised(ProducerIdentity),
    Added { partitions: Vec<i32> },
    Described(Option<TransactionDescription>),
    Ended(TransactionOutcome),
}

impl CoordinatorQuestion {
    /// `transaction`: the identity in it counts for all but `Initialise`.
    pub(super) fn ask(
        self,
        coordinator: &mut Transactions,
        settings: &Settings,
        transaction: &StoredTransaction,
    ) -> Result<CoordinatorAnswer, KafkaError> {
        let id = &transaction.transactional_id;
        let deadline = Deadline::after(CALL_TIMEOUT);
        Ok(match self {
            Self::Initialise => {
                CoordinatorAnswer::Initialised(coordinator.initialise(id, settings.transaction_timeout, deadline)?)
            }
            Self::Add { partitions } => {
                coordinator.add_partitions(transaction, &settings.topic, &partitions, deadline)?;
                CoordinatorAnswer::Added { partitions }
            }
            Self::Describe => {
                let ids = std::slice::from_ref(id);
                let mut described = coordinator.describe(ids, Deadline::after(IDENTIFY_TIMEOUT))?;
                CoordinatorAnswer::Described(described.pop())
            }
            Self::Commit => CoordinatorAnswer::Ended(coordinator.end(transaction, Ending::Commit, deadline)?),
        })
    }
}
