//! Transactions seen from outside of their producer: described, ended by stored ids, fenced.
//!
//! Owns: the requests and the meaning of every answer. Does not own: which transaction is to be ended how. A producer
//! asks its coordinator through this, and so does who ends a transaction that another process prepared.
//!
//! All requests stay at versions before KIP-890 (EndTxn 5, InitProducerId 5, AddPartitionsToTxn 4): those raise the
//! epoch at each commit, so that stored ids would not hold, and a retry in the other version is refused as fenced.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_transactions_response::TransactionState as Described;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, DescribeTransactionsRequest, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ProducerId, TopicName, TransactionalId,
};

use crate::config::ClientConfig;
use crate::error::{ErrorKind, KafkaError};
use crate::wire::{Cluster, Deadline, text};

const END_TXN_VERSION: i16 = 4;
pub(crate) const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// The last one that clients send; later ones are the brokers' among themselves.
const ADD_PARTITIONS_VERSION: i16 = 3;
/// The first version that looks up several coordinators at once; Kafka 3.0, like DescribeTransactions.
const FIND_COORDINATORS_VERSION: i16 = 4;
const KEY_TYPE_TRANSACTION: i8 = 1;
/// Ids per FindCoordinator and DescribeTransactions request.
const IDS_PER_REQUEST: usize = 500;
/// Time-out that fencing gives the id. It counts from the first record of a transaction, and fencing sends none.
const FENCING_TIMEOUT: Duration = Duration::from_secs(60);

mod code {
    pub(super) const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub(super) const NOT_COORDINATOR: i16 = 16;
    pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(super) const INVALID_TXN_STATE: i16 = 48;
    pub(super) const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    pub(super) const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
    pub(super) const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub(super) const OPERATION_NOT_ATTEMPTED: i16 = 55;
    pub(super) const PRODUCER_FENCED: i16 = 90;
    pub(super) const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
}

/// What the broker knows a producer by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

/// A transaction that some producer prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    pub transactional_id: String,
    pub identity: ProducerIdentity,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Commit,
    Abort,
}

/// How a transaction did end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// Now or before.
    Committed,
    Aborted,
    /// The broker gave it up (time-out), or the id was fenced, before it was committed.
    Expired {
        detail: String,
    },
    /// Not known: no answer in time. Ask again; the request may be repeated.
    Unavailable {
        detail: String,
    },
}

/// The broker's own states of a transactional id (`TransactionState` in its source).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// The broker does not know the id.
    Absent,
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    Dead,
    PrepareEpochFence,
}

impl TransactionState {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "Empty" => Self::Empty,
            "Ongoing" => Self::Ongoing,
            "PrepareCommit" => Self::PrepareCommit,
            "PrepareAbort" => Self::PrepareAbort,
            "CompleteCommit" => Self::CompleteCommit,
            "CompleteAbort" => Self::CompleteAbort,
            "Dead" => Self::Dead,
            "PrepareEpochFence" => Self::PrepareEpochFence,
            _ => return None,
        })
    }
}

/// What the broker says about a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    pub transactional_id: String,
    pub state: TransactionState,
    pub identity: ProducerIdentity,
    pub timeout_ms: i32,
    /// When its open transaction began, epoch ms; -1 without one.
    pub started_ms: i64,
}

/// Asks the transaction coordinators of a cluster.
pub struct Transactions {
    cluster: Cluster,
    /// By transactional id: where its coordinator listens, as last found.
    coordinators: HashMap<String, String>,
    /// Nothing is asked any more once this is true.
    cancelled: Option<Arc<AtomicBool>>,
}

/// An answer that says "later" or "elsewhere".
enum Answer<T> {
    Final(T),
    /// The coordinator has moved or may have: find it again.
    Moved {
        detail: String,
    },
    /// The same coordinator, a little later.
    Busy {
        detail: String,
    },
}

