//! A client of the operations API, for the command line and for coordinators among themselves.

use std::time::Duration;

use millstream_api::proto::operations::v1;
use millstream_net::{ConnectError, Roles, Security};
use thiserror::Error;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::server::calls::operations_client::OperationsClient;
use super::server::{COORDINATOR_KEY, RESPONSE_BYTES_MAX};

/// A coordinator is near; one that does not take a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer that needs nothing but the coordinator itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A script of a mebibyte takes the compiler seconds, on a coordinator with a fraction of a processor.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(30);
/// A stop answers after a minute, whatever has happened until then.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
/// A coordinator that is gone without a word, or hangs, is noticed after the two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call brought nothing.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("'{address}' is not an address: it is host:port, as the coordinator's --listen says")]
    Address { address: String },
    #[error("no coordinator answers on {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// One of the two does not trust the other.
    #[error("{reason}")]
    Untrusted { reason: String },
    /// `coordinator`: where the ruling one listens, if that is known.
    #[error("{message}")]
    NotRuling { message: String, coordinator: Option<String> },
    /// It was refused: nothing was done.
    #[error("{message}")]
    Refused { message: String },
    /// The answer is lost: whatever was asked for may have been done.
    #[error("the coordinator on {address} did not answer: {reason}")]
    Lost { address: String, reason: String },
}

/// A connection to one coordinator.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    calls: OperationsClient<Channel>,
}

/// Statuses as they change.
#[derive(Debug)]
pub struct Statuses {
    address: String,
    stream: Streaming<v1::JobStatus>,
}

impl Client {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// The address is none, or nobody is there.
    pub async fn connect(address: &str, security: &Security) -> Result<Self, CallError> {
        let (told, wrong) = (address.to_owned(), CallError::Address { address: address.to_owned() });
        if !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(wrong);
        }
        let channel = millstream_net::connect(address, security, Roles::COORDINATOR, CONNECT_TIMEOUT, |endpoint| {
            endpoint.http2_keep_alive_interval(KEEPALIVE_INTERVAL).keep_alive_timeout(KEEPALIVE_TIMEOUT)
        });
        let channel = channel.await.map_err(|error| match error {
            ConnectError::Address { .. } => wrong,
            ConnectError::Away { reason, .. } => CallError::Unreachable { address: told, reason },
            ConnectError::Refused { .. } => CallError::Untrusted { reason: error.to_string() },
        })?;
        let calls = OperationsClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        Ok(Self { address: address.to_owned(), calls })
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// As the coordinator says, or it does not answer.
    pub async fn status(&mut self) -> Result<v1::JobStatus, CallError> {
        let mut request = Request::new(v1::GetStatusRequest::default());
        request.set_timeout(ANSWER_TIMEOUT);
        let answer = self.calls.get_status(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| error(&self.address, &status))
    }

    /// The job as it is now, then at every change.
    ///
    /// # Errors
    /// As the coordinator says, or it does not answer.
    pub async fn watch(&mut self) -> Result<Statuses, CallError> {
        let answer = self.calls.watch_status(v1::WatchStatusRequest::default()).await;
        let stream = answer.map_err(|status| error(&self.address, &status))?.into_inner();
        Ok(Statuses { address: self.address.clone(), stream })
    }

    /// Compiles and checks a manifest against the job's newest checkpoint. Nothing is touched.
    ///
    /// # Errors
    /// As the coordinator says, or it does not answer. That the manifest is refused is an answer.
    pub async fn prepare(&mut self, manifest: &str, sql: Option<&str>) -> Result<v1::PrepareResponse, CallError> {
        let (manifest, sql) = (manifest.to_owned(), sql.unwrap_or_default().to_owned());
        let mut request = Request::new(v1::PrepareRequest { manifest, sql, ..v1::PrepareRequest::default() });
        request.set_timeout(PREPARE_TIMEOUT);
        let answer = self.calls.prepare(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| error(&self.address, &status))
    }

    /// Stops or drains the job, or says what became of the operation of this id.
    ///
    /// # Errors
    /// As the coordinator says, or it does not answer.
    pub async fn stop(&mut self, operation_id: &str, drain: bool) -> Result<v1::Operation, CallError> {
        let operation_id = operation_id.to_owned();
        let mut request = Request::new(v1::StopRequest { operation_id, drain, ..v1::StopRequest::default() });
        request.set_timeout(STOP_TIMEOUT);
        let answer = self.calls.stop(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| error(&self.address, &status))
    }

    /// Changes how many tasks the job has, or says what became of the operation of this id.
    ///
    /// # Errors
    /// As the coordinator says, or it does not answer.
    pub async fn rescale(&mut self, operation_id: &str, parallelism: u32) -> Result<v1::Operation, CallError> {
        let operation_id = operation_id.to_owned();
        let mut request = Request::new(v1::RescaleRequest { operation_id, parallelism, ..Default::default() });
        request.set_timeout(STOP_TIMEOUT);
        let answer = self.calls.rescale(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| error(&self.address, &status))
    }

    /// Takes a savepoint, or says what became of the operation of this id. `request`: all but the job.
    ///
    /// # Errors
    /// As the coordinator says, or it does not answer.
    pub async fn savepoint(&mut self, request: v1::SavepointRequest) -> Result<v1::Operation, CallError> {
        let mut request = Request::new(request);
        request.set_timeout(STOP_TIMEOUT);
        let answer = self.calls.savepoint(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| error(&self.address, &status))
    }
}

impl Statuses {
    /// The next one; `None`: the coordinator has ended.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<v1::JobStatus>, CallError> {
        self.stream.message().await.map_err(|status| error(&self.address, &status))
    }
}

fn error(address: &str, status: &Status) -> CallError {
    let message = status.message().to_owned();
    let coordinator = status.metadata().get(COORDINATOR_KEY).and_then(|c| c.to_str().ok()).map(str::to_owned);
    match status.code() {
        Code::FailedPrecondition => CallError::NotRuling { message, coordinator },
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::ResourceExhausted | Code::OutOfRange => {
            CallError::Refused { message }
        }
        _ => {
            let reason = if message.is_empty() { chain(status) } else { message };
            CallError::Lost { address: address.to_owned(), reason }
        }
    }
}

/// An error with its causes: the outermost says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}
