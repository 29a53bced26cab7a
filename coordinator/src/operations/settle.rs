//! What the end of the job means for its operations, those of earlier processes with it.
//!
//! The end is in the log first. Whoever knows of it writes the results of what was accepted before: the process that rules at
//! the end, or, when that did not live to do so, the next one, before anything else is asked of it.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use millstream_api::log::StopReason;
use millstream_api::proto::operations::v1::{Operation, OperationState};
use tokio::sync::watch;

use super::once::refused;
use super::results::{Accepted, Results, ResultsError, running};
use super::savepoint::is_savepoint;
use super::stop::{is_drain, is_stop};
use super::{Operations, Refusal, savepoint};
use crate::job::{Millis, Outcome, Status};
use crate::runtime::Clock;
use crate::savepoint::Places;

/// For the store to take a result, when the job has ended.
const CONCLUDE_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to find out what became of operations of earlier terms.
const SETTLE_PAUSE: Duration = Duration::from_secs(2);

/// Of a drain whose job was stopped by somebody else before it was through.
const NOT_DRAINED: &str = "the job was stopped before it was drained: start it again, and drain it then";

/// Of anything else than its end that was asked of a job which ended.
const ENDED_BEFORE: &str = "the job ended before it was done";

/// What the operations of this process came to; `None`: the job has not ended.
pub(super) type Concluded = Option<BTreeMap<String, Result<Operation, Refusal>>>;

impl Operations {
    /// What the job came to, for those who asked for its end: in the store first, then to them.
    pub async fn conclude(&self, outcome: &Outcome) {
        let ids = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).ids();
        let mut concluded = BTreeMap::new();
        for id in ids {
            let answer = tokio::time::timeout(CONCLUDE_LIMIT, self.conclude_one(&id, outcome)).await;
            let late =
                || Refusal::unavailable("the job ended, but the store did not take the result in time".to_owned());
            concluded.insert(id, answer.unwrap_or_else(|_| Err(late())));
        }
        self.inner.concluded.send_replace(Some(concluded));
        if matches!(outcome, Outcome::Finished { already: true, .. }) {
            // An earlier run did it, and may not have lived to say so. This one never rules.
            let settled = settle_all(
                &self.inner.results,
                &self.inner.places,
                u64::MAX,
                StopReason::Finished,
                self.inner.clock.now(),
            );
            if !matches!(tokio::time::timeout(CONCLUDE_LIMIT, settled).await, Ok(Ok(()))) {
                tracing::warn!("what earlier operations came to is not recorded: the store did not answer");
            }
        }
    }

    async fn conclude_one(&self, id: &str, outcome: &Outcome) -> Result<Operation, Refusal> {
        // Not this one's to say.
        match outcome {
            Outcome::Fenced { by } => return Err(Refusal::not_ruling(by.as_ref().map(|start| &start.address))),
            Outcome::StoodBy { .. } => return Err(Refusal::not_ruling(self.inner.core.borrow().holder.as_deref())),
            Outcome::Finished { .. } | Outcome::Stopped { .. } | Outcome::Failed { .. } => {}
        }
        let record = self.inner.results.find(id).await.map_err(refused)?;
        let Some(record) = record else {
            return Err(Refusal::unavailable(format!("operation {id} was not accepted")));
        };
        let mut operation = result(id, &record.accepted, self.inner.clock.now(), outcome);
        let of_savepoint = savepoint::ended(&self.inner.core.borrow(), id);
        if let Some((state, message)) = of_savepoint.filter(|_| is_savepoint(&record.accepted)) {
            operation = Operation { state: state.into(), message, ..operation };
        }
        millstream_fault::reach("before-operation-result");
        let operation = self.inner.results.conclude(&operation).await.map_err(refused)?;
        millstream_fault::reach("after-operation-result");
        Ok(operation)
    }
}

