//! Transactions of earlier processes: finished, aborted or fenced before anything runs (protocol section 5).
//!
//! Owns: running these beside everything else, and the answers. Does not own: how a broker is asked (`sink::kafka`).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::control::{Failure, FailureKind, FinishOutcome, Report};
use millstream_api::graph::JobGraph;
use millstream_api::ids::TransformUid;
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use tokio::runtime::Handle;

use crate::sink::SinkError;
use crate::sink::kafka::recovery;

type Outcomes = Vec<(PreparedTransaction, FinishOutcome)>;

pub(super) async fn finish(graph: Arc<JobGraph>, transactions: Vec<PreparedTransaction>, io: &Handle) -> Report {
    let finish = move || recovery::finish_transactions(&graph, &transactions);
    answer(run(io, finish).await, |outcome: Outcomes| Report::TransactionsFinished { outcome })
}

pub(super) async fn abort(graph: Arc<JobGraph>, transactions: Vec<PreparedTransaction>, io: &Handle) -> Report {
    let abort = move || recovery::abort_transactions(&graph, &transactions);
    answer(run(io, abort).await, |outcome: Outcomes| Report::TransactionsAborted { outcome })
}

pub(super) async fn fence(graph: Arc<JobGraph>, ids: BTreeMap<TransformUid, TransactionalIds>, io: &Handle) -> Report {
    let fence = move || recovery::fence_transactions(&graph, &ids);
    answer(run(io, fence).await, |()| Report::TransactionsFenced)
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
