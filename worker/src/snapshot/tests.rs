//! Segments: round trips, damage, pruning, plans.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, Int8Array, Int64Array, UInt16Array};
use millstream_api::graph::Schema;
use millstream_api::ids::VertexId;
use millstream_api::log::TableManifest;
use millstream_store::LocalStore;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::state::tests::{MAX_PARALLELISM, add, counts, drain, every_type, open};

struct Store {
    dir: tempfile::TempDir,
    segments: Segments,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let segments = Segments::new(Arc::new(LocalStore::open(dir.path()).unwrap()), "ns/job");
        Self { dir, segments }
    }

    /// The files of segments.
    fn objects(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
                if entry.is_dir() {
                    walk(&entry, out);
                } else if entry.extension().is_some_and(|e| e == "parquet") {
                    out.push(entry);
                }
            }
        }
        let mut out = Vec::new();
        walk(self.dir.path(), &mut out);
        out
    }
}

fn uid() -> TransformUid {
    TransformUid("clicks/aggregate/1".into())
}

fn writer(epoch: u64) -> SegmentWriter {
    SegmentWriter { generation: Generation(2), epoch: Epoch(epoch), task: TaskId { vertex: VertexId(1), index: 0 } }
}

fn manifest(snapshot: TableSnapshot) -> TableManifest {
    TableManifest {
        uid: snapshot.uid,
        table: snapshot.table,
        key: snapshot.key,
        value: snapshot.value,
        segments: snapshot.added,
    }
}

async fn read_all(
    store: &Store,
    table: &TableManifest,
    spec: &TableSpec,
    groups: Range<u16>,
) -> Result<Vec<RecordBatch>, SnapshotError> {
    let mut out = Vec::new();
    let parts = difference(&[], &table.segments, &groups).newer;
    store
        .segments
        .read(table, spec, &parts, |batch| {
            out.push(batch);
            Ok(())
        })
        .await?;
    Ok(out)
}

/// A table whose keys and values have every type, and a change batch of these numbers.
fn all_types(numbers: &[Option<i64>], ops: &[i8]) -> (TableSpec, RecordBatch) {
    let (schema, arrays) = every_type(numbers);
    let prefixed = |prefix: &str| {
        let mut fields = schema.fields.clone();
        fields.iter_mut().for_each(|f| f.name = format!("{prefix}_{}", f.name));
        Schema::new(fields)
    };
    let spec = TableSpec { name: "t".into(), key: prefixed("k"), value: prefixed("v"), ttl_ms: Some(10) };
    let rows = numbers.len() as u16;
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from_iter_values((0..rows).map(|i| i / 2))),
        Arc::new(Int64Array::from_iter_values((0..rows).map(|i| i64::from(i) - 3))),
        Arc::new(Int8Array::from(ops.to_vec())),
        Arc::new(Int64Array::from_iter_values((0..rows).map(i64::from))),
    ];
    columns.extend(arrays.iter().cloned().chain(arrays.iter().cloned()));
    let batch = RecordBatch::try_new(change_schema(&spec), columns).unwrap();
    (spec, batch)
}

#[test]
fn every_type_survives_parquet_and_inline() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Store::new();
    let rows = proptest::collection::vec((proptest::option::of(-100i64..100), 0i8..3), 1..40);
    // proptest prints the seed and the smallest failing input.
    TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() })
        .run(&(rows, any::<bool>()), |(rows, inline)| {
            let (numbers, ops): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let (spec, batch) = all_types(&numbers, &ops);
            let mut inline_bytes_left = if inline { 1 << 20 } else { 0 };
            runtime.block_on(async {
                let changes = vec![batch.clone()];
                let (at, uid) = (writer(1), uid());
                let write = store.segments.write(&at, &uid, &spec, changes, &mut inline_bytes_left);
                let table = manifest(write.await.unwrap());
                assert_eq!(table.segments.len(), 1);
                let is_inline = matches!(table.segments[0].content, SegmentContent::Inline { .. });
                assert_eq!(is_inline, inline);
                assert!(inline_bytes_left < 1 << 20);
                assert_eq!(table.segments[0].rows, batch.num_rows() as u64);
                let read = read_all(&store, &table, &spec, 0..100).await.unwrap();
                assert_eq!(arrow_select::concat::concat_batches(&batch.schema(), &read).unwrap(), batch);
            });
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// A table of counts with these keys, written as one object.
async fn written(store: &Store, keys: std::ops::Range<i64>) -> (TableSpec, TableManifest) {
    let (mut state, table) = open(counts("t"));
    add(&mut state, table, 5, keys);
    state.end_epoch(Epoch(1)).unwrap();
    let changes = drain(&mut state, Epoch(1)).into_iter().map(|piece| piece.batch).collect();
    let spec = counts("t");
    let snapshot = store.segments.write(&writer(1), &uid(), &spec, changes, &mut 0).await.unwrap();
    (spec, manifest(snapshot))
}

#[tokio::test]
async fn damaged_truncated_and_missing_objects_are_named() {
    let store = Store::new();
    let (spec, table) = written(&store, 0..100).await;
    let SegmentContent::Object(object) = &table.segments[0].content else { panic!("no object") };
    assert!(object.path.starts_with("state/") && object.path.contains("/2-1-1.0-"), "{}", object.path);
    let file = store.objects().remove(0);
    let intact = std::fs::read(&file).unwrap();
    let mut flipped = intact.clone();
    flipped[intact.len() / 2] ^= 1;
    for (content, reason) in
        [(&flipped[..], "its crc32c is"), (&intact[..intact.len() - 1], "bytes, "), (&[][..], "it has 0 bytes")]
    {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        let error = read_all(&store, &table, &spec, 0..32).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, SnapshotError::Corrupt { .. }), "{message}");
        assert!(message.contains(&format!("ns/job/{} is corrupt: ", object.path)), "{message}");
        assert!(message.contains(reason), "{message}");
    }
    std::fs::remove_file(&file).unwrap();
    let message = read_all(&store, &table, &spec, 0..32).await.unwrap_err().to_string();
    assert!(message.ends_with("is corrupt: it is missing from the store"), "{message}");
}

