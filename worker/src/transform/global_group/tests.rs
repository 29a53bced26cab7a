//! Both phases of the aggregate without a window: the changelog, applied, is the reference's table.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use millstream_api::graph::{
    AggregateCall, ChangelogMode, Edge, EdgeKind, Field, JobGraph, MiniBatch, Schema, SinkConnector, SinkTransform,
    TransformKind, UpsertKafkaSink,
};
use millstream_api::ids::TransformId;

use crate::transform::aggregate::AggregatePlan;
use crate::transform::harness::{
    Backend, K1, K2, Random, TestRow, TwoPhases, batch, by_key, calls, chain, input_schema, reference_results, row,
    transform,
};

fn graph(keys: &[usize], calls: &[AggregateCall], mini_batch: Option<MiniBatch>, ttl_ms: Option<u64>) -> JobGraph {
    let key_fields: Vec<Field> = keys.iter().map(|k| input_schema().fields[*k].clone()).collect();
    let mut partials = key_fields.clone();
    partials.extend(AggregatePlan::new(calls).unwrap().fields());
    let mut output = key_fields.clone();
    output.extend(calls.iter().map(|c| c.output.clone()));
    let local = TransformKind::LocalGroupAggregate { keys: keys.to_vec(), aggregates: calls.to_vec(), mini_batch };
    let global = TransformKind::GlobalGroupAggregate {
        keys: key_fields,
        aggregates: calls.to_vec(),
        mini_batch,
        state_ttl_ms: ttl_ms,
    };
    let changelog = ChangelogMode::Retract { upsert_keys: (0..keys.len()).collect() };
    let sink = TransformKind::Sink(SinkTransform {
        table: "out".to_owned(),
        connector: SinkConnector::Blackhole,
        primary_key: Vec::new(),
        not_null_enforcer: Default::default(),
    });
    chain(vec![
        transform(1, "local", local, Schema::new(partials), ChangelogMode::Append),
        transform(2, "global", global, Schema::new(output.clone()), changelog.clone()),
        transform(3, "sink", sink, Schema::new(output), changelog),
    ])
}

/// The table that the changelog leaves, and how many keys changed per batch at most.
fn apply(lines: &[String], table: &mut BTreeMap<String, ()>) {
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        let (kind, row) = line.split_at(2);
        match kind {
            "+I" => assert!(table.insert(row.to_owned(), ()).is_none(), "inserted twice: {line}"),
            "-U" => {
                assert!(table.remove(row).is_some(), "retracts what is not there: {line}");
                let next = lines.peek().expect("-U is followed by +U");
                assert!(next.starts_with("+U"), "-U is followed by {next}");
                assert_ne!(&&next[2..], &row, "a change that changes nothing");
            }
            "+U" => assert!(table.insert(row.to_owned(), ()).is_none(), "inserted twice: {line}"),
            other => panic!("row kind {other}"),
        }
    }
}

