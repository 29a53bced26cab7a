//! From a key's hash to its slot: open addressing over 8-byte entries.
//!
//! An entry holds the 32-bit hash beside the slot, so that a probe reads one cache line and touches the slot of a
//! match only, and a look-up can be started ahead of its use (`candidate`). Linear probing, removal by shifting back.

/// No slot. Also the largest number of slots.
const EMPTY: u64 = 0;
/// Entries of the first allocation: one cache line.
const FIRST_ENTRIES: usize = 8;

/// Slots by hash.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// `hash << 32 | slot + 1`; a power of two of them, or none.
    entries: Vec<u64>,
    len: usize,
    /// The home of a hash is its highest bits: `hash >> shift`.
    shift: u32,
}

impl Index {
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u64>()
    }

    /// The slot with this hash for which `is_key` holds.
    #[inline]
    pub fn find(&self, hash: u32, mut is_key: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let entry = self.entries[at];
            if entry == EMPTY {
                return None;
            }
            if hash_of(entry) == hash && is_key(slot_of(entry)) {
                return Some(slot_of(entry));
            }
            at = self.next(at);
        }
    }

    /// The slot at the hash's home, most often the one that `find` will find. Reads one entry.
    #[inline]
    pub fn candidate(&self, hash: u32) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let entry = self.entries[self.home(hash)];
        (entry != EMPTY).then(|| slot_of(entry))
    }

    /// Adds a slot that is not in the index.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        // At three quarters full, probes that find nothing begin to get long.
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        self.place((u64::from(hash) << 32) | (u64::from(slot) + 1));
        self.len += 1;
    }

    /// Removes a slot that is in the index.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        if self.entries.is_empty() {
            return;
        }
        let wanted = (u64::from(hash) << 32) | (u64::from(slot) + 1);
        let mut hole = self.home(hash);
        while self.entries[hole] != wanted {
            if self.entries[hole] == EMPTY {
                return;
            }
            hole = self.next(hole);
        }
        self.len -= 1;
        // What could not be at home because of the removed entry moves up.
        let mut at = self.next(hole);
        while self.entries[at] != EMPTY {
            let distance_home = at.wrapping_sub(self.home(hash_of(self.entries[at]))) & (self.entries.len() - 1);
            let distance_hole = at.wrapping_sub(hole) & (self.entries.len() - 1);
            if distance_home >= distance_hole {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.entries[hole] = EMPTY;
    }

    fn grow(&mut self) {
        let entries = (self.entries.len() * 2).max(FIRST_ENTRIES);
        self.shift = 32 - entries.trailing_zeros().min(32);
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; entries]);
        for entry in old.into_iter().filter(|entry| *entry != EMPTY) {
            self.place(entry);
        }
    }

    fn place(&mut self, entry: u64) {
        let mut at = self.home(hash_of(entry));
        while self.entries[at] != EMPTY {
            at = self.next(at);
        }
        self.entries[at] = entry;
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        (hash >> self.shift) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }
}

#[inline]
fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

#[inline]
fn slot_of(entry: u64) -> u32 {
    // An entry that is not empty holds slot + 1.
    (entry as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes: long runs of probes, and removals in the middle of them.
        #[test]
        fn finds_what_was_inserted_and_not_removed(
            ops in proptest::collection::vec((any::<bool>(), 0u32..6, 0u32..40), 1..200),
        ) {
            let mut index = Index::default();
            let mut reference: BTreeMap<u32, u32> = BTreeMap::new();
            for (insert, bits, slot) in ops {
                match (insert, reference.get(&slot).copied()) {
                    (true, None) => {
                        // The highest bits decide the home; 5 wraps around at the end of the table.
                        let hash = if bits == 5 { u32::MAX } else { bits << 28 };
                        index.insert(hash, slot);
                        reference.insert(slot, hash);
                    }
                    (false, Some(hash)) => {
                        index.remove(hash, slot);
                        reference.remove(&slot);
                    }
                    _ => {}
                }
                for slot in 0..40 {
                    match reference.get(&slot) {
                        Some(hash) => prop_assert_eq!(index.find(*hash, |s| s == slot), Some(slot)),
                        None => prop_assert_eq!(index.find(bits << 28, |s| s == slot), None),
                    }
                }
            }
        }
    }
}
