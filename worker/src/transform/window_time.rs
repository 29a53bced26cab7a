//! Event time, slices and windows: the arithmetic of TUMBLE and HOP.
//!
//! A window is `[start, start + size)` with `start = offset (mod slide)`. Time is cut into slices of gcd(size, slide);
//! a window is a whole number of slices, and a slice belongs to up to size / slide windows, or to none when the windows
//! leave gaps. A slice is named by its end, as in Flink (`SliceAssigner`).

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use millstream_api::graph::Window;

use crate::element::WatermarkMs;

/// Event times and window sizes beyond this (146 million years) are refused: sums of two cannot overflow.
const TIME_MAX_MS: i64 = i64::MAX / 2;

/// The slices and windows of a [`Window`].
#[derive(Clone, Debug)]
pub struct Slicing {
    slice_ms: i64,
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
}

impl Slicing {
    /// Checks the window's durations.
    pub fn new(window: &Window) -> Result<Self, String> {
        let Window { size_ms, slide_ms, offset_ms, .. } = *window;
        let positive = 1..TIME_MAX_MS / 4;
        if !positive.contains(&size_ms) || !positive.contains(&slide_ms) {
            return Err(format!("a window of size {size_ms} ms and slide {slide_ms} ms"));
        }
        let slice_ms = gcd(size_ms, slide_ms);
        Ok(Self { slice_ms, size_ms, slide_ms, offset_ms: offset_ms.rem_euclid(slide_ms) })
    }

    /// Whether a window is one slice, and that slice is in no other window.
    #[must_use]
    pub fn is_tumble(&self) -> bool {
        self.size_ms == self.slice_ms && self.slide_ms == self.size_ms
    }

    #[must_use]
    pub fn slice_ms(&self) -> i64 {
        self.slice_ms
    }

    #[must_use]
    pub fn size_ms(&self) -> i64 {
        self.size_ms
    }

    #[must_use]
    pub fn slide_ms(&self) -> i64 {
        self.slide_ms
    }

    /// End of the slice that holds `time`.
    #[must_use]
    pub fn slice_end(&self, time: i64) -> i64 {
        floor_to(time, self.offset_ms, self.slice_ms) + self.slice_ms
    }

    /// Start of the last window that may hold `time`.
    #[must_use]
    pub fn last_window_start(&self, time: i64) -> i64 {
        floor_to(time, self.offset_ms, self.slide_ms)
    }

    /// End of the last window that holds the slice; `None`: the slice lies in a gap.
    #[must_use]
    pub fn last_window_end(&self, slice_end: i64) -> Option<i64> {
        let end = self.last_window_start(slice_end - self.slice_ms) + self.size_ms;
        (end >= slice_end).then_some(end)
    }

    /// End of the first window with an end of at least `end`; `None` at the end of time.
    #[must_use]
    pub fn window_end_from(&self, end: i64) -> Option<i64> {
        // Ends lie on the grid of the starts, moved by the size.
        let to_next = (self.offset_ms + self.size_ms - end % self.slide_ms).rem_euclid(self.slide_ms);
        end.checked_add(to_next)
    }

    /// Whether no window that holds the slice is still open: its rows are late.
    #[must_use]
    pub fn is_late(&self, slice_end: i64, watermark: WatermarkMs) -> bool {
        self.last_window_end(slice_end).is_some_and(|end| end - 1 <= watermark)
    }
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The largest `offset + k * step` that is not above `time`, also for times before the epoch.
fn floor_to(time: i64, offset: i64, step: i64) -> i64 {
    time - (time - offset).rem_euclid(step)
}

/// The event times of a batch in milliseconds. The error says what is wrong with which column.
pub fn event_times(batch: &RecordBatch, column: usize) -> Result<Cow<'_, [i64]>, String> {
    let array = batch.column(column);
    let schema = batch.schema_ref();
    let name = schema.field(column).name();
    if array.null_count() > 0 {
        return Err(format!(
            "the event-time column {name} is NULL, so the row belongs to no window; filter such rows (WHERE {name} IS NOT NULL)"
        ));
    }
    let times: Cow<'_, [i64]> = match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Cow::Borrowed(array.as_primitive::<TimestampMillisecondType>().values())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values().iter();
            values.map(|v| v.div_euclid(1_000)).collect()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = array.as_primitive::<TimestampNanosecondType>().values().iter();
            values.map(|v| v.div_euclid(1_000_000)).collect()
        }
        other => return Err(format!("the event-time column {name} is of type {other}, not a timestamp")),
    };
    let in_range = -TIME_MAX_MS / 2..TIME_MAX_MS / 2;
    match times.iter().find(|time| !in_range.contains(time)) {
        Some(time) => Err(format!("the event time {time} ms in column {name} is out of range")),
        None => Ok(times),
    }
}

