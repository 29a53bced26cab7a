//! How long processes of a job may be silent.

use std::time::Duration;

/// When the other side of a control connection counts as gone. Both sides keep the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Each side says this often that it is there.
    pub heartbeat: Duration,
    /// A worker that says nothing for so long is lost, a coordinator is connected to anew. Three heartbeats: one may be late
    /// behind a large message.
    pub silence_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(1), silence_max: Duration::from_secs(3) }
    }
}
