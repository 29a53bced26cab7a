//! The reader against a real broker.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use millstream_api::graph::{
    Field, Format, JsonOptions, KafkaEnd, KafkaKey, KafkaStart, ScanColumn, SourceConnector, SqlType,
};
use millstream_api::ids::TransformUid;
use millstream_kafka::{Isolation, OffsetAt};

use super::testing::topics::{TestTopic, unique};
use super::testing::{PATIENCE, Parked, broker, properties, write};
use super::*;

mod modes;

/// A table of one BIGINT column, its partition and its offset.
struct Fixture {
    bootstrap: String,
    topic: TestTopic,
    parked: Parked,
    table: KafkaSource,
    scan: Vec<ScanColumn>,
}

impl Fixture {
    fn new(test: &str, partitions: i32) -> Option<Self> {
        let bootstrap = broker(&format!("worker::source::kafka::{test}"))?;
        let topic = TestTopic::new(&bootstrap, "source", partitions, &[]);
        let table = KafkaSource {
            topics: vec![topic.name.clone()],
            properties: properties(&bootstrap, &[]),
            startup: KafkaStart::EarliestOffset,
            bounded: Some(KafkaEnd::LatestOffset),
            discovery_interval_ms: None,
            value_format: Format::Json(JsonOptions::default()),
            key: None,
            value_includes_key: true,
        };
        let column = |name: &str, ty, metadata: Option<&str>| ScanColumn {
            field: Field::new(name, ty, true),
            metadata: metadata.map(str::to_owned),
        };
        let scan = vec![
            column("n", SqlType::BigInt, None),
            column("p", SqlType::Int, Some("partition")),
            column("o", SqlType::BigInt, Some("offset")),
        ];
        Some(Self { bootstrap, topic, parked: Parked::new(), table, scan })
    }

    fn write(&self, partition: i32, numbers: std::ops::Range<i64>) {
        let values: Vec<String> = numbers.map(|n| format!("{{\"n\":{n}}}")).collect();
        let records: Vec<_> = values.iter().map(|v| (None, Some(v.as_str()))).collect();
        write(&self.bootstrap, &self.topic.name, partition, &records);
    }

    fn open(
        &self,
        index: u32,
        parallelism: u32,
        restored: Option<&[SplitState]>,
    ) -> Result<Box<dyn SourceReader>, SourceError> {
        let transform = SourceTransform {
            table: "t".to_owned(),
            connector: SourceConnector::Kafka(self.table.clone()),
            scan: self.scan.clone(),
            projection: Vec::new(),
            watermark: None,
        };
        let context = SourceContext {
            uid: TransformUid("t".to_owned()),
            job: "job".to_owned(),
            index,
            parallelism,
            restored: restored.map(|r| Arc::new(r.to_vec())),
            fetch_bytes_max: None,
            waker: self.parked.waker.clone(),
            io: self.parked.runtime.handle().clone(),
        };
        open(&self.table, &transform, context)
    }

    /// Rows until `enough`: number, partition, offset.
    fn read(
        &self,
        reader: &mut dyn SourceReader,
        max_rows: usize,
        mut enough: impl FnMut(&dyn SourceReader, &[(i64, i32, i64)]) -> bool,
    ) -> Vec<(i64, i32, i64)> {
        let mut rows = Vec::new();
        self.parked.wait_for(|| {
            loop {
                let polled = reader.poll(max_rows).unwrap();
                if let Some((batch, runs)) = &polled.batch {
                    assert_eq!(runs.iter().map(|r| r.rows).sum::<usize>(), batch.num_rows());
                    let n = batch.column(0).as_primitive::<Int64Type>();
                    let p = batch.column(1).as_primitive::<Int32Type>();
                    let o = batch.column(2).as_primitive::<Int64Type>();
                    rows.extend((0..batch.num_rows()).map(|i| (n.value(i), p.value(i), o.value(i))));
                }
                if enough(reader, &rows) {
                    return Some(());
                }
                if polled.drained {
                    return None;
                }
            }
        });
        rows
    }

    fn read_all(&self, reader: &mut dyn SourceReader) -> Vec<(i64, i32, i64)> {
        self.read(reader, 1000, |reader, _| reader.finished())
    }
}

