//! A proxy that remembers what clients said.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Of each connection, from its beginning: what a test changes and says again need not be longer.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Carries connections to a server until the test ends.
pub struct Recorder {
    /// `host:port`
    pub address: String,
    /// What came from each client.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Takes connections at `address`, in front of the server at `server`.
    pub fn listen(address: &str, server: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (address, server) = (listener.local_addr().unwrap().to_string(), server.to_owned());
        let said: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, Ok(server)) = (client.unwrap(), TcpStream::connect(&server)) else { continue };
                let number = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(Vec::new());
                    kept.len() - 1
                };
                let (back, forth) = ((server.try_clone().unwrap(), client.try_clone().unwrap()), Arc::clone(&kept));
                std::thread::spawn(move || carry(back.0, back.1, |_| {}));
                std::thread::spawn(move || {
                    carry(client, server, |bytes| {
                        let stream = &mut forth.lock().unwrap()[number];
                        let room = KEPT_BYTES_MAX.saturating_sub(stream.len()).min(bytes.len());
                        stream.extend_from_slice(&bytes[..room]);
                    });
                });
            }
        });
        Self { address, said }
    }

    /// What each client said so far, those left out that said nothing.
    pub fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap().iter().filter(|stream| !stream.is_empty()).cloned().collect()
    }
}

/// Until either side ends.
fn carry(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..bytes]);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // The other one may be gone already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
