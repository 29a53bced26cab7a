//! The `filesystem` connector, reading: bounded JSON lines of a file or a folder.
//!
//! The files are listed once, when the job first starts; large files are cut into ranges. A split is a file or a range
//! and belongs to the task that the hash of its name says, so the same splits find their tasks at any parallelism. Its
//! position is the byte offset of the next line. Several splits are read in turn, so that their watermarks advance
//! together. Owns: listing, lines, positions. Does not own: JSON (`format`), watermarks (the source task).

mod lines;
mod listing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::SchemaRef;
use millstream_api::graph::{Field, FilesystemSource, Format, Schema, SourceTransform};
use millstream_api::log::SplitState;

use super::{Polled, SourceContext, SourceError, SourceReader, SplitProgress, SplitRun, SplitUnit};
use crate::format::{DecodeReason, JsonDecoder};
use lines::{LineReader, line_number};
use listing::{FileSplit, Metadata};

/// Files that are read in turn; further ones wait until one is done.
const OPEN_FILES_MAX: usize = 32;

/// Opens the reader of one task.
pub fn open(
    files: &FilesystemSource,
    source: &SourceTransform,
    cx: &SourceContext,
) -> Result<Box<dyn SourceReader>, SourceError> {
    let splits = match &cx.restored {
        Some(restored) => restored.iter().map(FileSplit::restored).collect::<Result<Vec<_>, _>>()?,
        None => listing::list(&files.path, &source.table)?,
    };
    let own = splits.into_iter().filter(|split| split.owner(cx.parallelism) == cx.index);
    let Format::Json(options) = &files.format;
    let metadata = source
        .scan
        .iter()
        .map(|column| Metadata::of(column.metadata.as_deref(), &source.table))
        .collect::<Result<Vec<_>, _>>()?;
    let decoded: Vec<Field> =
        source.scan.iter().filter(|c| c.metadata.is_none()).map(|column| column.field.clone()).collect();
    let schema = Schema::new(source.scan.iter().map(|column| column.field.clone()).collect());
    let splits: Vec<OwnSplit> = own.map(|split| OwnSplit { split, lines: None }).collect();
    let (ended, waiting): (Vec<usize>, Vec<usize>) = (0..splits.len()).partition(|index| splits[*index].split.finished);
    Ok(Box::new(FilesystemReader {
        splits,
        turns: VecDeque::new(),
        waiting: waiting.into(),
        ended,
        decoder: JsonDecoder::new(&decoded, options.clone()),
        skip_errors: options.ignore_parse_errors,
        schema: schema.arrow(),
        metadata,
        skipped: 0,
        lines_read: 0,
        bytes_read: 0,
    }))
}

struct FilesystemReader {
    splits: Vec<OwnSplit>,
    /// Splits that are read in turn, the next one first.
    turns: VecDeque<usize>,
    /// Splits that were not begun, or not since a restore.
    waiting: VecDeque<usize>,
    /// Splits whose end no poll has told yet.
    ended: Vec<usize>,
    decoder: JsonDecoder,
    skip_errors: bool,
    schema: SchemaRef,
    /// By scan column; `None` for those that are decoded.
    metadata: Vec<Option<Metadata>>,
    skipped: u64,
    /// Lines read by this reader, and their bytes.
    lines_read: u64,
    bytes_read: u64,
}

struct OwnSplit {
    split: FileSplit,
    /// Open while its turns last.
    lines: Option<LineReader>,
}

impl FilesystemReader {
    /// The next split in turn that is not finished.
    fn next_split(&mut self) -> Option<usize> {
        while self.turns.len() < OPEN_FILES_MAX
            && let Some(index) = self.waiting.pop_front()
        {
            self.turns.push_back(index);
        }
        self.turns.pop_front()
    }

    /// Decodes up to `max_rows` rows of a split.
    fn read(&mut self, index: usize, max_rows: usize) -> Result<(), SourceError> {
        let OwnSplit { split, lines, .. } = &mut self.splits[index];
        let reader = match lines {
            Some(reader) => reader,
            None => lines.insert(LineReader::open(&split.file, split.start, split.offset)?),
        };
        while self.decoder.rows() < max_rows && !self.decoder.is_full() {
            if reader.offset() >= split.end {
                split.finished = true;
                break;
            }
            let at = reader.offset();
            let Some(line) = reader.next_line()? else {
                let reason = format!("{} ends at byte {at}, before its end when the job started", split.file);
                return Err(SourceError::User { reason: format!("{reason} ({}): it was cut", split.end) });
            };
            match self.decoder.decode(line) {
                Ok(()) => {}
                Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
                Err(error) if error.reason == DecodeReason::BatchFull && self.decoder.rows() > 0 => break,
                Err(_) if self.skip_errors => self.skipped += 1,
                Err(error) => {
                    let at = format!("{}:{}", split.file, line_number(&split.file, at)?);
                    return Err(SourceError::Decode { at, reason: error.to_string() });
                }
            }
            reader.consume();
            split.offset = reader.offset();
            self.lines_read += 1;
            self.bytes_read += split.offset - at;
        }
        split.finished |= reader.offset() >= split.end;
        if split.finished {
            *lines = None;
        }
        Ok(())
    }

    fn batch(&mut self, index: usize, rows: usize) -> Result<RecordBatch, SourceError> {
        let split = &self.splits[index].split;
        let mut decoded = self.decoder.finish().into_iter();
        let columns: Vec<ArrayRef> = self
            .metadata
            .iter()
            .map(|metadata| match metadata {
                Some(metadata) => Arc::new(StringArray::from(vec![metadata.value(split); rows])) as ArrayRef,
                None => decoded.next().expect("one array per decoded column"),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| SourceError::User { reason: format!("failed to read {}: {e}", split.file) })
    }
}

impl SourceReader for FilesystemReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled, SourceError> {
        let mut polled = Polled::default();
        match self.next_split() {
            Some(index) => {
                self.read(index, max_rows.max(1))?;
                if self.splits[index].split.finished {
                    self.ended.push(index);
                } else {
                    self.turns.push_back(index);
                }
                let rows = self.decoder.rows();
                if rows > 0 {
                    polled.batch = Some((self.batch(index, rows)?, vec![SplitRun { split: index, rows }]));
                }
            }
            None => polled.drained = true,
        }
        polled.finished = std::mem::take(&mut self.ended);
        Ok(polled)
    }

    fn splits(&self) -> Vec<SplitState> {
        self.splits.iter().map(|own| own.split.state()).collect()
    }

    fn finished(&self) -> bool {
        self.turns.is_empty() && self.waiting.is_empty()
    }

    /// A file is all there from the start, so a split is never without rows before its end.
    fn backlog(&self, split: usize) -> Option<bool> {
        Some(!self.splits[split].split.finished)
    }

    fn progress(&self, split: usize) -> SplitProgress {
        let FileSplit { start, end, offset, .. } = self.splits[split].split;
        let from_start = |at: u64| at.saturating_sub(start);
        SplitProgress { unit: SplitUnit::Bytes, position: from_start(offset), end: Some(from_start(end)) }
    }

    /// Estimated by the lines read so far.
    fn lag_records(&self) -> Option<u64> {
        let left: u64 = self.splits.iter().map(|own| own.split.end.saturating_sub(own.split.offset)).sum();
        if left == 0 {
            return Some(0);
        }
        let lines = u128::from(left) * u128::from(self.lines_read);
        let estimate = lines.checked_div(u128::from(self.bytes_read))?;
        Some(u64::try_from(estimate).unwrap_or(u64::MAX - 1).max(1))
    }

    fn skipped_records(&self) -> u64 {
        self.skipped
    }
}