#[tokio::test]
async fn a_damaged_inline_segment_and_one_that_is_no_parquet_are_named() {
    let store = Store::new();
    let (spec, mut table) = written(&store, 0..100).await;
    let object = SegmentContent::Object(ObjectRef {
        path: "state/zz/x.parquet".into(),
        bytes: 4,
        crc32c: crc32c::crc32c(b"none"),
    });
    std::fs::create_dir_all(store.dir.path().join("ns/job/state/zz")).unwrap();
    std::fs::write(store.dir.path().join("ns/job/state/zz/x.parquet"), b"none").unwrap();
    let inline = SegmentContent::Inline { data: "bm9uZQ==".into() };
    for (content, name) in [(object, "state/zz/x.parquet"), (inline, "the inline segment of epoch 1")] {
        table.segments[0].content = content;
        let error = read_all(&store, &table, &spec, 0..32).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Corrupt { .. }));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn other_columns_are_a_mismatch_that_names_both() {
    let store = Store::new();
    let (mut spec, table) = written(&store, 0..10).await;
    spec.value.fields.pop();
    let message = read_all(&store, &table, &spec, 0..32).await.unwrap_err().to_string();
    let expected = "failed to restore table t of clicks/aggregate/1: its value columns were \
        (count BIGINT, sum BIGINT, max BIGINT), the job's are (count BIGINT, sum BIGINT)";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_task_reads_only_the_row_groups_of_its_key_groups() {
    let store = Store::new();
    let (spec, mut table) = written(&store, 0..250_000).await;
    let bytes = Bytes::from(std::fs::read(store.objects().remove(0)).unwrap());
    let rows = |groups: Range<u16>| -> usize {
        super::parquet::read(bytes.clone(), &groups).unwrap().map(|batch| batch.unwrap().num_rows()).sum()
    };
    assert_eq!(rows(0..32), 250_000);
    assert!(rows(31..32) < 100_000, "{}", rows(31..32));
    let mut read = 0;
    for groups in [0..11, 11..22, 22..32] {
        for batch in read_all(&store, &table, &spec, groups.clone()).await.unwrap() {
            assert!(format::groups_of(&batch).iter().all(|group| groups.contains(group)));
            read += batch.num_rows();
        }
    }
    assert_eq!(read, 250_000);
    // A part of the range was merged elsewhere: its rows in the object no longer count.
    table.segments[0].end_group = 8;
    let left: usize = read_all(&store, &table, &spec, 0..32).await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert!(left < 90_000 && left > 40_000, "{left}");
}

#[tokio::test]
async fn a_large_object_is_read_by_way_of_a_file_and_checked_there() {
    let store = Store::new();
    let (spec, table) = written(&store, 0..600_000).await;
    let file = store.objects().remove(0);
    let intact = std::fs::read(&file).unwrap();
    assert!(intact.len() > 1 << 20, "{} bytes stay in memory", intact.len());
    let look = async || {
        let mut rows = 0;
        let count = |batch: RecordBatch| {
            rows += batch.num_rows();
            Ok::<_, SnapshotError>(())
        };
        store.segments.entries(&table, &spec, 0, count).await.map(|()| rows)
    };
    assert_eq!(look().await.unwrap(), 600_000);
    let verify = async || store.segments.verify(&table, &table.segments[0], &spec, MAX_PARALLELISM).await;
    assert_eq!(verify().await.unwrap(), 600_000);
    let mut flipped = intact.clone();
    flipped[intact.len() / 2] ^= 1;
    let longer = [&intact[..], b"x"].concat();
    for (content, reason) in
        [(&flipped[..], "its crc32c is"), (&intact[..intact.len() - 1], "bytes, "), (&longer, "bytes, ")]
    {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        for error in [look().await.unwrap_err(), verify().await.unwrap_err()] {
            assert!(matches!(error, SnapshotError::Corrupt { .. }) && error.to_string().contains(reason), "{error}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let message = verify().await.unwrap_err().to_string();
    assert!(message.ends_with("is corrupt: it is missing from the store"), "{message}");
}

#[tokio::test]
async fn a_row_in_the_wrong_key_group_and_a_wrong_count_are_damage() {
    let store = Store::new();
    let (spec, mut table) = written(&store, 0..100).await;
    let verify = async |table: &TableManifest, max_parallelism| {
        let verified = store.segments.verify(table, &table.segments[0], &spec, max_parallelism).await;
        verified.map_err(|error| error.to_string())
    };
    assert_eq!(verify(&table, MAX_PARALLELISM).await, Ok(100));
    // By another maximum the same keys belong elsewhere.
    let message = verify(&table, MAX_PARALLELISM - 1).await.unwrap_err();
    assert!(message.contains("a row of key group ") && message.contains("stands in key group "), "{message}");
    table.segments[0].rows = 99;
    let message = verify(&table, MAX_PARALLELISM).await.unwrap_err();
    assert!(message.ends_with("it has 100 rows, 99 were written"), "{message}");
}

#[tokio::test]
async fn nothing_changed_writes_nothing() {
    let store = Store::new();
    let snapshot = store.segments.write(&writer(1), &uid(), &counts("t"), Vec::new(), &mut 0).await.unwrap();
    assert!(snapshot.added.is_empty() && store.objects().is_empty());
}

fn segment(epoch: u64, bytes: u64) -> Segment {
    let content = SegmentContent::Object(ObjectRef { path: format!("state/{epoch}"), bytes, crc32c: 0 });
    Segment { epoch: Epoch(epoch), first_group: 0, end_group: 32, rows: 1, content }
}

fn table_of(segments: Vec<Segment>) -> TableManifest {
    let spec = counts("t");
    TableManifest { uid: uid(), table: spec.name, key: spec.key, value: spec.value, segments }
}

#[test]
fn merges_take_the_newest_and_leave_what_is_much_larger() {
    let groups = 0..MAX_PARALLELISM as u16;
    assert_eq!(merge_plan(&table_of((0..11).map(|i| segment(i, 10)).collect()), &groups), None);
    let mut segments = vec![segment(0, 1_000_000)];
    segments.extend((1..12).map(|i| segment(i, 10)));
    assert_eq!(merge_plan(&table_of(segments.clone()), &groups), Some(MergePlan { first: 1 }));
    // An inline segment at the bottom takes part, so everything does.
    segments[0].content = SegmentContent::Inline { data: "x".repeat(1000) };
    assert_eq!(merge_plan(&table_of(segments.clone()), &groups), Some(MergePlan { first: 0 }));
    // Segments of other key groups do not count.
    segments[3].first_group = 31;
    assert_eq!(merge_plan(&table_of(segments), &(0..31)), None);
}

#[test]
fn the_number_of_segments_stays_below_the_bound_and_rows_are_rewritten_seldom() {
    let groups = 0..MAX_PARALLELISM as u16;
    let mut table = table_of(Vec::new());
    let mut rewritten = 0;
    for epoch in 0..2_000 {
        table.segments.push(segment(epoch, 10));
        assert!(table.segments.len() <= SEGMENTS_PER_RANGE_MAX);
        if let Some(MergePlan { first }) = merge_plan(&table, &groups) {
            let inputs = table.segments.split_off(first);
            let bytes = inputs
                .iter()
                .map(|s| match &s.content {
                    SegmentContent::Object(object) => object.bytes,
                    SegmentContent::Inline { .. } => 0,
                })
                .sum();
            rewritten += bytes;
            table.segments.push(segment(epoch, bytes));
        }
    }
    assert!(rewritten / 20_000 < 8, "each row was rewritten {} times", rewritten / 20_000);
}

/// Columns as they were, and as they are after an edit: wider, in another order, one of them new.
fn edited() -> (TableSpec, TableSpec) {
    use millstream_api::graph::{Field, SqlType};
    let decimal = |precision, scale| SqlType::Decimal { precision, scale };
    let spec = |value: Vec<(&str, SqlType)>| TableSpec {
        name: "t".into(),
        key: Schema::new(vec![Field::new("k", SqlType::BigInt, false)]),
        value: Schema::new(value.into_iter().map(|(name, ty)| Field::new(name, ty, true)).collect()),
        ttl_ms: None,
    };
    let was =
        vec![("n", SqlType::Int), ("f", SqlType::Float), ("d", decimal(5, 2)), ("s", SqlType::VarChar { length: 3 })];
    let is = vec![
        ("s", SqlType::STRING),
        ("n", SqlType::BigInt),
        ("f", SqlType::Double),
        ("d", decimal(9, 3)),
        ("x", SqlType::Int),
    ];
    (spec(was), spec(is))
}

/// Changes of one key group: keys, what becomes of them, and the value columns.
fn changes(spec: &TableSpec, keys: &[i64], ops: &[i8], values: Vec<ArrayRef>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from(vec![7; keys.len()])),
        Arc::new(Int64Array::from(vec![0; keys.len()])),
        Arc::new(Int8Array::from(ops.to_vec())),
        Arc::new(Int64Array::from(keys.to_vec())),
    ];
    columns.extend(values);
    RecordBatch::try_new(change_schema(spec), columns).unwrap()
}

#[tokio::test]
async fn segments_of_narrower_columns_are_read_and_merged_into_wider_ones() {
    use arrow_array::{Decimal128Array, Float32Array, Float64Array, Int32Array, StringArray};
    let store = Store::new();
    let (was, is) = edited();
    let decimals = |values: Vec<Option<i128>>, precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    let old = changes(
        &was,
        &[1, 2, 3],
        &[0, 0, 0],
        vec![
            Arc::new(Int32Array::from(vec![Some(10), None, Some(i32::MIN)])),
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-0.25)])),
            decimals(vec![Some(12_345), None, Some(-1)], 5, 2),
            Arc::new(StringArray::from(vec![Some("abc"), None, Some("")])),
        ],
    );
    let new = changes(
        &is,
        &[2, 3],
        &[0, 1],
        vec![
            Arc::new(StringArray::from(vec![Some("longer"), None])),
            Arc::new(Int64Array::from(vec![Some(1 << 40), None])),
            Arc::new(Float64Array::from(vec![Some(1e300), None])),
            decimals(vec![Some(5), None], 9, 3),
            Arc::new(Int32Array::from(vec![Some(9), None])),
        ],
    );
    for inline in [false, true] {
        let mut left = if inline { 1 << 20 } else { 0 };
        let first = store.segments.write(&writer(1), &uid(), &was, vec![old.clone()], &mut left).await.unwrap();
        let second = store.segments.write(&writer(2), &uid(), &is, vec![new.clone()], &mut left).await.unwrap();
        let mut table = manifest(second);
        table.segments.insert(0, first.added[0].clone());
        let read = read_all(&store, &table, &is, 0..32).await.unwrap();
        assert!(read.iter().all(|batch| batch.schema() == change_schema(&is)), "{read:?}");
        let wide = changes(
            &is,
            &[1, 2, 3],
            &[0, 0, 0],
            vec![
                Arc::new(StringArray::from(vec![Some("abc"), None, Some("")])),
                Arc::new(Int64Array::from(vec![Some(10), None, Some(i64::from(i32::MIN))])),
                Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.25)])),
                decimals(vec![Some(123_450), None, Some(-10)], 9, 3),
                Arc::new(Int32Array::from(vec![None, None, None])),
            ],
        );
        assert_eq!(read, [wide.clone(), new.clone()]);

        let plan = MergePlan { first: 0 };
        let merged = store.segments.merge(&writer(3), &table, &is, &(0..32), plan, 0, &mut left).await.unwrap();
        table.segments = vec![merged.added.unwrap()];
        let read = read_all(&store, &table, &is, 0..32).await.unwrap();
        // Within a namespace the newest come first; key 3 is gone.
        let left_over = [&new.slice(0, 1), &wide.slice(0, 1)];
        assert_eq!(read, [arrow_select::concat::concat_batches(&change_schema(&is), left_over).unwrap()]);
    }
    // And back: what is wide is not read into narrow columns; a table without segments has no columns to fit.
    let back = store.segments.write(&writer(2), &uid(), &is, vec![new], &mut 0).await.unwrap();
    let mut table = manifest(back);
    let message = read_all(&store, &table, &was, 0..32).await.unwrap_err().to_string();
    assert!(message.contains("its value columns were (s STRING, n BIGINT, "), "{message}");
    table.segments.clear();
    assert!(read_all(&store, &table, &was, 0..32).await.unwrap().is_empty());
}
