//! One connection to one broker: opened, encrypted, authenticated; then a request and its answer, one at a time.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use super::deadline::Deadline;
use super::{sasl, text};
use crate::config::ClientConfig;
use crate::error::KafkaError;

mod reused;

pub(crate) use reused::Breaker;

/// No answer to our few small requests comes near it; a longer one is not Kafka.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// A broker that takes longer for one of our requests is treated as gone; the caller tries again until its deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const UNSUPPORTED_VERSION: i16 = 35;

/// A ready connection's parts, for whoever reads and writes it without blocking.
pub(crate) struct Opened {
    pub(crate) socket: TcpStream,
    pub(crate) session: Option<ClientConnection>,
    versions: HashMap<i16, (i16, i16)>,
}

impl Opened {
    /// The newest version of `R` between these that the broker speaks.
    pub(crate) fn version<R: Request>(&self, least: i16, most: i16) -> Option<i16> {
        let (min, max) = self.versions.get(&R::KEY).copied()?;
        Some(max.min(most)).filter(|version| *version >= min.max(least))
    }
}

/// A ready connection.
pub(crate) struct Connection {
    stream: Stream,
    address: String,
    client_id: String,
    correlation_id: i32,
    /// By API key: the versions that the broker speaks.
    versions: HashMap<i16, (i16, i16)>,
    /// Of the call in progress.
    deadline: Deadline,
}

