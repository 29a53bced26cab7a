//! Making connections.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::identity::Roles;
use crate::io::Socket;
use crate::refusal::{Reason, Refusal};
use crate::security::{Keys, Security};
use crate::verify;

/// What the first request of a connection asks for: any answer will do, also that nothing of this name is here.
const FIRST_REQUEST: &str = "/grpc.health.v1.Health/Check";

/// No connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nothing to try again.
    #[error("failed to connect to {address}: it is not an address: {reason}")]
    Address { address: String, reason: String },
    /// Nobody is there, or nobody answers. This may change by itself.
    #[error("failed to connect to {address}: {reason}")]
    Away { address: String, reason: String },
    /// One of the two does not trust the other: a person must act.
    #[error("refused to talk with {address}: {reason}")]
    Refused { address: String, reason: String },
}

impl ConnectError {
    /// Without the address.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Address { reason, .. } | Self::Away { reason, .. } | Self::Refused { reason, .. } => reason,
        }
    }
}

/// Connects to a peer of one of these roles. What comes back has had an answer from it: the system accepts connections for a
/// process that hangs, and in TLS 1.3 a client is done before the server has looked at its certificate. `limit` is for all of
/// that; `tune` sets what HTTP/2 has to set.
///
/// # Errors
/// [`ConnectError`] says whether trying again can help.
pub async fn connect(
    address: &str,
    security: &Security,
    roles: Roles,
    limit: Duration,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| ConnectError::Address { address: address.to_owned(), reason: with_causes(&e) })?;
    let endpoint = tune(endpoint.connect_timeout(limit));
    let verdict = Verdict::default();
    let connector = Connector { address: address.into(), security: security.clone(), roles, verdict: verdict.clone() };
    let made = timeout(limit, async {
        let channel = endpoint.connect_with_connector(connector).await.map_err(|e| with_causes(&e))?;
        first_answer(channel).await.map_err(|e| with_causes(&e))
    });
    let reason = match made.await {
        Ok(Ok(channel)) => return Ok(channel),
        Ok(Err(reason)) => reason,
        Err(_) => format!("it did not answer within {limit:?}"),
    };
    let address = address.to_owned();
    Err(match verdict.0.get() {
        Some(refusal) => ConnectError::Refused { address, reason: refusal.to_string() },
        None => ConnectError::Away { address, reason },
    })
}

async fn first_answer(mut channel: Channel) -> Result<Channel, tonic::transport::Error> {
    poll_fn(|cx| channel.poll_ready(cx)).await?;
    let mut request = Request::post(FIRST_REQUEST)
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers");
    request = request.version(http::Version::HTTP_2);
    let request = request.body(Body::empty()).expect("its parts are constants");
    channel.call(request).await?;
    Ok(channel)
}

/// An error with its causes: tonic's own message names none.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Why the connection was refused, set once by whoever notices.
#[derive(Clone, Debug, Default)]
struct Verdict(Arc<OnceLock<Refusal>>);

/// Makes the connections of a channel: the first, and others when that is lost.
#[derive(Clone, Debug)]
struct Connector {
    address: Arc<str>,
    security: Security,
    roles: Roles,
    verdict: Verdict,
}

impl Connector {
    async fn connect(self) -> io::Result<TokioIo<Outgoing>> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        let socket = match self.security.keys().await {
            None => Socket::Plain(stream),
            Some(keys) => self.tls(stream, &keys).await?,
        };
        Ok(TokioIo::new(Outgoing { socket, has_spoken: false, security: self.security, verdict: self.verdict }))
    }

    async fn tls(&self, stream: TcpStream, (credentials, provider): &Keys) -> io::Result<Socket> {
        let config = verify::client_config(credentials, provider, self.roles).map_err(io::Error::other)?;
        // Not looked at by our verifiers, and not sent.
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])));
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => Ok(Socket::Tls(Box::new(TlsStream::Client(stream)))),
            Err(error) => {
                let refusal = Refusal::of(&error).unwrap_or_else(|| {
                    Refusal::new(
                        Reason::Plain,
                        format!("it ended the TLS handshake: does it have certificates? ({error})"),
                    )
                });
                Err(refuse(&self.security, &self.verdict, refusal))
            }
        }
    }
}

fn refuse(security: &Security, verdict: &Verdict, refusal: Refusal) -> io::Error {
    security.refused().count(refusal.reason);
    let error = io::Error::other(refusal.clone());
    // Of several the first is told.
    let _ = verdict.0.set(refusal);
    error
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Outgoing>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A connection that this process made. Notices when the peer does not want it.
#[derive(Debug)]
struct Outgoing {
    socket: Socket,
    /// The peer has said something, so it took the connection.
    has_spoken: bool,
    security: Security,
    verdict: Verdict,
}

impl Outgoing {
    /// What it means that nothing can be read.
    fn lost(&self, error: io::Error) -> io::Error {
        let plain = matches!(self.socket, Socket::Plain(_)) && !self.has_spoken;
        let refusal = Refusal::of(&error).or_else(|| {
            let text =
                "it closed the connection without a word: it may take TLS only, and this process has no certificates";
            plain.then(|| Refusal::new(Reason::Plain, text))
        });
        refusal.map_or(error, |refusal| refuse(&self.security, &self.verdict, refusal))
    }
}

impl AsyncRead for Outgoing {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = std::task::ready!(Pin::new(&mut this.socket).poll_read(cx, buf));
        Poll::Ready(match read {
            Ok(()) if buf.filled().len() > before => {
                this.has_spoken = true;
                Ok(())
            }
            Ok(()) if this.has_spoken => Ok(()),
            Ok(()) => Err(this.lost(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(this.lost(error)),
        })
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