fn reference(keys: &[usize], rows: &[TestRow]) -> Vec<String> {
    let lines = by_key(keys, rows).into_iter().map(|(key, rows)| format!("[{key}{}]", reference_results(&rows)));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

fn check(seed: u64, keys: &[usize], mini_batch: Option<MiniBatch>, backend: Backend) {
    let mut random = Random::new(seed);
    let mut phases =
        TwoPhases::new(graph(keys, &calls(), mini_batch, None), keys.len(), 1 + random.below(4) as u32, backend);
    let (mut all, mut table, mut seen) = (Vec::new(), BTreeMap::new(), 0);
    for step in 0..50 {
        let rows: Vec<TestRow> = (0..random.below(60)).map(|at| row(&mut random, at as i64)).collect();
        let local = random.below(phases.parallelism() as u64) as usize;
        phases.rows(local, batch(&rows));
        all.extend(rows);
        phases.tick(step * 7);
        if random.below(8) == 0 {
            phases.checkpoint_and_restore(1 + random.below(5) as u32);
            let lines = phases.lines();
            apply(&lines[seen..], &mut table);
            seen = lines.len();
            // Everything before the barrier is out.
            assert_eq!(table.keys().cloned().collect::<Vec<_>>(), reference(keys, &all), "seed {seed}");
        }
    }
    phases.end();
    apply(&phases.lines()[seen..], &mut table);
    assert_eq!(table.into_keys().collect::<Vec<_>>(), reference(keys, &all), "seed {seed}");
}

#[test]
fn the_changelog_applied_is_the_table_of_the_reference() {
    let keys: [&[usize]; 4] = [&[K1], &[K2], &[K1, K2], &[]];
    for (at, keys) in keys.iter().enumerate() {
        let mini_batch = Some(MiniBatch { allow_latency_ms: 20, size: 150 });
        check(at as u64, keys, None, Backend::Memory);
        check(10 + at as u64, keys, mini_batch, Backend::Memory);
    }
    check(20, &[K1, K2], None, Backend::Disk);
}

fn of_key(k1: i64, int: Option<i32>) -> TestRow {
    TestRow { k1: Some(k1), k2: None, time: 0, int, double: None, text: None, money: None, flag: None }
}

fn count_of_int() -> Vec<AggregateCall> {
    // COUNT(int) FILTER (WHERE flag), which is 0 for all these rows, and SUM(int).
    vec![calls()[1].clone(), calls()[2].clone()]
}

#[test]
fn a_key_changes_once_per_batch_and_an_unchanged_result_is_silent_without_ttl() {
    let mut phases = TwoPhases::new(graph(&[K1], &count_of_int(), None, None), 1, 1, Backend::Memory);
    phases.rows(0, batch(&[of_key(1, Some(2)), of_key(1, Some(3)), of_key(2, None)]));
    assert_eq!(phases.lines(), ["+I[1, 0, 5]", "+I[2, 0, null]"]);
    phases.rows(0, batch(&[of_key(1, Some(0)), of_key(2, Some(0))]));
    assert_eq!(phases.lines()[2..], ["-U[2, 0, null]", "+U[2, 0, 0]"]);
}

#[test]
fn with_ttl_an_unchanged_result_is_told_and_an_expired_key_begins_anew() {
    let mut phases = TwoPhases::new(graph(&[K1], &count_of_int(), None, Some(100)), 1, 1, Backend::Memory);
    phases.rows(0, batch(&[of_key(1, Some(5))]));
    phases.tick(60);
    phases.rows(0, batch(&[of_key(1, Some(0))]));
    assert_eq!(phases.lines(), ["+I[1, 0, 5]", "-U[1, 0, 5]", "+U[1, 0, 5]"]);
    phases.tick(159);
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    assert_eq!(phases.lines()[3..], ["-U[1, 0, 5]", "+U[1, 0, 6]"]);
    phases.tick(400);
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    assert_eq!(phases.lines()[5..], ["+I[1, 0, 1]"]);
}

#[test]
fn a_mini_batch_waits_for_its_size_or_its_time() {
    let mini_batch = Some(MiniBatch { allow_latency_ms: 50, size: 3 });
    let mut phases = TwoPhases::new(graph(&[K1], &count_of_int(), mini_batch, None), 1, 1, Backend::Memory);
    phases.tick(1000);
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    phases.tick(1049);
    assert!(phases.lines().is_empty());
    // The local phase lets go, the global phase holds it for as long again.
    phases.tick(1050);
    assert!(phases.lines().is_empty());
    phases.tick(1100);
    assert_eq!(phases.lines(), ["+I[1, 0, 1]"]);
}

#[test]
fn an_upsert_sink_gets_no_update_before() {
    let mut graph = graph(&[K1], &count_of_int(), None, None);
    let TransformKind::Sink(sink) = &mut graph.transforms[3].kind else { panic!("a sink") };
    let json = || millstream_api::graph::Format::Json(Default::default());
    sink.connector = SinkConnector::UpsertKafka(UpsertKafkaSink {
        topic: "t".to_owned(),
        properties: BTreeMap::new(),
        key_format: json(),
        key_prefix: String::new(),
        value_format: json(),
        value_includes_key: true,
        guarantee: Default::default(),
        transactional_id_prefix: None,
    });
    let mut phases = TwoPhases::new(graph.clone(), 1, 1, Backend::Memory);
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    assert_eq!(phases.lines(), ["+I[1, 0, 1]", "+U[1, 0, 2]"]);
    // Another consumer that looks at them brings them back.
    let blackhole = graph.transforms[3].clone();
    let TransformKind::Sink(sink) = &blackhole.kind else { panic!("a sink") };
    let other = SinkTransform { connector: SinkConnector::Blackhole, ..sink.clone() };
    graph.transforms.push(transform(4, "other", TransformKind::Sink(other), blackhole.output, blackhole.changelog));
    graph.edges.push(Edge { from: TransformId(2), to: TransformId(4), input: 0, kind: EdgeKind::Forward });
    let mut phases = TwoPhases::new(graph, 1, 1, Backend::Memory);
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    phases.rows(0, batch(&[of_key(1, Some(1))]));
    assert_eq!(phases.lines().len(), 3);
}

#[test]
fn long_changelogs_go_in_pieces_that_keep_each_update_together() {
    let mut phases = TwoPhases::new(graph(&[K1], &count_of_int(), None, None), 1, 1, Backend::Memory);
    let keys = |range: std::ops::Range<i64>| batch(&range.map(|key| of_key(key, Some(1))).collect::<Vec<_>>());
    phases.rows(0, keys(0..10_000));
    // One new key first: every pair of an update begins at an odd row.
    phases.rows(0, keys(-1..10_000));
    let sizes: Vec<usize> = phases.output.iter().map(|b| b.num_rows()).collect();
    assert_eq!(sizes, [8192, 1808, 8191, 8192, 3618]);
    for batch in &phases.output {
        let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>().values();
        assert_ne!(kinds[0], 2, "a piece begins with +U");
        assert_ne!(kinds[kinds.len() - 1], 1, "a piece ends with -U");
    }
}

#[test]
fn zero_and_negative_zero_are_one_key_whose_rows_look_alike() {
    let key = |double: f64| batch(&[TestRow { double: Some(double), ..of_key(1, Some(1)) }]);
    let mut phases = TwoPhases::new(graph(&[4], &count_of_int(), None, None), 1, 1, Backend::Memory);
    phases.rows(0, key(0.0));
    phases.rows(0, key(-0.0));
    assert_eq!(phases.lines(), ["+I[0.0, 0, 1]", "-U[0.0, 0, 1]", "+U[0.0, 0, 2]"]);
}
