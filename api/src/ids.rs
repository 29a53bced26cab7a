//! Ids of a job's parts, each a type of its own, and the key-group arithmetic.
//!
//! A key belongs to one of `max_parallelism` key groups for the life of the state; a task owns a contiguous
//! range of them. Everything here is pure and identical on every machine: checkpoints depend on it.

use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The id that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

numeric_id!(
    /// The number of a checkpoint. Epoch 0 is sealed before the first record is read.
    Epoch, u64
);
numeric_id!(
    /// Position of an entry in a job's log: gapless, from 0.
    Seq, u64
);
numeric_id!(
    /// One term of one coordinator: the seq of its `start` entry.
    Generation, u64
);
numeric_id!(
    /// Index of a transform in its graph.
    TransformId, u32
);
numeric_id!(
    /// Index of a vertex: a chain of transforms that runs as one task per slot.
    VertexId, u32
);
numeric_id!(
    /// A worker process as its coordinator knows it: numbered as they register, never used twice in a term.
    WorkerId, u32
);
numeric_id!(
    /// One of `max_parallelism` buckets of the key space, the unit in which state moves.
    KeyGroup, u16
);

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    pub vertex: VertexId,
    /// 0-based, below the vertex's parallelism.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vertex, self.index)
    }
}

/// The stable name of a transform, under which its state is found again after the SQL was edited.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TransformUid(pub String);

impl fmt::Display for TransformUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Largest `maxParallelism`: key groups are stored as u16, as in Flink (`KeyGroupRangeAssignment`).
pub const MAX_PARALLELISM_LIMIT: u32 = 32_768;

/// Key groups that task `index` of `parallelism` owns: `[ceil(i*m/p), ceil((i+1)*m/p))`.
#[must_use]
pub fn key_group_range(index: u32, parallelism: u32, max_parallelism: u32) -> Range<u16> {
    assert!(
        parallelism > 0
            && index < parallelism
            && parallelism <= max_parallelism
            && max_parallelism <= MAX_PARALLELISM_LIMIT
    );
    let bound = |i: u32| {
        u16::try_from((u64::from(i) * u64::from(max_parallelism)).div_ceil(u64::from(parallelism)))
            .expect("at most 32768")
    };
    bound(index)..bound(index + 1)
}

/// The task index that owns `group`: the inverse of [`key_group_range`].
#[must_use]
pub fn owner_of(group: u16, parallelism: u32, max_parallelism: u32) -> u32 {
    // Largest i with ceil(i*m/p) <= g, which is floor(g*p/m).
    u32::try_from(u64::from(group) * u64::from(parallelism) / u64::from(max_parallelism)).expect("below parallelism")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_partition_the_groups_and_owner_of_inverts_them() {
        for max in [1u32, 2, 7, 128, 720, 32_768] {
            for p in [1u32, 2, 3, 5, 7, 64, 719, 720].into_iter().filter(|p| *p <= max) {
                let mut next = 0u32;
                for i in 0..p {
                    let range = key_group_range(i, p, max);
                    assert_eq!(u32::from(range.start), next);
                    assert!(!range.is_empty());
                    assert!(range.clone().all(|g| owner_of(g, p, max) == i));
                    next = u32::from(range.end);
                }
                assert_eq!(next, max);
            }
        }
    }
}
