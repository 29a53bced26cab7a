//! Stopping the job: with a last checkpoint, or after all that was read has gone through it.

use millstream_api::proto::operations::v1::{self, Operation};

use super::once::Work;
use super::results::Accepted;
use super::{Operations, Refusal};
use crate::job::{StopMode, Wish};

impl Operations {
    /// Stops the job with a last checkpoint, or drains it, or says what became of the operation of that id.
    ///
    /// # Errors
    /// Nothing was done; with `Unavailable` that is not certain, and the same id may be asked again.
    pub async fn stop(&self, request: v1::StopRequest) -> Result<Operation, Refusal> {
        self.check_job(&request.job)?;
        let mode = if request.drain { StopMode::Drain } else { StopMode::Suspend };
        // It ends with the job, which concludes it.
        let work = Work { wish: Wish::Stop(mode), end: |_: &_| None };
        self.once(request.operation_id, asked_for(mode), work).await
    }
}

/// What is asked for, as it is kept. Of a stop without drain it is what versions before drains kept.
fn asked_for(mode: StopMode) -> serde_json::Value {
    match mode {
        StopMode::Suspend => serde_json::json!({ "kind": v1::OperationKind::Stop }),
        StopMode::Drain => serde_json::json!({ "kind": v1::OperationKind::Stop, "drain": true }),
    }
}

pub(super) fn is_stop(accepted: &Accepted) -> bool {
    super::results::kind_of(accepted) == v1::OperationKind::Stop
}

pub(super) fn is_drain(accepted: &Accepted) -> bool {
    accepted.request == asked_for(StopMode::Drain)
}