impl Transactions {
    /// Reads certificates; connects to nothing yet.
    pub fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self { cluster: Cluster::new(config)?, coordinators: HashMap::new(), cancelled: None })
    }

    /// Calls end with an error at their next look when the flag is set. Taking an id over for somebody who is gone would
    /// fence his successor.
    pub(crate) fn cancel_by(&mut self, flag: Option<Arc<AtomicBool>>) {
        self.cancelled = flag;
    }

    /// The state of each id, in the order asked for.
    pub fn describe(&mut self, ids: &[String], deadline: Deadline) -> Result<Vec<TransactionDescription>, KafkaError> {
        let mut found: HashMap<String, TransactionDescription> = HashMap::new();
        let mut retries = deadline.retries();
        loop {
            let missing: Vec<String> = ids.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
            if missing.is_empty() {
                return Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect());
            }
            if let Err(e) = self.describe_once(&missing, deadline, &mut found)
                && (e.kind() != ErrorKind::Retry || !retries.wait())
            {
                return Err(e);
            }
        }
    }

    fn describe_once(
        &mut self,
        ids: &[String],
        deadline: Deadline,
        found: &mut HashMap<String, TransactionDescription>,
    ) -> Result<(), KafkaError> {
        self.locate(ids, deadline)?;
        let mut by_coordinator: HashMap<String, Vec<TransactionalId>> = HashMap::new();
        for id in ids {
            by_coordinator.entry(self.coordinators[id].clone()).or_default().push(transactional_id(id));
        }
        let mut last_error = Ok(());
        for (address, ids) in by_coordinator {
            for ids in ids.chunks(IDS_PER_REQUEST) {
                let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.to_vec());
                let response = self.cluster.ask(&address, &request, 0, deadline).inspect_err(|_| {
                    self.coordinators.retain(|_, a| *a != address);
                })?;
                for state in &response.transaction_states {
                    match described(state) {
                        Ok(description) => drop(found.insert(description.transactional_id.clone(), description)),
                        Err(e) => {
                            self.coordinators.remove(state.transactional_id.as_str());
                            last_error = Err(e);
                        }
                    }
                }
            }
        }
        last_error
    }

    /// Commits or aborts a transaction by its stored ids. May be repeated: a transaction that is already committed
    /// answers `Committed` again, as long as its id was not initialised since.
    ///
    /// # Errors
    /// Only what a person must act on; "no answer in time" is an outcome.
    pub fn end(
        &mut self,
        transaction: &StoredTransaction,
        ending: Ending,
        deadline: Deadline,
    ) -> Result<TransactionOutcome, KafkaError> {
        let StoredTransaction { transactional_id: id, identity } = transaction;
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(id))
            .with_producer_id(ProducerId(identity.producer_id))
            .with_producer_epoch(identity.producer_epoch)
            .with_committed(ending == Ending::Commit);
        let outcome = self.ask_until(id, deadline, |cluster, address| {
            let response = cluster.ask(address, &request, END_TXN_VERSION, deadline)?;
            outcome_of(response.error_code, ending, id)
        });
        match outcome {
            Err(e) if e.kind() == ErrorKind::Retry => Ok(TransactionOutcome::Unavailable { detail: e.to_string() }),
            other => other,
        }
    }

    /// Takes the id over: fences whoever holds it and aborts what it has open. The new identity is never used.
    pub fn fence(&mut self, id: &str, deadline: Deadline) -> Result<ProducerIdentity, KafkaError> {
        self.take_over(id, FENCING_TIMEOUT, &format!("fence the transactional id '{id}'"), deadline)
    }

    /// Takes the id over to write under it; the broker aborts transactions that stay open longer than `timeout`.
    pub(crate) fn initialise(
        &mut self,
        id: &str,
        timeout: Duration,
        deadline: Deadline,
    ) -> Result<ProducerIdentity, KafkaError> {
        self.take_over(id, timeout, &format!("initialise the transactional id '{id}'"), deadline)
    }

    fn take_over(
        &mut self,
        id: &str,
        timeout: Duration,
        action: &str,
        deadline: Deadline,
    ) -> Result<ProducerIdentity, KafkaError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(id)))
            .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        self.ask_until(id, deadline, |cluster, address| {
            let response = cluster.ask(address, &request, INIT_PRODUCER_ID_VERSION, deadline)?;
            let identity =
                ProducerIdentity { producer_id: response.producer_id.0, producer_epoch: response.producer_epoch };
            match response.error_code {
                code::INVALID_TRANSACTION_TIMEOUT => Err(KafkaError::Setting {
                    name: "transaction.timeout.ms".to_owned(),
                    reason: format!(
                        "{} ms is more than the brokers' 'transaction.max.timeout.ms'",
                        timeout.as_millis()
                    ),
                }),
                code => answer(code, action, identity),
            }
        })
    }

    /// Announces that the open transaction, which this begins, writes to these partitions. May be repeated.
    pub(crate) fn add_partitions(
        &mut self,
        transaction: &StoredTransaction,
        topic: &str,
        partitions: &[i32],
        deadline: Deadline,
    ) -> Result<(), KafkaError> {
        let StoredTransaction { transactional_id: id, identity } = transaction;
        let topics =
            AddPartitionsToTxnTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(id))
            .with_v3_and_below_producer_id(ProducerId(identity.producer_id))
            .with_v3_and_below_producer_epoch(identity.producer_epoch)
            .with_v3_and_below_topics(vec![topics]);
        let action = format!("add topic '{topic}' to the transaction of '{id}'");
        self.ask_until(id, deadline, |cluster, address| {
            let response = cluster.ask(address, &request, ADD_PARTITIONS_VERSION, deadline)?;
            match worst_code(&response) {
                code if gave_up(code) => Err(KafkaError::Fenced {
                    transactional_id: id.clone(),
                    reason: KafkaError::from_code(code, &action).to_string(),
                }),
                code => answer(code, &action, ()),
            }
        })
    }

    /// Asks the coordinator of `id` until it gives a final answer or the deadline has passed.
    fn ask_until<T>(
        &mut self,
        id: &str,
        deadline: Deadline,
        mut ask: impl FnMut(&mut Cluster, &str) -> Result<Answer<T>, KafkaError>,
    ) -> Result<T, KafkaError> {
        let ids = [id.to_owned()];
        let mut retries = deadline.retries();
        loop {
            if self.cancelled.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(KafkaError::Broker {
                    action: format!("ask for the transactional id '{id}'"),
                    reason: "the producer was closed".to_owned(),
                    retriable: true,
                });
            }
            let result = match self.locate(&ids, deadline) {
                Ok(()) => ask(&mut self.cluster, &self.coordinators[id]),
                Err(e) => Err(e),
            };
            let waiting_for = match result {
                Ok(Answer::Final(value)) => return Ok(value),
                Ok(Answer::Busy { detail }) => detail,
                Ok(Answer::Moved { detail }) => {
                    self.coordinators.remove(id);
                    detail
                }
                Err(e) if e.kind() == ErrorKind::Retry => {
                    self.coordinators.remove(id);
                    e.to_string()
                }
                Err(e) => return Err(e),
            };
            if !retries.wait() {
                return Err(KafkaError::Broker {
                    action: format!("reach a decision on the transactional id '{id}' in time"),
                    reason: waiting_for,
                    retriable: true,
                });
            }
        }
    }

    /// Finds the coordinators of those ids whose coordinator is not known.
    fn locate(&mut self, ids: &[String], deadline: Deadline) -> Result<(), KafkaError> {
        let unknown: Vec<&String> = ids.iter().filter(|id| !self.coordinators.contains_key(*id)).collect();
        for ids in unknown.chunks(IDS_PER_REQUEST) {
            let request = FindCoordinatorRequest::default()
                .with_key_type(KEY_TYPE_TRANSACTION)
                .with_coordinator_keys(ids.iter().map(|id| text(id)).collect());
            let response = self.cluster.ask_any_until(&request, FIND_COORDINATORS_VERSION, deadline)?;
            if self.cluster.version::<FindCoordinatorRequest>(FIND_COORDINATORS_VERSION) != Some(4) {
                return Err(KafkaError::Protocol {
                    broker: self.cluster.bootstrap_servers().to_owned(),
                    reason: "exactly-once needs Kafka 3.0 or newer (DescribeTransactions)".to_owned(),
                });
            }
            for found in &response.coordinators {
                if found.error_code != 0 {
                    let action = format!("find the coordinator of the transactional id '{}'", found.key.as_str());
                    return Err(KafkaError::from_code(found.error_code, &action));
                }
                let address = format!("{}:{}", found.host.as_str(), found.port);
                self.coordinators.insert(found.key.as_str().to_owned(), address);
            }
        }
        match ids.iter().find(|id| !self.coordinators.contains_key(*id)) {
            None => Ok(()),
            Some(id) => Err(KafkaError::Broker {
                action: format!("find the coordinator of the transactional id '{id}'"),
                reason: "the answer does not hold it".to_owned(),
                retriable: true,
            }),
        }
    }
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// The broker has given the producer's epoch or transaction to somebody else, or has aborted it.
pub(crate) fn gave_up(error_code: i16) -> bool {
    matches!(
        error_code,
        code::PRODUCER_FENCED
            | code::INVALID_PRODUCER_EPOCH
            | code::INVALID_PRODUCER_ID_MAPPING
            | code::INVALID_TXN_STATE
    )
}

