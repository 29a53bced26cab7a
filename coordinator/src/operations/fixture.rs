//! A small job, as the tests of the operations see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::graph::JobGraph;
use millstream_api::ids::{TaskId, VertexId};
use millstream_api::log::{Address, Manifest};
use millstream_api::readings::{Doing, TaskReadings, TaskRole};

use super::JobFacts;
use crate::job::fixture;

/// Source, then count and sink: two vertices.
pub(super) fn graph() -> Arc<JobGraph> {
    fixture::graph()
}

pub(super) fn manifest(epoch: u64) -> Manifest {
    fixture::manifest(epoch, Vec::new())
}

pub(super) fn address(listen: Option<&str>) -> Address {
    Address { host: "here".to_owned(), listen: listen.map(str::to_owned), process_id: 1, process_start: 2 }
}

pub(super) fn facts() -> JobFacts {
    JobFacts {
        job: "default/job".to_owned(),
        display_name: "my job".to_owned(),
        graph: graph(),
        address: address(Some("here:1")),
    }
}

/// Of a task that has done nothing yet.
pub(super) fn readings(vertex: u32, index: u32) -> TaskReadings {
    TaskReadings {
        task: TaskId { vertex: VertexId(vertex), index },
        name: String::new(),
        role: TaskRole { has_source: vertex == 0, has_sink: vertex == 1 },
        records_in: 0,
        records_out: 0,
        bytes_in: 0,
        bytes_out: 0,
        sink_records: 0,
        watermark: None,
        lag_records: None,
        skipped_records: 0,
        busy_ms: 0,
        idle_ms: 0,
        backpressured_ms: 0,
        doing: Doing::Idle,
        doing_ms: 0,
        alignment_ms: 0,
        checkpoints: 0,
        transforms: BTreeMap::new(),
        tables: BTreeMap::new(),
        source: None,
    }
}
