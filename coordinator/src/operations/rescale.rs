//! Another parallelism, while the job runs. A manifest decides it; the job master says how it ended.

use millstream_api::proto::operations::v1::{self, Operation, OperationState};

use super::once::Work;
use super::{Operations, Refusal};
use crate::job::{Rescale, RescaleEnd, Status, Wish};

/// Workers, or sources, that an answer names.
const NAMED_MAX: usize = 8;

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
    let done = |text: String| (OperationState::Done, format!("{text}{}{}", free(status), idle(status, parallelism)));
    Some(match end {
        RescaleEnd::Done { cost: Some(cost) } => {
            done(format!("the parallelism is {parallelism}; workers went over {cost}"))
        }
        RescaleEnd::Done { cost: None } => done(format!("the parallelism is {parallelism}")),
        RescaleEnd::Already => done(format!("the parallelism was {parallelism} already")),
        RescaleEnd::Replaced => {
            (OperationState::Failed, "a later request took its place before it was carried out".to_owned())
        }
        RescaleEnd::Failed { reason } => (OperationState::Failed, format!("nothing has changed: {reason}")),
    })
}

/// Names the workers that nothing runs on, which may be stopped.
fn free(status: &Status) -> String {
    let runs = |id| status.placement.contains(&Some(id));
    let free: Vec<&str> =
        status.workers.iter().filter(|(id, _)| !runs(*id)).map(|(_, offer)| offer.name.as_str()).collect();
    let more = free.len().saturating_sub(NAMED_MAX);
    let named = free[..free.len() - more].join(", ");
    match (free.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("; nothing runs on {named}"),
        (false, more) => format!("; nothing runs on {named} and {more} more"),
    }
}

/// Tells of sources that have fewer splits than tasks: the others read nothing.
fn idle(status: &Status, parallelism: u32) -> String {
    let Some(newest) = &status.newest else { return String::new() };
    let few = newest.0.splits.iter().filter(|(_, splits)| splits.len() < parallelism as usize);
    let few: Vec<String> = few.map(|(uid, splits)| format!("{uid} has {} splits", splits.len())).collect();
    if few.is_empty() {
        return String::new();
    }
    format!("; warning: {}, so that some of its tasks read nothing", few[..few.len().min(NAMED_MAX)].join(", "))
}
