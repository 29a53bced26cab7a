//! Another parallelism, once per operation id.
//!
//! Accepted (in the store) -> the tasks change, which a manifest decides -> the result is in the store -> the answer. A
//! coordinator that dies in between leaves an accepted operation without a result: asked for again, it is done, or found done.

use std::time::Duration;

use millstream_api::proto::operations::v1::{self, Operation, OperationState};

use super::results::{Accepted, check_id, running};
use super::stop::{ended, refused};
use super::{Operations, Refusal};
use crate::job::{Rescale, RescaleEnd, Status, Wish};

/// A change that takes longer is answered as going on: its client, or what is between, may not wait longer.
const ANSWER_AFTER: Duration = Duration::from_secs(60);

impl Operations {
    /// Changes how many tasks the job has, or says what became of the operation of that id.
    ///
    /// # Errors
    /// Nothing was done; with `Unavailable` that is not certain, and the same id may be asked again.
    pub async fn rescale(&self, request: v1::RescaleRequest) -> Result<Operation, Refusal> {
        self.check_job(&request.job)?;
        let (id, parallelism) = (request.operation_id, request.parallelism);
        check_id(&id).map_err(Refusal::invalid)?;
        if parallelism == 0 {
            return Err(Refusal::invalid("parallelism is missing: 1 to the job's maxParallelism".to_owned()));
        }
        let asked = serde_json::json!({ "kind": v1::OperationKind::Rescale, "parallelism": parallelism });
        let known = self.inner.results.find(&id).await.map_err(refused)?;
        if let Some(ended) = ended(&id, known, &asked)? {
            return Ok(ended);
        }
        let generation = self.ruling_generation()?;
        self.wait_until_settled(generation).await?;
        let accepted = Accepted { request: asked.clone(), accepted_at_ms: self.inner.clock.now(), generation };
        // Beside the call: a client that goes away must not leave half of it done.
        let operations = self.clone();
        let changing = tokio::spawn(async move {
            operations.begin(&id)?;
            let answer = operations.carry_out(&id, accepted, &asked, Rescale { id: id.clone(), parallelism }).await;
            operations.forget(&id);
            answer
        });
        changing.await.unwrap_or_else(|_| Err(Refusal::defect("the operation panicked".to_owned())))
    }

    async fn carry_out(
        &self,
        id: &str,
        accepted: Accepted,
        asked: &serde_json::Value,
        rescale: Rescale,
    ) -> Result<Operation, Refusal> {
        let generation = accepted.generation;
        let accepted = match self.accept(id, accepted, asked).await? {
            Ok(accepted) => accepted,
            Err(ended) => return Ok(ended),
        };
        // Once the job has ended nobody takes it, and `conclude` has said what it came to.
        let _ = self.inner.wishes.send(Wish::Rescale(rescale)).await;
        self.forget_old().await;
        let mut core = self.inner.core.clone();
        let over = |status: &Status| status.generation != Some(generation) || end_of(status, id).is_some();
        let waited = tokio::select! {
            waited = tokio::time::timeout(ANSWER_AFTER, core.wait_for(over)) => match waited {
                Err(_) => return Ok(running(id, &accepted)),
                Ok(waited) => waited.map(|status| status.clone()),
            },
            // The job ends: its end is what the operation came to.
            answer = self.answer(id, &accepted, generation) => return answer,
        };
        let Ok(status) = waited else { return self.answer(id, &accepted, generation).await };
        let Some(end) = end_of(&status, id) else { return Err(Refusal::not_ruling(status.holder.as_deref())) };
        let operation = concluded(id, &accepted, &status, &end, self.inner.clock.now());
        self.inner.results.conclude(&operation).await.map_err(refused)
    }
}

fn end_of(status: &Status, id: &str) -> Option<RescaleEnd> {
    let mut ended = status.rescale.ended.iter().rev();
    ended.find(|(request, _)| request.id == id).map(|(_, end)| end.clone())
}

fn concluded(id: &str, accepted: &Accepted, status: &Status, end: &RescaleEnd, now: u64) -> Operation {
    let parallelism = status.parallelism;
    let (state, message) = match end {
        RescaleEnd::Done { switch_ms } => {
            (OperationState::Done, format!("the parallelism is {parallelism}; workers went over within {switch_ms} ms"))
        }
        RescaleEnd::Already => (OperationState::Done, format!("the parallelism was {parallelism} already")),
        RescaleEnd::Replaced => {
            (OperationState::Failed, "a later request took its place before it was carried out".to_owned())
        }
        RescaleEnd::Failed { reason } => (OperationState::Failed, format!("nothing has changed: {reason}")),
    };
    Operation {
        state: state.into(),
        message: crate::job::shortened(&message, crate::job::REASON_BYTES_MAX),
        ended_at_ms: Some(now),
        epoch: status.newest.as_ref().map(|newest| newest.0.epoch.0),
        ..running(id, accepted)
    }
}
