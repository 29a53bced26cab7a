//! What a broker is asked about earlier transactions runs beside everything else: the tasks that run are heard meanwhile.

use std::net::TcpListener;
use std::sync::Arc;

use millstream_api::control::Command;
use millstream_api::graph::{JobGraph, TransformKind};
use millstream_api::ids::Epoch;
use millstream_api::log::PreparedTransaction;

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs;

/// A job that wrote to this broker.
fn written_to(broker: &TcpListener) -> Arc<JobGraph> {
    let sql = format!(
        "CREATE TABLE s (n BIGINT) WITH ('connector' = 'datagen');
         CREATE TABLE t (n BIGINT) WITH ('connector' = 'kafka', 'topic' = 't', 'format' = 'json',
           'properties.bootstrap.servers' = '{}', 'sink.delivery-guarantee' = 'exactly-once',
           'sink.transactional-id-prefix' = 'earlier');
         INSERT INTO t SELECT n FROM s;",
        broker.local_addr().unwrap()
    );
    jobs::graph(&sql)
}

fn prepared(graph: &JobGraph) -> PreparedTransaction {
    let sink = graph.transforms.iter().find(|t| matches!(t.kind, TransformKind::Sink(_))).unwrap();
    PreparedTransaction {
        epoch: Epoch(0),
        uid: sink.uid.clone(),
        task: 0,
        transactional_id: "earlier-0".to_owned(),
        producer_id: 1,
        producer_epoch: 0,
        topic: "t".to_owned(),
    }
}

#[test]
fn a_checkpoint_completes_while_a_broker_that_is_asked_does_not_answer() {
    console::capture();
    // Connections are made, and nothing is ever said on them.
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let graph = written_to(&broker);
    let transactions = vec![prepared(&graph)];
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::new(&jobs::running("silent").graph, 2, dir.path(), false);
    coordinator.deploy(None);
    coordinator.send(Command::FinishTransactions { graph, transactions });
    coordinator.checkpoint();
    assert!(!coordinator.transactions_finished, "the broker's answer came before the checkpoint");
    coordinator.kill();
}
