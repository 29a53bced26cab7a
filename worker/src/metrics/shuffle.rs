//! Counters of the connections to other workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::exchange::remote::FrameRule;

/// Rules that a frame can break.
const RULES: usize = FrameRule::ALL.len();

/// Written by the connections' threads.
#[derive(Debug, Default)]
pub struct ShuffleMetrics {
    connections: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// In the order of `FrameRule::ALL`.
    frames_refused: [AtomicU64; RULES],
    connections_refused: AtomicU64,
}

/// Their values at one moment, totals of this process where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShuffleReadings {
    /// To and from other workers, open now.
    pub connections: u64,
    /// To other workers, with headers, as compressed.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Frames that were not what they must be, in the order of `FrameRule::ALL`. Each ended its connection.
    pub frames_refused: [u64; RULES],
    /// Calls of another job, version or deployment.
    pub connections_refused: u64,
}

impl ShuffleReadings {
    /// By whatever rule.
    #[must_use]
    pub fn frames_refused_in_all(&self) -> u64 {
        self.frames_refused.iter().sum()
    }
}

/// A connection that is open. Dropped, it is not.
pub(crate) struct Connected(Arc<ShuffleMetrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ShuffleMetrics {
    pub(crate) fn connected(metrics: &Arc<Self>) -> Connected {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(metrics))
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn frame_refused(&self, rule: FrameRule) {
        self.frames_refused[rule as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The values now.
    #[must_use]
    pub fn read(&self) -> ShuffleReadings {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShuffleReadings {
            connections: get(&self.connections),
            bytes_sent: get(&self.bytes_sent),
            bytes_received: get(&self.bytes_received),
            frames_refused: std::array::from_fn(|rule| get(&self.frames_refused[rule])),
            connections_refused: get(&self.connections_refused),
        }
    }
}
