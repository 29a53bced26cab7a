//! Both phases of the window aggregate against a reference that looks at each row and each window alone.

use millstream_api::graph::{ChangelogMode, Field, JobGraph, Schema, SqlType, TransformKind, Window, WindowColumn};

use crate::transform::aggregate::AggregatePlan;
use crate::transform::harness::{
    Backend, K1, K2, Random, TIME, TestRow, TwoPhases, batch, by_key, calls, chain, input_schema, key_text,
    reference_results, row, timestamp, transform,
};

const WATERMARK_MIN: i64 = i64::MIN;

fn window(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Window {
    Window { time_column: TIME, time_type: SqlType::Timestamp { precision: 3 }, size_ms, slide_ms, offset_ms }
}

fn graph(window: &Window, keys: &[usize]) -> JobGraph {
    let key_fields: Vec<Field> = keys.iter().map(|k| input_schema().fields[*k].clone()).collect();
    let plan = AggregatePlan::new(&calls()).unwrap();
    let mut partials = key_fields.clone();
    partials.push(Field::new("$slice_end", SqlType::BigInt, false));
    partials.extend(plan.fields());
    let mut output = key_fields.clone();
    output.extend(calls().into_iter().map(|c| c.output));
    for name in ["window_start", "window_end", "window_time"] {
        output.push(Field::new(name, SqlType::Timestamp { precision: 3 }, false));
    }
    let local =
        TransformKind::LocalWindowAggregate { window: window.clone(), keys: keys.to_vec(), aggregates: calls() };
    let global = TransformKind::GlobalWindowAggregate {
        window: window.clone(),
        keys: key_fields,
        aggregates: calls(),
        window_columns: vec![WindowColumn::Start, WindowColumn::End, WindowColumn::Time],
    };
    chain(vec![
        transform(1, "local", local, Schema::new(partials), ChangelogMode::Append),
        transform(2, "global", global, Schema::new(output), ChangelogMode::Append),
    ])
}

/// Starts of the windows that hold `time`.
fn starts(window: &Window, time: i64) -> Vec<i64> {
    let aligned = |start: &i64| (start - window.offset_ms).rem_euclid(window.slide_ms) == 0;
    (time - window.size_ms + 1..=time).filter(aligned).collect()
}

/// A line per key of a window.
fn result_lines(window: &Window, keys: &[usize], start: i64, rows: &[&TestRow]) -> Vec<String> {
    let end = start + window.size_ms;
    let times = [start, end, end - 1].map(timestamp).join(", ");
    let groups = by_key(keys, rows.iter().copied());
    groups.into_iter().map(|(key, rows)| format!("+I[{key}{}, {times}]", reference_results(&rows))).collect()
}

/// Random rows, out of order and late, in random batches, with restores in between.
fn check(seed: u64, window: &Window, keys: &[usize], backend: Backend) {
    let mut random = Random::new(seed);
    let parallelism = 1 + random.below(4) as u32;
    let mut phases = TwoPhases::new(graph(window, keys), keys.len(), parallelism, backend);
    let mut per_window: std::collections::BTreeMap<i64, Vec<TestRow>> = std::collections::BTreeMap::new();
    let mut watermark = WATERMARK_MIN;
    let mut late = 0;
    // Begins before the epoch.
    let mut now = -100;
    for _ in 0..60 {
        let rows: Vec<TestRow> = (0..random.below(40))
            .map(|_| {
                let time = now + random.in_range(-40..25);
                row(&mut random, time)
            })
            .collect();
        for row in &rows {
            let starts = starts(window, row.time);
            let open: Vec<i64> = starts.iter().copied().filter(|s| s + window.size_ms - 1 > watermark).collect();
            late += u64::from(open.is_empty() && !starts.is_empty());
            open.iter().for_each(|start| per_window.entry(*start).or_default().push(row.clone()));
        }
        let local = random.below(phases.parallelism() as u64) as usize;
        phases.rows(local, batch(&rows));
        now += random.in_range(0..12);
        match random.below(10) {
            0 => phases.checkpoint_and_restore(1 + random.below(5) as u32),
            1 => phases.idle(local),
            2..=7 => {
                watermark = watermark.max(now - 20);
                phases.advance(watermark);
            }
            _ => {}
        }
    }
    phases.end();
    let windows = per_window.iter();
    let mut expected: Vec<String> = windows
        .flat_map(|(start, rows)| result_lines(window, keys, *start, &rows.iter().collect::<Vec<_>>()))
        .collect();
    let mut lines = phases.lines();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected, "seed {seed}, {window:?}, keys {keys:?}");
    assert!(late > 0, "seed {seed}: no row was late");
}

