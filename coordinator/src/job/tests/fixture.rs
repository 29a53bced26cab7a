//! A small job: two sources' tasks, a hash edge, a counting sink.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::graph::JobGraph;
use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::{Manifest, PreparedTransaction};

pub fn transaction(epoch: u64, task: u32) -> PreparedTransaction {
    PreparedTransaction {
        epoch: Epoch(epoch),
        uid: TransformUid("out/sink/0".to_owned()),
        task,
        transactional_id: format!("m-uid-out-{task}-{}", epoch % 3),
        producer_id: i64::from(task) * 10 + (epoch % 3) as i64,
        producer_epoch: 0,
        topic: "out".to_owned(),
    }
}

pub fn manifest(epoch: u64, transactions: Vec<PreparedTransaction>) -> Manifest {
    let graph = JobGraph { version: 1, transforms: vec![], edges: vec![] };
    Manifest {
        epoch: Epoch(epoch),
        parallelism: 2,
        max_parallelism: 8,
        graph_hash: graph.hash(),
        graph: Arc::new(graph),
        tables: vec![],
        operator_state: BTreeMap::new(),
        splits: BTreeMap::new(),
        watermarks: BTreeMap::new(),
        processing_time_max_ms: 0,
        finished_tasks: BTreeSet::new(),
        transactions,
        committed_through: None,
        transactional_ids: BTreeMap::new(),
        restored_from: None,
    }
}
