//! The compiled, versioned form of a job: what the `sql` crate makes and the workers run.
//!
//! Same text and version, same graph and same uids. It is stored whole in every checkpoint's manifest, so all
//! of it is plain serialisable data and fields are only ever added.

mod chain;
mod connector;
mod expr;
mod expr_text;
pub mod functions;
pub mod kafka_properties;
mod origin;
pub mod promotion;
mod schema;
mod state;
mod stored;
mod transform;
mod types;

pub use chain::{Vertex, VertexInput};
pub use connector::*;
pub use expr::{Expr, ExprKind, Literal};
pub use expr_text::{Operand, duration_text};
pub use origin::Origin;
pub use schema::{Field, ROW_KIND, Schema};
pub use state::{ColumnChange, StateTable};
pub use transform::*;
pub use types::SqlType;

use serde::{Deserialize, Serialize};

use crate::ids::TransformId;

/// Version of the graph's own format. A worker refuses a newer one.
pub const GRAPH_VERSION: u32 = 1;

/// A dataflow: transforms in topological order and the edges between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobGraph {
    pub version: u32,
    pub transforms: Vec<Transform>,
    pub edges: Vec<Edge>,
    /// Names the text and the options that it was compiled from: where they are the same, a stored graph runs on under a
    /// binary that would make another one of them. No part of the graph's meaning. `None`: written before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiled_from: Option<u64>,
}

impl JobGraph {
    /// The transform with this id.
    #[must_use]
    pub fn transform(&self, id: TransformId) -> &Transform {
        &self.transforms[id.0 as usize]
    }

    /// Edges that end at `to`, ordered by input number.
    #[must_use]
    pub fn inputs_of(&self, to: TransformId) -> Vec<&Edge> {
        let mut edges: Vec<&Edge> = self.edges.iter().filter(|e| e.to == to).collect();
        edges.sort_by_key(|e| e.input);
        edges
    }

    /// Edges that start at `from`.
    pub fn outputs_of(&self, from: TransformId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.from == from)
    }

    /// Hash of the graph's meaning; the build that made it plays no part. Equal graphs have equal hashes on every machine.
    #[must_use]
    pub fn hash(&self) -> u64 {
        #[derive(Serialize)]
        struct Meaning<'a> {
            version: u32,
            transforms: &'a [Transform],
            edges: &'a [Edge],
        }
        let Self { version, transforms, edges, compiled_from: _ } = self;
        let bytes = serde_json::to_vec(&Meaning { version: *version, transforms, edges });
        xxhash_rust::xxh3::xxh3_64(&bytes.expect("a graph holds only serialisable data"))
    }
}

/// A text as a number: the same on every machine and in every version.
#[must_use]
pub fn fingerprint(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// A stream from one transform to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    pub from: TransformId,
    pub to: TransformId,
    /// Which input of `to`, from 0.
    pub input: u32,
    pub kind: EdgeKind,
}

/// How the rows of an edge are spread over the tasks of its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum EdgeKind {
    /// Task i to task i: chained where the target has no other input.
    Forward,
    /// By the key group of these columns of the source's output. No columns: one key, so one task.
    Hash { keys: Vec<usize> },
    /// Round robin by batch.
    Rebalance,
    /// Every row to every task.
    Broadcast,
}
