//! Order-preserving key bytes on arrow-row.

use arrow_array::ArrayRef;
use arrow_row::Rows;
use millstream_api::graph::Field;
use thiserror::Error;

/// The keys of a batch: what `State` needs to find their rows.
#[derive(Debug)]
pub struct KeyBatch {
    /// The fixed hash of each key.
    pub hashes: Vec<u64>,
    /// `hash mod max_parallelism`.
    pub groups: Vec<u16>,
    /// Encoded keys, one per row.
    pub rows: Rows,
}

impl KeyBatch {
    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Encodes key columns, and decodes them for output.
#[derive(Debug)]
pub struct KeyEncoder {}

/// Key columns that cannot be encoded.
#[derive(Debug, Error)]
#[error("failed to {verb} keys of {columns}: {reason}")]
pub struct KeyError {
    pub verb: &'static str,
    /// Names and types of the key columns.
    pub columns: String,
    pub reason: String,
}

impl KeyEncoder {
    /// An encoder for keys of these columns (none: one key for all rows).
    pub fn new(_fields: &[Field]) -> Result<Self, KeyError> {
        unimplemented!()
    }

    /// Encodes the first `num_rows` rows. Floats are normalised as in the hash: -0.0 and 0.0 are one key.
    pub fn encode(&self, _columns: &[ArrayRef], _num_rows: usize, _max_parallelism: u32) -> Result<KeyBatch, KeyError> {
        unimplemented!()
    }

    /// The key columns of encoded keys, in the order given.
    pub fn decode<'a>(&self, _keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, KeyError> {
        let _: Vec<&[u8]> = _keys.into_iter().collect();
        unimplemented!()
    }
}
