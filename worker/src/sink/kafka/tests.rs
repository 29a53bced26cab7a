//! The sinks against a real broker: the life of epochs, and what is left of them by a process that dies.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int64Array};
use millstream_api::control::FinishOutcome;
use millstream_api::graph::{
    ChangelogMode, DeliveryGuarantee, Field, Format, GRAPH_VERSION, JobGraph, JsonOptions, KafkaPartitioner,
    NotNullEnforcer, Schema, SinkConnector, SqlType, Transform, TransformKind,
};
use millstream_api::ids::TransformId;

use super::recovery::{abort_transactions, fence_transactions, finish_transactions};
use super::*;
use crate::source::kafka::testing::topics::{TestTopic, unique};
use crate::source::kafka::testing::{Parked, broker, properties, read_committed};

/// A sink of one BIGINT column on a topic of one partition.
struct Fixture {
    bootstrap: String,
    topic: TestTopic,
    parked: Parked,
    job_uid: String,
    pool: u32,
    guarantee: DeliveryGuarantee,
    more: Vec<(&'static str, &'static str)>,
}

impl Fixture {
    fn new(test: &str) -> Option<Self> {
        let bootstrap = broker(&format!("worker::sink::kafka::{test}"))?;
        Some(Self {
            topic: TestTopic::new(&bootstrap, "sink", 1, &[]),
            bootstrap,
            parked: Parked::new(),
            job_uid: unique(),
            pool: 3,
            guarantee: DeliveryGuarantee::ExactlyOnce,
            more: Vec::new(),
        })
    }

    fn schema() -> Schema {
        Schema::new(vec![Field::new("n", SqlType::BigInt, false)])
    }

    fn table(&self) -> KafkaSink {
        KafkaSink {
            topic: self.topic.name.clone(),
            properties: properties(&self.bootstrap, &self.more),
            value_format: Format::Json(JsonOptions::default()),
            key: None,
            value_includes_key: true,
            partitioner: KafkaPartitioner::Default,
            guarantee: self.guarantee,
            transactional_id_prefix: Some("test".to_owned()),
        }
    }

    fn transform(connector: SinkConnector) -> SinkTransform {
        SinkTransform {
            table: "t".to_owned(),
            connector,
            primary_key: vec![0],
            not_null_enforcer: NotNullEnforcer::Error,
        }
    }

    fn context(&self, changelog: ChangelogMode) -> SinkContext {
        SinkContext {
            uid: TransformUid("out/sink/0".to_owned()),
            job: "job".to_owned(),
            job_uid: self.job_uid.clone(),
            index: 0,
            parallelism: 1,
            schema: Self::schema(),
            changelog,
            transaction_pool: self.pool,
            restored_transactions: Vec::new(),
            waker: self.parked.waker.clone(),
            io: self.parked.runtime.handle().clone(),
        }
    }

    fn try_open(&self) -> Result<Box<dyn Sink>, SinkError> {
        let table = self.table();
        let transform = Self::transform(SinkConnector::Kafka(table.clone()));
        open(&table, &transform, self.context(ChangelogMode::Append))
    }

    fn open(&self) -> Box<dyn Sink> {
        self.try_open().unwrap()
    }

    fn graph(&self) -> JobGraph {
        let sink = Self::transform(SinkConnector::Kafka(self.table()));
        let transform = Transform {
            id: TransformId(0),
            uid: self.context(ChangelogMode::Append).uid,
            name: "t".to_owned(),
            kind: TransformKind::Sink(sink),
            output: Self::schema(),
            changelog: ChangelogMode::Append,
        };
        JobGraph { version: GRAPH_VERSION, transforms: vec![transform], edges: Vec::new(), compiled_from: None }
    }

    fn prepare(&self, sink: &mut dyn Sink, epoch: u64) -> Vec<PreparedTransaction> {
        sink.prepare(Epoch(epoch)).unwrap();
        self.parked.wait_for(|| sink.poll_prepared(Epoch(epoch)).unwrap())
    }

    /// The manifest of the epoch is in the log and names these.
    fn seal(&self, sink: &mut dyn Sink, epoch: u64, named: &[PreparedTransaction]) {
        sink.newest_manifest(named).unwrap();
        sink.sealed(Epoch(epoch)).unwrap();
        self.parked.wait_for(|| sink.poll_committed().unwrap().filter(|e| *e == Epoch(epoch)));
    }

