//! What a worker says of itself when it connects to another.

use http::HeaderValue;
use millstream_api::control::Attempt;
use millstream_api::ids::WorkerId;
use serde::{Deserialize, Serialize};

/// The header that it travels in: JSON.
pub(super) const HELLO: &str = "millstream-hello";
/// Both sides are of one version: the format of frames is free to change with it.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A worker of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub job: String,
    pub attempt: Attempt,
    pub worker: WorkerId,
}

/// The first that is said on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    pub(super) version: String,
    pub(super) job: String,
    pub(super) attempt: Attempt,
    pub(super) from: WorkerId,
    pub(super) to: WorkerId,
}

impl Hello {
    pub(super) fn new(party: &Party, to: WorkerId) -> Self {
        Self { version: VERSION.to_owned(), job: party.job.clone(), attempt: party.attempt, from: party.worker, to }
    }

    /// `None`: a character that no header can hold.
    pub(super) fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(&serde_json::to_vec(self).ok()?).ok()
    }

    pub(super) fn from_header(value: &HeaderValue) -> Option<Self> {
        serde_json::from_slice(value.as_bytes()).ok()
    }
}
