//! TUMBLE and HOP without an aggregate: each row once per window it belongs to, with the window's columns.

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_select::take::take;
use millstream_api::graph::{Transform, Window};

use super::build::BuildError;
use super::output::{Output, PIECE_ROWS};
use super::window_time::{Slicing, event_times, timestamps};
use super::{Collector, TransformContext, TransformError};

/// See the module.
#[derive(Debug)]
pub struct WindowAssign {
    output: Output,
    slicing: Slicing,
    time_column: usize,
}

impl WindowAssign {
    pub fn new(transform: &Transform, window: &Window) -> Result<Self, BuildError> {
        let slicing = Slicing::new(window).map_err(|reason| BuildError::new(transform, reason))?;
        Ok(Self { output: Output::new(transform), slicing, time_column: window.time_column })
    }

    /// Emits the rows `rows` of `batch`, each beside the window that ends at the same position of `ends`.
    fn emit(
        &self,
        batch: &RecordBatch,
        rows: Vec<u32>,
        ends: Vec<i64>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let count = rows.len();
        let rows = UInt32Array::from(rows);
        let taken = batch.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>();
        let mut columns: Vec<ArrayRef> = taken.map_err(|e| self.output.arrow(&e))?;
        let starts = ends.iter().map(|end| end - self.slicing.size_ms()).collect();
        let last = ends.iter().map(|end| end - 1).collect();
        for millis in [starts, ends, last] {
            let field = self.output.schema().fields().get(columns.len());
            let ty = field.ok_or_else(|| self.output.bug("no place for the window columns"))?.data_type();
            columns.push(timestamps(ty, millis).map_err(|e| self.output.bug(e))?);
        }
        out.emit(self.output.batch(columns, count)?);
        Ok(())
    }
}

impl super::Transform for WindowAssign {
    fn on_batch(
        &mut self,
        _input: u32,
        batch: RecordBatch,
        _cx: &mut TransformContext<'_>,
        out: &mut dyn Collector,
    ) -> Result<(), TransformError> {
        let times = event_times(&batch, self.time_column).map_err(|e| self.output.user_data(e))?;
        let (mut rows, mut ends) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        for (row, time) in times.iter().enumerate() {
            // Latest window first, as Flink emits them.
            let mut start = self.slicing.last_window_start(*time);
            while start > time - self.slicing.size_ms() {
                rows.push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
                ends.push(start + self.slicing.size_ms());
                start -= self.slicing.slide_ms();
            }
            if rows.len() >= PIECE_ROWS {
                self.emit(&batch, std::mem::take(&mut rows), std::mem::take(&mut ends), out)?;
            }
        }
        if !rows.is_empty() {
            self.emit(&batch, rows, ends, out)?;
        }
        Ok(())
    }
}