/// The code that says most: a partition that was not attempted only follows from another's error.
fn worst_code(response: &AddPartitionsToTxnResponse) -> i16 {
    let topics = response.results_by_topic_v3_and_below.iter();
    let codes = topics.flat_map(|t| t.results_by_partition.iter().map(|p| p.partition_error_code));
    codes.filter(|code| *code != 0).min_by_key(|code| *code == code::OPERATION_NOT_ATTEMPTED).unwrap_or(0)
}

/// Sorts a coordinator's error code: retry here, retry elsewhere, final.
fn answer<T>(error_code: i16, action: &str, value: T) -> Result<Answer<T>, KafkaError> {
    let detail = || KafkaError::from_code(error_code, action).to_string();
    match error_code {
        0 => Ok(Answer::Final(value)),
        code::CONCURRENT_TRANSACTIONS | code::COORDINATOR_LOAD_IN_PROGRESS => Ok(Answer::Busy { detail: detail() }),
        code::NOT_COORDINATOR | code::COORDINATOR_NOT_AVAILABLE => Ok(Answer::Moved { detail: detail() }),
        other => Err(KafkaError::from_code(other, action)),
    }
}

/// What EndTxn's answer means; each case was tried against a broker.
fn outcome_of(error_code: i16, ending: Ending, id: &str) -> Result<Answer<TransactionOutcome>, KafkaError> {
    let verb = if ending == Ending::Commit { "commit" } else { "abort" };
    let action = format!("{verb} the transaction of '{id}'");
    let expired = |detail: &str| {
        Ok(Answer::Final(TransactionOutcome::Expired { detail: format!("{detail} (code {error_code})") }))
    };
    match (error_code, ending) {
        (code::INVALID_TXN_STATE, Ending::Commit) => expired("the broker has aborted it, or it never held a record"),
        (code::INVALID_TXN_STATE, Ending::Abort) => Ok(Answer::Final(TransactionOutcome::Committed)),
        (code::PRODUCER_FENCED | code::INVALID_PRODUCER_EPOCH, Ending::Commit) => {
            expired("its time-out passed, or its transactional id was taken over")
        }
        (code::INVALID_PRODUCER_ID_MAPPING, Ending::Commit) => {
            expired("the broker does not know it any more (transactional.id.expiration.ms)")
        }
        // Whoever fenced the id has also aborted what was open.
        (code::PRODUCER_FENCED | code::INVALID_PRODUCER_EPOCH | code::INVALID_PRODUCER_ID_MAPPING, Ending::Abort) => {
            Ok(Answer::Final(TransactionOutcome::Aborted))
        }
        (code, Ending::Commit) => answer(code, &action, TransactionOutcome::Committed),
        (code, Ending::Abort) => answer(code, &action, TransactionOutcome::Aborted),
    }
}

