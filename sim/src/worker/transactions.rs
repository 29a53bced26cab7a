//! Transactions as any worker can end them, and the calls of live producers.

use millstream_api::control::{Failure, FinishOutcome, Report};
use millstream_api::log::{PreparedTransaction, TransactionalIds};

use crate::broker::{Answer, BrokerError, BrokerRequest, Identity, State};
use crate::calls::Client;
use crate::sink::Batch;

use super::{Done, Job, Run, TRIES_MAX, Worker, transient};

impl Worker {
    pub(super) fn finish(&mut self, transactions: Vec<PreparedTransaction>) -> Job {
        let (client, attempt, finish) = (self.client.clone(), self.attempt, self.rules.finish);
        Box::pin(async move {
            let mut outcome = Vec::new();
            for transaction in transactions {
                let is = if finish { describe(&client, &transaction).await } else { FinishOutcome::Committed };
                outcome.push((transaction, is));
            }
            let given_up = |o: &FinishOutcome| !matches!(o, FinishOutcome::Open | FinishOutcome::Committed);
            if !outcome.iter().any(|(_, o)| given_up(o)) {
                for (transaction, is) in &mut outcome {
                    if *is == FinishOutcome::Open {
                        *is = end(&client, transaction, true).await;
                    }
                }
            }
            Done::Report(attempt, Report::TransactionsFinished { outcome })
        })
    }

    pub(super) fn abort(&mut self, transactions: Vec<PreparedTransaction>) -> Job {
        let (client, attempt) = (self.client.clone(), self.attempt);
        Box::pin(async move {
            let mut outcome = Vec::new();
            for transaction in transactions {
                let is = match describe(&client, &transaction).await {
                    FinishOutcome::Open => end(&client, &transaction, false).await,
                    other => other,
                };
                outcome.push((transaction, is));
            }
            Done::Report(attempt, Report::TransactionsAborted { outcome })
        })
    }

    pub(super) fn fence(&mut self, ids: Vec<TransactionalIds>) -> Job {
        let (client, attempt, fence) = (self.client.clone(), self.attempt, self.rules.fence);
        Box::pin(async move {
            if !fence {
                return Done::Report(attempt, Report::TransactionsFenced);
            }
            for ids in ids {
                for (index, k) in (0..ids.indexes).flat_map(|i| (0..ids.pool).map(move |k| (i, k))) {
                    if let Err(failure) = initialise(&client, ids.id(index, k)).await {
                        return Done::Report(attempt, Report::CommandFailed { failure });
                    }
                }
            }
            Done::Report(attempt, Report::TransactionsFenced)
        })
    }
}

fn identity(transaction: &PreparedTransaction) -> Identity {
    Identity {
        id: transaction.transactional_id.clone(),
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
    }
}

async fn describe(client: &Client, transaction: &PreparedTransaction) -> FinishOutcome {
    let request = BrokerRequest::Describe { id: transaction.transactional_id.clone() };
    let detail = || "simulated".to_owned();
    match client.broker(request).await {
        Ok(Answer::Described { producer_id, producer_epoch, state }) => {
            let same = producer_id == transaction.producer_id && producer_epoch == transaction.producer_epoch;
            match state {
                State::Ongoing if same => FinishOutcome::Open,
                State::Committed if same => FinishOutcome::Committed,
                State::Aborted if same => FinishOutcome::Aborted,
                _ => FinishOutcome::Expired { detail: detail() },
            }
        }
        Ok(_) => FinishOutcome::Unknown { detail: detail() },
        Err(_) => FinishOutcome::Unavailable { detail: detail() },
    }
}

async fn end(client: &Client, transaction: &PreparedTransaction, commit: bool) -> FinishOutcome {
    let detail = || "simulated".to_owned();
    match client.broker(BrokerRequest::End { who: identity(transaction), commit }).await {
        Ok(_) if commit => FinishOutcome::Committed,
        Ok(_) => FinishOutcome::Aborted,
        Err(BrokerError::Fenced) => FinishOutcome::Expired { detail: detail() },
        Err(BrokerError::InvalidState) if commit => FinishOutcome::Aborted,
        Err(BrokerError::InvalidState) => FinishOutcome::Committed,
        Err(BrokerError::Unavailable) => FinishOutcome::Unavailable { detail: detail() },
    }
}

pub(super) async fn initialise(client: &Client, id: String) -> Result<Identity, Failure> {
    for _ in 0..TRIES_MAX {
        if let Ok(Answer::Producer(who)) = client.broker(BrokerRequest::Init { id: id.clone() }).await {
            return Ok(who);
        }
    }
    Err(transient("the broker does not initialise producers"))
}

pub(super) fn send(client: Client, run: Run, index: u32, batch: Batch) -> Job {
    Box::pin(async move {
        let mut result = Err(BrokerError::Unavailable);
        for _ in 0..TRIES_MAX * 4 {
            let (who, sequence, records) = (batch.who.clone(), batch.sequence, batch.records.clone());
            result = client.broker(BrokerRequest::Produce { who, sequence, records }).await.map(drop);
            if result != Err(BrokerError::Unavailable) {
                break;
            }
        }
        Done::Sent { run, index, result }
    })
}

pub(super) fn commit(client: Client, run: Run, index: u32, producer: usize, who: Identity) -> Job {
    Box::pin(async move {
        let mut result = Err(BrokerError::Unavailable);
        for _ in 0..TRIES_MAX * 4 {
            result = client.broker(BrokerRequest::End { who: who.clone(), commit: true }).await.map(drop);
            if result != Err(BrokerError::Unavailable) {
                break;
            }
        }
        Done::Committed { run, index, producer, result }
    })
}

pub(super) fn commit_early(client: Client, who: Identity) -> Job {
    Box::pin(async move {
        let _ = client.broker(BrokerRequest::End { who, commit: true }).await;
        Done::Nothing
    })
}
