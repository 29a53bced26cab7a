//! Decodes records into columns: one loop over the keys of a record, with the learned template in front.

use arrow_array::ArrayRef;
use hashbrown::HashMap;
use millstream_api::graph::{Field, JsonOptions};

use super::column::Column;
use super::cursor::{Cursor, Fault, Token, skip_plain};
use super::error::{DecodeError, DecodeReason};
use super::template::Template;
use super::value::{ValueFault, push_any, push_expected};

/// Text of one batch at which [`JsonDecoder::is_full`] asks for a [`JsonDecoder::finish`]. Bounds what a batch of large
/// records can grow to; far below Arrow's 2 GiB for a column.
const BATCH_TEXT_BYTES: usize = 64 << 20;

/// Appends records to columns.
#[derive(Debug)]
pub struct JsonDecoder {
    options: JsonOptions,
    columns: Vec<Column>,
    by_name: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    template: Template,
    rows: usize,
    scratch: Vec<u8>,
    null_fields: u64,
}

/// How a record's keys were met.
struct Outcome {
    /// A key was not the expected one.
    surprised: bool,
    /// Values pushed, a key that came twice counted once.
    filled: usize,
    /// The first 64 columns that have their value.
    seen: u64,
}

/// A key that was read the general way.
struct Key {
    /// Where its value goes; `None`: nobody reads it.
    column: Option<usize>,
    /// The template's slot to go on with.
    next_slot: usize,
}

impl JsonDecoder {
    /// A decoder into columns of these names and types; other fields of a record are checked and skipped.
    #[must_use]
    pub fn new(fields: &[Field], options: JsonOptions) -> Self {
        let by_name = fields.iter().enumerate().map(|(at, f)| (f.name.as_bytes().into(), at)).collect();
        Self {
            options,
            columns: fields.iter().map(Column::new).collect(),
            by_name,
            template: Template::default(),
            rows: 0,
            scratch: Vec::new(),
            null_fields: 0,
        }
    }

    /// Appends the record as one row, or appends nothing and says why.
    ///
    /// With `json.ignore-parse-errors` a value that its column cannot take becomes NULL, as in Flink; what still fails
    /// (not JSON, not an object, no value for a NOT NULL column) the caller is to skip and count.
    pub fn decode(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        self.template.begin();
        match self.read_record(record) {
            Ok(outcome) => {
                if outcome.filled < self.columns.len()
                    && let Err(error) = self.fill_missing()
                {
                    return Err(self.undo(error));
                }
                self.template.end(outcome.surprised);
                self.rows += 1;
                Ok(())
            }
            Err(error) => Err(self.undo(error)),
        }
    }

    #[cold]
    fn undo(&mut self, error: DecodeError) -> DecodeError {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
        self.template.give_up();
        error
    }

    /// Reads the object into the columns.
    #[inline(always)]
    fn read_record(&mut self, record: &[u8]) -> Result<Outcome, DecodeError> {
        let mut outcome = Outcome { surprised: false, filled: 0, seen: 0 };
        let (mut at, mut next_slot) = (0, 0);
        loop {
            if let Some(slot) = self.template.slot(next_slot)
                && let Some(length) = slot.matches(record, at)
            {
                next_slot += 1;
                let column = slot.column;
                at = self.read_value(record, at + length, column, &mut outcome)?;
                continue;
            }
            // The usual end.
            if next_slot > 0 && record.get(at) == Some(&b'}') && at + 1 == record.len() {
                return Ok(outcome);
            }
            let mut cursor = Cursor { bytes: record, at };
            match self.read_key(&mut cursor, next_slot)? {
                Some(key) => {
                    outcome.surprised = true;
                    next_slot = key.next_slot;
                    at = self.read_value(record, cursor.at, key.column, &mut outcome)?;
                }
                None => return Ok(outcome),
            }
        }
    }

    /// Reads what stands before a value the general way: a bracket or comma, the key, the colon. `None`: the object
    /// ended.
    #[inline(never)]
    fn read_key(&mut self, cursor: &mut Cursor<'_>, next_slot: usize) -> Result<Option<Key>, DecodeError> {
        let start = cursor.at;
        cursor.skip_blanks();
        if start == 0 {
            open_object(cursor)?;
            cursor.skip_blanks();
            if cursor.peek() == Some(b'}') {
                return end_object(cursor);
            }
        } else {
            if cursor.peek() == Some(b'}') {
                return end_object(cursor);
            }
            cursor.expect(b',', "expected a comma or the end of the object")?;
            cursor.skip_blanks();
        }
        let key_start = cursor.at + 1;
        let key = cursor.key()?;
        cursor.skip_blanks();
        self.scratch.clear();
        key.unescape(&mut self.scratch);
        let column = self.by_name.get(self.scratch.as_slice()).copied();
        let next_slot = self.template.resume(next_slot, &self.scratch);
        let name = (!key.escaped).then(|| key_start - start..key_start - start + key.raw.len());
        self.template.note(&cursor.bytes[start..cursor.at], name, column);
        Ok(Some(Key { column, next_slot }))
    }

