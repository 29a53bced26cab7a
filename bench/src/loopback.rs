//! What this machine's loopback carries between two threads that do nothing but send and take: the most that rows between
//! workers can reach here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What the receiver takes at most with one call.
const TAKEN_BYTES: usize = 256 * 1024;

/// Bytes per second in pieces of `piece_bytes`.
///
/// # Errors
/// The connection failed.
pub fn throughput(piece_bytes: usize, lasting: Duration) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut to = TcpStream::connect(listener.local_addr()?)?;
    let (mut from, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let began = Instant::now();
        scope.spawn(move || {
            let piece = vec![0; piece_bytes];
            // When it cannot send any more the receiver sees the end, and says how much came.
            while began.elapsed() < lasting && to.write_all(&piece).is_ok() {}
        });
        let (mut buffer, mut received) = (vec![0; TAKEN_BYTES], 0u64);
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(received as f64 / began.elapsed().as_secs_f64()),
                bytes => received += bytes as u64,
            }
        }
    })
}
