//! The bytes of one connection, read and written without blocking, encrypted or not.

use std::io::{self, IoSlice, Read, Write};

use bytes::BytesMut;
use rustls::ClientConnection;
use tokio::net::TcpStream;

use crate::wire::Opened;

/// Bytes per read: answers to produce requests are short.
const READ_BYTES: usize = 4 << 10;

pub(super) struct Stream {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Takes over a connection. To be called on an I/O thread.
    pub(super) fn new(opened: Opened) -> io::Result<Self> {
        opened.socket.set_nonblocking(true)?;
        Ok(Self { socket: TcpStream::from_std(opened.socket)?, session: opened.session.map(Box::new) })
    }

    /// Writes all of the parts.
    pub(super) async fn write_all(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let Self { socket, session } = self;
        let mut parts = parts;
        while !parts.is_empty() {
            let written = match session {
                None => write_some(socket, parts).await?,
                Some(session) => {
                    let taken = session.writer().write_vectored(parts)?;
                    flush(socket, session).await?;
                    taken
                }
            };
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    /// Appends what has arrived; 0 bytes: the other side has closed. Nothing is lost when the future is dropped.
    pub(super) async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let Self { socket, session } = self;
        let mut buffer = [0u8; READ_BYTES];
        loop {
            let result = match session {
                None => socket.try_read(&mut buffer),
                Some(session) => read_session(socket, session, &mut buffer),
            };
            match result {
                Ok(bytes) => {
                    into.extend_from_slice(&buffer[..bytes]);
                    return Ok(bytes);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A session may owe the other side an answer.
                    if let Some(session) = session {
                        flush(socket, session).await?;
                    }
                    socket.readable().await?;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

async fn write_some(socket: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match socket.try_write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            other => return other,
        }
    }
}

/// Sends what the session has encrypted.
async fn flush(socket: &TcpStream, session: &mut ClientConnection) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(&mut Raw(socket)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn read_session(socket: &TcpStream, session: &mut ClientConnection, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match session.reader().read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        if session.read_tls(&mut Raw(socket))? == 0 {
            return Ok(0);
        }
        session.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    }
}

/// The socket as rustls wants it.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
