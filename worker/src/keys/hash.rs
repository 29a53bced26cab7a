//! The hash rule.

use arrow_array::ArrayRef;

/// Hashes rows of `columns` into `hashes` (cleared first), by the rule of `docs/internals/key-hash.md`.
/// `num_rows` counts when there are no columns: then every row has the same hash.
pub fn hash_columns(_columns: &[ArrayRef], _num_rows: usize, _hashes: &mut Vec<u64>) {
    unimplemented!()
}

/// `hash mod max_parallelism` of each, into `groups` (cleared first).
pub fn key_groups(_hashes: &[u64], _max_parallelism: u32, _groups: &mut Vec<u16>) {
    unimplemented!()
}
