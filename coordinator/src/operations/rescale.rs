//! Another parallelism, while the job runs. A manifest decides it; the job master says how it ended.

use millstream_api::proto::operations::v1::{self, Operation, OperationState};

use super::once::Work;
use super::{Operations, Refusal};
use crate::job::{Rescale, RescaleEnd, Status, Wish};

impl Operations {
    /// Changes how many tasks the job has, or says what became of the operation of that id.
    ///
    /// # Errors
    /// Nothing was done; with `Unavailable` that is not certain, and the same id may be asked again.
    pub async fn rescale(&self, request: v1::RescaleRequest) -> Result<Operation, Refusal> {
        self.check_job(&request.job)?;
        let (id, parallelism) = (request.operation_id, request.parallelism);
        if parallelism == 0 {
            return Err(Refusal::invalid("parallelism is missing: 1 to the job's maxParallelism".to_owned()));
        }
        let asked = serde_json::json!({ "kind": v1::OperationKind::Rescale, "parallelism": parallelism });
        let wish = Wish::Rescale(Rescale { id: id.clone(), parallelism });
        let mine = id.clone();
        self.once(id, asked, Work { wish, end: move |status: &Status| end_of(status, &mine) }).await
    }
}

/// How a request ended, if it has.
fn end_of(status: &Status, id: &str) -> Option<(OperationState, String)> {
    let mut ended = status.rescale.ended.iter().rev();
    let (request, end) = ended.find(|(request, _)| request.id == id)?;
    let parallelism = request.parallelism;
    Some(match end {
        RescaleEnd::Done { switch_ms: Some(switch_ms) } => {
            (OperationState::Done, format!("the parallelism is {parallelism}; workers went over within {switch_ms} ms"))
        }
        RescaleEnd::Done { switch_ms: None } => (OperationState::Done, format!("the parallelism is {parallelism}")),
        RescaleEnd::Already => (OperationState::Done, format!("the parallelism was {parallelism} already")),
        RescaleEnd::Replaced => {
            (OperationState::Failed, "a later request took its place before it was carried out".to_owned())
        }
        RescaleEnd::Failed { reason } => (OperationState::Failed, format!("nothing has changed: {reason}")),
    })
}
