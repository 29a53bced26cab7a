//! Why a record could not be decoded.

use std::fmt;

use thiserror::Error;

/// A record that cannot be decoded. Nothing of it is in the builders.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct DecodeError {
    /// The column whose value was at fault, where one was.
    pub column: Option<String>,
    pub reason: DecodeReason,
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeReason {
    /// Not JSON, at this byte of the record.
    #[error("not valid JSON at byte {at}: {problem}")]
    Malformed { at: usize, problem: &'static str },
    #[error("not valid UTF-8 in the text that begins at byte {at}")]
    Utf8 { at: usize },
    /// JSON, but not an object.
    #[error("expected a JSON object, found {found}")]
    NotAnObject { found: &'static str },
    /// A value that the column's type cannot take.
    #[error("expected {expected}, found {found}")]
    Value { expected: String, found: String },
    #[error("the record has no such field and 'json.fail-on-missing-field' is set")]
    MissingField,
    #[error("the column is NOT NULL and the record has no value for it")]
    MissingValue,
    /// The text of one column in one batch would pass 2 GiB: finish the batch first.
    #[error("the batch holds more text than one batch can")]
    BatchFull,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "column `{column}`: {}", self.reason),
            None => self.reason.fmt(f),
        }
    }
}

impl DecodeError {
    pub(super) fn record(reason: DecodeReason) -> Self {
        Self { column: None, reason }
    }

    pub(super) fn malformed(at: usize, problem: &'static str) -> Self {
        Self::record(DecodeReason::Malformed { at, problem })
    }

    pub(super) fn of_column(column: &str, reason: DecodeReason) -> Self {
        Self { column: Some(column.to_owned()), reason }
    }
}
