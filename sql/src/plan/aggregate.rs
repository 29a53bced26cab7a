//! Aggregates in two phases: combined where the rows are, merged where their key is at home.

use std::collections::BTreeSet;
use std::rc::Rc;

use millstream_api::graph::{
    AggregateCall, ChangelogMode, EdgeKind, Expr, ExprKind, Field, Literal, SqlType, TransformKind, Window,
    WindowColumn,
};

use super::Planner;
use super::needed::{needed_aggregates, of_input};
use super::stream::{Inputs, Stream, window_time_type};
use crate::bind::fold_cast;
use crate::bind::relation::{Aggregate, AggregateExpr, GroupWindow, Relation, WindowShape};

/// What the local phase reads.
struct LocalInput {
    stream: Stream,
    keys: Vec<usize>,
    aggregates: Vec<AggregateCall>,
    /// The event-time column, for a window.
    time: Option<usize>,
}

impl Planner<'_> {
    pub(super) fn aggregate(&mut self, relation: &Relation, aggregate: &Aggregate, needed: &BTreeSet<usize>) -> Stream {
        let below = self.lower(&aggregate.input, &of_input(relation, needed));
        let calls: Vec<(usize, &AggregateExpr)> = needed_aggregates(aggregate, needed).collect();
        match &aggregate.window {
            None => {
                let below = self.assign_window(below);
                self.group_aggregate(relation, aggregate, below, &calls)
            }
            Some(group) if takes_over(&below, aggregate, group, &calls) => {
                self.window_aggregate(relation, aggregate, group, below, &calls, needed)
            }
            Some(group) => {
                let below = self.assign_window(below);
                self.attached_window_aggregate(relation, aggregate, group, below, &calls, needed)
            }
        }
    }

    /// Keys, arguments and filters as columns: of the stream itself where they are, of a Calc otherwise.
    fn local_input(
        &mut self,
        relation: &Relation,
        aggregate: &Aggregate,
        below: Stream,
        calls: &[(usize, &AggregateExpr)],
        time: Option<Expr>,
    ) -> LocalInput {
        let mut inputs = Inputs::default();
        let keys = aggregate
            .keys
            .iter()
            .enumerate()
            .map(|(i, k)| inputs.place_named(&below.replace(k), Some(&relation.columns[i].name)))
            .collect();
        let time = time.map(|t| inputs.place_named(&t, Some("time")));
        let aggregates = calls.iter().map(|(_, a)| aggregate_call(a, &below, &mut inputs)).collect();
        let direct: Option<Vec<usize>> = inputs.exprs.iter().map(crate::bind::relation::passed_through).collect();
        if let (Some(places), true) = (direct, below.filters.is_empty()) {
            return LocalInput { stream: below, keys, aggregates, time }.through(&places);
        }
        let fields = inputs.fields(self.builder.fields(below.id));
        let stream = self.calc(Stream { columns: Vec::new(), window: None, ..below }, inputs.exprs, fields);
        LocalInput { stream, keys, aggregates, time }
    }

    fn group_aggregate(
        &mut self,
        relation: &Relation,
        aggregate: &Aggregate,
        below: Stream,
        calls: &[(usize, &AggregateExpr)],
    ) -> Stream {
        let input = self.local_input(relation, aggregate, below, calls, None);
        let key_fields = key_fields(relation, aggregate);
        let count = key_fields.len();
        let mini_batch = self.options.mini_batch;
        let local = TransformKind::LocalGroupAggregate {
            keys: input.keys.clone(),
            aggregates: input.aggregates.clone(),
            mini_batch,
        };
        let mut fields = key_fields.clone();
        fields.extend(input.aggregates.iter().flat_map(AggregateCall::accumulator));
        let local =
            self.builder.add("local-aggregate", "LocalGroupAggregate".to_owned(), local, fields, ChangelogMode::Append);
        self.builder.connect(input.stream.id, local, 0, EdgeKind::Forward);
        let global = TransformKind::GlobalGroupAggregate {
            keys: key_fields.clone(),
            aggregates: input.aggregates.clone(),
            mini_batch,
            state_ttl_ms: self.options.state_ttl_ms,
        };
        let mut fields = key_fields;
        fields.extend(input.aggregates.iter().map(|a| a.output.clone()));
        let changelog = ChangelogMode::Retract { upsert_keys: (0..count).collect() };
        let width = fields.len();
        let id = self.builder.add("aggregate", "GlobalGroupAggregate".to_owned(), global, fields, changelog.clone());
        self.builder.connect(local, id, 0, EdgeKind::Hash { keys: (0..count).collect() });
        let mut columns = vec![None; relation.columns.len()];
        place_keys_and_aggregates(relation, count, calls, &mut columns);
        Stream { partitioned_by: Some((0..count).collect()), ..Stream::settled(id, width, columns, changelog) }
    }

    fn window_aggregate(
        &mut self,
        relation: &Relation,
        aggregate: &Aggregate,
        group: &GroupWindow,
        below: Stream,
        calls: &[(usize, &AggregateExpr)],
        needed: &BTreeSet<usize>,
    ) -> Stream {
        let shape = Rc::clone(&group.shape);
        let time = below.window.as_ref().expect("a window is pending").time;
        let field = &self.builder.fields(below.id)[time];
        let time = Expr::column(time, field.ty.clone(), field.nullable);
        let input = self.local_input(relation, aggregate, below, calls, Some(time));
        let window = Window {
            time_column: input.time.expect("a window has a time column"),
            time_type: shape.time_type.clone(),
            size_ms: shape.size_ms,
            slide_ms: shape.slide_ms,
            offset_ms: shape.offset_ms,
        };
        let first = aggregate.keys.len();
        let asked: Vec<usize> = (0..group.columns.len()).filter(|i| needed.contains(&(first + i))).collect();
        let window_columns: Vec<WindowColumn> = asked.iter().map(|i| group.columns[*i]).collect();
        let window_fields: Vec<Field> = asked.iter().map(|i| relation.columns[first + i].field()).collect();
        let behind = first + calls.len();
        let mut stream = self.two_phase_window(relation, aggregate, input, window, window_columns, window_fields);
        let mut columns = vec![None; relation.columns.len()];
        place_keys_and_aggregates(relation, first, calls, &mut columns);
        for (place, i) in asked.iter().enumerate() {
            columns[first + i] = Some(relation.columns[first + i].expr(behind + place));
        }
        stream.columns = columns;
        stream
    }

    /// A second aggregate over rows that already carry their window (Flink's window-attached strategy).
    ///
    /// Each row counts in the one window that ends at its window_end. A tumbling window of the slide's length over
    /// `window_end - 1 ms` gathers exactly these rows; start and time follow from the end.
    fn attached_window_aggregate(
        &mut self,
        relation: &Relation,
        aggregate: &Aggregate,
        group: &GroupWindow,
        below: Stream,
        calls: &[(usize, &AggregateExpr)],
        needed: &BTreeSet<usize>,
    ) -> Stream {
        let shape = Rc::clone(&group.shape);
        let time = minus_millis(below.column(group.end_column), 1);
        let input = self.local_input(relation, aggregate, below, calls, Some(time));
        let window = Window {
            time_column: input.time.expect("a window has a time column"),
            time_type: SqlType::Timestamp { precision: 3 },
            size_ms: shape.slide_ms,
            slide_ms: shape.slide_ms,
            offset_ms: (shape.offset_ms + shape.size_ms).rem_euclid(shape.slide_ms),
        };
        let first = aggregate.keys.len();
        let end_field = Field::new("window_end", SqlType::Timestamp { precision: 3 }, false);
        let end = Expr::column(first + calls.len(), end_field.ty.clone(), false);
        let mut stream =
            self.two_phase_window(relation, aggregate, input, window, vec![WindowColumn::End], vec![end_field]);
        let mut columns = vec![None; relation.columns.len()];
        place_keys_and_aggregates(relation, first, calls, &mut columns);
        for (i, column) in group.columns.iter().enumerate().filter(|(i, _)| needed.contains(&(first + i))) {
            columns[first + i] = Some(from_end(&end, *column, &shape));
        }
        stream.columns = columns;
        stream
    }

    fn two_phase_window(
        &mut self,
        relation: &Relation,
        aggregate: &Aggregate,
        input: LocalInput,
        window: Window,
        window_columns: Vec<WindowColumn>,
        window_fields: Vec<Field>,
    ) -> Stream {
        let key_fields = key_fields(relation, aggregate);
        let count = key_fields.len();
        let local = TransformKind::LocalWindowAggregate {
            window: window.clone(),
            keys: input.keys.clone(),
            aggregates: input.aggregates.clone(),
        };
        let mut fields = key_fields.clone();
        fields.push(Field::new("$slice_end", SqlType::BigInt, false));
        fields.extend(input.aggregates.iter().flat_map(AggregateCall::accumulator));
        let local = self.builder.add(
            "local-window-aggregate",
            "LocalWindowAggregate".to_owned(),
            local,
            fields,
            ChangelogMode::Append,
        );
        self.builder.connect(input.stream.id, local, 0, EdgeKind::Forward);
        let global = TransformKind::GlobalWindowAggregate {
            window,
            keys: key_fields.clone(),
            aggregates: input.aggregates.clone(),
            window_columns,
        };
        let mut fields = key_fields;
        fields.extend(input.aggregates.iter().map(|a| a.output.clone()));
        fields.extend(window_fields);
        let width = fields.len();
        let id = self.builder.add(
            "window-aggregate",
            "GlobalWindowAggregate".to_owned(),
            global,
            fields,
            ChangelogMode::Append,
        );
        self.builder.connect(local, id, 0, EdgeKind::Hash { keys: (0..count).collect() });
        Stream {
            partitioned_by: Some((0..count).collect()),
            ..Stream::settled(id, width, Vec::new(), ChangelogMode::Append)
        }
    }
}

