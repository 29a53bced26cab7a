//! The few GET requests that are needed of Flink's REST interface.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Context;
use serde_json::Value;

/// Flink's REST port in a measuring run.
pub const PORT: u16 = 18_081;

/// The JSON answer to `GET path`.
pub fn get(path: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("no body in Flink's answer")?;
    Ok(serde_json::from_str(body)?)
}
