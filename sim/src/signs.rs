//! What a coordinator that stands by has of the one that rules, kept by the world to judge its claim.

use std::collections::BTreeMap;

use millstream_api::ids::Generation;
use millstream_coordinator::job::Millis;

use crate::network::ConnectionId;

/// Signs of terms, in the time that the standby's process was awake.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// The term that answered last, or is being watched.
    answered: Option<(Generation, Millis)>,
    /// Which term each worker that is connected heard last.
    heard: BTreeMap<ConnectionId, (Generation, Millis)>,
}

impl Signs {
    pub fn answered(&mut self, term: Generation, awake_ms: Millis) {
        self.answered = Some((term, awake_ms));
    }

    pub fn heard(&mut self, by: ConnectionId, term: Generation, awake_ms: Millis) {
        self.heard.insert(by, (term, awake_ms));
    }

    pub fn lost(&mut self, by: ConnectionId) {
        self.heard.remove(&by);
    }

    /// Waking time since the last sign of a term; `None`: there was none at all.
    #[must_use]
    pub fn silent_for(&self, term: Generation, awake_ms: Millis) -> Option<Millis> {
        let all = self.heard.values().chain(&self.answered);
        let last = all.filter(|(of, _)| *of == term).map(|(_, at)| *at).max()?;
        Some(awake_ms.saturating_sub(last))
    }
}