/// What the system decides where nothing is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketOptions {
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) receive_buffer_bytes: Option<usize>,
    /// For one address of a broker.
    pub(crate) connect_timeout: Option<Duration>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// Connects, encrypts, asks for the versions, authenticates.
    pub(super) fn open(
        address: &str,
        config: &ClientConfig,
        tls: Option<&Arc<rustls::ClientConfig>>,
        deadline: Deadline,
    ) -> Result<Self, KafkaError> {
        Self::open_with(address, config, tls, &SocketOptions::default(), deadline)
    }

    /// As [`Self::open`], over a socket with these options.
    pub(crate) fn open_with(
        address: &str,
        config: &ClientConfig,
        tls: Option<&Arc<rustls::ClientConfig>>,
        socket_options: &SocketOptions,
        deadline: Deadline,
    ) -> Result<Self, KafkaError> {
        let unreachable = |reason: String| KafkaError::Unreachable { brokers: address.to_owned(), reason };
        let socket = connect(address, socket_options, deadline).map_err(|e| unreachable(e.to_string()))?;
        socket.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(|e| unreachable(format!("not a host name: {e}")))?;
                let session = ClientConnection::new(tls.clone(), name).map_err(|e| unreachable(format!("TLS: {e}")))?;
                Stream::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            client_id: config.client_id.clone(),
            correlation_id: 0,
            versions: HashMap::new(),
            deadline,
        };
        connection.ask_versions()?;
        if let Some(sasl) = &config.security.sasl {
            sasl::authenticate(&mut connection, sasl)?;
        }
        Ok(connection)
    }

    pub(super) fn into_opened(self) -> Opened {
        let (session, socket) = match self.stream {
            Stream::Plain(socket) => (None, socket),
            Stream::Tls(tls) => {
                let (session, socket) = tls.into_parts();
                (Some(session), socket)
            }
        };
        Opened { socket, session, versions: self.versions }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Until when the calls that follow may take.
    pub(super) fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// The version of `R` that both sides speak, at most `cap`.
    pub(crate) fn version<R: Request>(&self, cap: i16) -> Result<i16, KafkaError> {
        let ours = R::VERSIONS;
        let (min, max) = self.versions.get(&R::KEY).copied().unwrap_or((0, -1));
        let version = max.min(cap).min(ours.max);
        if version < min.max(ours.min) {
            return Err(self.protocol(format!(
                "request {} is spoken by it in versions {min} to {max}, by this client in {} to {}; \
                 is the broker older than 2.5, or far newer than this client?",
                R::KEY,
                ours.min,
                cap.min(ours.max)
            )));
        }
        Ok(version)
    }

    /// Sends a request in the newest common version, at most `cap`, and waits for its answer.
    pub(super) fn call<R: Request>(&mut self, request: &R, cap: i16) -> Result<R::Response, KafkaError> {
        let version = self.version::<R>(cap)?;
        let mut body = self.round_trip(request, version)?;
        self.decode::<R::Response>(&mut body, version)
    }

    /// A broker that does not know our version of ApiVersions answers in version 0, with the error that says so.
    fn ask_versions(&mut self) -> Result<(), KafkaError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("millstream"))
            .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
        let mut response = self.versions_in(&request, 3)?;
        if response.error_code == UNSUPPORTED_VERSION {
            response = self.versions_in(&ApiVersionsRequest::default(), 0)?;
        }
        if response.error_code != 0 {
            return Err(KafkaError::from_code(response.error_code, "ask the broker for its versions"));
        }
        self.versions = response.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        Ok(())
    }

    fn versions_in(&mut self, request: &ApiVersionsRequest, version: i16) -> Result<ApiVersionsResponse, KafkaError> {
        let mut body = self.round_trip(request, version)?;
        let code = body.clone().try_get_i16().unwrap_or(0);
        self.decode(&mut body, if code == UNSUPPORTED_VERSION { 0 } else { version })
    }

    /// The answer's bytes after its header.
    fn round_trip<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, KafkaError> {
        let frame = self.frame(request, version)?;
        let mut answer = self.exchange(&frame).map_err(|e| self.lost(&e))?;
        let header = self.decode::<ResponseHeader>(&mut answer, R::Response::header_version(version))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.protocol("the answer belongs to another request".to_owned()));
        }
        Ok(answer)
    }

    /// The request with its length and header, under the next correlation id.
    fn frame<R: Request>(&mut self, request: &R, version: i16) -> Result<BytesMut, KafkaError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text(&self.client_id)));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|e| self.protocol(format!("request {} cannot be encoded: {e}", R::KEY)))?;
        let bytes = u32::try_from(frame.len() - 4).map_err(|e| self.protocol(e.to_string()))?;
        frame[..4].copy_from_slice(&bytes.to_be_bytes());
        Ok(frame)
    }

    fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        let timeout = self.deadline.remaining().min(REQUEST_TIMEOUT);
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the time for this call is used up"));
        }
        let length = self.send(frame, timeout)?;
        if length > RESPONSE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer of {length} bytes; is this a Kafka listener of the right security protocol?"),
            ));
        }
        let mut answer = vec![0u8; length];
        self.stream.read_exact(&mut answer)?;
        Ok(Bytes::from(answer))
    }

    /// Sends a request. Returns how long its answer is, which comes next; a pause longer than `silence_max` is an error.
    fn send(&mut self, frame: &[u8], silence_max: Duration) -> io::Result<usize> {
        let socket = self.socket();
        socket.set_read_timeout(Some(silence_max))?;
        socket.set_write_timeout(Some(silence_max))?;
        self.stream.write_all(frame)?;
        self.stream.flush()?;
        let mut length = [0u8; 4];
        self.stream.read_exact(&mut length)?;
        Ok(u32::from_be_bytes(length) as usize)
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    fn decode<T: Decodable + Message>(&self, body: &mut Bytes, version: i16) -> Result<T, KafkaError> {
        T::decode(body, version).map_err(|e| self.protocol(e.to_string()))
    }

    pub(crate) fn protocol(&self, reason: String) -> KafkaError {
        KafkaError::Protocol { broker: self.address.clone(), reason }
    }

    /// A TLS alert or a refused certificate is a matter of settings; everything else may pass.
    fn lost(&self, error: &io::Error) -> KafkaError {
        let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        match tls {
            Some(e) => KafkaError::Authentication { broker: self.address.clone(), reason: format!("TLS: {e}") },
            None => {
                let reason = match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                        "the broker closed the connection; does the port speak this security protocol?".to_owned()
                    }
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        "the broker did not answer in time".to_owned()
                    }
                    _ => error.to_string(),
                };
                KafkaError::Unreachable { brokers: self.address.clone(), reason }
            }
        }
    }
}

fn connect(address: &str, options: &SocketOptions, deadline: Deadline) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in address.to_socket_addrs()? {
        let timeout = deadline.remaining().min(options.connect_timeout.unwrap_or(CONNECT_TIMEOUT));
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the time for this call is used up"));
        }
        match connect_to(address, options, timeout) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Buffers are set before the connection is made: what a socket offers its peer depends on them.
fn connect_to(address: SocketAddr, options: &SocketOptions, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(s) => s.read(buf),
            Stream::Tls(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(s) => s.write(buf),
            Stream::Tls(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(s) => s.flush(),
            Stream::Tls(s) => s.flush(),
        }
    }
}
