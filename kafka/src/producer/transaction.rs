//! The steps of a producer's transactions.
//!
//! Owns: what is asked of the coordinator and what follows from its answers. Does not own: when a step is due.

use std::time::{Duration, Instant};

use super::ProducerEvent;
use super::aborts::AbortUnderWay;
use super::dispatch::Partition;
use super::engine::{Engine, Input};
use super::failure::fenced;
use super::questions::{CoordinatorAnswer, CoordinatorQuestion};
use super::runtime::blocking;
use crate::error::KafkaError;
use crate::transactions::{Ending, ProducerIdentity, StoredTransaction, TransactionOutcome, TransactionState};
use crate::wire::Deadline;

/// Nobody waits for an abort.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

impl Engine {
    /// To be called when no question is under way.
    pub(super) fn ask_coordinator(&mut self, question: CoordinatorQuestion) {
        let Some(mut coordinator) = self.coordinator.take() else { return };
        tracing::trace!(id = self.settings.transactional_id, "asks: {question:?}");
        coordinator.cancel_by(Some(self.shared.closed.clone()));
        let (settings, tell, transaction) = (self.settings.clone(), self.tell.clone(), self.transaction());
        let asking = blocking(move || {
            let result = question.ask(&mut coordinator, &settings, &transaction);
            Input::Coordinator { coordinator, result }
        });
        tokio::spawn(async move { tell.send(asking.await.unwrap_or(Input::Panicked)) });
    }

    /// The ids of this producer's transactions; before it is initialised there is none to end.
    fn transaction(&self) -> StoredTransaction {
        let nobody = ProducerIdentity { producer_id: -1, producer_epoch: -1 };
        StoredTransaction {
            transactional_id: self.settings.transactional_id.clone().unwrap_or_default(),
            identity: self.identity.unwrap_or(nobody),
        }
    }

    pub(super) fn coordinator_answered(&mut self, answer: CoordinatorAnswer) -> Result<(), KafkaError> {
        tracing::trace!(id = self.settings.transactional_id, "learns: {answer:?}");
        match answer {
            CoordinatorAnswer::Initialised(identity) => {
                self.identified(identity);
                self.shared.tell(ProducerEvent::Ready);
            }
            CoordinatorAnswer::Added { partitions } => {
                for partition in partitions {
                    self.partition(partition as usize).in_transaction = true;
                }
            }
            CoordinatorAnswer::Described(described) => match (described, self.identity) {
                (Some(d), Some(own)) if d.state == TransactionState::Ongoing && d.identity == own => {
                    self.shared.tell(ProducerEvent::Identified(own));
                }
                (described, _) => {
                    let reason = format!(
                        "the broker has given up its open transaction (state {:?}); was its time-out too short, or \
                         does another job use the same 'sink.transactional-id-prefix'?",
                        described.map(|d| d.state)
                    );
                    return Err(fenced(&self.settings, reason));
                }
            },
            CoordinatorAnswer::Ended(TransactionOutcome::Committed) => self.committed(),
            CoordinatorAnswer::Ended(TransactionOutcome::Expired { detail }) => {
                return Err(fenced(&self.settings, detail));
            }
            CoordinatorAnswer::Ended(TransactionOutcome::Aborted) => {
                return Err(fenced(&self.settings, "it was aborted".to_owned()));
            }
            CoordinatorAnswer::Ended(TransactionOutcome::Unavailable { detail }) => {
                let action = format!("commit a transaction of '{}'", self.transaction().transactional_id);
                return Err(KafkaError::Broker { action, reason: detail, retriable: true });
            }
        }
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        self.shared.lock().drop_spares();
        self.shared.tell(ProducerEvent::Committed);
    }

    /// Ends the open transaction. What is queued goes nowhere; what is on its way must arrive before, or the broker
    /// would take it for the beginning of another transaction. Where that is not known, whoever takes the id over ends
    /// it, or its time-out does: both raise the epoch, so that what comes late is refused.
    pub(super) async fn abort(mut self, _under_way: AbortUnderWay) {
        let deadline = Deadline::after(ABORT_TIMEOUT);
        while !self.links.nothing_under_way() || self.coordinator.is_none() {
            match tokio::time::timeout(deadline.remaining(), self.inputs.recv()).await {
                Ok(Some(input)) => drop(self.take_input(input, Instant::now())),
                _ => break,
            }
        }
        if self.identity.is_none() || !self.partitions.iter().any(|p| p.in_transaction) {
            return;
        }
        if self.partitions.iter().any(Partition::outcome_unknown) {
            tracing::debug!("an unfinished transaction is left to its time-out: not all that was sent is answered");
            return;
        }
        let transaction = self.transaction();
        let Some(mut coordinator) = self.coordinator.take() else { return };
        coordinator.cancel_by(None);
        let ended = blocking(move || coordinator.end(&transaction, Ending::Abort, deadline)).await;
        if !matches!(ended, Some(Ok(TransactionOutcome::Aborted))) {
            tracing::debug!("an unfinished transaction is left to its time-out: {ended:?}");
        }
    }
}
