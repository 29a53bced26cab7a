//! The window functions TUMBLE and HOP.

use std::rc::Rc;

use millstream_api::graph::{ExprKind, Literal, SqlType, WindowColumn};

use super::Binder;
use super::expression::bind_scalar;
use super::relation::{Changes, Column, Node, Relation, TimeAttribute, WindowRole, WindowShape};
use super::scope::Scope;
use crate::ast::{Expr, WindowCall, WindowKind};
use crate::error::{Position, Result, SqlError};

/// Windows that one row may fall into, and slices that one window may be made of: a hop of 1 ms over a day would
/// multiply every row by 86 million.
const WINDOWS_PER_ROW_MAX: i64 = 10_000;

impl Binder {
    pub(super) fn window(&mut self, call: &WindowCall) -> Result<Relation> {
        let (input, alias) = self.table_ref(&call.input)?;
        if let Changes::Updating { .. } = input.changes {
            return Err(SqlError::unsupported(call.position, "a window over a result that is updated")
                .hint("the rows below come from a GROUP BY without a window"));
        }
        let time_column = Scope::new(&input, alias.as_deref()).resolve(None, &call.time_column)?;
        let column = &input.columns[time_column];
        match column.time {
            Some(TimeAttribute::Event) => {}
            Some(TimeAttribute::Processing) => {
                return Err(SqlError::unsupported(call.time_column.position, "a window over processing time")
                    .hint("declare WATERMARK FOR an event-time column"));
            }
            None => {
                let message =
                    format!("a window needs an event-time attribute: '{}' is a plain {}", column.name, column.ty);
                return Err(SqlError::at(call.time_column.position, message).hint(
                    "an event-time attribute is the column of a WATERMARK clause, or window_time, passed on unchanged",
                ));
            }
        }
        let shape = Rc::new(self.shape(call, column.ty.clone())?);
        let mut columns: Vec<Column> =
            input.columns.iter().map(|c| Column { time: None, window: None, ..c.clone() }).collect();
        columns.extend(window_columns(&shape));
        Relation::new(
            Node::Window { input: Box::new(input), time_column, shape },
            columns,
            Changes::Append,
            call.position,
        )
    }

    fn shape(&mut self, call: &WindowCall, time_type: SqlType) -> Result<WindowShape> {
        let size_ms = positive(&call.size, "size")?;
        let slide_ms = match (call.kind, &call.slide) {
            (WindowKind::Hop, Some(slide)) => positive(slide, "slide")?,
            _ => size_ms,
        };
        let offset_ms = match &call.offset {
            Some(offset) => duration(offset, "offset")?.rem_euclid(slide_ms),
            None => 0,
        };
        let slice_ms = gcd(size_ms, slide_ms);
        if size_ms / slide_ms > WINDOWS_PER_ROW_MAX || size_ms / slice_ms > WINDOWS_PER_ROW_MAX {
            return Err(SqlError::at(
                call.position,
                format!("the windows overlap more than {WINDOWS_PER_ROW_MAX} times, or have more slices than that"),
            )
            .hint("choose a longer slide that divides the size"));
        }
        Ok(WindowShape { id: self.new_window(), time_type, size_ms, slide_ms, offset_ms })
    }
}

fn window_columns(shape: &Rc<WindowShape>) -> [Column; 3] {
    let time_type = match shape.time_type {
        SqlType::TimestampLtz { .. } => SqlType::TimestampLtz { precision: 3 },
        _ => SqlType::Timestamp { precision: 3 },
    };
    let column = |name: &str, ty: SqlType, which, time| Column {
        name: name.to_owned(),
        ty,
        nullable: false,
        time,
        window: Some(WindowRole { column: which, window: Rc::clone(shape) }),
    };
    let bound = SqlType::Timestamp { precision: 3 };
    [
        column("window_start", bound.clone(), WindowColumn::Start, None),
        column("window_end", bound, WindowColumn::End, None),
        column("window_time", time_type, WindowColumn::Time, Some(TimeAttribute::Event)),
    ]
}

fn positive(expr: &Expr, what: &str) -> Result<i64> {
    let millis = duration(expr, what)?;
    if millis > 0 {
        Ok(millis)
    } else {
        Err(SqlError::at(expr.position, format!("a window's {what} must be positive")))
    }
}

/// A constant interval of fixed length, in milliseconds.
fn duration(expr: &Expr, what: &str) -> Result<i64> {
    let bad = |position: Position| {
        SqlError::at(position, format!("a window's {what} is a constant interval of days, hours, minutes or seconds"))
            .hint("INTERVAL '10' SECOND")
    };
    let nothing = Scope { columns: &[], alias: None };
    match bind_scalar(expr, nothing, "a window function")?.kind {
        ExprKind::Literal { value: Literal::IntervalMillis(millis) } => Ok(millis),
        _ => Err(bad(expr.position)),
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