#[test]
fn every_record_is_read_once_at_any_parallelism_also_after_a_restore() {
    let Some(fixture) = Fixture::new("every_record_is_read_once", 4) else { return };
    for partition in 0..4 {
        let first = i64::from(partition) * 1000;
        fixture.write(partition, first..first + 500);
    }
    // Two tasks read a part.
    let mut rows = Vec::new();
    let mut states = Vec::new();
    for index in 0..2 {
        let mut reader = fixture.open(index, 2, None).unwrap();
        rows.extend(fixture.read(reader.as_mut(), 64, |_, rows| rows.len() >= 300));
        states.extend(reader.splits());
    }
    assert_eq!(states.len(), 4);
    // The bounded end was resolved at the first start: what comes later is not read.
    fixture.write(0, 9000..9100);
    for index in 0..3 {
        let mut reader = fixture.open(index, 3, Some(&states)).unwrap();
        rows.extend(fixture.read_all(reader.as_mut()));
        assert!(reader.splits().iter().all(|s| s.finished));
    }
    assert!(rows.iter().all(|(n, p, o)| *n == i64::from(*p) * 1000 + o), "metadata belongs to its row");
    let numbers: BTreeSet<i64> = rows.iter().map(|r| r.0).collect();
    assert_eq!((rows.len(), numbers.len()), (2000, 2000));
}

#[test]
fn a_bad_record_is_named_or_skipped_and_counted() {
    let Some(mut fixture) = Fixture::new("a_bad_record_is_named", 1) else { return };
    let records = [(None, Some("{\"n\":1}")), (None, None), (None, Some("nonsense")), (None, Some("{\"n\":2}"))];
    write(&fixture.bootstrap, &fixture.topic.name, 0, &records);
    let mut reader = fixture.open(0, 1, None).unwrap();
    let error = fixture.parked.wait_for(|| reader.poll(100).err());
    let SourceError::Decode { at, .. } = &error else { panic!("{error}") };
    assert_eq!(*at, format!("topic '{}', partition 0, offset 2", fixture.topic.name));

    let options = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
    fixture.table.value_format = Format::Json(options);
    let mut reader = fixture.open(0, 1, None).unwrap();
    assert_eq!(fixture.read_all(reader.as_mut()), [(1, 0, 0), (2, 0, 3)]);
    assert_eq!(reader.skipped_records(), 1);
}

#[test]
fn the_key_gives_columns_and_a_bad_value_takes_its_key_along() {
    let Some(mut fixture) = Fixture::new("the_key_gives_columns", 1) else { return };
    let skipping = || Format::Json(JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() });
    let records = [
        (Some("{\"id\":7}"), Some("{\"n\":1}")),
        (Some("{\"id\":8}"), Some("nonsense")),
        (Some("{\"id\":9}"), Some("{\"n\":2}")),
    ];
    write(&fixture.bootstrap, &fixture.topic.name, 0, &records);
    let key = KafkaKey { format: skipping(), fields: vec!["k_id".to_owned()], prefix: "k_".to_owned() };
    fixture.table.key = Some(key);
    fixture.table.value_includes_key = false;
    fixture.table.value_format = skipping();
    // In the place of the partition's column, so that `read` takes the key for it.
    fixture.scan[1] = ScanColumn { field: Field::new("k_id", SqlType::Int, true), metadata: None };
    let mut reader = fixture.open(0, 1, None).unwrap();
    assert_eq!(fixture.read_all(reader.as_mut()), [(1, 7, 0), (2, 9, 2)]);
}

#[test]
fn a_topic_made_again_or_an_offset_deleted_stops_the_job() {
    let Some(fixture) = Fixture::new("a_topic_made_again", 1) else { return };
    fixture.write(0, 0..10);
    let mut reader = fixture.open(0, 1, None).unwrap();
    let start = reader.splits();
    fixture.read(reader.as_mut(), 5, |_, rows| rows.len() >= 5);
    fixture.topic.delete_before(0, 3);
    let Err(error) = fixture.open(0, 1, Some(&start)) else { panic!("offset 0 is gone") };
    assert!(matches!(error, SourceError::User { .. }));
    assert!(error.to_string().contains("offset 0") && error.to_string().contains("3 to 10"), "{error}");

    fixture.topic.make_again(1);
    let Err(error) = fixture.open(0, 1, Some(&reader.splits())) else { panic!("the topic is another") };
    assert!(error.to_string().contains("made again"), "{error}");
}

#[test]
fn a_topic_made_again_is_noticed_while_it_is_read() {
    let Some(mut fixture) = Fixture::new("a_topic_made_again_is_noticed", 1) else { return };
    fixture.table.bounded = None;
    fixture.write(0, 0..10);
    let mut reader = fixture.open(0, 1, None).unwrap();
    fixture.read(reader.as_mut(), 100, |_, rows| rows.len() == 10);
    fixture.topic.make_again(1);
    // More than the position, so that offsets alone would not tell.
    fixture.write(0, 0..30);
    let error = fixture.parked.wait_for(|| {
        loop {
            match reader.poll(100) {
                Err(error) => return Some(error),
                Ok(polled) if polled.drained => return None,
                Ok(_) => {}
            }
        }
    });
    // The look may have come while there was no such topic.
    let found = ["made again", "does not exist"].iter().any(|known| error.to_string().contains(known));
    assert!(found && !matches!(error, SourceError::Transient { .. }), "{error}");
}

