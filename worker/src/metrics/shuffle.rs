//! Counters of the connections to other workers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Written by the connections' threads.
#[derive(Debug, Default)]
pub struct ShuffleMetrics {
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    frames_refused: AtomicU64,
    connections_refused: AtomicU64,
}

/// Their values at one moment, totals of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShuffleReadings {
    /// To other workers, with headers, as compressed.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Frames that were not what they must be. Each ended its connection.
    pub frames_refused: u64,
    /// Calls of another job, version or deployment.
    pub connections_refused: u64,
}

impl ShuffleMetrics {
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn frame_refused(&self) {
        self.frames_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The values now.
    #[must_use]
    pub fn read(&self) -> ShuffleReadings {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShuffleReadings {
            bytes_sent: get(&self.bytes_sent),
            bytes_received: get(&self.bytes_received),
            frames_refused: get(&self.frames_refused),
            connections_refused: get(&self.connections_refused),
        }
    }
}
