//! Transforms without state: Calc, Union, WindowAssign, and what the local phases do on their own.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use millstream_api::graph::{
    AggregateCall, AggregateFunction, ChangelogMode, Expr, ExprKind, Field, Literal, Schema, SqlType, Transform,
    TransformKind, Window,
};
use millstream_api::ids::Epoch;

use super::aggregate::AggregatePlan;
use super::harness::{K1, K2, Random, TIME, Task, TestRow, batch, chain, input_schema, lines, row, transform};

fn column(index: usize) -> Expr {
    let field = input_schema().fields[index].clone();
    Expr::column(index, field.ty, field.nullable)
}

fn integer(value: i64) -> Expr {
    Expr { ty: SqlType::BigInt, nullable: false, kind: ExprKind::Literal { value: Literal::Int(value) } }
}

fn call(function: &str, args: Vec<Expr>, ty: SqlType) -> Expr {
    Expr { ty, nullable: true, kind: ExprKind::Call { function: function.to_owned(), args } }
}

fn calc(filter: Option<Expr>, projection: Vec<Expr>, changelog: ChangelogMode) -> Transform {
    let fields = projection.iter().enumerate().map(|(at, e)| Field::new(format!("c{at}"), e.ty.clone(), e.nullable));
    let output = Schema::new(fields.collect());
    transform(1, "calc", TransformKind::Calc { filter, projection }, output, changelog)
}

fn of(k1: Option<i64>, k2: &str, time: i64) -> TestRow {
    TestRow { k1, k2: Some(k2.to_owned()), ..row(&mut Random::new(0), time) }
}

/// The output of transform 1 of a graph for some batches, as lines.
fn run(transform: Transform, input: ChangelogMode, batches: Vec<RecordBatch>) -> Vec<String> {
    let (output, changelog) = (transform.output.clone(), transform.changelog.clone());
    let mut graph = chain(vec![transform]);
    graph.transforms[0].changelog = input;
    let mut task = Task::new(&graph, 1);
    let out: Vec<RecordBatch> = batches.into_iter().flat_map(|batch| task.rows(batch).unwrap()).collect();
    lines(&output, &changelog, &out)
}

#[test]
fn calc_keeps_rows_whose_filter_is_true_and_computes_from_the_columns_it_reads() {
    let filter = call(">", vec![column(K1), integer(1)], SqlType::Boolean);
    let plus = call("+", vec![column(K1), integer(10)], SqlType::BigInt);
    let transform = calc(Some(filter), vec![column(K2), plus, column(K1)], ChangelogMode::Append);
    let rows = [of(Some(1), "a", 0), of(None, "b", 0), of(Some(2), "c", 0), of(Some(3), "d", 0)];
    let batches = vec![batch(&rows[..2]), batch(&rows), batch(&rows[2..])];
    let expected = ["+I[c, 12, 2]", "+I[d, 13, 3]", "+I[c, 12, 2]", "+I[d, 13, 3]"];
    assert_eq!(run(transform, ChangelogMode::Append, batches), expected);
}

#[test]
fn calc_turns_an_update_of_which_one_half_is_left_into_a_deletion_or_an_insertion() {
    let changelog = ChangelogMode::Retract { upsert_keys: vec![0] };
    let filter = call(">", vec![column(K1), integer(1)], SqlType::Boolean);
    let transform = calc(Some(filter), vec![column(K1)], changelog.clone());
    let rows = batch(&[of(Some(1), "a", 0), of(Some(1), "a", 0), of(Some(5), "a", 0)]);
    let kinds: ArrayRef = Arc::new(Int8Array::from(vec![0, 1, 2]));
    let columns = rows.columns().iter().cloned().chain([kinds]).collect();
    let rows = RecordBatch::try_new(input_schema().arrow_with_row_kind(), columns).unwrap();
    assert_eq!(run(transform, changelog, vec![rows]), ["+I[5]"]);
}

