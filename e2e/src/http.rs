//! The HTTP page of a process.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A page answers from memory. One that does not is of a process that hangs or is gone.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The answer of a process's HTTP page.
pub fn get(address: &str, path: &str) -> String {
    ask(address, path).unwrap()
}

/// Likewise; an error where the process does not answer.
pub fn ask(address: &str, path: &str) -> io::Result<String> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The JSON of a page; `None` where the process does not answer.
pub fn json(address: &str, path: &str) -> Option<serde_json::Value> {
    let answer = ask(address, path).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
