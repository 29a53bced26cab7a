//! Operations with an id: each is carried out once, whatever happens between the question and its answer.
//!
//! ```text
//! accepted (in the store) -> wished of the job master -> it ends -> its result (in the store) -> the answer
//! ```
//! A process that dies before the last but one leaves an accepted operation without a result: asked for again it goes on, or
//! the log tells what it came to (`settle`). Who asks again with the same id meanwhile gets the same answer.
//!
//! Owns: these steps, and which operations are under way. Does not own: what is wished, and how its end looks (`stop`,
//! `rescale`), what the end of the job means for it (`settle`).

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use millstream_api::proto::operations::v1::{Operation, OperationState};
use serde_json::Value;
use tokio::sync::watch;

use super::results::{Accepted, Record, ResultsError, check_id, running};
use super::{Operations, Refusal};
use crate::job::{Status, Wish};

/// Operations that go on at a time, each with an id of its own.
const RUNNING_MAX: usize = 16;
/// What takes longer is answered as going on: its client, or what is between, may not wait longer.
const ANSWER_AFTER: Duration = Duration::from_secs(60);
/// For the store to tell what became of operations of earlier terms.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// What an operation came to, once it has.
type Answer = Option<Result<Operation, Refusal>>;

/// Operations of this process that have not ended.
#[derive(Debug, Default)]
pub(super) struct Running {
    by_id: BTreeMap<String, Underway>,
}

#[derive(Debug)]
struct Underway {
    asked: Value,
    /// Its sender goes with the task that carries it out.
    answer: watch::Receiver<Answer>,
}

/// What an operation wishes of the job master, and how it is seen to end while the job goes on.
pub(super) struct Work<E> {
    pub(super) wish: Wish,
    /// `None`: it goes on.
    pub(super) end: E,
}

impl Running {
    pub(super) fn ids(&mut self) -> Vec<String> {
        self.by_id.retain(|_, underway| underway.answer.has_changed().is_ok());
        self.by_id.keys().cloned().collect()
    }

    /// The answer to wait for, and where it is to be given if nobody carries the operation out yet.
    fn join(
        &mut self,
        id: &str,
        asked: &Value,
    ) -> Result<(watch::Receiver<Answer>, Option<watch::Sender<Answer>>), Refusal> {
        let running = self.ids().len();
        if let Some(underway) = self.by_id.get(id) {
            if underway.asked != *asked {
                return Err(id_used(id));
            }
            return Ok((underway.answer.clone(), None));
        }
        if running >= RUNNING_MAX {
            return Err(Refusal::busy(format!("{RUNNING_MAX} operations are under way already")));
        }
        let (sender, answer) = watch::channel(None);
        self.by_id.insert(id.to_owned(), Underway { asked: asked.clone(), answer: answer.clone() });
        Ok((answer, Some(sender)))
    }
}

