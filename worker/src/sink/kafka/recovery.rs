//! Transactions of earlier processes: finished, aborted or fenced by what the log says about them.
//!
//! Owns: `FinishTransactions`, `AbortTransactions` and `FenceTransactions` for Kafka sinks. Does not own: the order of a
//! restart and what follows from an outcome; that is the coordinator's. Every function blocks, within a minute in all,
//! and may be repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_api::control::FinishOutcome;
use millstream_api::graph::kafka_properties::KafkaClient;
use millstream_api::graph::{JobGraph, SinkConnector, TransformKind};
use millstream_api::ids::TransformUid;
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use millstream_kafka::{
    ClientConfig, Deadline, Ending, ErrorKind, KafkaError, ProducerIdentity, StoredTransaction, TransactionDescription,
    TransactionOutcome, TransactionState, Transactions,
};

use crate::sink::SinkError;
use crate::source::kafka::connection::Connection;

/// For one command in all: longer than a broker's restart.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Ids of one sink are fenced over so many connections at once; each waits for the abort of what was open.
const FENCING_CONNECTIONS: usize = 4;

/// A stored transaction with its outcome.
pub type Outcome = (PreparedTransaction, FinishOutcome);

/// Where a stored transaction stands at its broker.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    Committed,
    /// The broker aborted it, or its id was taken over, which aborts it.
    GivenUp(String),
    /// The broker no longer knows the id.
    Unknown(String),
    /// The broker does not answer.
    Unavailable(String),
}

/// Commits the transactions, unless one of them was given up or is not known any more: then none, and the answer says
/// what each is.
pub fn finish_transactions(graph: &JobGraph, transactions: &[PreparedTransaction]) -> Result<Vec<Outcome>, SinkError> {
    let deadline = Deadline::after(COMMAND_TIMEOUT);
    let mut clients = Clients::new(graph);
    let standings = clients.describe(transactions, deadline)?;
    let all_good = standings.iter().all(|(_, s)| matches!(s, Standing::Open | Standing::Committed));
    let mut outcomes = Vec::with_capacity(standings.len());
    for (transaction, standing) in standings {
        let outcome = match standing {
            Standing::Committed => FinishOutcome::Committed,
            Standing::Open if all_good => clients.end(&transaction, Ending::Commit, deadline)?,
            Standing::Open => FinishOutcome::Open,
            Standing::GivenUp(detail) => FinishOutcome::Expired { detail },
            Standing::Unknown(detail) => FinishOutcome::Unknown { detail },
            Standing::Unavailable(detail) => FinishOutcome::Unavailable { detail },
        };
        outcomes.push((transaction, outcome));
    }
    Ok(outcomes)
}

/// Aborts the transactions, unless one of them is committed: then none, and the answer says what each is.
pub fn abort_transactions(graph: &JobGraph, transactions: &[PreparedTransaction]) -> Result<Vec<Outcome>, SinkError> {
    let deadline = Deadline::after(COMMAND_TIMEOUT);
    let mut clients = Clients::new(graph);
    let standings = clients.describe(transactions, deadline)?;
    let none_committed =
        standings.iter().all(|(_, s)| matches!(s, Standing::Open | Standing::GivenUp(_) | Standing::Unknown(_)));
    let mut outcomes = Vec::with_capacity(standings.len());
    for (transaction, standing) in standings {
        let outcome = match standing {
            Standing::Committed => FinishOutcome::Committed,
            Standing::Open if none_committed => clients.end(&transaction, Ending::Abort, deadline)?,
            Standing::Open => FinishOutcome::Open,
            Standing::GivenUp(_) => FinishOutcome::Aborted,
            Standing::Unknown(detail) => FinishOutcome::Unknown { detail },
            Standing::Unavailable(detail) => FinishOutcome::Unavailable { detail },
        };
        outcomes.push((transaction, outcome));
    }
    Ok(outcomes)
}

