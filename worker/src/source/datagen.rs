//! The `datagen` connector: generated rows, for trying things out.
//!
//! A row is a pure function of its number, so a restore neither loses nor doubles one. Row n belongs to generator split
//! `n mod splits`; the number of splits is fixed when the job first starts and split k belongs to task `k mod
//! parallelism`, so the job may be restored at any parallelism. Owns: numbering, pace. Does not own: the values
//! (`datagen::columns`).

mod columns;
mod pace;
#[cfg(test)]
mod tests;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use millstream_api::graph::{DatagenField, DatagenSource, Schema, SourceTransform};
use millstream_api::log::SplitState;
use serde::{Deserialize, Serialize};

use super::{Polled, SourceContext, SourceError, SourceReader, SplitProgress, SplitRun, SplitUnit};
use columns::{Generator, RowBase};
use pace::Pace;

/// Splits of a fast generator: enough for any parallelism on one machine and for a few.
const SPLITS_MAX: u64 = 64;
/// Slower than this a split would be silent for so long that the watermark, which is the minimum of all splits, stalls.
const ROWS_PER_SECOND_PER_SPLIT_MIN: u64 = 100;

/// Opens the reader of one task.
pub fn open(
    datagen: &DatagenSource,
    source: &SourceTransform,
    cx: &SourceContext,
) -> Result<Box<dyn SourceReader>, SourceError> {
    let refuse = |reason: String| SourceError::User { reason: format!("table {}: {reason}", source.table) };
    if datagen.rows_per_second == 0 {
        return Err(refuse("'rows-per-second' must be at least 1".to_owned()));
    }
    let seed = xxhash_rust::xxh3::xxh3_64(cx.uid.0.as_bytes());
    let mut generators = Vec::with_capacity(source.scan.len());
    for (at, column) in source.scan.iter().enumerate() {
        if let Some(key) = &column.metadata {
            return Err(refuse(format!("datagen has no metadata '{key}'")));
        }
        let options = datagen.fields.get(&column.field.name);
        // By name, so that reading one column more does not change the others.
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(source.scan[at].field.name.as_bytes(), seed);
        generators.push(Generator::new(&column.field, options, seed).map_err(&refuse)?);
    }
    let splits = match &cx.restored {
        Some(restored) => restored.iter().map(GeneratorSplit::restored).collect::<Result<Vec<_>, _>>()?,
        None => GeneratorSplit::first(datagen.rows_per_second, cx.parallelism),
    };
    let of = splits.first().map_or(1, |split| split.of);
    let own: Vec<GeneratorSplit> =
        splits.into_iter().filter(|split| split.number % u64::from(cx.parallelism) == u64::from(cx.index)).collect();
    let rate = datagen.rows_per_second as f64 * own.len() as f64 / of as f64;
    let schema = Schema::new(source.scan.iter().map(|column| column.field.clone()).collect());
    Ok(Box::new(DatagenReader {
        reported: vec![false; own.len()],
        splits: own,
        rows_total: rows_total(datagen),
        rows_per_second: datagen.rows_per_second,
        generators,
        schema: schema.arrow(),
        pace: Pace::new(rate, Instant::now()),
        turn: 0,
    }))
}

/// How many rows there are in all: the shortest sequence ends the table, as in Flink. All sequences count, also of
/// columns that nobody reads.
fn rows_total(datagen: &DatagenSource) -> Option<u64> {
    let sequences = datagen.fields.values().filter_map(|field| match field {
        DatagenField::Sequence { start, end } => {
            Some(u64::try_from(i128::from(*end) - i128::from(*start) + 1).unwrap_or(0))
        }
        DatagenField::Random { .. } => None,
    });
    sequences.chain(datagen.number_of_rows).min()
}

#[derive(Clone, Debug, PartialEq)]
struct GeneratorSplit {
    number: u64,
    /// Number of splits of the source.
    of: u64,
    /// Rows made so far.
    rows: u64,
    /// Where event time starts, epoch ms.
    start_ms: i64,
}

/// The position of a split in a checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    of: u64,
    rows: u64,
    start_ms: i64,
}

impl GeneratorSplit {
    /// The splits of a first start.
    fn first(rows_per_second: u64, parallelism: u32) -> Vec<Self> {
        let parallelism = u64::from(parallelism);
        let of = (rows_per_second / ROWS_PER_SECOND_PER_SPLIT_MIN).clamp(parallelism, SPLITS_MAX.max(parallelism));
        let start_ms = now_ms();
        (0..of).map(|number| Self { number, of, rows: 0, start_ms }).collect()
    }

    fn restored(state: &SplitState) -> Result<Self, SourceError> {
        let wrong = |reason: String| SourceError::User {
            reason: format!("split {} in the checkpoint is not one of datagen: {reason}", state.split),
        };
        let number = state.split.parse().map_err(|e| wrong(format!("{e}")))?;
        let position = serde_json::from_value(state.position.clone());
        let Position { of, rows, start_ms } = position.map_err(|e| wrong(e.to_string()))?;
        Ok(Self { number, of, rows, start_ms })
    }