#[test]
fn windows_equal_a_reference_over_random_input_with_late_rows_and_restores() {
    let keys: [&[usize]; 4] = [&[K1], &[K2], &[K1, K2], &[]];
    let windows = [(10, 10, 0), (20, 5, 0), (12, 4, 1), (10, 4, 0), (7, 7, 3), (6, 9, 2)];
    for (at, (size, slide, offset)) in windows.into_iter().enumerate() {
        for (which, keys) in keys.iter().enumerate() {
            let (seed, window) = ((at * 10 + which) as u64, window(size, slide, offset));
            check(seed, &window, keys, Backend::Memory);
            // Each restore opens a dozen databases: a sample.
            if which == 2 && at % 2 == 1 {
                check(seed + 100, &window, keys, Backend::Disk);
            }
        }
    }
}

#[test]
fn a_late_row_is_dropped_and_counted_and_one_with_an_open_window_is_not() {
    let mut random = Random::new(1);
    let window = window(20, 10, 0);
    let mut phases = TwoPhases::new(graph(&window, &[K1]), 1, 1, Backend::Memory);
    phases.rows(0, batch(&[row(&mut random, 5), row(&mut random, 25)]));
    // Fires the windows that end at 10 and 20.
    phases.advance(19);
    assert_eq!(phases.output.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
    let still_open = row(&mut random, 11);
    phases.rows(0, batch(&[row(&mut random, 9), still_open.clone()]));
    phases.advance(20);
    assert_eq!(phases.counter("numLateRecordsDropped"), 1);
    phases.advance(29);
    let key = key_text(&[K1], &still_open);
    let of_key = |line: &&String| line.starts_with(&format!("+I[{key}1, ")) && line.contains(&timestamp(10));
    assert!(phases.lines().iter().any(|l| of_key(&l)), "{:?}", phases.lines());
}

#[test]
fn a_window_fires_at_its_last_millisecond_and_only_once_also_after_a_restore() {
    let mut random = Random::new(2);
    let window = window(20, 10, 0);
    let mut phases = TwoPhases::new(graph(&window, &[K1]), 1, 2, Backend::Memory);
    phases.rows(0, batch(&[row(&mut random, 15)]));
    phases.advance(18);
    assert!(phases.lines().is_empty());
    phases.advance(19);
    assert_eq!(phases.lines().len(), 1);
    phases.checkpoint_and_restore(3);
    phases.advance(19);
    assert_eq!(phases.lines().len(), 1);
    phases.end();
    assert_eq!(phases.lines().len(), 2);
    phases.end();
    assert_eq!(phases.lines().len(), 2);
}

#[test]
fn a_row_without_event_time_fails_with_the_column_and_what_to_do() {
    use arrow_array::{RecordBatch, TimestampMillisecondArray};
    let mut task = crate::transform::harness::Task::new(&graph(&window(10, 10, 0), &[K1]), 1);
    let good = batch(&[row(&mut Random::new(3), 5)]);
    let mut columns = good.columns().to_vec();
    columns[TIME] = std::sync::Arc::new(TimestampMillisecondArray::from(vec![None]));
    let error = task.rows(RecordBatch::try_new(good.schema(), columns).unwrap()).unwrap_err().to_string();
    assert!(error.contains("local: the event-time column time is NULL") && error.contains("WHERE"), "{error}");
}
