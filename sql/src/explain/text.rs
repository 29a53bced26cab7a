//! The plan as a tree, sinks first, as Flink prints it, and the tasks it runs as.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millstream_api::graph::{EdgeKind, JobGraph, TransformKind};
use millstream_api::ids::TransformId;

use super::describe;

/// The graph as text.
#[must_use]
pub fn text(graph: &JobGraph) -> String {
    let mut plan = Plan { graph, out: String::from("== Plan ==\n"), reused: reused(graph), shown: BTreeMap::new() };
    for transform in &graph.transforms {
        if matches!(transform.kind, TransformKind::Sink(_)) {
            plan.tree(transform.id, 0, None);
            plan.out.push('\n');
        }
    }
    let mut out = plan.out;
    out.push_str("== Vertices ==\n");
    for vertex in graph.vertices() {
        let names: Vec<&str> = vertex.transforms.iter().map(|t| graph.transform(*t).uid.0.as_str()).collect();
        let linear = vertex.transforms.windows(2).all(|pair| graph.outputs_of(pair[0]).any(|e| e.to == pair[1]));
        let _ = writeln!(out, "{}: {}", vertex.id, names.join(if linear { " -> " } else { ", " }));
        for input in &vertex.inputs {
            let _ =
                writeln!(out, "   from {} by {}", input.from_vertex, describe::edge(graph, input.from, &input.kind));
        }
    }
    out
}

/// Transforms that more than one other reads: shown once, then referred to.
fn reused(graph: &JobGraph) -> Vec<TransformId> {
    graph.transforms.iter().map(|t| t.id).filter(|id| graph.outputs_of(*id).count() > 1).collect()
}

struct Plan<'a> {
    graph: &'a JobGraph,
    out: String,
    reused: Vec<TransformId>,
    /// Numbers of reused transforms that stand above.
    shown: BTreeMap<TransformId, usize>,
}

impl Plan<'_> {
    fn tree(&mut self, id: TransformId, depth: usize, edge: Option<&EdgeKind>) {
        let transform = self.graph.transform(id);
        let indent = if depth == 0 { String::new() } else { format!("{}+- ", "   ".repeat(depth - 1)) };
        let exchange = match edge {
            None | Some(EdgeKind::Forward) => String::new(),
            Some(kind) => format!("[{}] ", describe::edge(self.graph, id, kind)),
        };
        if let Some(number) = self.shown.get(&id) {
            let _ = writeln!(self.out, "{indent}{exchange}Reused(reference_id=[{number}])");
            return;
        }
        let reference = if self.reused.contains(&id) {
            let number = self.shown.len() + 1;
            self.shown.insert(id, number);
            format!(" (reuse_id=[{number}])")
        } else {
            String::new()
        };
        let text = describe::transform(self.graph, transform);
        let changelog = describe::changelog(transform);
        let _ = writeln!(self.out, "{indent}{exchange}{text}{reference} uid={} {changelog}", transform.uid);
        for edge in self.graph.inputs_of(id) {
            self.tree(edge.from, depth + 1, Some(&edge.kind));
        }
    }
}
