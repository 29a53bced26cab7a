//! Whether another process rules a job.

use std::time::Duration;

use millstream_api::ids::Generation;
use millstream_api::proto::control::v1 as proto;
use millstream_net::{ConnectError, Roles, Security};
use thiserror::Error;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::calls::control_client::ControlClient;
use crate::job::PROBE_TIMEOUT_MS;

const PROBE_TIMEOUT: Duration = Duration::from_millis(PROBE_TIMEOUT_MS);

/// A coordinator that did not say whether it rules.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// Whether a process is there is not known: no connection, no answer in time.
    #[error("the coordinator at {address} does not answer: {reason}")]
    Away { address: String, reason: String },
    /// Somebody answers who is not a coordinator of this job.
    #[error("what listens at {address} is not a coordinator of job {job}: {reason}")]
    Other { address: String, job: String, reason: String },
}

/// The generation in which the process at `address` (`host:port`) rules `job` (`<namespace>/<name>`); `None`: it does not.
///
/// # Errors
/// When there is no answer within a second, or not from a coordinator of this job.
pub async fn probe(address: &str, job: &str, security: &Security) -> Result<Option<Generation>, ProbeError> {
    let away = |reason: String| ProbeError::Away { address: address.to_owned(), reason };
    let ask = async {
        let channel = connect(address, security).await.map_err(|e| away(e.reason().to_owned()))?;
        let request = proto::ProbeRequest { job: job.to_owned() };
        ControlClient::new(channel).probe(request).await.map_err(|status| match status.code() {
            Code::NotFound | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
                ProbeError::Other {
                    address: address.to_owned(),
                    job: job.to_owned(),
                    reason: status.message().to_owned(),
                }
            }
            _ => away(status.message().to_owned()),
        })
    };
    let answer = timeout(PROBE_TIMEOUT, ask).await;
    let answer = answer.map_err(|_| away(format!("nothing was heard within {PROBE_TIMEOUT:?}")))??;
    Ok(answer.into_inner().generation.map(Generation))
}

/// The one place where another coordinator is connected to.
pub(super) async fn connect(address: &str, security: &Security) -> Result<Channel, ConnectError> {
    millstream_net::connect(address, security, Roles::COORDINATOR, PROBE_TIMEOUT, |endpoint| endpoint).await
}
