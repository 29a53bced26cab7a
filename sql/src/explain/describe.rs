//! Transforms in a line.

use std::fmt::Write as _;

use millstream_api::graph::{
    AggregateCall, ChangelogMode, EdgeKind, Field, JobGraph, SinkConnector, SourceConnector, Transform, TransformKind,
    Window,
};

/// Columns of a transform's (first) input.
pub(super) fn input_fields<'a>(graph: &'a JobGraph, transform: &Transform) -> &'a [Field] {
    graph.inputs_of(transform.id).first().map_or(&[], |edge| &graph.transform(edge.from).output.fields)
}

/// `Calc(select=[...], where=[...])`
pub(super) fn transform(graph: &JobGraph, transform: &Transform) -> String {
    let input = input_fields(graph, transform);
    let output = &transform.output.fields;
    let name = &transform.name;
    match &transform.kind {
        TransformKind::Source(source) => {
            let scan: Vec<Field> = source.scan.iter().map(|c| c.field.clone()).collect();
            let columns: Vec<String> =
                source.projection.iter().zip(output).map(|(e, f)| aliased(&e.text(&scan), &f.name)).collect();
            let mut parts = vec![format!("connector={}", source_connector(&source.connector))];
            parts.push(format!("columns=[{}]", columns.join(", ")));
            if let Some(watermark) = &source.watermark {
                parts.push(format!("watermark={}", watermark.expr.text(output)));
            }
            format!("{name}({})", parts.join(", "))
        }
        TransformKind::Calc { filter, projection } => {
            let select: Vec<String> =
                projection.iter().zip(output).map(|(e, f)| aliased(&e.text(input), &f.name)).collect();
            let filter = filter.as_ref().map(|f| format!(", where=[{}]", f.text(input))).unwrap_or_default();
            format!("{name}(select=[{}]{filter})", select.join(", "))
        }
        TransformKind::Union => format!("{name}(columns=[{}])", names(output)),
        TransformKind::WindowAssign { window } => format!("{name}({})", window_text(window, input)),
        TransformKind::LocalWindowAggregate { window, keys, aggregates } => {
            let keys = keys.iter().filter_map(|k| input.get(*k)).map(|f| f.name.as_str()).collect::<Vec<_>>();
            format!(
                "{name}(keys=[{}], {}, aggregates=[{}])",
                keys.join(", "),
                window_text(window, input),
                calls(aggregates, input)
            )
        }
        TransformKind::GlobalWindowAggregate { window, keys, aggregates, window_columns } => {
            let columns: Vec<&str> = window_columns.iter().map(|c| c.text()).collect();
            let results: Vec<&str> = aggregates.iter().map(|a| a.output.name.as_str()).collect();
            format!(
                "{name}(keys=[{}], {}, aggregates=[{}], window=[{}])",
                names(keys),
                window.shape_text(),
                results.join(", "),
                columns.join(", ")
            )
        }
        TransformKind::LocalGroupAggregate { keys, aggregates, .. } => {
            let keys = keys.iter().filter_map(|k| input.get(*k)).map(|f| f.name.as_str()).collect::<Vec<_>>();
            format!("{name}(keys=[{}], aggregates=[{}])", keys.join(", "), calls(aggregates, input))
        }
        TransformKind::GlobalGroupAggregate { keys, aggregates, mini_batch, state_ttl_ms } => {
            let results: Vec<&str> = aggregates.iter().map(|a| a.output.name.as_str()).collect();
            let mut text = format!("{name}(keys=[{}], aggregates=[{}]", names(keys), results.join(", "));
            if let Some(mini_batch) = mini_batch {
                let _ = write!(text, ", mini-batch=[{} ms, {} rows]", mini_batch.allow_latency_ms, mini_batch.size);
            }
            if let Some(ttl) = state_ttl_ms {
                let _ = write!(text, ", ttl=[{ttl} ms]");
            }
            text + ")"
        }
        TransformKind::Sink(sink) => {
            let key: Vec<&str> =
                sink.primary_key.iter().filter_map(|i| output.get(*i)).map(|f| f.name.as_str()).collect();
            let key = if key.is_empty() { String::new() } else { format!(", key=[{}]", key.join(", ")) };
            format!("{name}(connector={}, columns=[{}]{key})", sink_connector(&sink.connector), names(output))
        }
    }
}

/// `append`, `retract by [k]`
pub(super) fn changelog(transform: &Transform) -> String {
    match &transform.changelog {
        ChangelogMode::Append => "append".to_owned(),
        ChangelogMode::Retract { upsert_keys } => {
            let keys = upsert_keys.iter().filter_map(|i| transform.output.fields.get(*i)).map(|f| f.name.as_str());
            let keys = keys.collect::<Vec<_>>().join(", ");
            if keys.is_empty() { "retract".to_owned() } else { format!("retract by [{keys}]") }
        }
    }
}

/// `forward`, `hash by [k]`
pub(super) fn edge(graph: &JobGraph, from: millstream_api::ids::TransformId, kind: &EdgeKind) -> String {
    match kind {
        EdgeKind::Forward => "forward".to_owned(),
        EdgeKind::Rebalance => "rebalance".to_owned(),
        EdgeKind::Broadcast => "broadcast".to_owned(),
        EdgeKind::Hash { keys } if keys.is_empty() => "to one task".to_owned(),
        EdgeKind::Hash { keys } => {
            let fields = &graph.transform(from).output.fields;
            let names: Vec<&str> = keys.iter().filter_map(|k| fields.get(*k)).map(|f| f.name.as_str()).collect();
            format!("hash by [{}]", names.join(", "))
        }
    }
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn aliased(text: &str, name: &str) -> String {
    if text == name { text.to_owned() } else { format!("{text} AS {name}") }
}

pub(super) fn source_connector(connector: &SourceConnector) -> &'static str {
    match connector {
        SourceConnector::Kafka(_) => "kafka",
        SourceConnector::Filesystem(_) => "filesystem",
        SourceConnector::Datagen(_) => "datagen",
    }
}

pub(super) fn sink_connector(connector: &SinkConnector) -> &'static str {
    match connector {
        SinkConnector::Kafka(_) => "kafka",
        SinkConnector::UpsertKafka(_) => "upsert-kafka",
        SinkConnector::Print(_) => "print",
        SinkConnector::Blackhole => "blackhole",
    }
}

fn window_text(window: &Window, input: &[Field]) -> String {
    let time = input.get(window.time_column).map_or("?", |f| f.name.as_str());
    format!("time=[{time}], {}", window.shape_text())
}

fn calls(aggregates: &[AggregateCall], input: &[Field]) -> String {
    let column = |i: usize| input.get(i).map_or("?", |f| f.name.as_str());
    let call = |a: &AggregateCall| {
        let function = a.function.name();
        let filter = a.filter.map(|f| format!(" FILTER {}", column(f))).unwrap_or_default();
        format!("{function}({}){filter} AS {}", a.arg.map_or("*", column), a.output.name)
    };
    aggregates.iter().map(call).collect::<Vec<_>>().join(", ")
}
