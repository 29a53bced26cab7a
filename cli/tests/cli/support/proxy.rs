//! A proxy in front of an HTTP server that can hold requests back: the server is away, and what was asked of it arrives
//! later.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

pub struct Proxy {
    /// `http://host:port`
    pub endpoint: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// Requests whose first line holds this wait.
    held: Mutex<Option<&'static str>>,
    opened: Condvar,
}

impl Proxy {
    /// In front of the server at `http://host:port`.
    pub fn start(endpoint: &str) -> Self {
        let server = endpoint.strip_prefix("http://").expect("a plain endpoint").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let gate = Arc::new(Gate::default());
        let shared = Arc::clone(&gate);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (server, gate) = (TcpStream::connect(&server).unwrap(), Arc::clone(&shared));
                let client = client.unwrap();
                let (to_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(client, server, |chunk| gate.pass(chunk)));
                std::thread::spawn(move || copy(from_server, to_client, |_| ()));
            }
        });
        Self { endpoint, gate }
    }

    /// Requests whose first line holds `part` wait from now on; "" holds all.
    pub fn hold(&self, part: &'static str) {
        *self.gate.held.lock().unwrap() = Some(part);
    }

    /// All requests pass, also those that wait.
    pub fn release(&self) {
        *self.gate.held.lock().unwrap() = None;
        self.gate.opened.notify_all();
    }
}

impl Gate {
    /// Waits while `chunk` begins a request that is held back.
    fn pass(&self, chunk: &[u8]) {
        if !["PUT ", "GET ", "POST ", "HEAD ", "DELETE "].iter().any(|method| chunk.starts_with(method.as_bytes())) {
            return;
        }
        let line = String::from_utf8_lossy(chunk.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned();
        let held = self.held.lock().unwrap();
        drop(self.opened.wait_while(held, |held| held.is_some_and(|part| line.contains(part))).unwrap());
    }
}

/// Until either side ends, which the other one then sees.
fn copy(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        before(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // One of them may be closed already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
