//! The operations API as gRPC.
//!
//! Owns: messages in and out, their bounds, what a refusal is in gRPC. Does not own: what is done.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_api::proto::operations::v1;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::unread::CountUnread;
use super::{Operations, Refusal, RefusalKind, TEXT_BYTES_MAX};

/// The generated calls.
pub(super) mod calls {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("millstream.operations.v1");
}

pub use calls::operations_server::OperationsServer;

/// Two texts and what is around them.
const REQUEST_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX + (64 << 10);
/// The lists of a status at their bounds, with names of usual length, are well below a megabyte.
pub(super) const RESPONSE_BYTES_MAX: usize = 4 << 20;
/// Streams on one connection: a client has one or two.
const STREAMS_MAX: u32 = 32;
/// A client that is gone without a word, or hangs, is noticed after the two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Where a refusal names the ruling coordinator, beside its message.
pub(super) const COORDINATOR_KEY: &str = "millstream-coordinator";
/// On every refusal, with its kind: other errors come from before the call.
pub(super) const REFUSED_KEY: &str = "millstream-refused";

/// How long answers that are on their way may take when the job has ended.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// The calls for a server that has others, too.
#[must_use]
pub fn service(operations: Operations) -> CountUnread<OperationsServer<Calls>> {
    let calls = OperationsServer::new(Calls { operations: operations.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    CountUnread::new(calls, operations)
}

/// A server in the background.
#[derive(Debug)]
pub struct Serving {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Comes when a server is to take no more calls.
pub type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Serving {
    /// Begins to serve. To be called within a runtime.
    pub fn start<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(Closing) -> F) -> Self {
        let (end, mut ended) = watch::channel(false);
        let closing = Box::pin(async move { drop(ended.wait_for(|ended| *ended).await) });
        Self { end, task: tokio::spawn(serve(closing)) }
    }

    /// Serves the operations alone.
    #[must_use]
    pub fn operations(listener: TcpListener, operations: Operations) -> Self {
        let router = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(service(operations));
        Self::start(|closing| async move {
            let connections = TcpListenerStream::new(listener);
            if let Err(error) = router.serve_with_incoming_shutdown(connections, closing).await {
                tracing::warn!(%error, "the operations API is served no longer");
            }
        })
    }

    /// Takes no more calls, and gives those that are being answered a moment.
    pub async fn close(self) {
        self.end.send_replace(true);
        // Whoever still follows the status then is cut off.
        let _ = tokio::time::timeout(GOODBYE_LIMIT, self.task).await;
    }
}

/// The calls on a job's operations.
#[derive(Clone)]
pub struct Calls {
    operations: Operations,
}

#[tonic::async_trait]
impl calls::operations_server::Operations for Calls {
    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Result<Response<v1::JobStatus>, Status> {
        let status = self.operations.status(&request.into_inner().job).await?;
        Ok(Response::new(Arc::unwrap_or_clone(status)))
    }

    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<v1::JobStatus, Status>> + Send>>;

    async fn watch_status(
        &self,
        request: Request<v1::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let changes = self.operations.watch(&request.into_inner().job)?;
        Ok(Response::new(Box::pin(changes.map(|status| Ok(Arc::unwrap_or_clone(status))))))
    }

    async fn prepare(&self, request: Request<v1::PrepareRequest>) -> Result<Response<v1::PrepareResponse>, Status> {
        Ok(Response::new(self.operations.prepare(request.into_inner()).await?))
    }

    async fn stop(&self, request: Request<v1::StopRequest>) -> Result<Response<v1::Operation>, Status> {
        Ok(Response::new(self.operations.stop(request.into_inner()).await?))
    }

    async fn rescale(&self, request: Request<v1::RescaleRequest>) -> Result<Response<v1::Operation>, Status> {
        Ok(Response::new(self.operations.rescale(request.into_inner()).await?))
    }

    async fn savepoint(&self, request: Request<v1::SavepointRequest>) -> Result<Response<v1::Operation>, Status> {
        Ok(Response::new(self.operations.savepoint(request.into_inner()).await?))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind {
            RefusalKind::Invalid => Code::InvalidArgument,
            RefusalKind::OtherJob => Code::NotFound,
            RefusalKind::NotRuling => Code::FailedPrecondition,
            RefusalKind::IdUsed => Code::AlreadyExists,
            RefusalKind::Busy => Code::ResourceExhausted,
            RefusalKind::Unavailable => Code::Unavailable,
            RefusalKind::Defect => Code::Internal,
        };
        let mut status = Status::new(code, refusal.message);
        status.metadata_mut().insert(REFUSED_KEY, MetadataValue::from_static(refusal.kind.name()));
        if let Some(address) = refusal.coordinator.and_then(|c| MetadataValue::try_from(c).ok()) {
            status.metadata_mut().insert(COORDINATOR_KEY, address);
        }
        status
    }
}