    fn wait_until_idle(&self, sink: &mut dyn Sink) {
        self.parked.wait_for(|| (sink.ready() && sink.idle()).then_some(()));
    }

    fn numbers(&self, count: usize) -> Vec<i64> {
        let number = |value: Option<String>| {
            let value: serde_json::Value = serde_json::from_str(&value.unwrap()).unwrap();
            value["n"].as_i64().unwrap()
        };
        read_committed(&self.bootstrap, &self.topic.name, count).into_iter().map(|(_, v)| number(v)).collect()
    }
}

fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_new(Fixture::schema().arrow(), vec![column]).unwrap()
}

fn ids(transactions: &[PreparedTransaction]) -> BTreeSet<&str> {
    transactions.iter().map(|t| t.transactional_id.as_str()).collect()
}

#[test]
fn each_epoch_is_visible_once_and_no_named_producer_is_written_to() {
    let Some(fixture) = Fixture::new("each_epoch_is_visible_once") else { return };
    let mut sink = fixture.open();
    let mut before = Vec::new();
    for epoch in 1..=8 {
        let first = i64::try_from(epoch).unwrap() * 100;
        sink.write(rows(first..first + 100)).unwrap();
        let prepared = fixture.prepare(sink.as_mut(), epoch);
        assert_eq!(prepared.len(), 1);
        assert_eq!(prepared[0].epoch, Epoch(epoch));
        assert!(ids(&prepared).is_disjoint(&ids(&before)), "{prepared:?} after {before:?}");
        fixture.seal(sink.as_mut(), epoch, &prepared);
        before = prepared;
    }
    assert_eq!(fixture.numbers(800), (100..900).collect::<Vec<_>>());
    assert_eq!(sink.transactional_ids().unwrap().pool, 3);
}

#[test]
fn a_producer_waits_as_long_as_manifests_name_it() {
    let Some(mut fixture) = Fixture::new("a_producer_waits_as_long_as_manifests_name_it") else { return };
    fixture.pool = 4;
    let mut sink = fixture.open();
    let mut named = Vec::new();
    // The coordinator never hears of a commit: every manifest names all transactions before it.
    for epoch in 1..=4 {
        sink.write(rows(0..1)).unwrap();
        let prepared = fixture.prepare(sink.as_mut(), epoch);
        assert!(ids(&prepared).is_disjoint(&ids(&named)), "{prepared:?} after {named:?}");
        named.extend(prepared);
        fixture.seal(sink.as_mut(), epoch, &named);
    }
    // All four are named: a fifth epoch waits for the manifest that frees one.
    sink.write(rows(0..1)).unwrap();
    sink.prepare(Epoch(5)).unwrap();
    assert!(sink.poll_prepared(Epoch(5)).unwrap().is_none());
    sink.newest_manifest(&named[3..]).unwrap();
    let prepared = fixture.parked.wait_for(|| sink.poll_prepared(Epoch(5)).unwrap());
    assert!(!ids(&prepared).contains(named[3].transactional_id.as_str()));
}

#[test]
fn aborted_epochs_stay_listed_until_a_manifest_covers_them() {
    let Some(mut fixture) = Fixture::new("aborted_epochs_stay_listed") else { return };
    fixture.pool = 5;
    let mut sink = fixture.open();
    sink.write(rows(0..10)).unwrap();
    let first = fixture.prepare(sink.as_mut(), 1);
    // Written before the abort is known, so by another producer.
    sink.write(rows(10..20)).unwrap();
    sink.flush_hint();
    fixture.wait_until_idle(sink.as_mut());
    sink.aborted(Epoch(1)).unwrap();
    let second = fixture.prepare(sink.as_mut(), 2);
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(second.contains(&first[0]));
    sink.aborted(Epoch(2)).unwrap();
    // Nothing was written since: the epoch goes on in an open transaction.
    sink.write(rows(20..30)).unwrap();
    let third = fixture.prepare(sink.as_mut(), 3);
    assert_eq!(ids(&third), ids(&second));
    fixture.seal(sink.as_mut(), 3, &third);
    let mut numbers = fixture.numbers(30);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    // An epoch without rows has no transaction.
    assert_eq!(fixture.prepare(sink.as_mut(), 4), []);
    fixture.seal(sink.as_mut(), 4, &[]);
}

