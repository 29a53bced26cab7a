//! A savepoint, taken beside a running job or as its end.

use millstream_api::proto::operations::v1::{self, Operation, OperationState};

use super::once::{Work, refused};
use super::results::{Accepted, check_id};
use super::{Operations, Refusal};
use crate::job::{JobState, SavepointEnd, SavepointRequest, Status, StopMode, Wish};
use crate::savepoint::{Places, SavepointFailure};

/// Bytes of a folder's name: an object's whole path has a kilobyte in S3.
const FOLDER_BYTES_MAX: usize = 512;

impl Operations {
    /// Takes a savepoint, or says what became of the operation of that id.
    ///
    /// # Errors
    /// Nothing was done; with `Unavailable` that is not certain, and the same id may be asked again.
    pub async fn savepoint(&self, request: v1::SavepointRequest) -> Result<Operation, Refusal> {
        self.check_job(&request.job)?;
        let id = request.operation_id;
        check_id(&id).map_err(Refusal::invalid)?;
        let then = match (request.stop, request.drain) {
            (false, false) => None,
            (true, false) => Some(StopMode::Suspend),
            (true, true) => Some(StopMode::Drain),
            (false, true) => return Err(Refusal::invalid("drain goes with stop: a drained job has ended".to_owned())),
        };
        let folder = if request.folder.is_empty() { &self.inner.savepoints_folder } else { &request.folder };
        let target = target(folder, &id).map_err(Refusal::invalid)?;
        let mut asked = serde_json::json!({ "kind": v1::OperationKind::Savepoint, "target": target });
        if let Some(mode) = then {
            asked["then"] = if mode == StopMode::Drain { "drain".into() } else { "stop".into() };
        }
        if self.inner.results.find(&id).await.map_err(refused)?.is_none() {
            // Before anything depends on it: a job that has stopped for a savepoint cannot wait for its place.
            self.inner.places.check_target(&target, &id).await.map_err(|failure| unusable(&failure))?;
        }
        let wish = Wish::Savepoint(SavepointRequest { id: id.clone(), target, then });
        let mine = id.clone();
        self.once(id, asked, Work { wish, end: move |status: &Status| end_of(status, &mine) }).await
    }
}

/// The savepoint's own folder.
fn target(folder: &str, id: &str) -> Result<String, String> {
    let folder = folder.trim_end_matches('/');
    if folder.len() > FOLDER_BYTES_MAX {
        return Err(format!("the folder has {} bytes, {FOLDER_BYTES_MAX} are allowed", folder.len()));
    }
    if !folder.contains("://") && !folder.starts_with('/') {
        return Err(format!("{folder}: a folder is s3://bucket/path, file:///path or an absolute path"));
    }
    let name = if id.starts_with("savepoint-") { id.to_owned() } else { format!("savepoint-{id}") };
    Ok(format!("{folder}/{name}"))
}

fn unusable(failure: &SavepointFailure) -> Refusal {
    let message = failure.to_string();
    match failure {
        SavepointFailure::Store(error) if error.kind != millstream_store::StoreErrorKind::Configuration => {
            Refusal::unavailable(message)
        }
        _ => Refusal::invalid(message),
    }
}

/// How it ended while the job goes on. One that ends the job is concluded with it.
fn end_of(status: &Status, id: &str) -> Option<(OperationState, String)> {
    let (request, end) = status.savepoints.ended.iter().rev().find(|(request, _)| request.id == id)?;
    let ends_the_job = request.then.is_some() && status.state != JobState::Running;
    (!ends_the_job).then(|| words(request, end))
}

/// How it ended, as far as it has.
pub(super) fn ended(status: &Status, id: &str) -> Option<(OperationState, String)> {
    let (request, end) = status.savepoints.ended.iter().rev().find(|(request, _)| request.id == id)?;
    Some(words(request, end))
}

fn words(request: &SavepointRequest, end: &SavepointEnd) -> (OperationState, String) {
    match end {
        SavepointEnd::Taken { epoch, bytes } => {
            let target = &request.target;
            (OperationState::Done, format!("savepoint {target} is complete: checkpoint {epoch}, {bytes} bytes"))
        }
        SavepointEnd::Failed { reason } => (OperationState::Failed, format!("there is no savepoint: {reason}")),
    }
}

pub(super) fn is_savepoint(accepted: &Accepted) -> bool {
    super::results::kind_of(accepted) == v1::OperationKind::Savepoint
}

/// Whether a savepoint that an earlier process was to take is there. `None`: its place does not answer.
pub(super) async fn is_there(places: &Places, id: &str, accepted: &Accepted) -> Option<bool> {
    let target = accepted.request["target"].as_str()?;
    match places.read(target).await {
        Ok(savepoint) => Some(savepoint.id == id),
        Err(SavepointFailure::Store(_)) => None,
        Err(_) => Some(false),
    }
}
