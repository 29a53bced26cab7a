//! Errors with a place in the text.

use std::fmt;

use thiserror::Error;

/// A place in the SQL text; lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    pub const START: Position = Position { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with the text, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}:{column}: {message}{}", .hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct SqlError {
    pub message: String,
    pub line: u32,
    pub column: u32,
    /// What the user can do, where that is not obvious from the message.
    pub hint: Option<String>,
    /// It follows from an error that is reported at its own place: nothing to tell the user.
    pub(crate) follows: bool,
}

impl SqlError {
    pub(crate) fn at(position: Position, message: impl Into<String>) -> Self {
        Self { message: message.into(), line: position.line, column: position.column, hint: None, follows: false }
    }

    /// A construct of Flink SQL that this version does not run.
    pub(crate) fn unsupported(position: Position, construct: impl fmt::Display) -> Self {
        Self::at(position, format!("{construct} is not supported"))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn hint_opt(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position { line: self.line, column: self.column }
    }
}

pub(crate) type Result<T> = std::result::Result<T, SqlError>;

/// The candidate that looks most like `name`, when one is close enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&lower, &c.to_lowercase()), c))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, c)| c)
}

/// `did you mean 'x'?`
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|c| format!("did you mean '{c}'?"))
}