#[test]
fn an_empty_epoch_is_not_committed_before_the_one_before_it() {
    let Some(fixture) = Fixture::new("an_empty_epoch_is_not_committed") else { return };
    let mut sink = fixture.open();
    sink.write(rows(0..1)).unwrap();
    let prepared = fixture.prepare(sink.as_mut(), 1);
    sink.newest_manifest(&prepared).unwrap();
    sink.sealed(Epoch(1)).unwrap();
    assert_eq!(fixture.prepare(sink.as_mut(), 2), []);
    sink.newest_manifest(&prepared).unwrap();
    sink.sealed(Epoch(2)).unwrap();
    fixture.parked.wait_for(|| sink.poll_committed().unwrap().filter(|e| *e == Epoch(2)));
    assert_eq!(fixture.numbers(1), [0]);
}

#[test]
fn what_a_dead_process_prepared_is_finished_and_the_rest_is_aborted() {
    let Some(fixture) = Fixture::new("what_a_dead_process_prepared_is_finished") else { return };
    let mut sink = fixture.open();
    sink.write(rows(0..10)).unwrap();
    let prepared = fixture.prepare(sink.as_mut(), 1);
    let ranges = BTreeMap::from([(prepared[0].uid.clone(), sink.transactional_ids().unwrap())]);
    sink.write(rows(90..99)).unwrap();
    drop(sink);
    for _ in 0..2 {
        let outcomes = finish_transactions(&fixture.graph(), &prepared).unwrap();
        assert_eq!(outcomes, [(prepared[0].clone(), FinishOutcome::Committed)]);
    }
    fence_transactions(&fixture.graph(), &ranges).unwrap();
    let mut sink = fixture.open();
    sink.write(rows(10..20)).unwrap();
    let prepared = fixture.prepare(sink.as_mut(), 2);
    fixture.seal(sink.as_mut(), 2, &prepared);
    assert_eq!(fixture.numbers(20), (0..20).collect::<Vec<_>>());
}

#[test]
fn one_transaction_given_up_keeps_the_others_from_being_committed() {
    let Some(mut fixture) = Fixture::new("one_transaction_given_up") else { return };
    fixture.pool = 5;
    let mut sink = fixture.open();
    sink.write(rows(0..1)).unwrap();
    fixture.prepare(sink.as_mut(), 1);
    sink.write(rows(1..2)).unwrap();
    sink.flush_hint();
    fixture.wait_until_idle(sink.as_mut());
    sink.aborted(Epoch(1)).unwrap();
    let prepared = fixture.prepare(sink.as_mut(), 2);
    assert_eq!(prepared.len(), 2);
    drop(sink);
    let graph = fixture.graph();
    let taken = millstream_kafka::Transactions::new(millstream_kafka::ClientConfig {
        bootstrap_servers: fixture.bootstrap.clone(),
        ..millstream_kafka::ClientConfig::default()
    });
    let deadline = millstream_kafka::Deadline::after(crate::source::kafka::testing::PATIENCE);
    taken.unwrap().fence(&prepared[1].transactional_id, deadline).unwrap();
    let outcomes: BTreeMap<_, _> = finish_transactions(&graph, &prepared).unwrap().into_iter().collect();
    assert_eq!(outcomes[&prepared[0]], FinishOutcome::Open);
    assert!(matches!(outcomes[&prepared[1]], FinishOutcome::Expired { .. }), "{outcomes:?}");
    for _ in 0..2 {
        let outcomes = abort_transactions(&graph, &prepared).unwrap();
        assert!(outcomes.iter().all(|(_, outcome)| *outcome == FinishOutcome::Aborted), "{outcomes:?}");
    }
}