#[test]
fn calc_without_columns_keeps_the_number_of_rows() {
    let filter = call(">", vec![column(K1), integer(1)], SqlType::Boolean);
    let transform = calc(Some(filter), Vec::new(), ChangelogMode::Append);
    let rows = [of(Some(1), "a", 0), of(Some(2), "c", 0), of(Some(3), "d", 0)];
    assert_eq!(run(transform, ChangelogMode::Append, vec![batch(&rows)]), ["+I[]", "+I[]"]);
}

#[test]
fn calc_names_itself_and_the_row_when_a_value_cannot_be_computed() {
    let divided = call("/", vec![integer(1), column(K1)], SqlType::BigInt);
    let mut task = Task::new(&chain(vec![calc(None, vec![divided], ChangelogMode::Append)]), 1);
    let error = task.rows(batch(&[of(Some(0), "a", 0)])).unwrap_err();
    assert!(matches!(error, super::TransformError::UserData { .. }), "{error}");
    assert!(error.to_string().starts_with("calc: "), "{error}");
}

#[test]
fn union_renames_columns_and_marks_appended_rows_as_inserts() {
    let changelog = ChangelogMode::Retract { upsert_keys: vec![0] };
    let output = Schema::new(vec![Field::new("a", SqlType::BigInt, true), Field::new("b", SqlType::STRING, true)]);
    let transform = transform(1, "union", TransformKind::Union, output.clone(), changelog.clone());
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let appended = RecordBatch::try_from_iter([("other", numbers.clone()), ("names", names.clone())]).unwrap();
    let kinds: ArrayRef = Arc::new(Int8Array::from(vec![1, 2]));
    let updates = RecordBatch::try_new(output.arrow_with_row_kind(), vec![numbers, names, kinds]).unwrap();
    let expected = ["+I[1, x]", "+I[2, y]", "-U[1, x]", "+U[2, y]"];
    assert_eq!(run(transform, changelog, vec![appended, updates]), expected);
}

fn window(size_ms: i64, slide_ms: i64) -> Window {
    Window { time_column: TIME, time_type: SqlType::Timestamp { precision: 3 }, size_ms, slide_ms, offset_ms: 0 }
}

#[test]
fn window_assign_gives_a_row_to_each_of_its_windows_latest_first() {
    let mut output = input_schema();
    output.fields.truncate(3);
    let projection = vec![column(0), column(1), column(2)];
    for name in ["window_start", "window_end", "window_time"] {
        output.fields.push(Field::new(name, SqlType::Timestamp { precision: 3 }, false));
    }
    let narrow = calc(None, projection, ChangelogMode::Append);
    let assign = |size, slide| {
        let kind = TransformKind::WindowAssign { window: window(size, slide) };
        chain(vec![narrow.clone(), transform(2, "assign", kind, output.clone(), ChangelogMode::Append)])
    };
    let lines_of = |size, slide, time| {
        let graph = assign(size, slide);
        let input = Task::new(&graph, 1).rows(batch(&[of(Some(1), "a", time)])).unwrap().remove(0);
        lines(&output, &ChangelogMode::Append, &Task::new(&graph, 2).rows(input).unwrap())
    };
    let at = super::harness::timestamp;
    let line = |time, start, end| format!("+I[1, a, {}, {}, {}, {}]", at(time), at(start), at(end), at(end - 1));
    assert_eq!(lines_of(1000, 1000, 1500), [line(1500, 1000, 2000)]);
    assert_eq!(lines_of(2000, 1000, -500), [line(-500, -1000, 1000), line(-500, -2000, 0)]);
    // Between two windows.
    assert!(lines_of(1000, 3000, 1500).is_empty());
}

fn count() -> AggregateCall {
    let output = Field::new("n", SqlType::BigInt, false);
    AggregateCall { function: AggregateFunction::Count, arg: None, arg_type: None, filter: None, output }
}

