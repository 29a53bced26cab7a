//! Firing of windows up to a watermark, in pieces.
//!
//! `Choosing -> Scanning (TUMBLE) -> Choosing`, `Choosing -> Merging -> Emitting (HOP) -> Choosing`, until no window is
//! due. Between two steps the task may park: everything needed stands in [`Firing`].

use std::collections::VecDeque;

use arrow_array::ArrayRef;

use super::Shape;
use crate::element::WatermarkMs;
use crate::state::{RowArrays, ScanCursor, State, StateError, TableId};
use crate::transform::aggregate::Accumulator;
use crate::transform::aggregate::groups::{ByteStrings, BytesGroups};
use crate::transform::output::PIECE_ROWS;
use crate::transform::{Collector, Emission, TransformError};

/// Rows of state that one step may merge.
const MERGE_ROWS_PER_STEP: usize = 8 * PIECE_ROWS;

/// Windows being fired.
#[derive(Debug)]
pub(super) struct Firing {
    /// The watermark that made them due.
    target: WatermarkMs,
    /// Slices present in the state that end at or before `target + 1`, ascending.
    slices: VecDeque<i64>,
    /// Every window that ends at or before this + 1 has fired.
    fired_through: WatermarkMs,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Choosing,
    /// A TUMBLE window: its slice goes straight to the output.
    Scanning {
        window_end: i64,
        cursor: ScanCursor,
    },
    /// A HOP window: its slices are merged by key, `at` is the one being scanned.
    Merging {
        window_end: i64,
        slices: Vec<i64>,
        at: usize,
        cursor: ScanCursor,
        merged: Merged,
    },
    /// A HOP window: the merged rows from `at` on are still to be emitted.
    Emitting {
        window_end: i64,
        keys: BytesGroups,
        accumulators: Vec<ArrayRef>,
        at: usize,
    },
}

/// The window's rows so far, by encoded key.
#[derive(Debug)]
struct Merged {
    keys: BytesGroups,
    accumulators: Vec<Accumulator>,
}

impl Firing {
    /// `slices`: those in the state that end at or before `target + 1`, ascending.
    pub(super) fn new(slices: Vec<i64>, fired_through: WatermarkMs, target: WatermarkMs) -> Self {
        Self { target, slices: slices.into(), fired_through, phase: Phase::Choosing }
    }

    /// The watermark up to which windows fire.
    pub(super) fn target(&self) -> WatermarkMs {
        self.target
    }

    /// Goes on until a piece was emitted, a bounded amount was merged, or all is done.
    pub(super) fn step(
        &mut self,
        shape: &Shape,
        table: TableId,
        state: &mut State,
        out: &mut dyn Collector,
    ) -> Result<Emission, TransformError> {
        if matches!(self.phase, Phase::Choosing) {
            match self.choose(shape, table, state)? {
                Some(phase) => self.phase = phase,
                None => return Ok(Emission::Done),
            }
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Choosing) {
            Phase::Choosing => Phase::Choosing,
            Phase::Scanning { window_end, cursor } => self.scan(window_end, cursor, shape, table, state, out)?,
            Phase::Merging { window_end, slices, at, cursor, merged } => {
                merge(window_end, slices, at, cursor, merged, shape, table, state)?
            }
            Phase::Emitting { window_end, keys, accumulators, at } => {
                let rows = PIECE_ROWS.min(keys.len() - at);
                let columns = decode(shape, keys.keys(), at..at + rows)?;
                let own: Vec<ArrayRef> = accumulators.iter().map(|a| a.slice(at, rows)).collect();
                out.emit(shape.window_rows(columns, &own, rows, window_end)?);
                if at + rows < keys.len() {
                    Phase::Emitting { window_end, keys, accumulators, at: at + rows }
                } else {
                    // Emitting => Choosing: all rows of the window are out.
                    self.drop_expired(window_end, shape, table, state)?;
                    Phase::Choosing
                }
            }
        };
        Ok(Emission::More)
    }

    /// Choosing => Scanning or Merging: the earliest window that is due and has a row.
    fn choose(&mut self, shape: &Shape, table: TableId, state: &mut State) -> Result<Option<Phase>, TransformError> {
        while let Some(slice_end) = self.slices.front().copied() {
            let unfired = self.fired_through.saturating_add(2).max(slice_end);
            let window_end = shape.slicing.window_end_from(unfired);
            let last = shape.slicing.last_window_end(slice_end);
            match (window_end, last) {
                (Some(window_end), Some(last)) if window_end <= last => {
                    if window_end - 1 > self.target {
                        return Ok(None);
                    }
                    return Ok(Some(self.begin(window_end, shape)));
                }
                // All its windows have fired before: left over from a restore.
                _ => {
                    state.drop_namespace(table, slice_end)?;
                    self.slices.pop_front();
                }
            }
        }
        Ok(None)
    }

