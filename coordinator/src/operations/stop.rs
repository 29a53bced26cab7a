//! Stopping the job, once per operation id, whatever happens between the question and its answer.
//!
//! Accepted (in the store) -> the job stops -> its end is in the log -> the result is in the store -> the answer. A process
//! that dies before the last but one leaves an accepted operation without a result: the next term of the job knows from the
//! log whether the job was stopped, and if so writes the result before anything else is asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use millstream_api::log::StopReason;
use millstream_api::proto::operations::v1::{self, Operation, OperationState};
use tokio::sync::watch;

use super::results::{Accepted, Record, Results, ResultsError, check_id, running};
use super::{Operations, Refusal};
use crate::job::{Millis, Outcome, Status, StopMode, Wish};
use crate::runtime::Clock;

/// Stops that are waited for at a time, each with an id of its own.
const RUNNING_MAX: usize = 16;
/// A stop that takes longer is answered as going on: its client, or what is between, may not wait longer.
const ANSWER_AFTER: Duration = Duration::from_secs(60);
/// For the store to take a result, when the job has ended.
const CONCLUDE_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to find out what became of operations of earlier terms.
const SETTLE_PAUSE: Duration = Duration::from_secs(2);
/// For that to succeed, when somebody asks.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// Of a drain whose job was stopped by somebody else before it was through.
const NOT_DRAINED: &str = "the job was stopped before it was drained: start it again, and drain it then";

/// Of anything else than its end that was asked of a job which ended.
const ENDED_BEFORE: &str = "the job ended before it was done";

/// What the operations of this process came to; `None`: the job has not ended.
pub(super) type Concluded = Option<BTreeMap<String, Result<Operation, Refusal>>>;

impl Operations {
    /// Stops the job with a last checkpoint, or drains it, or says what became of the operation of that id.
    ///
    /// # Errors
    /// Nothing was done; with `Unavailable` that is not certain, and the same id may be asked again.
    pub async fn stop(&self, request: v1::StopRequest) -> Result<Operation, Refusal> {
        self.check_job(&request.job)?;
        let id = request.operation_id;
        check_id(&id).map_err(Refusal::invalid)?;
        let mode = if request.drain { StopMode::Drain } else { StopMode::Suspend };
        let asked = asked_for(mode);
        let known = self.inner.results.find(&id).await.map_err(refused)?;
        if let Some(ended) = ended(&id, known, &asked)? {
            return Ok(ended);
        }
        let generation = self.ruling_generation()?;
        self.wait_until_settled(generation).await?;
        let accepted = Accepted { request: asked.clone(), accepted_at_ms: self.inner.clock.now(), generation };
        // Beside the call: a client that goes away must not leave half of it done.
        let operations = self.clone();
        let stopping = tokio::spawn(async move {
            operations.begin(&id)?;
            // It stays until the job has ended, which concludes it.
            match operations.accept(&id, accepted, &asked).await {
                Ok(Ok(accepted)) => {
                    // Once the job has ended nobody takes it, and `conclude` has said what it came to.
                    let _ = operations.inner.wishes.send(Wish::Stop(mode)).await;
                    operations.forget_old().await;
                    operations.answer(&id, &accepted, generation).await
                }
                Ok(Err(ended)) => {
                    operations.forget(&id);
                    Ok(ended)
                }
                Err(refusal) => {
                    operations.forget(&id);
                    Err(refusal)
                }
            }
        });
        stopping.await.unwrap_or_else(|_| Err(Refusal::defect("the operation panicked".to_owned())))
    }

    /// What is to be done now; or what it came to, when somebody else was first.
    pub(super) async fn accept(
        &self,
        id: &str,
        accepted: Accepted,
        asked: &serde_json::Value,
    ) -> Result<Result<Accepted, Operation>, Refusal> {
        let record = self.inner.results.accept(id, accepted).await.map_err(refused)?;
        let accepted = record.accepted.clone();
        if let Some(ended) = ended(id, Some(record), asked)? {
            return Ok(Err(ended));
        }
        millstream_fault::reach("after-operation-accepted");
        Ok(Ok(accepted))
    }

    /// What the job came to, for those who asked for its end: in the store first, then to them.
    pub async fn conclude(&self, outcome: &Outcome) {
        let ids: Vec<String> =
            self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
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
            let settled = settle_all(&self.inner.results, u64::MAX, StopReason::Finished, self.inner.clock.now());
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
        let operation = result(id, &record.accepted, self.inner.clock.now(), outcome);
        millstream_fault::reach("before-operation-result");
        let operation = self.inner.results.conclude(&operation).await.map_err(refused)?;
        millstream_fault::reach("after-operation-result");
        Ok(operation)
    }

