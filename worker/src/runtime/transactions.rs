//! Transactions of earlier processes: finished, aborted or fenced before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::control::{Failure, FailureKind, Report};
use millstream_api::graph::JobGraph;
use millstream_api::ids::TransformUid;
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use tokio::runtime::Handle;

pub(super) fn command_failed(reason: String) -> Report {
    Report::CommandFailed { failure: Failure { kind: FailureKind::Bug, message: reason } }
}

pub(super) async fn finish(_graph: Arc<JobGraph>, _transactions: Vec<PreparedTransaction>, _io: &Handle) -> Report {
    Report::TransactionsFinished { outcome: Vec::new() }
}

pub(super) async fn abort(_graph: Arc<JobGraph>, _transactions: Vec<PreparedTransaction>, _io: &Handle) -> Report {
    Report::TransactionsAborted { outcome: Vec::new() }
}

pub(super) async fn fence(_graph: Arc<JobGraph>, _ids: BTreeMap<TransformUid, TransactionalIds>, _io: &Handle) -> Report {
    Report::TransactionsFenced
}
