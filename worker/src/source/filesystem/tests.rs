//! Files through the reader: every line once, whatever the ranges, the restores and the parallelism.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_api::graph::{JsonOptions, ScanColumn, SourceConnector, SqlType};
use millstream_api::ids::TransformUid;

use super::*;

fn table(path: &Path, ignore_parse_errors: bool) -> (FilesystemSource, SourceTransform) {
    let format = Format::Json(JsonOptions { ignore_parse_errors, ..JsonOptions::default() });
    let files = FilesystemSource { path: path.to_str().unwrap().to_owned(), format };
    let scan = |name: &str, ty, metadata: Option<&str>| ScanColumn {
        field: Field::new(name, ty, metadata.is_none()),
        metadata: metadata.map(str::to_owned),
    };
    let source = SourceTransform {
        table: "lines".to_owned(),
        connector: SourceConnector::Filesystem(files.clone()),
        scan: vec![scan("file", SqlType::STRING, Some("file.name")), scan("n", SqlType::BigInt, None)],
        projection: Vec::new(),
        watermark: None,
    };
    (files, source)
}

fn context(
    index: u32,
    parallelism: u32,
    restored: Option<Vec<SplitState>>,
) -> (tokio::runtime::Runtime, SourceContext) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cx = SourceContext {
        uid: TransformUid("lines".to_owned()),
        job: "test".to_owned(),
        index,
        parallelism,
        restored: restored.map(Arc::new),
        fetch_bytes_max: None,
        waker: Arc::new(|| {}),
        io: runtime.handle().clone(),
    };
    (runtime, cx)
}

fn open_at(
    path: &Path,
    index: u32,
    parallelism: u32,
    restored: Option<Vec<SplitState>>,
) -> Result<Box<dyn SourceReader>, SourceError> {
    let (files, source) = table(path, false);
    open(&files, &source, &context(index, parallelism, restored).1)
}

/// The numbers of a batch, and a check of what is told about it.
fn numbers(polled: &Polled) -> Vec<i64> {
    let Some((batch, runs)) = &polled.batch else { return Vec::new() };
    assert_eq!(runs.iter().map(|r| r.rows).sum::<usize>(), batch.num_rows());
    batch.column(1).as_primitive::<Int64Type>().values().to_vec()
}

fn drain(reader: &mut dyn SourceReader) -> Vec<i64> {
    let mut all = Vec::new();
    while !reader.finished() {
        all.extend(numbers(&reader.poll(7).unwrap()));
    }
    all
}

fn write_lines(path: &Path, range: std::ops::Range<i64>) {
    let text: String =
        range.map(|n| format!("{{\"n\": {n}, \"other\": \"{}\"}}\n", "x".repeat(n as usize % 13))).collect();
    fs::write(path, text).unwrap();
}

#[test]
fn a_folder_is_read_once_by_all_tasks_together_also_after_a_restore_at_another_parallelism() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deeper")).unwrap();
    for (at, name) in ["a.json", "b.json", "deeper/c.json"].iter().enumerate() {
        write_lines(&folder.path().join(name), at as i64 * 100..at as i64 * 100 + 90);
    }
    fs::write(folder.path().join("_hidden"), "not json").unwrap();
    fs::write(folder.path().join(".hidden"), "not json").unwrap();
    let mut seen = Vec::new();
    let mut splits: Option<Vec<SplitState>> = None;
    for parallelism in [1, 3, 2] {
        let mut next = Vec::new();
        for index in 0..parallelism {
            let mut reader = open_at(folder.path(), index, parallelism, splits.clone()).unwrap();
            for _ in 0..3 {
                seen.extend(numbers(&reader.poll(10).unwrap()));
            }
            next.extend(reader.splits());
        }
        assert_eq!(next.len(), 3);
        splits = Some(next);
    }
    seen.extend(drain(open_at(folder.path(), 0, 1, splits).unwrap().as_mut()));
    let distinct: BTreeSet<i64> = seen.iter().copied().collect();
    assert_eq!(seen.len(), 270);
    assert_eq!(distinct.len(), 270);
}

#[test]
fn ranges_of_a_file_give_each_line_to_exactly_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.json");
    write_lines(&path, 0..60);
    let len = fs::metadata(&path).unwrap().len();
    for range in [1, 2, 17, 40, 41, 1000, len - 1, len, len + 1] {
        let splits = listing::ranges(path.to_str().unwrap(), len, range);
        let states = splits.iter().map(FileSplit::state).collect();
        let mut reader = open_at(&path, 0, 1, Some(states)).unwrap();
        let mut all = drain(reader.as_mut());
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>(), "ranges of {range} bytes");
        assert!(reader.splits().iter().all(|s| s.finished));
    }
}

#[test]
fn a_bad_line_is_named_by_file_and_line_or_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.json");
    // Windows line ends, blank lines, and no line break at the end.
    fs::write(&path, "{\"n\": 1}\r\n\n{\"n\": 2}\n{\"n\": tru\n{\"n\": 3}").unwrap();
    let mut reader = open_at(&path, 0, 1, None).unwrap();
    let error = reader.poll(100).unwrap_err().to_string();
    assert!(error.contains("bad.json:4"), "{error}");
    let (files, source) = table(&path, true);
    let mut reader = open(&files, &source, &context(0, 1, None).1).unwrap();
    assert_eq!(drain(reader.as_mut()), [1, 2, 3]);
    assert_eq!(reader.skipped_records(), 1);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = open_at(&folder.path().join("missing"), 0, 1, None).err().unwrap().to_string();
    assert!(error.contains("missing") && error.contains("'path' of table lines"), "{error}");
    let path = folder.path().join("cut.json");
    write_lines(&path, 0..20);
    let mut reader = open_at(&path, 0, 1, None).unwrap();
    reader.poll(5).unwrap();
    let splits = reader.splits();
    fs::write(&path, "").unwrap();
    let error = open_at(&path, 0, 1, Some(splits)).unwrap().poll(5).unwrap_err().to_string();
    assert!(error.contains("it was cut"), "{error}");
}

#[test]
fn an_empty_file_is_finished_at_once_and_told_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.json"), "").unwrap();
    let mut reader = open_at(folder.path(), 0, 1, None).unwrap();
    let polled = reader.poll(5).unwrap();
    assert!(polled.batch.is_none());
    assert_eq!(polled.finished, [0]);
    assert!(reader.finished());
}
