//! Tables and short-hands for the tests.

use millstream_api::graph::{Expr, JobGraph, Transform, TransformKind};
use millstream_sql::{CompileOptions, Compiled, SqlError, compile};

pub const SRC: &str = "CREATE TABLE src (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, \
`dateTime` TIMESTAMP(3), sentMs BIGINT, extra STRING, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) \
WITH ('connector'='kafka','topic'='bids','properties.bootstrap.servers'='b:9092','properties.group.id'='g',\
'scan.startup.mode'='earliest-offset','scan.bounded.mode'='latest-offset','format'='json');\n";

/// A table with a column of every type.
pub const TYPES: &str = "CREATE TABLE t (b BOOLEAN, ti TINYINT, si SMALLINT, i INT, l BIGINT, f FLOAT, d DOUBLE, \
dec DECIMAL(10, 2), c CHAR(3), s STRING, v VARCHAR(20), bin BYTES, dt DATE, tm TIME, ts TIMESTAMP(3), tz TIMESTAMP_LTZ(3), \
n INT NOT NULL) WITH ('connector'='datagen');\n";

pub fn options() -> CompileOptions {
    CompileOptions::default()
}

pub fn compiled(text: &str) -> Compiled {
    match compile(text, &options()) {
        Ok(compiled) => compiled,
        Err(errors) => panic!("{text}\n{}", shown(&errors)),
    }
}

pub fn graph(text: &str) -> JobGraph {
    let graph = compiled(text).graph;
    check(&graph);
    graph
}

pub fn shown(errors: &[SqlError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// All errors of a text, one per line.
pub fn errors(text: &str) -> String {
    match compile(text, &options()) {
        Ok(_) => panic!("compiles: {text}"),
        Err(errors) => shown(&errors),
    }
}

/// What every graph must hold, whatever it does.
pub fn check(graph: &JobGraph) {
    let mut uids = std::collections::HashSet::new();
    for (index, transform) in graph.transforms.iter().enumerate() {
        assert_eq!(transform.id.0 as usize, index);
        assert!(uids.insert(transform.uid.0.clone()), "uid {} twice", transform.uid);
        let inputs = graph.inputs_of(transform.id);
        assert!(inputs.iter().all(|e| e.from.0 < transform.id.0), "edges go forward");
        assert!(inputs.iter().enumerate().all(|(i, e)| e.input as usize == i), "inputs are numbered");
        let is_sink = matches!(transform.kind, TransformKind::Sink(_));
        assert_eq!(graph.outputs_of(transform.id).count() == 0, is_sink, "only sinks end");
        assert!(!transform.output.fields.is_empty(), "{} has no columns", transform.uid);
        let mut names: Vec<&str> = transform.output.fields.iter().map(|f| f.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), transform.output.fields.len(), "columns of {} have one name each", transform.uid);
        check_columns(graph, transform);
    }
    let text = serde_json::to_string(graph).unwrap();
    assert_eq!(serde_json::from_str::<JobGraph>(&text).unwrap(), *graph);
}

fn check_columns(graph: &JobGraph, transform: &Transform) {
    let input = |number: usize| {
        let edges = graph.inputs_of(transform.id);
        graph.transform(edges[number].from).output.fields.clone()
    };
    let expr = |e: &Expr, fields: &[millstream_api::graph::Field]| {
        check_types(e, fields, &transform.uid.0);
    };
    match &transform.kind {
        TransformKind::Source(source) => {
            let scan: Vec<_> = source.scan.iter().map(|c| c.field.clone()).collect();
            assert!(!scan.is_empty());
            source.projection.iter().for_each(|e| expr(e, &scan));
            if let Some(watermark) = &source.watermark {
                expr(&watermark.expr, &transform.output.fields);
            }
        }
        TransformKind::Calc { filter, projection } => {
            let fields = input(0);
            filter.iter().chain(projection).for_each(|e| expr(e, &fields));
            for (e, field) in projection.iter().zip(&transform.output.fields) {
                assert_eq!(e.ty.arrow(), field.ty.arrow(), "{} of {}", field.name, transform.uid);
                assert!(field.nullable || !e.nullable, "{} of {}", field.name, transform.uid);
            }
        }
        TransformKind::Union => {
            for number in 0..graph.inputs_of(transform.id).len() {
                let (a, b) = (input(number), &transform.output.fields);
                assert_eq!(a.len(), b.len());
                assert!(
                    a.iter()
                        .zip(b)
                        .all(|(a, b)| a.name == b.name && a.ty.arrow() == b.ty.arrow() && a.nullable == b.nullable)
                );
            }
        }
        TransformKind::LocalWindowAggregate { window, keys, aggregates } => {
            let fields = input(0);
            assert!(fields[window.time_column].ty.is_timestamp());
            let used = keys.iter().copied().chain(aggregates.iter().flat_map(|a| a.arg.into_iter().chain(a.filter)));
            used.for_each(|i| assert!(i < fields.len()));
            for a in aggregates {
                assert!(a.arg.is_none_or(|i| fields[i].ty.arrow() == a.arg_type.as_ref().unwrap().arrow()));
            }
        }
        TransformKind::LocalGroupAggregate { keys, aggregates, .. } => {
            let fields = input(0);
            let used = keys.iter().copied().chain(aggregates.iter().flat_map(|a| a.arg.into_iter().chain(a.filter)));
            used.for_each(|i| assert!(i < fields.len()));
        }
        TransformKind::Sink(_) => {
            let fields = input(0);
            assert_eq!(fields.len(), transform.output.fields.len());
            for (from, to) in fields.iter().zip(&transform.output.fields) {
                assert_eq!((&from.name, from.ty.arrow()), (&to.name, to.ty.arrow()));
            }
        }
        TransformKind::WindowAssign { .. }
        | TransformKind::GlobalWindowAggregate { .. }
        | TransformKind::GlobalGroupAggregate { .. } => {}
    }
}

/// Columns have the types that the input has, and calls the types that the function list gives.
fn check_types(expr: &Expr, fields: &[millstream_api::graph::Field], at: &str) {
    use millstream_api::graph::ExprKind;
    use millstream_api::graph::functions::ScalarFunction;
    match &expr.kind {
        ExprKind::Column { index } => {
            assert_eq!(expr.ty.arrow(), fields[*index].ty.arrow(), "column {index} in {at}");
            assert!(expr.nullable || !fields[*index].nullable, "column {index} in {at}");
        }
        ExprKind::Literal { .. } => {}
        ExprKind::Call { function, args } => {
            assert!(ScalarFunction::find(function).is_some_and(|f| f.name == function), "{function}");
            args.iter().for_each(|a| check_types(a, fields, at));
        }
        ExprKind::Cast { arg, .. } => check_types(arg, fields, at),
        ExprKind::Case { branches, otherwise } => {
            for (when, then) in branches {
                check_types(when, fields, at);
                check_types(then, fields, at);
                assert_eq!(then.ty.arrow(), expr.ty.arrow(), "CASE in {at}");
            }
            if let Some(otherwise) = otherwise {
                check_types(otherwise, fields, at);
            }
        }
    }
}

/// The transforms' uids, in order.
pub fn uids(graph: &JobGraph) -> Vec<&str> {
    graph.transforms.iter().map(|t| t.uid.0.as_str()).collect()
}

pub fn by_uid<'a>(graph: &'a JobGraph, uid: &str) -> &'a Transform {
    graph.transforms.iter().find(|t| t.uid.0 == uid).unwrap_or_else(|| panic!("no {uid} in {:?}", uids(graph)))
}
