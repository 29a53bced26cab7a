//! Transactions of earlier processes: finished, aborted or fenced before anything runs (protocol section 5).
//!
//! Owns: running these beside everything else, one at a time, and the answers. Does not own: how a broker is asked
//! (`sink::kafka`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use millstream_api::control::{Attempt, Failure, FailureKind, FinishOutcome, Report};
use millstream_api::graph::JobGraph;
use millstream_api::ids::TransformUid;
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::sink::SinkError;
use crate::sink::kafka::recovery;

type Outcomes = Vec<(PreparedTransaction, FinishOutcome)>;

/// An answer, and the attempt that it was asked in.
pub(super) type Answered = (Attempt, Report);
type Work = Pin<Box<dyn Future<Output = Report> + Send>>;

/// What brokers are asked. A broker may take a minute to answer, and the tasks that run meanwhile must be heard.
pub(super) struct Asked {
    io: Handle,
    answers: mpsc::Sender<Answered>,
    under_way: bool,
    /// Only the newest: a coordinator goes by the answer to what it asked last. Whatever it gave up before does not run
    /// beside what it asks now, as an abort could beside a commit.
    waiting: Option<(Attempt, Work)>,
}

impl Asked {
    /// `answers` takes one at a time; [`Self::answered`] wants to be told of each.
    pub(super) fn new(io: Handle, answers: mpsc::Sender<Answered>) -> Self {
        Self { io, answers, under_way: false, waiting: None }
    }

    pub(super) fn ask(&mut self, attempt: Attempt, work: impl Future<Output = Report> + Send + 'static) {
        self.waiting = Some((attempt, Box::pin(work)));
        self.begin();
    }

    /// What was under way has ended.
    pub(super) fn answered(&mut self) {
        self.under_way = false;
        self.begin();
    }

    fn begin(&mut self) {
        if self.under_way {
            return;
        }
        let Some((attempt, work)) = self.waiting.take() else { return };
        self.under_way = true;
        let answers = self.answers.clone();
        self.io.spawn(async move {
            // Once the runtime has ended, nobody hears it.
            let _ = answers.send((attempt, work.await)).await;
        });
    }
}

pub(super) async fn finish(graph: Arc<JobGraph>, transactions: Vec<PreparedTransaction>, io: Handle) -> Report {
    let finish = move || recovery::finish_transactions(&graph, &transactions);
    answer(run(&io, finish).await, |outcome: Outcomes| Report::TransactionsFinished { outcome })
}

pub(super) async fn abort(graph: Arc<JobGraph>, transactions: Vec<PreparedTransaction>, io: Handle) -> Report {
    let abort = move || recovery::abort_transactions(&graph, &transactions);
    answer(run(&io, abort).await, |outcome: Outcomes| Report::TransactionsAborted { outcome })
}

pub(super) async fn fence(graph: Arc<JobGraph>, ids: BTreeMap<TransformUid, TransactionalIds>, io: Handle) -> Report {
    let fence = move || recovery::fence_transactions(&graph, &ids);
    answer(run(&io, fence).await, |()| Report::TransactionsFenced)
}

/// Brokers are asked on a thread that may wait.
async fn run<T: Send + 'static>(
    io: &Handle,
    ask: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, Failure> {
    match io.spawn_blocking(ask).await {
        Ok(answered) => answered.map_err(|error| failure(&error)),
        Err(panic) => Err(Failure { kind: FailureKind::Bug, message: panic.to_string() }),
    }
}

fn answer<T>(answered: Result<T, Failure>, report: impl FnOnce(T) -> Report) -> Report {
    match answered {
        Ok(value) => report(value),
        Err(failure) => Report::CommandFailed { failure },
    }
}

fn failure(error: &SinkError) -> Failure {
    let kind = match error {
        SinkError::UserData { .. } => FailureKind::UserData,
        SinkError::User { .. } => FailureKind::User,
        SinkError::Refused { .. } => FailureKind::Refused,
        SinkError::Transient { .. } => FailureKind::Transient,
    };
    Failure { kind, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use millstream_api::ids::Generation;
    use tokio::sync::oneshot;

    use super::*;

    fn attempt(number: u32) -> Attempt {
        Attempt { generation: Generation(1), number }
    }

    #[tokio::test]
    async fn one_is_asked_at_a_time_and_of_those_that_wait_the_newest() {
        let (answers, mut answered) = mpsc::channel(1);
        let mut asked = Asked::new(Handle::current(), answers);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let begins = |name: &'static str| {
            let begun = Arc::clone(&begun);
            move || begun.lock().unwrap().push(name)
        };
        let (end, ended) = oneshot::channel::<()>();
        let (first, given_up, newest) = (begins("first"), begins("given up"), begins("newest"));
        asked.ask(attempt(1), async move {
            first();
            ended.await.unwrap();
            Report::TransactionsFenced
        });
        asked.ask(attempt(1), async move {
            given_up();
            Report::TransactionsFenced
        });
        asked.ask(attempt(2), async move {
            newest();
            Report::TransactionsFinished { outcome: Vec::new() }
        });
        tokio::task::yield_now().await;
        assert_eq!(*begun.lock().unwrap(), ["first"]);
        end.send(()).unwrap();
        assert_eq!(answered.recv().await, Some((attempt(1), Report::TransactionsFenced)));
        asked.answered();
        assert_eq!(answered.recv().await, Some((attempt(2), Report::TransactionsFinished { outcome: Vec::new() })));
        assert_eq!(*begun.lock().unwrap(), ["first", "newest"]);
        asked.answered();
        assert!(asked.waiting.is_none() && !asked.under_way);
    }
}
