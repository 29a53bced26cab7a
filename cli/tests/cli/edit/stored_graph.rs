//! A newer binary with unchanged SQL runs the graph of the checkpoint; played by a stored graph that this binary would not make.

use std::sync::Arc;

use millstream_api::graph::{Expr, ExprKind, Field, JobGraph, ScanColumn, SqlType, TransformKind};
use millstream_e2e::kafka::Broker;
use millstream_e2e::process::Job;
use millstream_e2e::services;
use serde_json::json;

use super::{LIMIT, PLAIN, Settings, Topics, against, alter, manifest, newest};
use crate::golden::{read_until, sorted, wait_for_checkpoints};

const SCRIPT: &str = "CREATE TABLE s (k INT, price INT, extra INT) WITH (@in s);
CREATE TABLE counts (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert counts);
INSERT INTO counts SELECT k, COUNT(*) FROM s WHERE price > 0 GROUP BY k;
";

const SAYS_SO: &str = "the SQL is unchanged, so the graph of checkpoint ";

fn feed(broker: &Broker, topics: &Topics) {
    topics.feed(broker, "s", (0..1_000).map(|i| json!({ "k": i % 5, "price": i % 2, "extra": i }).to_string()));
}

fn expect(broker: &Broker, topics: &Topics, fed: i64) {
    let rows: Vec<_> = (0..5).map(|k| json!({ "k": k, "n": fed * 100 })).collect();
    let mut reader = broker.reader(&topics.by_table["counts"]);
    assert_eq!(sorted(&read_until(&mut reader, &sorted(&rows))), sorted(&rows), "after {fed} times");
}

/// As a planner would make it that does not leave out columns which nobody reads.
fn unpruned(graph: &JobGraph) -> JobGraph {
    let mut graph = graph.clone();
    for transform in &mut graph.transforms {
        if let TransformKind::Source(source) = &mut transform.kind {
            let field = Field::new("extra", SqlType::Int, true);
            source.projection.push(Expr::column(source.scan.len(), SqlType::Int, true));
            source.scan.push(ScanColumn { field: field.clone(), metadata: None });
            transform.output.fields.push(field);
        }
    }
    graph
}

/// As one that calls a function which this binary does not have.
fn strange(graph: &JobGraph) -> JobGraph {
    let mut graph = graph.clone();
    for transform in &mut graph.transforms {
        if let TransformKind::Calc { filter: Some(Expr { kind: ExprKind::Call { function, .. }, .. }), .. } =
            &mut transform.kind
        {
            *function = "FANCY".to_owned();
        }
    }
    graph
}

fn store_graph(job: &Job, change: impl Fn(&JobGraph) -> JobGraph) -> u64 {
    alter(job, |manifest| {
        manifest.graph = Arc::new(change(&manifest.graph));
        manifest.graph_hash = manifest.graph.hash();
    });
    newest(job).graph_hash
}

#[test]
fn unchanged_sql_runs_the_stored_graph_until_it_is_to_be_compiled_anew() {
    let Some(broker) = services::broker("stored graph") else { return };
    let topics = Topics::create(&broker, "edit", ["s", "counts"]);
    let script = topics.fill(SCRIPT);
    let job = Job::new(&manifest(PLAIN, &script));
    feed(&broker, &topics);
    let process = job.run().start();
    expect(&broker, &topics, 1);
    wait_for_checkpoints(&process, 1);
    assert_eq!(process.stop(LIMIT).code(), 0);
    let compiled = newest(&job).graph_hash;
    let stored = store_graph(&job, unpruned);
    assert_ne!(stored, compiled);

    // The same text, but for blanks and a comment; over a stop and a kill.
    job.rewrite(&manifest(Settings { parallelism: 3, ..PLAIN }, &format!("-- as before\n{script}\n")));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(
        told.contains("accepted: the checkpoint's graph, though this version compiles the SQL to another one"),
        "{told}"
    );
    for fed in [2, 3] {
        feed(&broker, &topics);
        let process = job.run().start();
        process.wait_for_log(SAYS_SO, LIMIT);
        expect(&broker, &topics, fed);
        wait_for_checkpoints(&process, 1);
        process.kill();
        assert_eq!(newest(&job).graph_hash, stored);
    }

    // Other SQL is compiled, and finds the state by its name.
    job.rewrite(&manifest(PLAIN, &script.replace("price > 0", "price >= 1")));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(told.contains("accepted: another graph"), "{told}");

    // One that this binary cannot run says how to go on.
    let unfit = store_graph(&job, strange);
    job.rewrite(&manifest(PLAIN, &script));
    let failed = job.run().finish(LIMIT);
    assert_eq!(failed.code(), 6, "{}", failed.stderr);
    assert!(
        failed.stderr.contains("FANCY") && failed.stderr.contains("spec.restore.recompile: true"),
        "{}",
        failed.stderr
    );
    assert_eq!(newest(&job).graph_hash, unfit);

    job.rewrite(&manifest(Settings { restore: "recompile: true", ..PLAIN }, &script));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(told.contains("accepted: another graph"), "{told}");
    feed(&broker, &topics);
    let process = job.run().start();
    expect(&broker, &topics, 4);
    wait_for_checkpoints(&process, 1);
    let stopped = process.stop(LIMIT);
    assert!(!stopped.stderr.contains(SAYS_SO), "{}", stopped.stderr);
    assert_eq!(newest(&job).graph_hash, compiled);
}
