//! Which slot of this worker runs which task index.

use std::collections::BTreeMap;

use millstream_api::control::Deployment;

/// Slots by task index.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    by_index: BTreeMap<u32, usize>,
}

impl SlotMap {
    /// This worker's indexes in turn, over `slots` slots.
    pub(super) fn new(deployment: &Deployment, slots: usize) -> Self {
        let indexes = (0u32..).zip(&deployment.placement.by_index);
        let own = indexes.filter(|(_, worker)| **worker == deployment.worker).map(|(index, _)| index);
        Self { by_index: own.enumerate().map(|(position, index)| (index, position % slots)).collect() }
    }

    /// The slot of an index; another worker's index has none, and the first stands for it.
    pub(super) fn of(&self, index: u32) -> usize {
        self.by_index.get(&index).copied().unwrap_or(0)
    }
}