fn local(kind: TransformKind, slice_end: bool) -> Task {
    let mut fields = vec![input_schema().fields[K1].clone()];
    if slice_end {
        fields.push(Field::new("$slice_end", SqlType::BigInt, false));
    }
    fields.extend(AggregatePlan::new(&[count()]).unwrap().fields());
    Task::new(&chain(vec![transform(1, "local", kind, Schema::new(fields), ChangelogMode::Append)]), 1)
}

fn local_window(size_ms: i64) -> Task {
    let aggregates = vec![count()];
    local(TransformKind::LocalWindowAggregate { window: window(size_ms, size_ms), keys: vec![K1], aggregates }, true)
}

fn counted(batches: &[RecordBatch]) -> i64 {
    let counts =
        batches.iter().map(|b| b.column(b.num_columns() - 1).as_primitive::<Int64Type>().values().iter().sum::<i64>());
    counts.sum()
}

/// `keys` rows, each with a key of its own.
fn distinct(keys: std::ops::Range<i64>, time: impl Fn(i64) -> i64) -> RecordBatch {
    let template = batch(&[of(Some(0), "a", 0)]);
    let len = (keys.end - keys.start) as usize;
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (at, column) in template.columns().iter().enumerate() {
        columns.push(match at {
            K1 => Arc::new(Int64Array::from_iter_values(keys.clone())),
            TIME => Arc::new(TimestampMillisecondArray::from_iter_values(keys.clone().map(&time))),
            _ => arrow_array::new_null_array(column.data_type(), len),
        });
    }
    RecordBatch::try_new(template.schema(), columns).unwrap()
}

#[test]
fn the_local_window_phase_holds_slices_across_batches_and_lets_go_at_their_end_in_pieces() {
    let mut task = local_window(1000);
    for _ in 0..3 {
        assert!(task.rows(distinct(0..10_000, |key| key % 2000)).unwrap().is_empty());
    }
    assert!(task.advance(998).is_empty());
    let first = task.advance(999);
    assert_eq!(first.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [5000]);
    assert_eq!(counted(&first), 15_000);
    let rest = task.barrier(Epoch(1));
    assert_eq!(counted(&rest), 15_000);
    assert!(task.end().is_empty());
    // Longer output than a piece.
    task.rows(distinct(0..20_000, |_| 5000)).unwrap();
    let pieces = task.end();
    assert_eq!(pieces.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [8192, 8192, 3616]);
}

#[test]
fn the_local_window_phase_is_bounded_in_groups_slices_and_bytes() {
    let mut task = local_window(1000);
    assert!(task.rows(distinct(0..65_000, |_| 0)).unwrap().is_empty());
    let flushed = task.rows(distinct(65_000..66_000, |_| 0)).unwrap();
    assert_eq!(counted(&flushed), 66_000);
    assert!(task.end().is_empty());
    // A slice for every row.
    let flushed = task.rows(distinct(0..100, |key| key * 1000)).unwrap();
    assert_eq!(counted(&flushed), 100);
    assert!(task.end().is_empty());
}

#[test]
fn the_local_group_phase_combines_what_repeats_and_passes_on_what_does_not() {
    let kind = TransformKind::LocalGroupAggregate { keys: vec![K1], aggregates: vec![count()], mini_batch: None };
    let mut task = local(kind, false);
    let repeated = || batch(&(0..100).map(|at| of(Some(at % 4), "a", 0)).collect::<Vec<_>>());
    assert_eq!(task.rows(repeated()).unwrap()[0].num_rows(), 4);
    // Combining does not pay for this one, so the next ones pass as they are.
    assert_eq!(task.rows(distinct(0..100, |_| 0)).unwrap()[0].num_rows(), 100);
    for _ in 0..15 {
        let passed = task.rows(repeated()).unwrap();
        assert_eq!((passed[0].num_rows(), counted(&passed)), (100, 100));
    }
    // Then it is tried again.
    assert_eq!(task.rows(repeated()).unwrap()[0].num_rows(), 4);
}
