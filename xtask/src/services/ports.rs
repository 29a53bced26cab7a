//! Free ports.
//!
//! Owns: choosing them. Does not own: keeping them: whoever starts a server retries with others when one was taken.

use anyhow::{Result, bail};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;

/// Below the range from which the kernel takes ports for outgoing connections, so that only servers compete.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const TRIES_MAX: u64 = 1_000;

/// `N` distinct ports on which nothing listens.
pub fn free<const N: usize>() -> Result<[u16; N]> {
    // All are held at once, so that they differ.
    let mut held = Vec::with_capacity(N);
    let random = RandomState::new();
    for attempt in 0..TRIES_MAX {
        if held.len() == N {
            break;
        }
        let offset = u16::try_from(random.hash_one(attempt) % u64::from(COUNT)).expect("below COUNT");
        held.extend(TcpListener::bind(("127.0.0.1", FIRST + offset)));
    }
    if held.len() < N {
        bail!("failed to find {N} free ports from {FIRST} to {}", FIRST + COUNT - 1);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports = super::free::<8>().expect("there are free ports");
        let listeners: Vec<_> = ports.iter().map(|port| std::net::TcpListener::bind(("127.0.0.1", *port))).collect();
        assert!(listeners.iter().all(Result::is_ok), "{ports:?}");
    }
}
