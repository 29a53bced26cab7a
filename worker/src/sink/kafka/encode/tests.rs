#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use millstream_api::graph::{DeliveryGuarantee, Field, KafkaKey, SqlType};

use super::*;

fn schema() -> Schema {
    Schema::new(vec![Field::new("k_id", SqlType::BigInt, false), Field::new("name", SqlType::STRING, true)])
}

fn batch(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1)));
    RecordBatch::try_new(schema().arrow(), vec![ids, names]).unwrap()
}

fn json_format() -> Format {
    Format::Json(JsonOptions::default())
}

fn kafka(keyed: bool, value_includes_key: bool, partitioner: KafkaPartitioner) -> KafkaSink {
    let key = || KafkaKey { format: json_format(), fields: vec!["k_id".to_owned()], prefix: "k_".to_owned() };
    KafkaSink {
        topic: "t".to_owned(),
        properties: BTreeMap::new(),
        value_format: json_format(),
        key: keyed.then(key),
        value_includes_key,
        partitioner,
        guarantee: DeliveryGuarantee::None,
        transactional_id_prefix: None,
    }
}

fn buffers(partitions: usize) -> Vec<RecordBuffer> {
    (0..partitions).map(|_| RecordBuffer::default()).collect()
}

fn records(buffers: &[RecordBuffer]) -> Vec<usize> {
    buffers.iter().map(RecordBuffer::pending_records).collect()
}

#[test]
fn keys_decide_the_partition_and_their_prefix_is_cut() {
    let sink = kafka(true, false, KafkaPartitioner::Default);
    let mut encoder = Encoder::append(&sink, &schema(), &ChangelogMode::Append, 0, 4).unwrap();
    let mut out = buffers(4);
    assert_eq!(encoder.encode(&batch(&[(1, Some("a")), (1, None)]), &mut out), 2);
    let partition = partition_of_key(b"{\"id\":1}", 4) as usize;
    assert_eq!(out[partition].pending_records(), 2);
    let bytes = "{\"id\":1}{\"name\":\"a\"}{\"id\":1}{\"name\":null}".len();
    assert_eq!(out[partition].pending_bytes(), bytes);
}

#[test]
fn partitioners_fill_partitions_as_their_names_say() {
    let rows: Vec<(i64, Option<&str>)> = (0..10).map(|i| (i, Some("x"))).collect();
    for (partitioner, expected) in [
        (KafkaPartitioner::Fixed, vec![0, 0, 30]),
        (KafkaPartitioner::RoundRobin, vec![10, 10, 10]),
        // Below the sticky size all stay together.
        (KafkaPartitioner::Default, vec![0, 0, 30]),
    ] {
        let sink = kafka(false, true, partitioner);
        let mut encoder = Encoder::append(&sink, &schema(), &ChangelogMode::Append, 2, 3).unwrap();
        let mut out = buffers(3);
        for _ in 0..3 {
            encoder.encode(&batch(&rows), &mut out);
        }
        assert_eq!(records(&out), expected, "{partitioner:?}");
    }
}

#[test]
fn an_upsert_sink_writes_updates_and_tombstones_and_no_update_before() {
    let sink = UpsertKafkaSink {
        topic: "t".to_owned(),
        properties: BTreeMap::new(),
        key_format: json_format(),
        key_prefix: String::new(),
        value_format: json_format(),
        value_includes_key: true,
        guarantee: DeliveryGuarantee::AtLeastOnce,
        transactional_id_prefix: None,
    };
    let updating = ChangelogMode::Retract { upsert_keys: vec![0] };
    let mut encoder = Encoder::upsert(&sink, &[0], &schema(), &updating, 1).unwrap();
    let plain = batch(&[(1, Some("a")), (1, Some("a")), (1, Some("b")), (2, None)]);
    let mut columns = plain.columns().to_vec();
    columns.push(Arc::new(Int8Array::from(vec![0, 1, 2, 3])));
    let batch = RecordBatch::try_new(schema().arrow_with_row_kind(), columns).unwrap();
    let mut out = buffers(1);
    assert_eq!(encoder.encode(&batch, &mut out), 3, "+I, +U, -D");
    let key = "{\"k_id\":1}".len();
    assert_eq!(out[0].pending_bytes(), 2 * (key + "{\"k_id\":1,\"name\":\"a\"}".len()) + key);
    assert!(Encoder::upsert(&sink, &[], &schema(), &updating, 1).is_err());
}

#[test]
fn an_append_sink_refuses_updates() {
    let sink = kafka(false, true, KafkaPartitioner::Default);
    let updating = ChangelogMode::Retract { upsert_keys: vec![0] };
    let refused = Encoder::append(&sink, &schema(), &updating, 0, 1);
    assert!(refused.is_err_and(|e| e.to_string().contains("upsert-kafka")));
}
