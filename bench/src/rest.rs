//! The few GET requests that are needed of the engines.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Context;
use serde_json::Value;

/// The JSON answer to `GET path`.
pub fn get(address: &str, path: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(serde_json::from_str(body)?)
}