    /// The term in which this coordinator rules.
    pub(super) fn ruling_generation(&self) -> Result<u64, Refusal> {
        self.check_ruling()?;
        let core = self.inner.core.borrow();
        let not_yet = || Refusal::unavailable("the coordinator does not rule the job yet; ask again".to_owned());
        core.generation.ok_or_else(not_yet)
    }

    pub(super) async fn wait_until_settled(&self, generation: u64) -> Result<(), Refusal> {
        let mut settled = self.inner.settled.clone();
        let wait = tokio::time::timeout(SETTLE_LIMIT, settled.wait_for(|settled| *settled == Some(generation)));
        if wait.await.is_ok_and(|settled| settled.is_ok()) {
            return Ok(());
        }
        Err(Refusal::unavailable("the store does not tell what became of earlier operations; ask again".to_owned()))
    }

    pub(super) fn begin(&self, id: &str) -> Result<(), Refusal> {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.len() >= RUNNING_MAX && !running.contains(id) {
            return Err(Refusal::busy(format!("{RUNNING_MAX} operations are under way already")));
        }
        running.insert(id.to_owned());
        Ok(())
    }

    pub(super) fn forget(&self, id: &str) {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub(super) async fn forget_old(&self) {
        let running: BTreeSet<String> = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(error) = self.inner.results.prune(&running).await {
            // Nothing depends on it, and the next operation tries again.
            tracing::warn!(%error, "old operations are not deleted");
        }
    }

    pub(super) async fn answer(&self, id: &str, accepted: &Accepted, generation: u64) -> Result<Operation, Refusal> {
        let mut concluded = self.inner.concluded.subscribe();
        let mut core = self.inner.core.clone();
        let ended = tokio::select! {
            ended = tokio::time::timeout(ANSWER_AFTER, concluded.wait_for(Option::is_some)) => ended,
            Ok(status) = core.wait_for(|status| status.generation != Some(generation)) => {
                return Err(Refusal::not_ruling(status.holder.as_deref()));
            }
        };
        match ended {
            Err(_) => Ok(running(id, accepted)),
            Ok(Ok(concluded)) => match concluded.as_ref().and_then(|all| all.get(id)) {
                Some(answer) => answer.clone(),
                None => Err(Refusal::unavailable("the job had just ended; ask again with the same id".to_owned())),
            },
            Ok(Err(_)) => Err(Refusal::unavailable("the coordinator ends; ask again with the same id".to_owned())),
        }
    }
}

/// The stored result. `None`: the id is new, or what it asks for goes on.
pub(super) fn ended(id: &str, known: Option<Record>, asked: &serde_json::Value) -> Result<Option<Operation>, Refusal> {
    let Some(record) = known else { return Ok(None) };
    if record.accepted.request != *asked {
        return Err(Refusal::id_used(format!("operation id {id} was used for another operation: choose a new one")));
    }
    Ok(record.result)
}

pub(super) fn refused(error: ResultsError) -> Refusal {
    match error {
        ResultsError::Store(_) => Refusal::unavailable(error.to_string()),
        ResultsError::Corrupt { .. } => Refusal::id_used(error.to_string()),
    }
}

/// What is asked for, as it is kept. Of a stop without drain it is what versions before drains kept.
fn asked_for(mode: StopMode) -> serde_json::Value {
    match mode {
        StopMode::Suspend => serde_json::json!({ "kind": v1::OperationKind::Stop }),
        StopMode::Drain => serde_json::json!({ "kind": v1::OperationKind::Stop, "drain": true }),
    }
}

fn is_stop(accepted: &Accepted) -> bool {
    super::results::kind_of(accepted) == v1::OperationKind::Stop
}

fn is_drain(accepted: &Accepted) -> bool {
    accepted.request == asked_for(StopMode::Drain)
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
            && let Err(error) = settle_all(&results, generation, before, clock.now()).await
            && core.borrow().generation == Some(generation)
        {
            tracing::warn!(%error, "earlier operations are not settled yet");
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        settled.send_replace(Some(generation));
    }
}

async fn settle_all(results: &Results, generation: u64, before: StopReason, now: Millis) -> Result<(), ResultsError> {
    for id in results.unfinished().await? {
        let Some(record) = results.find(&id).await? else { continue };
        if record.accepted.generation >= generation || record.result.is_some() {
            continue;
        }
        let (state, message) = match before {
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