    /// Rows that the split can still make.
    fn rows_left(&self, rows_total: Option<u64>) -> u64 {
        match rows_total {
            // Rows of the split: numbers below the total that leave this remainder.
            Some(total) => (total + self.of - 1).saturating_sub(self.number) / self.of - self.rows,
            None => u64::MAX,
        }
    }
}

struct DatagenReader {
    splits: Vec<GeneratorSplit>,
    /// By split: whether its end was told by a poll.
    reported: Vec<bool>,
    rows_total: Option<u64>,
    rows_per_second: u64,
    generators: Vec<Generator>,
    schema: SchemaRef,
    pace: Pace,
    /// The split that gets the odd row next.
    turn: usize,
}

impl DatagenReader {
    /// Shares `budget` rows out to the splits, evenly; those that come after `turn` get the odd ones.
    fn share(&mut self, budget: u64) -> Vec<SplitRun> {
        let count = self.splits.len();
        let mut runs = Vec::new();
        let mut left = budget;
        for step in 0..count {
            let split = (self.turn + step) % count;
            let fair = left.div_ceil((count - step) as u64);
            let rows = fair.min(self.splits[split].rows_left(self.rows_total));
            left -= rows;
            if rows > 0 {
                runs.push(SplitRun { split, rows: usize::try_from(rows).expect("at most a batch") });
            }
        }
        if let Some(last) = runs.last() {
            self.turn = (last.split + 1) % count;
        }
        runs
    }

    fn generate(&mut self, runs: &[SplitRun]) -> Result<RecordBatch, SourceError> {
        let mut numbers: Vec<RowBase> = Vec::new();
        for run in runs {
            let split = &mut self.splits[run.split];
            numbers.extend((split.rows..split.rows + run.rows as u64).map(|row| {
                let number = split.number + row * split.of;
                // Event time advances with the row's number at the table's rate, whatever the pace really was.
                let elapsed_ms = u128::from(number) * 1000 / u128::from(self.rows_per_second);
                let time_ms = split.start_ms.saturating_add(i64::try_from(elapsed_ms).unwrap_or(i64::MAX));
                RowBase { number, time_ms }
            }));
            split.rows += run.rows as u64;
        }
        let columns: Vec<ArrayRef> = self.generators.iter().map(|generator| generator.column(&numbers)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| SourceError::User { reason: format!("failed to generate rows: {e}") })
    }

    fn tell_finished(&mut self, polled: &mut Polled) {
        for (index, split) in self.splits.iter().enumerate() {
            if !self.reported[index] && split.rows_left(self.rows_total) == 0 {
                self.reported[index] = true;
                polled.finished.push(index);
            }
        }
    }
}

impl SourceReader for DatagenReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled, SourceError> {
        let mut polled = Polled::default();
        let allowed = self.pace.allowed(Instant::now()).min(max_rows as u64);
        let runs = self.share(allowed);
        let rows: u64 = runs.iter().map(|run| run.rows as u64).sum();
        if rows > 0 {
            self.pace.take(rows);
            polled.batch = Some((self.generate(&runs)?, runs));
        }
        polled.drained = rows < max_rows as u64;
        self.tell_finished(&mut polled);
        Ok(polled)
    }

    fn splits(&self) -> Vec<SplitState> {
        let state = |split: &GeneratorSplit| {
            let GeneratorSplit { of, rows, start_ms, .. } = *split;
            SplitState {
                split: split.number.to_string(),
                position: serde_json::to_value(Position { of, rows, start_ms }).expect("numbers"),
                watermark: None,
                idle: false,
                finished: split.rows_left(self.rows_total) == 0,
            }
        };
        self.splits.iter().map(state).collect()
    }

    fn finished(&self) -> bool {
        self.rows_total.is_some() && self.splits.iter().all(|split| split.rows_left(self.rows_total) == 0)
    }

    fn progress(&self, split: usize) -> SplitProgress {
        let split = &self.splits[split];
        let left = self.rows_total.map(|_| split.rows_left(self.rows_total));
        SplitProgress { unit: SplitUnit::Records, position: split.rows, end: left.map(|left| split.rows + left) }
    }

    fn lag_records(&self) -> Option<u64> {
        self.rows_total?;
        Some(self.splits.iter().map(|split| split.rows_left(self.rows_total)).sum())
    }

    fn next_poll_ms(&self) -> Option<i64> {
        let wait_ms = self.pace.wait(Instant::now()).as_millis();
        let more = self.splits.iter().any(|split| split.rows_left(self.rows_total) > 0);
        more.then(|| now_ms() + i64::try_from(wait_ms).expect("a second at most") + 1)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}