#[test]
fn a_process_whose_job_is_anothers_ends_all_that_no_manifest_names() {
    let Some(fixture) = Fixture::new("a_process_whose_job_is_anothers") else { return };
    let mut sink = fixture.open();
    sink.write(rows(0..10)).unwrap();
    let sealed = fixture.prepare(sink.as_mut(), 1);
    sink.newest_manifest(&sealed).unwrap();
    sink.write(rows(10..20)).unwrap();
    let acknowledged = fixture.prepare(sink.as_mut(), 2);
    let acknowledged: Vec<_> = acknowledged.into_iter().filter(|t| t.epoch == Epoch(2)).collect();
    sink.write(rows(20..30)).unwrap();
    sink.flush_hint();
    fixture.wait_until_idle(sink.as_mut());
    sink.abandon(Some(Epoch(1)));
    drop(sink);
    millstream_kafka::finish_aborts(crate::source::kafka::testing::PATIENCE);
    // The next owner commits what is sealed, and a reader gets past everything else without it.
    let outcomes = finish_transactions(&fixture.graph(), &acknowledged).unwrap();
    assert!(
        outcomes.iter().all(|(_, o)| matches!(o, FinishOutcome::Expired { .. } | FinishOutcome::Aborted)),
        "{outcomes:?}"
    );
    let outcomes = finish_transactions(&fixture.graph(), &sealed).unwrap();
    assert_eq!(outcomes, [(sealed[0].clone(), FinishOutcome::Committed)]);
    let mut sink = fixture.open();
    sink.write(rows(30..31)).unwrap();
    let prepared = fixture.prepare(sink.as_mut(), 3);
    fixture.seal(sink.as_mut(), 3, &prepared);
    assert_eq!(fixture.numbers(11), (0..10).chain([30]).collect::<Vec<_>>());
}

#[test]
fn an_upsert_table_writes_tombstones_at_least_once() {
    let Some(mut fixture) = Fixture::new("an_upsert_table_writes_tombstones") else { return };
    fixture.guarantee = DeliveryGuarantee::AtLeastOnce;
    let KafkaSink { topic, properties, value_format, guarantee, .. } = fixture.table();
    let table = UpsertKafkaSink {
        topic,
        properties,
        key_format: value_format.clone(),
        key_prefix: String::new(),
        value_format,
        value_includes_key: true,
        guarantee,
        transactional_id_prefix: None,
    };
    let changelog = ChangelogMode::Retract { upsert_keys: vec![0] };
    let transform = Fixture::transform(SinkConnector::UpsertKafka(table.clone()));
    let mut sink = open_upsert(&table, &transform, fixture.context(changelog)).unwrap();
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 1]));
    let kinds: ArrayRef = Arc::new(Int8Array::from(vec![0, 0, 3]));
    let batch = RecordBatch::try_new(Fixture::schema().arrow_with_row_kind(), vec![numbers, kinds]).unwrap();
    sink.write(batch).unwrap();
    assert_eq!(fixture.prepare(sink.as_mut(), 1), []);
    fixture.seal(sink.as_mut(), 1, &[]);
    let one = Some("{\"n\":1}".to_owned());
    let two = Some("{\"n\":2}".to_owned());
    let records = read_committed(&fixture.bootstrap, &fixture.topic.name, 3);
    assert_eq!(records, [(one.clone(), one.clone()), (two.clone(), two), (one, None)]);
}

#[test]
fn a_transaction_timeout_that_the_brokers_do_not_allow_is_refused_at_the_start() {
    let Some(mut fixture) = Fixture::new("a_transaction_timeout_that_the_brokers_do_not_allow") else { return };
    fixture.more = vec![("transaction.timeout.ms", "999999999")];
    let Err(SinkError::User { reason }) = fixture.try_open() else { panic!("it opens") };
    assert!(reason.contains("transaction.max.timeout.ms") && reason.contains("999999999"), "{reason}");
}

#[test]
fn more_rows_than_the_queues_hold_are_refused_and_not_lost() {
    let Some(mut fixture) = Fixture::new("more_rows_than_the_queues_hold") else { return };
    fixture.more = vec![("buffer.memory", "1048576")];
    let mut sink = fixture.open();
    let mut written = 0;
    while written < 600_000 {
        fixture.parked.wait_for(|| sink.ready().then_some(()));
        sink.write(rows(written..written + 20_000)).unwrap();
        written += 20_000;
    }
    let prepared = fixture.prepare(sink.as_mut(), 1);
    fixture.seal(sink.as_mut(), 1, &prepared);
    assert_eq!(fixture.numbers(600_000), (0..600_000).collect::<Vec<_>>());
}
