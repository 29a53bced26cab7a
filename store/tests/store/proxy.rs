//! A TCP proxy before an S3 server that makes the network misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy does to requests that begin with a given method.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The server gets the request, its answer is lost and the connection closed.
    LoseAnswer,
    /// The connection is closed after the first part of the answer.
    CutAnswer,
    /// The request never reaches the server and nothing answers.
    Swallow,
    /// The header of the conditional put gets a name that means nothing.
    IgnoreCondition,
}

/// Bytes of an answer that `CutAnswer` lets through.
const CUT_AFTER_BYTES: usize = 100_000;

pub struct Proxy {
    pub address: String,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// Applies `fault` to the first `times` requests whose method is `method`; the others pass.
    pub async fn start(server: &str, method: &'static str, fault: Fault, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let left = Arc::new(AtomicUsize::new(times));
        let (server, shared) = (server.to_owned(), Arc::clone(&left));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server.clone(), method, fault, Arc::clone(&shared)));
            }
        });
        Self { address, left }
    }

    /// How many faults were not needed.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

/// Serves one connection until either side ends or a fault closes it.
async fn serve(mut client: TcpStream, server: String, method: &'static str, fault: Fault, left: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut armed = false;
    let mut passed_bytes = 0;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                let chunk = &mut from_client[..count];
                if chunk.starts_with(method.as_bytes()) {
                    armed = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                    passed_bytes = 0;
                }
                match fault {
                    Fault::Swallow if armed => std::future::pending().await,
                    Fault::IgnoreCondition if armed => rename(chunk, b"if-none-match", b"x-nothing-now"),
                    _ => {}
                }
                if server.write_all(chunk).await.is_err() { return }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                // "100 Continue" is not the answer yet.
                let interim = from_server.starts_with(b"HTTP/1.1 100");
                match fault {
                    Fault::LoseAnswer if armed && !interim => return,
                    Fault::CutAnswer if armed && passed_bytes + count > CUT_AFTER_BYTES => {
                        let rest = CUT_AFTER_BYTES - passed_bytes;
                        let _ = client.write_all(&from_server[..rest]).await;
                        return;
                    }
                    _ => {}
                }
                passed_bytes += count;
                if client.write_all(&from_server[..count]).await.is_err() { return }
            }
        }
    }
}

/// Replaces `from` by `to`, which is as long, wherever it stands.
fn rename(chunk: &mut [u8], from: &[u8], to: &[u8]) {
    for at in 0..chunk.len().saturating_sub(from.len()) {
        if chunk[at..].starts_with(from) {
            chunk[at..at + to.len()].copy_from_slice(to);
        }
    }
}
