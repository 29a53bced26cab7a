//! A proxy that makes trouble between a client and a server.
//!
//! Owns: carrying connections, and what is done to them. Does not own: when. It knows of HTTP where a request begins, and
//! nothing else of what it carries.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What a proxy does to what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Requests whose first line holds this wait, and arrive later; "" holds all.
    Hold(&'static str),
    /// Each request waits so long before it arrives.
    Slow(Duration),
    /// Requests do not arrive: they are answered with 503.
    Fail,
    /// All requests arrive. Instead of every second reply the connection closes.
    LoseReplies,
    /// Connections close, new ones at once.
    Cut,
    /// Connections stand, also new ones, and nothing passes either way, not even their end.
    Silence,
}

/// Carries connections until the test ends.
pub struct Proxy {
    /// `host:port`
    pub address: String,
    /// `http://host:port`
    pub endpoint: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    trouble: Mutex<Option<Trouble>>,
    changed: Condvar,
    /// How often the trouble met something.
    hits: AtomicUsize,
    replies: AtomicUsize,
    next: AtomicU64,
    /// Both ends of each.
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

enum Passage {
    Forward,
    Refuse,
    Close,
}

const REFUSAL: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Proxy {
    /// In front of the server at `host:port`, also written `http://host:port`.
    pub fn start(server: &str) -> Self {
        Self::listen("127.0.0.1:0", server)
    }

    /// Likewise, taking connections at `address`.
    pub fn listen(address: &str, server: &str) -> Self {
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::new(Gate::default());
        let shared = Arc::clone(&gate);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (server, gate) = (server.clone(), Arc::clone(&shared));
                let client = client.unwrap();
                // Of its own: a server that takes no connection holds up no other one.
                std::thread::spawn(move || carry(client, &server, &gate));
            }
        });
        Self { endpoint: format!("http://{address}"), address, gate }
    }

    /// From now on, also to the connections that stand.
    pub fn make(&self, trouble: Trouble) {
        self.gate.set(Some(trouble));
        if trouble == Trouble::Cut {
            self.cut();
        }
    }

    /// Closes the connections that stand; new ones are carried.
    pub fn cut(&self) {
        let connections = std::mem::take(&mut *self.gate.connections.lock().unwrap());
        for stream in connections.values().flatten() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.gate.hits.fetch_add(connections.len(), Ordering::Relaxed);
    }

    /// Requests whose first line holds `part` wait from now on; "" holds all.
    pub fn hold(&self, part: &'static str) {
        self.make(Trouble::Hold(part));
    }

    /// Everything passes, also what waits.
    pub fn release(&self) {
        self.gate.set(None);
    }

    /// Connections that stand.
    pub fn connections(&self) -> usize {
        self.gate.connections.lock().unwrap().len()
    }

    /// What met trouble so far: connections that were closed, and pieces of data.
    pub fn hits(&self) -> usize {
        self.gate.hits.load(Ordering::Relaxed)
    }
}

impl Gate {
    fn set(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap() = trouble;
        self.changed.notify_all();
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap()
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// What becomes of a piece of data, after the wait for it.
    fn pass(&self, way: Way, piece: &[u8]) -> Passage {
        let request = if way == Way::ToServer { first_line(piece) } else { None };
        let trouble = self.trouble();
        let (Some(met), request) = (*trouble, request) else { return Passage::Forward };
        match (met, request) {
            (Trouble::Hold(part), Some(line)) if line.contains(part) => {
                self.hit();
                let held = |now: &mut Option<Trouble>| matches!(now, Some(Trouble::Hold(part)) if line.contains(*part));
                drop(self.changed.wait_while(trouble, held).unwrap());
                Passage::Forward
            }
            (Trouble::Slow(delay), Some(_)) => {
                self.hit();
                drop(self.changed.wait_timeout_while(trouble, delay, |now| *now == Some(met)).unwrap());
                Passage::Forward
            }
            (Trouble::Fail, Some(_)) => {
                self.hit();
                Passage::Refuse
            }
            (Trouble::LoseReplies, _) if way == Way::ToClient => {
                if self.replies.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    self.hit();
                    return Passage::Close;
                }
                Passage::Forward
            }
            (Trouble::Silence, _) => {
                self.hit();
                drop(trouble);
                self.wait_out_silence();
                Passage::Forward
            }
            (Trouble::Cut, _) => Passage::Close,
            _ => Passage::Forward,
        }
    }

    fn wait_out_silence(&self) {
        drop(self.changed.wait_while(self.trouble(), |now| *now == Some(Trouble::Silence)).unwrap());
    }
}

/// Of an HTTP request that begins here.
fn first_line(piece: &[u8]) -> Option<String> {
    let begins =
        ["PUT ", "GET ", "POST ", "HEAD ", "DELETE "].iter().any(|method| piece.starts_with(method.as_bytes()));
    begins.then(|| String::from_utf8_lossy(piece.split(|b| *b == b'\r').next().unwrap_or_default()).into_owned())
}

/// One connection, until either side ends.
fn carry(client: TcpStream, server: &str, gate: &Arc<Gate>) {
    if *gate.trouble() == Some(Trouble::Cut) {
        return gate.hit();
    }
    // Where no server is, the client sees that its connection closes.
    let Ok(server) = TcpStream::connect(server) else { return };
    let ends = [&client, &server].map(|stream| {
        stream.set_nodelay(true).unwrap();
        stream.try_clone().unwrap()
    });
    let id = gate.next.fetch_add(1, Ordering::Relaxed);
    gate.connections.lock().unwrap().insert(id, ends);
    let (to_client, from_server, replies) =
        (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(gate));
    let back = std::thread::spawn(move || copy(from_server, to_client, &replies, Way::ToClient));
    copy(client, server, gate, Way::ToServer);
    // A panic there is told there.
    let _ = back.join();
    gate.connections.lock().unwrap().remove(&id);
}

/// Until either side ends, which the other one then sees.
fn copy(mut from: TcpStream, mut to: TcpStream, gate: &Gate, way: Way) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        match gate.pass(way, &buffer[..count]) {
            Passage::Forward => {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Passage::Refuse => {
                // The client may be gone.
                let _ = from.write_all(REFUSAL);
                let _ = from.shutdown(Shutdown::Write);
                break;
            }
            Passage::Close => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                break;
            }
        }
    }
    gate.wait_out_silence();
    // One of them may be closed already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