fn described(state: &Described) -> Result<TransactionDescription, KafkaError> {
    let id = state.transactional_id.as_str();
    let action = format!("describe the transactional id '{id}'");
    let parsed = match state.error_code {
        0 => TransactionState::from_name(state.transaction_state.as_str()).ok_or_else(|| KafkaError::Broker {
            action,
            reason: format!("unknown state '{}'", state.transaction_state.as_str()),
            retriable: false,
        })?,
        code::TRANSACTIONAL_ID_NOT_FOUND => TransactionState::Absent,
        code => return Err(KafkaError::from_code(code, &action)),
    };
    Ok(TransactionDescription {
        transactional_id: id.to_owned(),
        state: parsed,
        identity: ProducerIdentity { producer_id: state.producer_id.0, producer_epoch: state.producer_epoch },
        timeout_ms: state.transaction_timeout_ms,
        started_ms: state.transaction_start_time_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: i16, ending: Ending) -> Option<TransactionOutcome> {
        match outcome_of(code, ending, "id").expect("no error") {
            Answer::Final(outcome) => Some(outcome),
            Answer::Moved { .. } | Answer::Busy { .. } => None,
        }
    }

    #[test]
    fn every_answer_to_a_commit_has_its_meaning() {
        assert_eq!(outcome(0, Ending::Commit), Some(TransactionOutcome::Committed));
        for code in [47, 48, 49, 90] {
            assert!(matches!(outcome(code, Ending::Commit), Some(TransactionOutcome::Expired { .. })), "{code}");
        }
        for code in [14, 15, 16, 51] {
            assert_eq!(outcome(code, Ending::Commit), None, "{code} is asked again");
        }
        assert_eq!(outcome_of(53, Ending::Commit, "id").err().map(|e| e.kind()), Some(ErrorKind::Refused));
    }

    #[test]
    fn an_abort_that_comes_too_late_is_told_from_one_that_is_not_needed() {
        assert_eq!(outcome(0, Ending::Abort), Some(TransactionOutcome::Aborted));
        assert_eq!(outcome(48, Ending::Abort), Some(TransactionOutcome::Committed));
        assert_eq!(outcome(90, Ending::Abort), Some(TransactionOutcome::Aborted));
    }
}
