//! A task's barriers and the decisions on its epochs, which come by different ways and so in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::graph::{GRAPH_VERSION, JobGraph};
use millstream_api::ids::{Epoch, TaskId, VertexId};
use millstream_api::log::Manifest;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use arrow_array::RecordBatch;

use crate::element::{Mutation, WATERMARK_MIN};
use crate::exchange::{Sender, channel};
use crate::slot::Wake;
use crate::transform::{Collector, Emission, Transform, TransformContext, TransformError};

/// Keeps nothing and emits nothing.
struct Sieve;

impl Transform for Sieve {
    fn on_batch(
        &mut self,
        _input: u32,
        _batch: RecordBatch,
        _cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        Ok(())
    }

    fn on_watermark(
        &mut self,
        _watermark: WatermarkMs,
        _cx: &mut TransformContext<'_>,
        _out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        Ok(Emission::Done)
    }
}

/// A task behind one channel, stepped by hand.
struct Bench {
    task: Task,
    input: Sender,
    events: UnboundedReceiver<TaskEvent>,
}

impl Bench {
    fn new() -> Self {
        let (input, receiver) = channel(Wake::default(), Wake::default());
        let (sender, events) = unbounded_channel();
        let id = TaskId { vertex: VertexId(1), index: 0 };
        let inputs = Inputs::new(vec![(0, receiver)], WATERMARK_MIN);
        let task = testing::task(id, Box::new(Sieve), inputs, Events::new(1, sender));
        Self { task, input, events }
    }

    fn barrier(&mut self, epoch: u64) {
        self.input.push(Element::Barrier(Barrier { epoch: Epoch(epoch), mutation: Mutation::None })).unwrap();
    }

    /// Steps until nothing moves; the epochs that were acknowledged.
    fn acknowledged(&mut self) -> Vec<u64> {
        while self.task.step(0) == Progress::Worked {}
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|event| match event.kind {
                TaskEventKind::Acknowledged(snapshot) => snapshot.epoch.0,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn manifest(epoch: u64) -> Arc<Manifest> {
    Arc::new(Manifest {
        epoch: Epoch(epoch),
        parallelism: 1,
        max_parallelism: 1,
        graph_hash: 0,
        graph: Arc::new(JobGraph {
            version: GRAPH_VERSION,
            transforms: Vec::new(),
            edges: Vec::new(),
            compiled_from: None,
        }),
        tables: Vec::new(),
        operator_state: BTreeMap::new(),
        splits: BTreeMap::new(),
        watermarks: BTreeMap::new(),
        processing_time_max_ms: 0,
        finished_tasks: BTreeSet::new(),
        transactions: Vec::new(),
        committed_through: None,
        transactional_ids: BTreeMap::new(),
        next_transactional_ids: BTreeMap::new(),
        earlier_transactional_ids: Vec::new(),
        scale: None,
        restored_from: None,
        restored_savepoint: None,
    })
}

#[test]
fn a_barrier_that_overtook_the_decision_before_it_waits_for_it() {
    let mut bench = Bench::new();
    bench.barrier(1);
    assert_eq!(bench.acknowledged(), [1]);
    bench.barrier(2);
    assert!(bench.acknowledged().is_empty());
    bench.task.sealed(manifest(1));
    assert_eq!(bench.acknowledged(), [2]);
    bench.barrier(3);
    assert!(bench.acknowledged().is_empty());
    bench.task.aborted(Epoch(2));
    assert_eq!(bench.acknowledged(), [3]);
}

#[test]
fn a_barrier_that_waits_goes_with_its_epoch_when_that_is_given_up() {
    let mut bench = Bench::new();
    bench.barrier(1);
    bench.barrier(2);
    assert_eq!(bench.acknowledged(), [1]);
    // Both decisions arrive before the task's next turn: the barrier of 2 must not come through after it.
    bench.task.sealed(manifest(1));
    bench.task.aborted(Epoch(2));
    bench.barrier(3);
    assert_eq!(bench.acknowledged(), [3]);
}
