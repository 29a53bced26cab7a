//! Taking connections in: handshakes beside each other, none of which can hold up or end the server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::identity::{Identity, Roles};
use crate::io::Socket;
use crate::refusal::{Reason, Refusal};
use crate::security::{Keys, Security};
use crate::verify;

/// A peer has so much time from its connection to the end of the handshake. Less than the limit of silence (3 s) makes no
/// difference to a healthy one, and what hangs makes room soon.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Handshakes at a time, many more than a job has processes. Further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 256;

/// Connections that are let in and not yet taken by the server, which takes them at once.
const READY_MAX: usize = 16;

/// After a refusal the peer has so much time to hear of it; closing on unread bytes would reset the connection before.
const LINGER: Duration = Duration::from_millis(500);

/// And so many bytes are thrown away meanwhile.
const LINGER_BYTES_MAX: u64 = 64 << 10;

/// The pause when the system has no sockets left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first byte of a TLS connection; HTTP/2 begins with a letter.
const TLS_HANDSHAKE: u8 = 0x16;

/// A port of this process.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    door: Door,
}

/// Who is let in.
#[derive(Clone, Debug)]
struct Door {
    security: Security,
    roles: Roles,
}

/// Connections that were let in, for `tonic::transport::Server::serve_with_incoming`. Never ends of itself; when it is
/// dropped the port is closed.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<Connection>,
}

/// A connection with a peer that may be here.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    peer: Peer,
}

/// Who is at the other end, found in the extensions of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// `None`: without certificates nobody can tell.
    pub identity: Option<Identity>,
}

/// Why a connection was not let in.
enum Failed {
    /// With the socket, where the peer may still be listening.
    Refused(Refusal, Option<TcpStream>),
    /// The network's doing: it went before it began.
    Gone,
}

impl Listener {
    /// Listens on `address` (`host:port`) for peers of these roles.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: &str, security: &Security, roles: Roles) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(address).await?, security, roles))
    }

    /// Takes a port over that listens already.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn from_std(listener: std::net::TcpListener, security: &Security, roles: Roles) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(TcpListener::from_std(listener)?, security, roles))
    }

    fn new(listener: TcpListener, security: &Security, roles: Roles) -> Self {
        Self { listener, door: Door { security: security.clone(), roles } }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Begins to take connections in.
    #[must_use]
    pub fn incoming(self) -> Incoming {
        let (let_in, ready) = mpsc::channel(READY_MAX);
        tokio::spawn(accept(self.listener, self.door, let_in));
        Incoming { ready }
    }
}

/// Accepts until nobody takes connections any more. Handshakes end with it.
async fn accept(listener: TcpListener, door: Door, let_in: mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let next = async { (place.await, listener.accept().await) };
        tokio::select! {
            () = let_in.closed() => return,
            Some(_) = handshakes.join_next() => {}
            (place, accepted) = next => match accepted {
                Ok((stream, address)) => {
                    let (door, let_in) = (door.clone(), let_in.clone());
                    handshakes.spawn(async move {
                        let _place = place;
                        if let Some(connection) = door.admit(stream, address).await {
                            // Nobody takes it: the server ends, and the connection with it.
                            let _ = let_in.send(connection).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Door {
    /// The connection, or `None` when it was refused, which is then counted and told.
    async fn admit(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        let silent = || {
            let text = format!("it did not get through a handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
            Failed::Refused(Refusal::new(Reason::Silent, text), None)
        };
        let done = timeout(HANDSHAKE_TIMEOUT, self.handshake(stream)).await;
        match done.unwrap_or_else(|_| Err(silent())) {
            Ok(socket) => {
                let identity = socket.peer_identity();
                return Some(Connection { socket, peer: Peer { address, identity } });
            }
            Err(Failed::Refused(refusal, stream)) => {
                self.security.refused().turned_away(address, &refusal);
                if let Some(stream) = stream {
                    linger(stream).await;
                }
            }
            Err(Failed::Gone) => tracing::debug!("a connection from {address} went before it began"),
        }
        None
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Socket, Failed> {
        stream.set_nodelay(true).map_err(|_| Failed::Gone)?;
        let mut first = [0_u8; 1];
        if stream.peek(&mut first).await.map_err(|_| Failed::Gone)? == 0 {
            return Err(Failed::Gone);
        }
        let unlike = match (self.security.keys().await, first[0] == TLS_HANDSHAKE) {
            (None, false) => return Ok(Socket::Plain(stream)),
            (Some(keys), true) => return self.tls_handshake(stream, &keys).await,
            (Some(_), false) => "it does not speak TLS, as this process does: give it certificates",
            (None, true) => "it speaks TLS, but this process has no certificates",
        };
        Err(Failed::Refused(Refusal::new(Reason::Plain, unlike), Some(stream)))
    }

    async fn tls_handshake(&self, stream: TcpStream, (credentials, provider): &Keys) -> Result<Socket, Failed> {
        let config = match verify::server_config(credentials, provider, self.roles) {
            Ok(config) => config,
            Err(error) => {
                let refusal = Refusal::new(Reason::Handshake, format!("failed to set TLS up: {error}"));
                return Err(Failed::Refused(refusal, Some(stream)));
            }
        };
        match TlsAcceptor::from(Arc::new(config)).accept(stream).into_fallible().await {
            Ok(stream) => Ok(Socket::Tls(Box::new(TlsStream::Server(stream)))),
            Err((error, stream)) => {
                let went =
                    || Refusal::new(Reason::Handshake, format!("it went away during the TLS handshake: {error}"));
                Err(Failed::Refused(Refusal::of(&error).unwrap_or_else(went), Some(stream)))
            }
        }
    }
}

/// Lets the peer read what it was told before the connection goes.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // It is over whether or not the peer listened.
    let _ = timeout(LINGER, drain).await;
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().ready.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
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
