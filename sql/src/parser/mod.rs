//! Tokens to statements.
//!
//! Owns: Flink's grammar, as far as this version runs it. What Flink has and we do not is recognised here and refused by
//! its name; nothing is skipped in silence. Does not own: names and types (`bind`).

mod call;
mod cursor;
mod expression;
mod query;
mod statement;
mod type_name;

use crate::ast::Statement;
use crate::error::SqlError;
use crate::lexer;
use cursor::Cursor;

/// After so many errors the rest of the text is not looked at.
pub(crate) const ERRORS_MAX: usize = 20;

/// Parses a script. With errors, the statements that could be read are returned beside them.
pub(crate) fn parse(text: &str) -> (Vec<Statement>, Vec<SqlError>) {
    let tokens = match lexer::tokenize(text) {
        Ok(tokens) => tokens,
        Err(error) => return (Vec::new(), vec![error]),
    };
    Parser { cursor: Cursor::new(tokens), statement_set: None }.script()
}

/// Reads statements; an error skips to the next semicolon.
struct Parser {
    cursor: Cursor,
    /// Where the statement set began that is being read.
    statement_set: Option<crate::error::Position>,
}