    fn begin(&self, window_end: i64, shape: &Shape) -> Phase {
        if shape.slicing.is_tumble() {
            return Phase::Scanning { window_end, cursor: ScanCursor::default() };
        }
        let slices = self.slices.iter().copied().filter(|end| *end <= window_end).collect();
        Phase::Merging {
            window_end,
            slices,
            at: 0,
            cursor: ScanCursor::default(),
            merged: Merged { keys: BytesGroups::default(), accumulators: shape.plan.accumulators() },
        }
    }

    fn scan(
        &mut self,
        window_end: i64,
        mut cursor: ScanCursor,
        shape: &Shape,
        table: TableId,
        state: &mut State,
        out: &mut dyn Collector,
    ) -> Result<Phase, TransformError> {
        let mut keys = ByteStrings::default();
        let mut rows = RowArrays::new(&shape.value);
        let done = state.scan(table, window_end, &mut cursor, PIECE_ROWS, |key, row| {
            keys.push(key);
            rows.push(&row);
            Ok::<(), StateError>(())
        })?;
        if !keys.is_empty() {
            let columns = decode(shape, &keys, 0..keys.len())?;
            out.emit(shape.window_rows(columns, &rows.finish(), keys.len(), window_end)?);
        }
        if !done {
            return Ok(Phase::Scanning { window_end, cursor });
        }
        // Scanning => Choosing: all rows of the window are out.
        self.drop_expired(window_end, shape, table, state)?;
        Ok(Phase::Choosing)
    }

    /// The window has fired: drops the slices that no later window needs.
    fn drop_expired(
        &mut self,
        window_end: i64,
        shape: &Shape,
        table: TableId,
        state: &mut State,
    ) -> Result<(), TransformError> {
        self.fired_through = window_end - 1;
        while let Some(slice_end) = self.slices.front().copied() {
            if !shape.slicing.is_late(slice_end, self.fired_through) {
                break;
            }
            state.drop_namespace(table, slice_end)?;
            self.slices.pop_front();
        }
        Ok(())
    }
}

/// Merges up to [`MERGE_ROWS_PER_STEP`] rows of the window's slices.
fn merge(
    window_end: i64,
    slices: Vec<i64>,
    mut at: usize,
    mut cursor: ScanCursor,
    mut merged: Merged,
    shape: &Shape,
    table: TableId,
    state: &State,
) -> Result<Phase, TransformError> {
    let mut left = MERGE_ROWS_PER_STEP;
    let mut groups: Vec<u32> = Vec::with_capacity(PIECE_ROWS);
    let mut rows = RowArrays::new(&shape.value);
    while at < slices.len() && left > 0 {
        groups.clear();
        let done = state.scan(table, slices[at], &mut cursor, PIECE_ROWS.min(left), |key, row| {
            groups.push(merged.keys.group_of(key));
            rows.push(&row);
            Ok::<(), StateError>(())
        })?;
        left -= groups.len().min(left);
        let feeds = shape.plan.feeds_of_partials(&rows.finish());
        let group_count = merged.keys.len();
        for (accumulator, feed) in merged.accumulators.iter_mut().zip(&feeds) {
            accumulator.update(&groups, group_count, feed);
        }
        if done {
            at += 1;
            cursor = ScanCursor::default();
        }
    }
    if at < slices.len() {
        return Ok(Phase::Merging { window_end, slices, at, cursor, merged });
    }
    // Merging => Emitting: every slice of the window is in.
    let Merged { keys, mut accumulators } = merged;
    let accumulators = accumulators.iter_mut().map(Accumulator::drain).collect();
    Ok(Phase::Emitting { window_end, keys, accumulators, at: 0 })
}

/// The key columns of encoded keys.
fn decode(shape: &Shape, keys: &ByteStrings, range: std::ops::Range<usize>) -> Result<Vec<ArrayRef>, TransformError> {
    shape.encoder.decode(range.map(|at| keys.get(at))).map_err(|e| shape.output.bug(e.to_string()))
}