/// Takes over every id of these ranges that the broker knows: fences whoever holds it, aborts what is open.
pub fn fence_transactions(graph: &JobGraph, ids: &BTreeMap<TransformUid, TransactionalIds>) -> Result<(), SinkError> {
    let deadline = Deadline::after(COMMAND_TIMEOUT);
    for (uid, ids) in ids {
        let Some(config) = client_config(graph, uid)? else {
            // The SQL no longer has this sink. What it left open ends with its time-out.
            tracing::warn!(%uid, "its transactions cannot be fenced: the job no longer has this sink");
            continue;
        };
        let all: Vec<String> = (0..ids.indexes)
            .flat_map(|index| (0..ids.pool).map(move |k| format!("{}-{index}-{k}", ids.prefix)))
            .collect();
        let mut client = Transactions::new(config.clone())?;
        let known: Vec<String> = client
            .describe(&all, deadline)?
            .into_iter()
            .filter(|d| d.state != TransactionState::Absent)
            .map(|d| d.transactional_id)
            .collect();
        fence_all(&config, &known, deadline)?;
    }
    Ok(())
}

fn fence_all(config: &ClientConfig, ids: &[String], deadline: Deadline) -> Result<(), SinkError> {
    let share = ids.len().div_ceil(FENCING_CONNECTIONS).max(1);
    let fence = |ids: &[String]| -> Result<(), KafkaError> {
        let mut client = Transactions::new(config.clone())?;
        ids.iter().try_for_each(|id| client.fence(id, deadline).map(drop))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = ids.chunks(share).map(|ids| scope.spawn(move || fence(ids))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// One client per sink, made when it is first needed.
struct Clients<'a> {
    graph: &'a JobGraph,
    clients: BTreeMap<TransformUid, Transactions>,
}

impl<'a> Clients<'a> {
    fn new(graph: &'a JobGraph) -> Self {
        Self { graph, clients: BTreeMap::new() }
    }

    fn of(&mut self, uid: &TransformUid) -> Result<&mut Transactions, SinkError> {
        if !self.clients.contains_key(uid) {
            let config = client_config(self.graph, uid)?.ok_or_else(|| SinkError::User {
                reason: format!(
                    "the last checkpoint holds transactions of sink '{uid}' that wait for their commit, but the job no \
                     longer has this sink: start it once with the sink, and stop it with a last checkpoint"
                ),
            })?;
            self.clients.insert(uid.clone(), Transactions::new(config)?);
        }
        Ok(self.clients.get_mut(uid).expect("just inserted"))
    }

    /// Where each stands. A broker that does not answer is a standing too.
    fn describe(
        &mut self,
        transactions: &[PreparedTransaction],
        deadline: Deadline,
    ) -> Result<Vec<(PreparedTransaction, Standing)>, SinkError> {
        let mut by_sink: BTreeMap<&TransformUid, Vec<&PreparedTransaction>> = BTreeMap::new();
        for transaction in transactions {
            by_sink.entry(&transaction.uid).or_default().push(transaction);
        }
        let mut standings = Vec::with_capacity(transactions.len());
        for (uid, transactions) in by_sink {
            let ids: Vec<String> = transactions.iter().map(|t| t.transactional_id.clone()).collect();
            match self.of(uid)?.describe(&ids, deadline) {
                Ok(described) => {
                    for transaction in transactions {
                        let found = described.iter().find(|d| d.transactional_id == transaction.transactional_id);
                        standings.push((transaction.clone(), standing(transaction, found)));
                    }
                }
                Err(e) if e.kind() == ErrorKind::Retry => {
                    let unavailable = Standing::Unavailable(e.to_string());
                    standings.extend(transactions.into_iter().map(|t| (t.clone(), unavailable.clone())));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(standings)
    }

    fn end(
        &mut self,
        transaction: &PreparedTransaction,
        ending: Ending,
        deadline: Deadline,
    ) -> Result<FinishOutcome, SinkError> {
        let stored = StoredTransaction {
            transactional_id: transaction.transactional_id.clone(),
            identity: identity(transaction),
        };
        Ok(match self.of(&transaction.uid)?.end(&stored, ending, deadline)? {
            TransactionOutcome::Committed => FinishOutcome::Committed,
            TransactionOutcome::Aborted => FinishOutcome::Aborted,
            TransactionOutcome::Expired { detail } => FinishOutcome::Expired { detail },
            TransactionOutcome::Unavailable { detail } => FinishOutcome::Unavailable { detail },
        })
    }
}

fn identity(transaction: &PreparedTransaction) -> ProducerIdentity {
    ProducerIdentity { producer_id: transaction.producer_id, producer_epoch: transaction.producer_epoch }
}

/// The connection of a Kafka sink; `None`: the graph has no such sink.
fn client_config(graph: &JobGraph, uid: &TransformUid) -> Result<Option<ClientConfig>, SinkError> {
    let Some(transform) = graph.transforms.iter().find(|t| t.uid == *uid) else { return Ok(None) };
    let properties = match &transform.kind {
        TransformKind::Sink(sink) => match &sink.connector {
            SinkConnector::Kafka(kafka) => &kafka.properties,
            SinkConnector::UpsertKafka(kafka) => &kafka.properties,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let connection = Connection::new(properties, KafkaClient::Producer, &format!("recovery-{uid}"))?;
    Ok(Some(connection.config))
}

fn standing(transaction: &PreparedTransaction, described: Option<&TransactionDescription>) -> Standing {
    use TransactionState as S;
    let id = &transaction.transactional_id;
    let Some(described) = described.filter(|d| d.state != S::Absent) else {
        return Standing::Unknown(format!(
            "the broker no longer knows the transactional id '{id}' (transactional.id.expiration.ms)"
        ));
    };
    let stored = identity(transaction);
    if described.identity != stored {
        return Standing::GivenUp(format!(
            "the transaction of '{id}' timed out, or another producer took its id (stored producer {}/{}, now {}/{})",
            stored.producer_id,
            stored.producer_epoch,
            described.identity.producer_id,
            described.identity.producer_epoch
        ));
    }
    match described.state {
        S::Ongoing => Standing::Open,
        S::PrepareCommit | S::CompleteCommit => Standing::Committed,
        state => Standing::GivenUp(format!("the broker gave up the transaction of '{id}' (state {state:?})")),
    }
}

#[cfg(test)]
mod tests {
    use millstream_api::ids::Epoch;

    use super::*;

    fn prepared() -> PreparedTransaction {
        PreparedTransaction {
            epoch: Epoch(3),
            uid: TransformUid("sink".to_owned()),
            task: 0,
            transactional_id: "id".to_owned(),
            producer_id: 7,
            producer_epoch: 2,
            topic: "out".to_owned(),
        }
    }

    fn described(state: TransactionState, producer_epoch: i16) -> TransactionDescription {
        TransactionDescription {
            transactional_id: "id".to_owned(),
            state,
            identity: ProducerIdentity { producer_id: 7, producer_epoch },
            timeout_ms: 1,
            started_ms: -1,
        }
    }

    #[test]
    fn a_transaction_stands_where_its_own_producer_left_it() {
        use TransactionState as S;
        let of = |state, epoch| standing(&prepared(), Some(&described(state, epoch)));
        assert_eq!(of(S::Ongoing, 2), Standing::Open);
        assert_eq!(of(S::PrepareCommit, 2), Standing::Committed);
        assert_eq!(of(S::CompleteCommit, 2), Standing::Committed);
        // Another epoch's commit says nothing about this transaction.
        assert!(matches!(of(S::CompleteCommit, 3), Standing::GivenUp(_)));
        assert!(matches!(of(S::CompleteAbort, 2), Standing::GivenUp(_)));
        assert!(matches!(of(S::Absent, 2), Standing::Unknown(_)));
        assert!(matches!(standing(&prepared(), None), Standing::Unknown(_)));
    }
}
