//! The simulated job: numbered records in splits, counted per key behind a hash edge, every count written out.
//!
//! The output of record n with key k is (n, k, how many of k there were up to it): each number must be seen once, and the
//! counts of a key must be 1, 2, 3 and so on, each once. A count that was restored wrongly shows for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::graph::{
    ChangelogMode, DeliveryGuarantee, Edge, EdgeKind, Format, GRAPH_VERSION, JobGraph, JsonOptions, KafkaEnd,
    KafkaPartitioner, KafkaSink, KafkaSource, KafkaStart, NotNullEnforcer, Schema, SinkConnector, SinkTransform,
    SourceConnector, SourceTransform, Transform, TransformKind,
};
use millstream_api::ids::{TransformId, TransformUid, VertexId};

use crate::plan::Plan;

pub const SOURCE: VertexId = VertexId(0);
pub const COUNT: VertexId = VertexId(1);
pub const SOURCE_UID: &str = "numbers";
pub const COUNT_UID: &str = "count";
pub const SINK_UID: &str = "out";
const OTHER_SINK_UID: &str = "other";
pub const TABLE: &str = "counts";
/// Numbers of a split begin at its multiple.
const SPLIT_STRIDE: u64 = 1_000_000;

#[must_use]
pub fn uid(name: &str) -> TransformUid {
    TransformUid(name.to_owned())
}

#[must_use]
pub fn number(split: u32, offset: u64) -> u64 {
    u64::from(split) * SPLIT_STRIDE + offset
}

#[must_use]
pub fn key_of(number: u64, keys: u32) -> u32 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % u64::from(keys)) as u32
}

#[must_use]
pub fn group_of(key: u32, max_parallelism: u32) -> u16 {
    (key.wrapping_mul(0x85eb_ca6b) >> 8) as u16 % max_parallelism as u16
}

/// What a user runs: the text of the job, and the version that compiles it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edition {
    /// The text has another statement: a sink of its own, to which nothing is written.
    pub other_statement: bool,
    /// A version that compiles the same text to another graph.
    pub newer_version: bool,
}

/// Source -> hash edge -> count and sink, or sinks.
#[must_use]
pub fn graph(plan: &Plan, edition: Edition) -> Arc<JobGraph> {
    let format = Format::Json(JsonOptions::default());
    let source = TransformKind::Source(SourceTransform {
        table: "numbers".to_owned(),
        connector: SourceConnector::Kafka(KafkaSource {
            topics: vec!["numbers".to_owned()],
            properties: BTreeMap::new(),
            startup: KafkaStart::LatestOffset,
            bounded: Some(KafkaEnd::LatestOffset),
            discovery_interval_ms: None,
            value_format: format.clone(),
            key: None,
            value_includes_key: true,
        }),
        scan: Vec::new(),
        projection: Vec::new(),
        watermark: None,
    });
    let count = TransformKind::GlobalGroupAggregate {
        keys: Vec::new(),
        aggregates: Vec::new(),
        mini_batch: None,
        state_ttl_ms: None,
    };
    let properties = [("transaction.timeout.ms".to_owned(), plan.transaction_timeout_ms.to_string())];
    let sink = |topic: &str| {
        TransformKind::Sink(SinkTransform {
            table: topic.to_owned(),
            connector: SinkConnector::Kafka(KafkaSink {
                topic: topic.to_owned(),
                properties: properties.clone().into(),
                value_format: format.clone(),
                key: None,
                value_includes_key: true,
                partitioner: KafkaPartitioner::Default,
                guarantee: DeliveryGuarantee::ExactlyOnce,
                transactional_id_prefix: Some("sim".to_owned()),
            }),
            primary_key: Vec::new(),
            not_null_enforcer: NotNullEnforcer::Error,
        })
    };
    let version = if edition.newer_version { " of a newer version" } else { "" };
    let transform = |id, name: &str, kind| Transform {
        id: TransformId(id),
        uid: uid(name),
        name: format!("{name}{version}"),
        kind,
        output: Schema::default(),
        changelog: ChangelogMode::Append,
    };
    let forward = |to| Edge { from: TransformId(1), to: TransformId(to), input: 0, kind: EdgeKind::Forward };
    let hash = Edge { from: TransformId(0), to: TransformId(1), input: 0, kind: EdgeKind::Hash { keys: vec![0] } };
    let mut transforms =
        vec![transform(0, SOURCE_UID, source), transform(1, COUNT_UID, count), transform(2, SINK_UID, sink("out"))];
    let mut edges = vec![hash, forward(2)];
    if edition.other_statement {
        transforms.push(transform(3, OTHER_SINK_UID, sink("other")));
        edges.push(forward(3));
    }
    let compiled_from = Some(u64::from(edition.other_statement));
    Arc::new(JobGraph { version: GRAPH_VERSION, transforms, edges, compiled_from })
}
