//! The graph as JSON, for tools: stable keys, what people read beside what machines read.

use millstream_api::graph::{JobGraph, TransformKind};
use serde_json::{Value, json as value};

use super::describe;

/// The graph as pretty-printed JSON.
#[must_use]
pub fn json(graph: &JobGraph) -> String {
    let document = value!({
        "version": graph.version,
        "hash": format!("{:016x}", graph.hash()),
        "transforms": graph.transforms.iter().map(|t| transform(graph, t)).collect::<Vec<_>>(),
        "edges": graph.edges.iter().map(|e| value!({
            "from": e.from.0,
            "to": e.to.0,
            "input": e.input,
            "kind": describe::edge(graph, e.from, &e.kind),
        })).collect::<Vec<_>>(),
        "vertices": graph.vertices().iter().map(|v| value!({
            "id": v.id.0,
            "transforms": v.transforms.iter().map(|t| t.0).collect::<Vec<_>>(),
            "inputs": v.inputs.iter().map(|i| i.from_vertex.0).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&document).expect("the document has string keys only")
}

fn transform(graph: &JobGraph, transform: &millstream_api::graph::Transform) -> Value {
    let columns: Vec<Value> = transform
        .output
        .fields
        .iter()
        .map(|f| value!({ "name": f.name, "type": f.ty.to_string(), "nullable": f.nullable }))
        .collect();
    value!({
        "id": transform.id.0,
        "uid": transform.uid.0,
        "name": transform.name,
        "kind": kind(&transform.kind),
        "description": describe::transform(graph, transform),
        "columns": columns,
        "changelog": describe::changelog(transform),
    })
}

fn kind(kind: &TransformKind) -> &'static str {
    match kind {
        TransformKind::Source(_) => "source",
        TransformKind::Calc { .. } => "calc",
        TransformKind::Union => "union",
        TransformKind::WindowAssign { .. } => "windowAssign",
        TransformKind::LocalWindowAggregate { .. } => "localWindowAggregate",
        TransformKind::GlobalWindowAggregate { .. } => "globalWindowAggregate",
        TransformKind::LocalGroupAggregate { .. } => "localGroupAggregate",
        TransformKind::GlobalGroupAggregate { .. } => "globalGroupAggregate",
        TransformKind::Sink(_) => "sink",
    }
}
