//! What tests of whole processes stand on: real brokers, a real S3 server, the binary as a process, and proxies that make
//! trouble between them.
//!
//! Owns: the job whose output can be compared with a reference (`numbers`), waiting, randomness by seed. Does not own: what
//! happens to a job; that is told by the tests that use this.
#![allow(clippy::unwrap_used, reason = "what fails in here fails the test")]

pub mod certificates;
pub mod feeder;
pub mod fuzz;
pub mod http;
pub mod kafka;
pub mod numbers;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod reference;
pub mod rights;
pub mod services;
pub mod watch;

use std::time::{Duration, Instant};

/// Part of the log line of every completed checkpoint.
pub const CHECKPOINT_DONE: &str = " completed in ";

/// Waits for a condition; panics with `what` when it does not come true in time.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not happen within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits for a moment.
pub fn wait_until(time: Instant) {
    while Instant::now() < time {
        std::thread::park_timeout(time.saturating_duration_since(Instant::now()));
    }
}

/// A small generator of reproducible random numbers (SplitMix64); tests print its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by `MILLSTREAM_TEST_SEED`, otherwise by the clock; printed either way.
    pub fn from_environment(test: &str) -> Self {
        let seed = std::env::var("MILLSTREAM_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        });
        println!("{test}: MILLSTREAM_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

/// How often a repeated scenario runs: more in a soak.
pub fn rounds(test: usize, soak: usize) -> usize {
    if std::env::var_os("MILLSTREAM_SOAK").is_some() { soak } else { test }
}
