//! A transform's output with filters and expressions that are still to be applied to it.
//!
//! Projections and filters that follow one another pile up here and become one Calc when a transform needs their result.

use std::rc::Rc;

use millstream_api::graph::{ChangelogMode, EdgeKind, Expr, ExprKind, Field, SqlType, TransformKind, Window};
use millstream_api::ids::TransformId;

use super::Planner;
use crate::bind::relation::{WindowShape, passed_through};
use crate::rewrite::move_columns;

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub id: TransformId,
    /// Columns of the transform. With a pending window, the columns `width`, `width + 1`, `width + 2` stand for its start,
    /// end and time.
    pub width: usize,
    /// All must be true, in this order.
    pub filters: Vec<Expr>,
    /// The relation's columns over the transform's; `None`: nobody needs it.
    pub columns: Vec<Option<Expr>>,
    pub window: Option<PendingWindow>,
    /// Of the transform, keys by its columns.
    pub changelog: ChangelogMode,
    /// Rows that agree in these columns of the transform are in the same task.
    pub partitioned_by: Option<Vec<usize>>,
}

/// A window function that has not become a transform: an aggregate may take it over.
#[derive(Clone, Debug)]
pub(super) struct PendingWindow {
    pub shape: Rc<WindowShape>,
    /// The event-time column of the transform.
    pub time: usize,
}

impl Stream {
    pub fn settled(id: TransformId, width: usize, columns: Vec<Option<Expr>>, changelog: ChangelogMode) -> Self {
        Self { id, width, filters: Vec::new(), columns, window: None, changelog, partitioned_by: None }
    }

    /// A column that was asked for when the stream was made.
    pub fn column(&self, index: usize) -> Expr {
        self.columns[index].clone().expect("columns that are read were asked for")
    }

    pub fn uses_window(&self, expr: &Expr) -> bool {
        let mut uses = false;
        expr.visit_columns(&mut |i| uses |= i >= self.width);
        uses
    }
}

/// Whether computing it twice costs nothing.
pub(super) fn is_trivial(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Column { .. } | ExprKind::Literal { .. })
}

/// The type of window_time: that of the event-time column, in milliseconds.
pub(super) fn window_time_type(shape: &WindowShape) -> SqlType {
    match shape.time_type {
        SqlType::TimestampLtz { .. } => SqlType::TimestampLtz { precision: 3 },
        _ => SqlType::Timestamp { precision: 3 },
    }
}

pub(super) fn all_true(mut filters: Vec<Expr>) -> Option<Expr> {
    if filters.len() < 2 {
        return filters.pop();
    }
    let nullable = filters.iter().any(|f| f.nullable);
    Some(Expr { ty: SqlType::Boolean, nullable, kind: ExprKind::Call { function: "AND".to_owned(), args: filters } })
}

/// Where each old column stands, for those that are passed on as they are.
fn places(old: &[usize], exprs: &[Expr]) -> Option<Vec<usize>> {
    old.iter().map(|column| exprs.iter().position(|e| passed_through(e) == Some(*column))).collect()
}

