//! Generated rows are a pure function of their number; the pace is as asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMillisecondType};
use millstream_api::graph::{Field, ScanColumn, SourceConnector, SqlType};
use millstream_api::ids::TransformUid;

use super::*;

fn random(min: Option<&str>, max: Option<&str>, length: Option<u32>) -> DatagenField {
    let (min, max) = (min.map(str::to_owned), max.map(str::to_owned));
    DatagenField::Random { min, max, length, max_past_ms: None, null_rate: 0.0 }
}

fn table(rows: Option<u64>) -> (DatagenSource, SourceTransform) {
    let fields = [
        ("id".to_owned(), DatagenField::Sequence { start: 10, end: 10_000 }),
        ("dice".to_owned(), random(Some("1"), Some("6"), None)),
        ("text".to_owned(), random(None, None, Some(5))),
        (
            "rare".to_owned(),
            DatagenField::Random { min: None, max: None, length: None, max_past_ms: None, null_rate: 0.5 },
        ),
    ];
    let datagen =
        DatagenSource { rows_per_second: 1_000_000, number_of_rows: rows, fields: fields.into_iter().collect() };
    let scan = |name: &str, ty, nullable| ScanColumn { field: Field::new(name, ty, nullable), metadata: None };
    let source = SourceTransform {
        table: "made".to_owned(),
        connector: SourceConnector::Datagen(datagen.clone()),
        scan: vec![
            scan("id", SqlType::BigInt, false),
            scan("dice", SqlType::Int, false),
            scan("text", SqlType::STRING, false),
            scan("rare", SqlType::Decimal { precision: 5, scale: 2 }, true),
            scan("time", SqlType::Timestamp { precision: 3 }, false),
        ],
        projection: Vec::new(),
        watermark: None,
    };
    (datagen, source)
}

fn open_at(
    (datagen, source): &(DatagenSource, SourceTransform),
    index: u32,
    parallelism: u32,
    restored: Option<Vec<SplitState>>,
) -> Result<Box<dyn SourceReader>, SourceError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cx = SourceContext {
        uid: TransformUid("made".to_owned()),
        job: "test".to_owned(),
        index,
        parallelism,
        restored: restored.map(Arc::new),
        fetch_bytes_max: None,
        waker: Arc::new(|| {}),
        io: runtime.handle().clone(),
    };
    open(datagen, source, &cx)
}

/// Polls until `rows` rows came or the reader is finished.
fn read(reader: &mut dyn SourceReader, rows: usize) -> BTreeMap<i64, String> {
    let mut all = BTreeMap::new();
    while all.len() < rows && !reader.finished() {
        let Some((batch, runs)) = reader.poll((rows - all.len()).min(37)).unwrap().batch else {
            std::thread::yield_now();
            continue;
        };
        assert_eq!(runs.iter().map(|r| r.rows).sum::<usize>(), batch.num_rows());
        for row in 0..batch.num_rows() {
            let dice = batch.column(1).as_primitive::<Int32Type>().value(row);
            assert!((1..=6).contains(&dice));
            let text = batch.column(2).as_string::<i32>().value(row);
            assert_eq!(text.len(), 5);
            let rare = batch.column(3).as_primitive::<Decimal128Type>();
            let rare = rare.is_valid(row).then(|| rare.value(row));
            let id = batch.column(0).as_primitive::<Int64Type>().value(row);
            assert!(all.insert(id, format!("{dice} {text} {rare:?}")).is_none(), "row {id} twice");
        }
    }
    all
}

#[test]
fn each_row_comes_once_and_the_same_whatever_the_restores_and_parallelisms() {
    let table = table(Some(1000));
    let whole = read(open_at(&table, 0, 1, None).unwrap().as_mut(), usize::MAX);
    assert_eq!(whole.keys().copied().collect::<BTreeSet<_>>(), (10..1010).collect());
    let rare = whole.values().filter(|row| row.ends_with("None")).count();
    assert!((350..650).contains(&rare), "{rare} of 1000 rows are NULL at a rate of 0.5");
    let mut pieces = BTreeMap::new();
    let mut splits = None;
    for parallelism in [2, 1, 5, 3] {
        let mut next = Vec::new();
        for index in 0..parallelism {
            let mut reader = open_at(&table, index, parallelism, splits.clone()).unwrap();
            pieces.extend(read(reader.as_mut(), 40));
            next.extend(reader.splits());
        }
        splits = Some(next);
    }
    pieces.extend(read(open_at(&table, 0, 1, splits).unwrap().as_mut(), usize::MAX));
    assert_eq!(pieces, whole);
}

#[test]
fn the_shortest_sequence_ends_the_table() {
    let mut table = table(None);
    table.0.fields.insert("not read".to_owned(), DatagenField::Sequence { start: 1, end: 25 });
    let mut reader = open_at(&table, 0, 1, None).unwrap();
    assert_eq!(read(reader.as_mut(), usize::MAX).len(), 25);
    let polled = reader.poll(10).unwrap();
    assert!(polled.batch.is_none() && polled.drained);
    assert!(reader.splits().iter().all(|s| s.finished));
    assert_eq!(reader.next_poll_ms(), None);
}

#[test]
fn event_time_advances_at_the_rate_of_the_table() {
    let mut table = table(Some(100));
    table.0.rows_per_second = 50;
    table.1.scan = vec![table.1.scan[4].clone()];
    let mut reader = open_at(&table, 0, 1, None).unwrap();
    let Some((first, _)) = reader.poll(1).unwrap().batch else { panic!("the first row comes at once") };
    let first = first.column(0).as_primitive::<TimestampMillisecondType>().value(0);
    assert!(reader.poll(10).unwrap().drained);
    assert!(reader.next_poll_ms().is_some());
    let mut split = GeneratorSplit::restored(&reader.splits()[0]).unwrap();
    assert_eq!((split.start_ms, split.rows), (first, 1));
    split.rows = 50;
    assert_eq!(split.rows_left(Some(100)), 50);
}

#[test]
fn the_pace_fills_with_time_and_does_not_burst_for_long() {
    let start = Instant::now();
    let mut pace = Pace::new(100.0, start);
    assert_eq!(pace.allowed(start), 1);
    pace.take(1);
    assert_eq!(pace.wait(start), Duration::from_millis(10));
    assert_eq!(pace.allowed(start + Duration::from_millis(500)), 50);
    pace.take(50);
    assert_eq!(pace.allowed(start + Duration::from_secs(60)), 100);
    // Time that seems to go back brings nothing.
    assert_eq!(pace.allowed(start), 100);
}

#[test]
fn options_that_do_not_fit_are_named() {
    let refused = |name: &str, field: DatagenField| {
        let mut table = table(None);
        table.0.fields.insert(name.to_owned(), field);
        open_at(&table, 0, 1, None).err().unwrap().to_string()
    };
    let error = refused("dice", random(Some("x"), None, None));
    assert!(error.contains("table made") && error.contains("'fields.dice.min' = 'x'"), "{error}");
    let error = refused("dice", random(Some("7"), Some("6"), None));
    assert!(error.contains("'fields.dice.min' is above"), "{error}");
    let error = refused("dice", random(None, Some("3000000000"), None));
    assert!(error.contains("no value of INT"), "{error}");
    let error = refused("time", DatagenField::Sequence { start: 0, end: 1 });
    assert!(error.contains("'fields.time.kind'"), "{error}");
    let error = refused("text", random(None, None, Some(2_000_000)));
    assert!(error.contains("'fields.text.length'"), "{error}");
}
