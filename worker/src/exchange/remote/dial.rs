//! Connecting to another worker.

use std::time::Duration;

use http::{Request, Response};
use millstream_api::ids::WorkerId;
use millstream_net::{ConnectError, Roles, Security, with_causes};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower_service::Service;

use super::hello::{HELLO, Hello, Party};
use super::link::LinkError;
use super::outbound::OutboundBody;
use super::server::{
    CONNECTION_WINDOW_BYTES, HTTP_FRAME_BYTES_MAX, METHOD, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW_BYTES,
};

/// A host that does not answer a connection attempt is taken for dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, and says who calls. `outgoing` is what will be sent; returned is what arrives.
pub(super) async fn dial(
    address: &str,
    party: &Party,
    to: WorkerId,
    outgoing: OutboundBody,
    security: &Security,
) -> Result<(Channel, Body), LinkError> {
    let failed = |reason: String| LinkError::Connect { address: address.to_owned(), reason };
    let hello = Hello::new(party, to).to_header().ok_or_else(|| failed("the job's name is no text".to_owned()))?;
    let mut client = connect(address, security).await?;
    let request = Request::post(METHOD)
        .version(http::Version::HTTP_2)
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .header(HELLO, hello)
        .body(Body::new(outgoing))
        .map_err(|e| failed(e.to_string()))?;
    std::future::poll_fn(|cx| client.poll_ready(cx)).await.map_err(|e| failed(with_causes(&e)))?;
    let response: Response<Body> = client.call(request).await.map_err(|e| failed(with_causes(&e)))?;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => {
            Err(LinkError::Refused { address: address.to_owned(), reason: status.message().to_owned() })
        }
        _ if response.status() != http::StatusCode::OK => {
            Err(LinkError::Refused { address: address.to_owned(), reason: response.status().to_string() })
        }
        _ => Ok((client, response.into_body())),
    }
}

/// The one place that opens a connection.
async fn connect(address: &str, security: &Security) -> Result<Channel, LinkError> {
    let connected = millstream_net::connect(address, security, Roles::WORKER, CONNECT_TIMEOUT, |endpoint| {
        endpoint
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP_FRAME_BYTES_MAX)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
    });
    connected.await.map_err(|error| {
        let (address, reason) = (address.to_owned(), error.reason().to_owned());
        match error {
            ConnectError::Refused { .. } => LinkError::Refused { address, reason },
            ConnectError::Address { .. } | ConnectError::Away { .. } => LinkError::Connect { address, reason },
        }
    })
}