impl LocalInput {
    /// Places in the Calc that is not needed become the stream's own columns.
    fn through(mut self, places: &[usize]) -> Self {
        let go = |i: &mut usize| *i = places[*i];
        self.keys.iter_mut().for_each(go);
        self.time.iter_mut().for_each(go);
        for call in &mut self.aggregates {
            call.arg.iter_mut().for_each(go);
            call.filter.iter_mut().for_each(go);
        }
        self
    }
}

/// Whether the aggregate can take the pending window over: it is this window, and nothing else reads its columns.
fn takes_over(below: &Stream, aggregate: &Aggregate, group: &GroupWindow, calls: &[(usize, &AggregateExpr)]) -> bool {
    let Some(pending) = &below.window else { return false };
    let reads_window = |expr: &Expr| below.uses_window(&below.replace(expr));
    pending.shape == group.shape
        && !below.filters.iter().any(|f| below.uses_window(f))
        && !aggregate.keys.iter().any(reads_window)
        && !calls.iter().any(|(_, a)| a.arg.iter().chain(&a.filter).any(reads_window))
}

fn aggregate_call(a: &AggregateExpr, below: &Stream, inputs: &mut Inputs) -> AggregateCall {
    AggregateCall {
        function: a.function,
        arg: a.arg.as_ref().map(|e| inputs.place(&below.replace(e))),
        arg_type: a.arg.as_ref().map(|e| e.ty.clone()),
        filter: a.filter.as_ref().map(|e| inputs.place(&below.replace(e))),
        output: a.output.clone(),
    }
}