    /// Reads the value at `at`: the position behind it.
    #[inline(always)]
    fn read_value(
        &mut self,
        record: &[u8],
        at: usize,
        column: Option<usize>,
        outcome: &mut Outcome,
    ) -> Result<usize, DecodeError> {
        let Some(index) = column else {
            return match skip_plain(record, at) {
                Some(end) => Ok(end),
                None => skip_any(record, at),
            };
        };
        let column = &mut self.columns[index];
        let bit = 1u64.checked_shl(index as u32).unwrap_or(0);
        if outcome.seen & bit != 0 || (bit == 0 && column.rows() > self.rows) {
            column.truncate(self.rows);
        } else {
            outcome.filled += 1;
        }
        outcome.seen |= bit;
        match push_expected(column, record, at, self.options.timestamp_format) {
            Some(end) => Ok(end),
            None => self.read_unexpected(record, at, index),
        }
    }

    /// A value of another form than the usual one of its column.
    #[inline(never)]
    fn read_unexpected(&mut self, record: &[u8], at: usize, index: usize) -> Result<usize, DecodeError> {
        let mut cursor = Cursor { bytes: record, at };
        let column = &mut self.columns[index];
        let fault = match push_any(column, &mut cursor, self.options.timestamp_format, &mut self.scratch) {
            Ok(()) if column.field.nullable || !column.last_is_null() => return Ok(cursor.at),
            Ok(()) => DecodeReason::MissingValue,
            Err(ValueFault::Record(error)) => return Err(error),
            Err(ValueFault::Value(_)) if self.options.ignore_parse_errors && column.field.nullable => {
                column.push_null();
                self.null_fields += 1;
                return Ok(cursor.at);
            }
            Err(ValueFault::Value(reason)) => reason,
        };
        Err(DecodeError::of_column(&column.field.name, fault))
    }

    /// NULL for the columns that the record did not name.
    #[cold]
    fn fill_missing(&mut self) -> Result<(), DecodeError> {
        for column in &mut self.columns {
            if column.rows() > self.rows {
                continue;
            }
            if self.options.fail_on_missing_field {
                return Err(DecodeError::of_column(&column.field.name, DecodeReason::MissingField));
            }
            if !column.field.nullable {
                return Err(DecodeError::of_column(&column.field.name, DecodeReason::MissingValue));
            }
            column.push_null();
        }
        Ok(())
    }

    /// Rows since the last `finish`.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the batch holds so much text that it should be finished before the next record.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.columns.iter().map(Column::text_bytes).sum::<usize>() >= BATCH_TEXT_BYTES
    }

    /// Values that became NULL because of `json.ignore-parse-errors`, since the decoder was made.
    #[must_use]
    pub fn null_fields(&self) -> u64 {
        self.null_fields
    }

    /// The rows as arrays in the order of the fields; the decoder is empty afterwards.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

/// Steps over any value that nobody reads.
#[inline(never)]
fn skip_any(record: &[u8], at: usize) -> Result<usize, DecodeError> {
    let mut cursor = Cursor { bytes: record, at };
    cursor.value()?;
    Ok(cursor.at)
}

fn open_object(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    if cursor.peek() == Some(b'{') {
        cursor.at += 1;
        return Ok(());
    }
    if cursor.peek().is_none() {
        return Err(DecodeError::malformed(cursor.at, "the record is empty"));
    }
    let found = match cursor.value()? {
        Token::Null => "null",
        Token::True | Token::False => "a boolean",
        Token::Number { .. } => "a number",
        Token::Text(_) => "a string",
        Token::Container(_) => "an array",
    };
    Err(DecodeError::record(DecodeReason::NotAnObject { found }))
}

/// At the closing brace: only blanks may follow.
fn end_object(cursor: &mut Cursor<'_>) -> Result<Option<Key>, DecodeError> {
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.at < cursor.bytes.len() {
        return Err(Fault::Syntax { at: cursor.at, problem: "the record goes on behind its object" }.into());
    }
    Ok(None)
}