impl Planner<'_> {
    /// Applies what is pending: the stream's needed columns are then columns of a transform.
    pub(super) fn settle(&mut self, stream: Stream, names: &[String]) -> Stream {
        let stream = self.assign_window(stream);
        let needed: Vec<usize> = (0..stream.columns.len()).filter(|i| stream.columns[*i].is_some()).collect();
        let exprs: Vec<Expr> = needed.iter().map(|i| stream.column(*i)).collect();
        let fields =
            exprs.iter().zip(&needed).map(|(e, i)| Field::new(names[*i].clone(), e.ty.clone(), e.nullable)).collect();
        let mut columns = vec![None; stream.columns.len()];
        for (place, (expr, i)) in exprs.iter().zip(&needed).enumerate() {
            columns[*i] = Some(Expr::column(place, expr.ty.clone(), expr.nullable));
        }
        let settled = self.calc(stream, exprs, fields);
        Stream { columns, ..settled }
    }

    /// A Calc that filters and computes exactly these columns. The result has no relation columns yet.
    pub(super) fn calc(&mut self, stream: Stream, mut exprs: Vec<Expr>, mut fields: Vec<Field>) -> Stream {
        debug_assert!(stream.window.is_none());
        if exprs.is_empty() {
            // A batch without columns would not know its number of rows.
            let first = &self.builder.fields(stream.id)[0];
            exprs.push(Expr::column(0, first.ty.clone(), first.nullable));
            fields.push(first.clone());
        }
        let changelog = match &stream.changelog {
            ChangelogMode::Append => ChangelogMode::Append,
            ChangelogMode::Retract { upsert_keys } => {
                ChangelogMode::Retract { upsert_keys: places(upsert_keys, &exprs).unwrap_or_default() }
            }
        };
        let partitioned_by = stream.partitioned_by.as_ref().and_then(|columns| places(columns, &exprs));
        let width = exprs.len();
        let kind = TransformKind::Calc { filter: all_true(stream.filters), projection: exprs };
        let id = self.builder.add("calc", "Calc".to_owned(), kind, fields, changelog.clone());
        self.builder.connect(stream.id, id, 0, EdgeKind::Forward);
        Stream { partitioned_by, ..Stream::settled(id, width, Vec::new(), changelog) }
    }

    /// Like `calc`, but the stream itself where it has exactly these columns by these names.
    pub(super) fn calc_unless_same(&mut self, stream: Stream, exprs: Vec<Expr>, fields: Vec<Field>) -> Stream {
        let stream = if stream.window.is_some() {
            let mut with_columns = stream;
            with_columns.columns = exprs.into_iter().map(Some).collect();
            let settled = self.assign_window(with_columns);
            let exprs = (0..settled.columns.len()).map(|i| settled.column(i)).collect();
            return self.calc_unless_same(settled, exprs, fields);
        } else {
            stream
        };
        let existing = self.builder.fields(stream.id);
        let same = stream.filters.is_empty()
            && existing.len() == fields.len()
            && existing.iter().zip(&fields).all(|(a, b)| a.name == b.name && a.ty.arrow() == b.ty.arrow())
            && exprs.iter().enumerate().all(|(i, e)| passed_through(e) == Some(i));
        if same {
            return Stream { columns: Vec::new(), ..stream };
        }
        self.calc(stream, exprs, fields)
    }

    /// Makes a pending window a transform of its own. What does not need the window's columns is done before it: a HOP
    /// multiplies the rows.
    pub(super) fn assign_window(&mut self, stream: Stream) -> Stream {
        let Some(window) = stream.window.clone() else { return stream };
        let (after, before): (Vec<Expr>, Vec<Expr>) =
            stream.filters.iter().cloned().partition(|f| stream.uses_window(f));
        let mut inputs = Inputs::default();
        let time_type = self.builder.fields(stream.id)[window.time].clone();
        let time = inputs.place(&Expr::column(window.time, time_type.ty.clone(), time_type.nullable));
        let names = self.builder.fields(stream.id).to_vec();
        // First the places before the window, then, when their number is known, the expressions behind it.
        for expr in stream.columns.iter().flatten().chain(&after) {
            if stream.uses_window(expr) {
                expr.visit_columns(&mut |i| {
                    if let Some(field) = names.get(i) {
                        inputs.place(&Expr::column(i, field.ty.clone(), field.nullable));
                    }
                });
            } else {
                inputs.place(expr);
            }
        }
        let (width, old_width) = (inputs.exprs.len(), stream.width);
        let move_behind = |expr: &Expr| -> Expr {
            if !stream.uses_window(expr) {
                return Expr::column(inputs.find(expr), expr.ty.clone(), expr.nullable);
            }
            move_columns(expr, &|i| if i < old_width { inputs.find_column(i) } else { width + i - old_width })
        };
        let columns = stream.columns.iter().map(|c| c.as_ref().map(move_behind)).collect();
        let filters = after.iter().map(move_behind).collect();
        let fields = inputs.fields(&names);
        let below = Stream { filters: before, columns: Vec::new(), window: None, ..stream.clone() };
        let input = self.calc_unless_same(below, inputs.exprs.clone(), fields.clone());
        let id = self.window_assign(&input, &window.shape, time, fields);
        let partitioned_by = input.partitioned_by.clone();
        Stream { filters, columns, partitioned_by, ..Stream::settled(id, width + 3, Vec::new(), input.changelog) }
    }

    fn window_assign(
        &mut self,
        input: &Stream,
        shape: &WindowShape,
        time: usize,
        mut fields: Vec<Field>,
    ) -> TransformId {
        let bound = SqlType::Timestamp { precision: 3 };
        fields.push(Field::new("window_start", bound.clone(), false));
        fields.push(Field::new("window_end", bound, false));
        fields.push(Field::new("window_time", window_time_type(shape), false));
        let window = Window {
            time_column: time,
            time_type: shape.time_type.clone(),
            size_ms: shape.size_ms,
            slide_ms: shape.slide_ms,
            offset_ms: shape.offset_ms,
        };
        let kind = TransformKind::WindowAssign { window };
        let id = self.builder.add("window-assign", "WindowAssign".to_owned(), kind, fields, ChangelogMode::Append);
        self.builder.connect(input.id, id, 0, EdgeKind::Forward);
        id
    }
}

/// Expressions that a transform wants as columns, each once.
#[derive(Default)]
pub(super) struct Inputs {
    pub exprs: Vec<Expr>,
    names: Vec<Option<String>>,
}

impl Inputs {
    pub fn place(&mut self, expr: &Expr) -> usize {
        self.place_named(expr, None)
    }

    pub fn place_named(&mut self, expr: &Expr, name: Option<&str>) -> usize {
        if let Some(place) = self.exprs.iter().position(|e| e == expr) {
            return place;
        }
        self.exprs.push(expr.clone());
        self.names.push(name.map(str::to_owned));
        self.exprs.len() - 1
    }

    fn find(&self, expr: &Expr) -> usize {
        self.exprs.iter().position(|e| e == expr).expect("it was placed")
    }

    fn find_column(&self, column: usize) -> usize {
        self.exprs.iter().position(|e| passed_through(e) == Some(column)).expect("it was placed")
    }

    /// The columns; one that passes through keeps the name it has in `below`.
    pub fn fields(&self, below: &[Field]) -> Vec<Field> {
        let name = |(i, expr): (usize, &Expr)| match (&self.names[i], passed_through(expr).and_then(|c| below.get(c))) {
            (_, Some(field)) => field.name.clone(),
            (Some(name), None) => name.clone(),
            (None, None) => format!("c{i}"),
        };
        self.exprs.iter().enumerate().map(|(i, e)| Field::new(name((i, e)), e.ty.clone(), e.nullable)).collect()
    }
}