#[test]
fn a_split_has_a_backlog_until_it_is_read_to_its_end() {
    let Some(mut fixture) = Fixture::new("a_split_has_a_backlog", 2) else { return };
    fixture.table.bounded = None;
    fixture.write(0, 0..10);
    let mut reader = fixture.open(0, 1, None).unwrap();
    assert_eq!((reader.backlog(0), reader.backlog(1)), (None, None), "nothing was asked for yet");
    fixture.read(reader.as_mut(), 5, |reader, rows| {
        let full = reader.splits().iter().position(|s| s.split.ends_with("0")).unwrap();
        assert!(rows.len() == 10 || reader.backlog(full) != Some(false), "{} rows are read", rows.len());
        reader.backlog(0) == Some(false) && reader.backlog(1) == Some(false)
    });
}

#[test]
fn a_partition_added_later_is_found_and_read_from_its_beginning() {
    let Some(mut fixture) = Fixture::new("a_partition_added_later", 1) else { return };
    fixture.table.bounded = None;
    fixture.table.discovery_interval_ms = Some(50);
    fixture.table.startup = KafkaStart::LatestOffset;
    fixture.write(0, 0..5);
    let mut reader = fixture.open(0, 1, None).unwrap();
    fixture.topic.grow_to(2);
    fixture.write(1, 5..8);
    let rows = fixture.read(reader.as_mut(), 100, |_, rows| rows.len() >= 3);
    assert_eq!(rows, [(5, 1, 0), (6, 1, 1), (7, 1, 2)]);
    assert_eq!(reader.splits().len(), 2);
    assert!(!reader.finished());
    assert_eq!(reader.lag_records(), Some(0));
}

#[test]
fn sealed_positions_are_committed_for_the_group_and_a_start_from_them_goes_on() {
    let Some(mut fixture) = Fixture::new("sealed_positions_are_committed", 1) else { return };
    let group = format!("group-{}", unique());
    fixture.table.properties.insert("group.id".to_owned(), group.clone());
    fixture.table.startup = KafkaStart::GroupOffsets;
    fixture.write(0, 0..10);
    let Err(error) = fixture.open(0, 1, None) else { panic!("the group has no offset") };
    assert!(error.to_string().contains("auto.offset.reset"), "{error}");

    fixture.table.properties.insert("auto.offset.reset".to_owned(), "earliest".to_owned());
    let mut reader = fixture.open(0, 1, None).unwrap();
    fixture.read(reader.as_mut(), 4, |_, rows| rows.len() >= 4);
    let positions = reader.splits();
    reader.sealed(&positions);
    let connection = Connection::new(&fixture.table.properties, KafkaClient::Consumer, "test").unwrap();
    let mut admin = Admin::new(connection.config).unwrap();
    let at = TopicPartition { topic: fixture.topic.name.clone(), partition: 0 };
    let deadline = Deadline::after(PATIENCE);
    let committed = loop {
        let found: BTreeMap<_, _> = admin.group_offsets(&group, std::slice::from_ref(&at), deadline).unwrap();
        if let Some(offset) = found.get(&at) {
            break *offset;
        }
        assert!(!deadline.passed(), "no offset is committed");
        std::thread::yield_now();
    };
    assert_eq!(Some(committed), positions[0].position["offset"].as_i64());
    let end = admin.offsets(std::slice::from_ref(&at), OffsetAt::End, Isolation::ReadUncommitted, deadline).unwrap();
    let mut next = fixture.open(0, 1, None).unwrap();
    let rows = fixture.read_all(next.as_mut());
    assert_eq!(rows.first().map(|r| r.2), Some(committed));
    assert_eq!(i64::try_from(rows.len()).unwrap(), end[&at] - committed);
}

#[test]
fn a_missing_topic_and_a_missing_variable_are_named() {
    let Some(mut fixture) = Fixture::new("a_missing_topic", 1) else { return };
    fixture.table.topics = vec!["no-such-topic".to_owned()];
    let Err(error) = fixture.open(0, 1, None) else { panic!("there is no such topic") };
    assert!(matches!(&error, SourceError::User { reason } if reason.contains("no-such-topic")), "{error}");
    fixture.table.properties.insert("client.id".to_owned(), "${NO_SUCH_VARIABLE_HERE}".to_owned());
    let Err(error) = fixture.open(0, 1, None) else { panic!("there is no such variable") };
    assert!(error.to_string().contains("NO_SUCH_VARIABLE_HERE"), "{error}");
}
