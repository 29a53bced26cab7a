//! The graph as a Mermaid flowchart: a box per task, with its chain inside.

use std::fmt::Write as _;

use millstream_api::graph::{EdgeKind, JobGraph};

use super::describe;

/// The graph as a Mermaid flowchart.
#[must_use]
pub fn mermaid(graph: &JobGraph) -> String {
    let mut out = String::from("flowchart TB\n");
    for vertex in graph.vertices() {
        let _ = writeln!(out, "  subgraph v{0}[\"vertex {0}\"]", vertex.id);
        for id in &vertex.transforms {
            let transform = graph.transform(*id);
            let _ = writeln!(out, "    t{id}[\"{}<br/>{}\"]", escaped(&transform.name), escaped(&transform.uid.0));
        }
        out.push_str("  end\n");
    }
    for edge in &graph.edges {
        let _ = match &edge.kind {
            EdgeKind::Forward => writeln!(out, "  t{} --> t{}", edge.from, edge.to),
            kind => writeln!(
                out,
                "  t{} -- \"{}\" --> t{}",
                edge.from,
                escaped(&describe::edge(graph, edge.from, kind)),
                edge.to
            ),
        };
    }
    out
}

/// Quotes, brackets and the like as Mermaid's character entities.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '[' | ']' | '&' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}
