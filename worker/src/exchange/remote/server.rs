//! The port where a worker takes rows from the others, for its whole life.
//!
//! A call is gRPC on the wire, its frames ours (`frame`). Owns: the listener, the transport's settings, the call's first
//! answer. Does not own: which calls are welcome (`reception`).

use std::convert::Infallible;
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::runtime::Handle;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower_service::Service;

use super::hello::{HELLO, Hello};
use super::reception::Reception;

/// The one call that there is.
pub(super) const METHOD: &str = "/millstream.shuffle.v1.Shuffle/Exchange";
/// Measured: with the transport's own defaults the throughput is half. Channels do not fill it, their credit is less.
pub(super) const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;
/// The largest that HTTP/2 has: a frame of ours is mostly one of its frames.
pub(super) const HTTP_FRAME_BYTES_MAX: u32 = (1 << 24) - 1;
/// A connection that carries nothing is asked so often whether the other side is still there,
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// and must answer within this: a cable that was cut says nothing.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Calls of one connection. A worker makes one; a new deployment makes a connection of its own.
const CALLS_PER_CONNECTION_MAX: u32 = 4;

/// Serves until the runtime ends. The one place that accepts connections.
pub(super) fn serve(listener: &TcpListener, reception: Arc<Reception>, io: &Handle) -> std::io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let _runtime = io.enter();
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES_MAX)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(Calls { reception });
    io.spawn(async move {
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(%error, "the port for rows from other workers is closed");
        }
    });
    Ok(())
}

/// Answers calls.
#[derive(Clone, Debug)]
struct Calls {
    reception: Arc<Reception>,
}

impl NamedService for Calls {
    const NAME: &'static str = "millstream.shuffle.v1.Shuffle";
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let reception = Arc::clone(&self.reception);
        Box::pin(async move { Ok(answer(&reception, request).await) })
    }
}

async fn answer(reception: &Reception, request: Request<Body>) -> Response<Body> {
    let (head, incoming) = request.into_parts();
    let hello = head.headers.get(HELLO).and_then(Hello::from_header).filter(|_| head.uri.path() == METHOD);
    let admitted = match hello {
        Some(hello) => reception.admit(&hello, incoming).await,
        None => Err(reception.refuse(Status::invalid_argument("this is the port for rows of another worker"))),
    };
    match admitted {
        Ok(outgoing) => {
            let mut response = Response::new(Body::new(outgoing));
            let grpc = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
            response
        }
        Err(status) => status.into_http(),
    }
}
