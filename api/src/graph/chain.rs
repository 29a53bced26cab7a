//! Chaining: which transforms run as one task.

use super::{EdgeKind, JobGraph};
use crate::ids::{TransformId, VertexId};

/// A chain of transforms that runs as one task per slot: a tree of forward edges below one head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    pub id: VertexId,
    /// The source, or the transform that the inputs arrive at.
    pub head: TransformId,
    /// Head first, then in topological order.
    pub transforms: Vec<TransformId>,
    /// By input number of the head; empty for a source.
    pub inputs: Vec<VertexInput>,
}

/// An edge between vertices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VertexInput {
    pub input: u32,
    pub from: TransformId,
    pub from_vertex: VertexId,
    pub kind: EdgeKind,
}

impl JobGraph {
    /// Splits the graph into vertices, in topological order. A forward edge chains where its target has no other input;
    /// several chained consumers of one transform stay in its task (a tree).
    #[must_use]
    pub fn vertices(&self) -> Vec<Vertex> {
        let mut vertex_of = vec![VertexId(0); self.transforms.len()];
        let mut vertices: Vec<Vertex> = Vec::new();
        for transform in &self.transforms {
            let inputs = self.inputs_of(transform.id);
            let at = transform.id.0 as usize;
            if let [only] = inputs[..]
                && only.kind == EdgeKind::Forward
            {
                let vertex = vertex_of[only.from.0 as usize];
                vertex_of[at] = vertex;
                vertices[vertex.0 as usize].transforms.push(transform.id);
                continue;
            }
            let id = VertexId(u32::try_from(vertices.len()).expect("fewer vertices than transforms"));
            vertex_of[at] = id;
            let inputs = inputs
                .iter()
                .map(|e| VertexInput {
                    input: e.input,
                    from: e.from,
                    from_vertex: vertex_of[e.from.0 as usize],
                    kind: e.kind.clone(),
                })
                .collect();
            vertices.push(Vertex { id, head: transform.id, transforms: vec![transform.id], inputs });
        }
        vertices
    }
}
