//! Type names.

use millstream_api::graph::SqlType;

use super::cursor::Cursor;
use crate::ast::TypeDef;
use crate::error::{Position, Result, SqlError};
use crate::lexer::TokenKind;

/// TIME and event-time columns carry milliseconds.
const TIME_PRECISION_MAX: u32 = 3;
const TIMESTAMP_PRECISION_MAX: u32 = 9;
/// Flink's default precision of TIMESTAMP and TIMESTAMP_LTZ.
const TIMESTAMP_PRECISION: u32 = 6;
const DECIMAL_PRECISION_MAX: u32 = 38;
const LENGTH_MAX: u32 = i32::MAX as u32;

impl Cursor {
    /// A type, with `NULL` or `NOT NULL` behind it.
    pub fn type_def(&mut self) -> Result<TypeDef> {
        let position = self.position();
        let ty = self.type_name()?;
        let nullable = if self.take_words(&["NOT", "NULL"]) {
            false
        } else {
            self.take_word("NULL");
            true
        };
        Ok(TypeDef { ty, nullable, position })
    }

    fn type_name(&mut self) -> Result<SqlType> {
        let position = self.position();
        let Some(word) = self.keyword() else { return Err(self.expected("a type")) };
        self.advance();
        Ok(match word.as_str() {
            "BOOLEAN" => SqlType::Boolean,
            "TINYINT" => SqlType::TinyInt,
            "SMALLINT" => SqlType::SmallInt,
            "INT" | "INTEGER" => SqlType::Int,
            "BIGINT" => SqlType::BigInt,
            "FLOAT" => SqlType::Float,
            "DOUBLE" => {
                self.take_word("PRECISION");
                SqlType::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal()?,
            "CHAR" => SqlType::Char { length: self.number_in_parentheses("length", 1, LENGTH_MAX)?.unwrap_or(1) },
            "VARCHAR" => SqlType::VarChar { length: self.number_in_parentheses("length", 1, LENGTH_MAX)?.unwrap_or(1) },
            "STRING" => SqlType::STRING,
            "BINARY" => SqlType::Binary { length: self.number_in_parentheses("length", 1, LENGTH_MAX)?.unwrap_or(1) },
            "VARBINARY" => {
                SqlType::VarBinary { length: self.number_in_parentheses("length", 1, LENGTH_MAX)?.unwrap_or(1) }
            }
            "BYTES" => SqlType::BYTES,
            "DATE" => SqlType::Date,
            "TIME" => {
                let precision = self.precision(TIME_PRECISION_MAX, 0)?;
                self.take_words(&["WITHOUT", "TIME", "ZONE"]);
                SqlType::Time { precision }
            }
            "TIMESTAMP" => self.timestamp(position)?,
            "TIMESTAMP_LTZ" => {
                SqlType::TimestampLtz { precision: self.precision(TIMESTAMP_PRECISION_MAX, TIMESTAMP_PRECISION)? }
            }
            other => return Err(unknown_type(position, other)),
        })
    }

    fn timestamp(&mut self, position: Position) -> Result<SqlType> {
        let precision = self.precision(TIMESTAMP_PRECISION_MAX, TIMESTAMP_PRECISION)?;
        if self.take_words(&["WITH", "LOCAL", "TIME", "ZONE"]) {
            return Ok(SqlType::TimestampLtz { precision });
        }
        if self.is_words(&["WITH", "TIME", "ZONE"]) {
            return Err(SqlError::unsupported(position, "TIMESTAMP WITH TIME ZONE").hint("use TIMESTAMP_LTZ"));
        }
        self.take_words(&["WITHOUT", "TIME", "ZONE"]);
        Ok(SqlType::Timestamp { precision })
    }

    fn precision(&mut self, most: u32, default: u32) -> Result<u8> {
        let precision = self.number_in_parentheses("precision", 0, most)?.unwrap_or(default);
        Ok(u8::try_from(precision).expect("at most 9"))
    }

    fn decimal(&mut self) -> Result<SqlType> {
        let digits = |n: u32| u8::try_from(n).expect("at most 38");
        if !self.take_symbol("(") {
            return Ok(SqlType::Decimal { precision: 10, scale: 0 });
        }
        let precision = self.bounded_number("precision", 1, DECIMAL_PRECISION_MAX)?;
        let scale = if self.take_symbol(",") { self.bounded_number("scale", 0, precision)? } else { 0 };
        self.expect_symbol(")")?;
        Ok(SqlType::Decimal { precision: digits(precision), scale: digits(scale) })
    }

    fn number_in_parentheses(&mut self, what: &str, least: u32, most: u32) -> Result<Option<u32>> {
        if !self.take_symbol("(") {
            return Ok(None);
        }
        let number = self.bounded_number(what, least, most)?;
        self.expect_symbol(")")?;
        Ok(Some(number))
    }

    fn bounded_number(&mut self, what: &str, least: u32, most: u32) -> Result<u32> {
        let position = self.position();
        let TokenKind::Number(text) = self.peek().kind.clone() else {
            return Err(self.expected(&format!("a {what}")));
        };
        self.advance();
        text.parse()
            .ok()
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| SqlError::at(position, format!("the {what} {text} is not between {least} and {most}")))
    }
}

fn unknown_type(position: Position, word: &str) -> SqlError {
    const REFUSED: &[&str] = &[
        "ARRAY",
        "MAP",
        "ROW",
        "MULTISET",
        "RAW",
        "VARIANT",
        "STRUCTURED",
        "INTERVAL",
        "BITMAP",
        "DESCRIPTOR",
        "NULL",
    ];
    if REFUSED.contains(&word) {
        return SqlError::unsupported(position, format!("the type {word}"));
    }
    const KNOWN: &[&str] = &[
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INT",
        "INTEGER",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "NUMERIC",
        "CHAR",
        "VARCHAR",
        "STRING",
        "BINARY",
        "VARBINARY",
        "BYTES",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_LTZ",
    ];
    let hint = match word {
        "TEXT" | "LONGTEXT" => Some("use STRING".to_owned()),
        "LONG" | "INT8" => Some("use BIGINT".to_owned()),
        "BOOL" => Some("use BOOLEAN".to_owned()),
        "REAL" => Some("use FLOAT".to_owned()),
        "DATETIME" => Some("use TIMESTAMP(3)".to_owned()),
        _ => crate::error::did_you_mean(word, KNOWN.iter().copied()),
    };
    SqlError::at(position, format!("unknown type {word}")).hint_opt(hint)
}