/// A timestamp column of type `ty` from milliseconds.
pub fn timestamps(ty: &DataType, millis: Vec<i64>) -> Result<ArrayRef, String> {
    let zone = match ty {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(format!("a window column of type {other}")),
    };
    let scaled = |factor: i64| millis.iter().map(|ms| ms.saturating_mul(factor)).collect::<Vec<i64>>();
    Ok(match ty {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = PrimitiveArray::<TimestampMicrosecondType>::from(scaled(1_000));
            Arc::new(array.with_timezone_opt(zone)) as ArrayRef
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = PrimitiveArray::<TimestampNanosecondType>::from(scaled(1_000_000));
            Arc::new(array.with_timezone_opt(zone))
        }
        _ => Arc::new(PrimitiveArray::<TimestampMillisecondType>::from(millis).with_timezone_opt(zone)),
    })
}

/// Rows of a batch that stand next to each other and belong to one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRun {
    pub slice_end: i64,
    pub start: usize,
    pub len: usize,
}

/// Cuts a batch into runs, into `runs` in place of what it held. One pass that LLVM vectorises suffices when all rows
/// belong to one slice.
pub fn slice_runs(slicing: &Slicing, times: &[i64], runs: &mut Vec<SliceRun>) {
    runs.clear();
    let Some(first) = times.first() else { return };
    let slice_of = |time: i64| {
        let end = slicing.slice_end(time);
        (end - slicing.slice_ms, end)
    };
    let (mut low, mut high) = slice_of(*first);
    if times.iter().fold(true, |all, time| all & (low <= *time) & (*time < high)) {
        runs.push(SliceRun { slice_end: high, start: 0, len: times.len() });
        return;
    }
    let mut start = 0;
    for (row, time) in times.iter().enumerate() {
        if *time < low || *time >= high {
            runs.push(SliceRun { slice_end: high, start, len: row - start });
            (low, high) = slice_of(*time);
            start = row;
        }
    }
    runs.push(SliceRun { slice_end: high, start, len: times.len() - start });
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_api::graph::SqlType;

    fn slicing(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Slicing {
        let time_type = SqlType::Timestamp { precision: 3 };
        Slicing::new(&Window { time_column: 0, time_type, size_ms, slide_ms, offset_ms }).unwrap()
    }

    /// All windows that hold `time`, by trying every start near it.
    fn windows_of(s: &Slicing, time: i64) -> Vec<(i64, i64)> {
        (time - s.size_ms + 1..=time)
            .filter(|start| (start - s.offset_ms).rem_euclid(s.slide_ms) == 0)
            .map(|start| (start, start + s.size_ms))
            .collect()
    }

    #[test]
    fn slices_and_windows_agree_with_trying_every_start() {
        for (size, slide, offset) in
            [(10, 10, 0), (10, 10, 3), (10, 5, 0), (12, 4, 1), (10, 4, 0), (6, 9, 2), (7, 3, -2)]
        {
            let s = slicing(size, slide, offset);
            for time in -60..60 {
                let slice_end = s.slice_end(time);
                assert!(slice_end - s.slice_ms <= time && time < slice_end);
                let windows = windows_of(&s, time);
                assert_eq!(s.last_window_end(slice_end), windows.last().map(|w| w.1), "{s:?} at {time}");
                let first = s.window_end_from(slice_end).unwrap();
                match windows.first() {
                    Some(window) => assert_eq!(first, window.1, "{s:?} at {time}"),
                    None => assert!(first - s.size_ms > time, "{s:?} at {time}: a gap"),
                }
            }
        }
    }

    #[test]
    fn runs_cover_the_batch_and_agree_with_the_slice_of_each_row() {
        let s = slicing(10, 5, 1);
        let times = [3, 4, 7, 9, -1, -4, -5, 21, 22];
        let mut runs = Vec::new();
        slice_runs(&s, &times, &mut runs);
        let by_row: Vec<i64> = runs.iter().flat_map(|r| vec![r.slice_end; r.len]).collect();
        assert_eq!(by_row, times.map(|t| s.slice_end(t)).to_vec());
        slice_runs(&s, &times[..2], &mut runs);
        assert_eq!(runs, [SliceRun { slice_end: 6, start: 0, len: 2 }]);
        slice_runs(&s, &[], &mut runs);
        assert!(runs.is_empty());
    }
}