fn result(id: &str, accepted: &Accepted, now: Millis, outcome: &Outcome) -> Operation {
    let (done, message, checkpoint) = match outcome {
        Outcome::Stopped { checkpoint, .. } | Outcome::Finished { checkpoint, .. } if !is_stop(accepted) => {
            (false, ENDED_BEFORE.to_owned(), checkpoint)
        }
        Outcome::Stopped { checkpoint, .. } if is_drain(accepted) => (false, NOT_DRAINED.to_owned(), checkpoint),
        Outcome::Stopped { checkpoint, incomplete } => {
            let message = match (checkpoint, incomplete) {
                (Some(at), None) => format!("stopped at checkpoint {}", at.epoch),
                (Some(at), Some(why)) => format!("stopped; checkpoint {} is older than the stop: {why}", at.epoch),
                (None, None) => "stopped before the first checkpoint".to_owned(),
                (None, Some(why)) => format!("stopped before the first checkpoint: {why}"),
            };
            (true, message, checkpoint)
        }
        Outcome::Finished { checkpoint: Some(at), already: false } if is_drain(accepted) => {
            (true, format!("drained: the job has finished with checkpoint {}", at.epoch), &Some(at.clone()))
        }
        Outcome::Finished { checkpoint, .. } => (true, "the job had finished".to_owned(), checkpoint),
        Outcome::Failed { failure, checkpoint, .. } => {
            (false, format!("the job failed: {}", failure.message), checkpoint)
        }
        Outcome::Fenced { .. } | Outcome::StoodBy { .. } => {
            (false, "another coordinator rules the job".to_owned(), &None)
        }
    };
    let state = if done { OperationState::Done } else { OperationState::Failed };
    Operation {
        state: state.into(),
        message: crate::job::shortened(&message, crate::job::REASON_BYTES_MAX),
        ended_at_ms: Some(now),
        epoch: checkpoint.as_ref().map(|c| c.epoch.0),
        ..running(id, accepted)
    }
}

/// In each term of this coordinator, writes the results of operations that an earlier term accepted and did not live to
/// conclude, where the log says how that term ended. Where it does not, the term was cut short and they go on when they are
/// asked for again. `settled`: the term for which that is done.
pub(super) async fn settle_earlier(
    results: Results,
    places: Places,
    mut core: watch::Receiver<Status>,
    clock: Clock,
    settled: watch::Sender<Option<u64>>,
) {
    loop {
        let known = *settled.borrow();
        let won = core.wait_for(|status| status.generation.is_some() && status.generation != known).await;
        let won = won.map(|status| (status.generation, status.before));
        let Ok((Some(generation), before)) = won else { return };
        while let Some(before) = before
            && let Err(error) = settle_all(&results, &places, generation, before, clock.now()).await
            && core.borrow().generation == Some(generation)
        {
            tracing::warn!(%error, "earlier operations are not settled yet");
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        settled.send_replace(Some(generation));
    }
}

async fn settle_all(
    results: &Results,
    places: &Places,
    generation: u64,
    before: StopReason,
    now: Millis,
) -> Result<(), ResultsError> {
    for id in results.unfinished().await? {
        let Some(record) = results.find(&id).await? else { continue };
        if record.accepted.generation >= generation || record.result.is_some() {
            continue;
        }
        let (state, message) = match before {
            _ if is_savepoint(&record.accepted) => match savepoint::is_there(places, &id, &record.accepted).await {
                Some(true) => (OperationState::Done, "the savepoint is complete; recorded by the next run"),
                Some(false) => (OperationState::Failed, ENDED_BEFORE),
                // It is looked at again by whoever asks with its id, or in the next term.
                None => continue,
            },
            _ if !is_stop(&record.accepted) => (OperationState::Failed, ENDED_BEFORE),
            StopReason::Stopped if is_drain(&record.accepted) => (OperationState::Failed, NOT_DRAINED),
            StopReason::Stopped => (OperationState::Done, "stopped; recorded by the next run"),
            StopReason::Finished => (OperationState::Done, "the job had finished; recorded by the next run"),
            StopReason::Failed => (OperationState::Failed, "the job failed; recorded by the next run"),
        };
        let message = message.to_owned();
        let operation =
            Operation { state: state.into(), message, ended_at_ms: Some(now), ..running(&id, &record.accepted) };
        results.conclude(&operation).await?;
    }
    Ok(())
}
