//! The few requests that are needed of the engines.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Context;
use serde_json::Value;

/// The JSON answer to `GET path`.
pub fn get(address: &str, path: &str) -> anyhow::Result<Value> {
    ask(address, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))
}

/// The JSON answer to `POST path` with this body.
pub fn post(address: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    send("POST", address, path, body)
}

/// The JSON answer to `PUT path` with this body.
pub fn put(address: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    send("PUT", address, path, body)
}

fn send(method: &str, address: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let (body, head) = (body.to_string(), "Host: localhost\r\nContent-Type: application/json");
    ask(address, &format!("{method} {path} HTTP/1.0\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn ask(address: &str, request: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(serde_json::from_str(body)?)
}
