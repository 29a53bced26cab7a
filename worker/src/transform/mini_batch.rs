//! When a buffered aggregation must let go: `table.exec.mini-batch.*`, and the bounds that hold without it.

use millstream_api::graph::MiniBatch;

/// Groups that are held; a table of this size stays in a core's cache, and a flush stays a small burst.
const GROUPS_MAX: usize = 65_536;
/// Memory that is held, where keys or values are long.
const BYTES_MAX: usize = 16 << 20;

/// Counts what is held since the last flush.
#[derive(Debug)]
pub struct Holding {
    mini_batch: Option<MiniBatch>,
    rows: u64,
    /// When the oldest row held must leave, epoch ms.
    deadline_ms: Option<i64>,
}

impl Holding {
    /// Without `mini_batch` every batch is due at once.
    #[must_use]
    pub fn new(mini_batch: Option<MiniBatch>) -> Self {
        Self { mini_batch, rows: 0, deadline_ms: None }
    }

    /// Rows were added: whether everything held is due, given what it grew to.
    pub fn add(&mut self, rows: usize, now_ms: i64, groups: usize, bytes: usize) -> bool {
        self.rows += rows as u64;
        let Some(mini_batch) = self.mini_batch else { return true };
        let latency_ms = i64::try_from(mini_batch.allow_latency_ms).unwrap_or(i64::MAX);
        self.deadline_ms.get_or_insert(now_ms.saturating_add(latency_ms));
        self.rows >= mini_batch.size || groups >= GROUPS_MAX || bytes >= BYTES_MAX
    }

    /// Everything was let go. Returns how many rows that was.
    pub fn reset(&mut self) -> u64 {
        self.deadline_ms = None;
        std::mem::take(&mut self.rows)
    }

    /// When processing time makes it due.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<i64> {
        self.deadline_ms
    }
}
