//! Numbers that look random and follow from a seed, for nonces and jitter.

use millstream_api::log::Nonce;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn fraction(&mut self) -> f64 {
        // 53 bits: all that a double holds.
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn nonce(&mut self) -> Nonce {
        Nonce(format!("{:016x}{:016x}", self.next_u64(), self.next_u64()))
    }
}
