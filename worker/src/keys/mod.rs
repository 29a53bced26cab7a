//! Keys: the fixed hash that decides a key's group, and the encoding under which state finds it.
//!
//! The hash is part of the format of every checkpoint: `docs/internals/key-hash.md` is its definition and the golden
//! values in `hash/tests.rs` hold it in place. The encoding ([`KeyEncoder`]) lives in memory and on scratch disks
//! only: segments hold key columns. Owns: both rules. Does not own: which task has which group (`api::ids`).

mod encoder;
mod hash;

pub use encoder::{KeyBatch, KeyEncoder, KeyError};
pub use hash::{hash_columns, key_groups};