impl Operations {
    /// Carries an operation out, or says what became of the one with that id.
    pub(super) async fn once<E>(&self, id: String, asked: Value, work: Work<E>) -> Result<Operation, Refusal>
    where
        E: Fn(&Status) -> Option<(OperationState, String)> + Send + Sync + 'static,
    {
        check_id(&id).map_err(Refusal::invalid)?;
        let known = self.inner.results.find(&id).await.map_err(refused)?;
        let known = match known.map(|record| (ended(&id, &record, &asked), record.accepted)) {
            Some((ended, accepted)) => match ended? {
                Some(ended) => return Ok(ended),
                None => Some(accepted),
            },
            None => None,
        };
        let generation = self.ruling_generation()?;
        self.wait_until_settled(generation).await?;
        let now = || Accepted { request: asked.clone(), accepted_at_ms: self.inner.clock.now(), generation };
        let accepted = known.unwrap_or_else(now);
        let (mut answer, sender) =
            self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).join(&id, &asked)?;
        if let Some(sender) = sender {
            let (operations, id, accepted) = (self.clone(), id.clone(), accepted.clone());
            // Beside the call: a client that goes away must not leave half of it done.
            tokio::spawn(async move {
                sender.send_replace(Some(operations.carry_out(&id, accepted, generation, work).await));
            });
        }
        match tokio::time::timeout(ANSWER_AFTER, answer.wait_for(Option::is_some)).await {
            Err(_) => Ok(running(&id, &accepted)),
            Ok(Ok(answer)) => answer.clone().expect("it was waited for"),
            Ok(Err(_)) => Err(Refusal::defect("the operation panicked".to_owned())),
        }
    }

    async fn carry_out<E>(
        &self,
        id: &str,
        accepted: Accepted,
        generation: u64,
        work: Work<E>,
    ) -> Result<Operation, Refusal>
    where
        E: Fn(&Status) -> Option<(OperationState, String)> + Send + Sync + 'static,
    {
        let asked = accepted.request.clone();
        let record = self.inner.results.accept(id, accepted).await.map_err(refused)?;
        if let Some(ended) = ended(id, &record, &asked)? {
            return Ok(ended);
        }
        millstream_fault::reach("after-operation-accepted");
        let accepted = record.accepted;
        let mut core = self.inner.core.clone();
        if (work.end)(&core.borrow()).is_none() {
            // Once the job has ended nobody takes it, and `conclude` says what it came to.
            let _ = self.inner.wishes.send(work.wish).await;
        }
        self.forget_old().await;
        let mut concluded = self.inner.concluded.subscribe();
        let over = |status: &Status| status.generation != Some(generation) || (work.end)(status).is_some();
        let status = tokio::select! {
            Ok(status) = core.wait_for(over) => status.clone(),
            Ok(concluded) = concluded.wait_for(Option::is_some) => {
                let answer = concluded.as_ref().and_then(|all| all.get(id)).cloned();
                let late = || Refusal::unavailable("the job had just ended; ask again with the same id".to_owned());
                return answer.unwrap_or_else(|| Err(late()));
            }
        };
        let Some((state, message)) = (work.end)(&status) else {
            return Err(Refusal::not_ruling(status.holder.as_deref()));
        };
        let operation = Operation {
            state: state.into(),
            message: crate::job::shortened(&message, crate::job::REASON_BYTES_MAX),
            ended_at_ms: Some(self.inner.clock.now()),
            epoch: status.newest.as_ref().map(|newest| newest.0.epoch.0),
            ..running(id, &accepted)
        };
        self.inner.results.conclude(&operation).await.map_err(refused)
    }

    /// The term in which this coordinator rules.
    fn ruling_generation(&self) -> Result<u64, Refusal> {
        self.check_ruling()?;
        let core = self.inner.core.borrow();
        let not_yet = || Refusal::unavailable("the coordinator does not rule the job yet; ask again".to_owned());
        core.generation.ok_or_else(not_yet)
    }

    async fn wait_until_settled(&self, generation: u64) -> Result<(), Refusal> {
        let mut settled = self.inner.settled.clone();
        let wait = tokio::time::timeout(SETTLE_LIMIT, settled.wait_for(|settled| *settled == Some(generation)));
        if wait.await.is_ok_and(|settled| settled.is_ok()) {
            return Ok(());
        }
        Err(Refusal::unavailable("the store does not tell what became of earlier operations; ask again".to_owned()))
    }

    async fn forget_old(&self) {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).ids();
        if let Err(error) = self.inner.results.prune(&running.into_iter().collect()).await {
            // Nothing depends on it, and the next operation tries again.
            tracing::warn!(%error, "old operations are not deleted");
        }
    }
}

/// The stored result. `None`: what it asks for goes on.
fn ended(id: &str, record: &Record, asked: &Value) -> Result<Option<Operation>, Refusal> {
    if record.accepted.request != *asked {
        return Err(id_used(id));
    }
    Ok(record.result.clone())
}

fn id_used(id: &str) -> Refusal {
    Refusal::id_used(format!("operation id {id} was used for another operation: choose a new one"))
}

pub(super) fn refused(error: ResultsError) -> Refusal {
    match error {
        ResultsError::Store(_) => Refusal::unavailable(error.to_string()),
        ResultsError::Corrupt { .. } => Refusal::id_used(error.to_string()),
    }
}