fn key_fields(relation: &Relation, aggregate: &Aggregate) -> Vec<Field> {
    relation.columns.iter().take(aggregate.keys.len()).map(crate::bind::relation::Column::field).collect()
}

/// The relation has keys, window columns, aggregates; the transform has keys, then the aggregates that are needed.
fn place_keys_and_aggregates(
    relation: &Relation,
    keys: usize,
    calls: &[(usize, &AggregateExpr)],
    columns: &mut [Option<Expr>],
) {
    for (i, column) in columns.iter_mut().enumerate().take(keys) {
        *column = Some(relation.columns[i].expr(i));
    }
    for (place, (i, _)) in calls.iter().enumerate() {
        columns[*i] = Some(relation.columns[*i].expr(keys + place));
    }
}

fn minus_millis(timestamp: Expr, millis: i64) -> Expr {
    let interval = Expr {
        ty: SqlType::IntervalDayTime,
        nullable: false,
        kind: ExprKind::Literal { value: Literal::IntervalMillis(millis) },
    };
    Expr {
        ty: timestamp.ty.clone(),
        nullable: timestamp.nullable,
        kind: ExprKind::Call { function: "-".to_owned(), args: vec![timestamp, interval] },
    }
}

fn from_end(end: &Expr, column: WindowColumn, shape: &WindowShape) -> Expr {
    match column {
        WindowColumn::End => end.clone(),
        WindowColumn::Start => minus_millis(end.clone(), shape.size_ms),
        WindowColumn::Time => {
            let time = minus_millis(end.clone(), 1);
            let ty = window_time_type(shape);
            if time.ty == ty { time } else { fold_cast(time, ty, false, false) }
        }
    }
}
