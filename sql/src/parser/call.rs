//! Calls of functions, and the functions that have a syntax of their own.

use super::cursor::Cursor;
use super::expression::ADD;
use crate::ast::{Call, Expr, ExprKind};
use crate::error::{Position, Result, SqlError};

/// Names in the function list that have a syntax of their own and cannot be called by it.
const INTERNAL: &[&str] = &["NEGATE", "FLOOR_TO", "CEIL_TO", "CURRENT_UNIX_TIMESTAMP", "AND", "OR", "IN", "LIKE"];

impl Cursor {
    pub(super) fn function(&mut self) -> Result<Expr> {
        let position = self.position();
        let name = self.keyword().unwrap_or_default();
        self.advance();
        self.expect_symbol("(")?;
        let expr = match name.as_str() {
            "EXTRACT" => {
                let unit = self.unit_literal()?;
                self.expect_word("FROM")?;
                let time = self.expression()?;
                self.call(position, "EXTRACT", vec![unit, time])?
            }
            "POSITION" => {
                let needle = self.binding(ADD)?;
                if self.is_symbol(",") {
                    return Err(self
                        .expected("IN")
                        .hint("POSITION(needle IN string); with commas use LOCATE(needle, string)"));
                }
                self.expect_word("IN")?;
                let text = self.expression()?;
                self.call(position, "POSITION", vec![needle, text])?
            }
            "TRIM" => self.trim(position)?,
            "TIMESTAMPADD" | "TIMESTAMPDIFF" => {
                let mut args = vec![self.unit_literal()?];
                while self.take_symbol(",") {
                    args.push(self.expression()?);
                }
                self.call(position, &name, args)?
            }
            _ => self.plain_function(position, name)?,
        };
        if !self.is_symbol(")") {
            return Err(self.expected("',' or ')'"));
        }
        self.advance();
        self.after_function(expr)
    }

    fn trim(&mut self, position: Position) -> Result<Expr> {
        let name = match self.keyword().as_deref() {
            Some("LEADING") => "LTRIM",
            Some("TRAILING") => "RTRIM",
            _ => "TRIM",
        };
        if self.is_word("LEADING") || self.is_word("TRAILING") || self.is_word("BOTH") {
            self.advance();
        }
        if self.take_word("FROM") {
            let text = self.expression()?;
            return self.call(position, name, vec![text]);
        }
        let first = self.expression()?;
        if self.take_word("FROM") {
            let text = self.expression()?;
            return self.call(position, name, vec![text, first]);
        }
        self.call(position, name, vec![first])
    }

    /// Arguments with commas; also `SUBSTRING(s FROM a FOR b)`, `FLOOR(t TO unit)`, `COUNT(*)`, `COUNT(DISTINCT x)`.
    fn plain_function(&mut self, position: Position, name: String) -> Result<Expr> {
        if INTERNAL.contains(&name.as_str()) {
            return Err(SqlError::unsupported(position, format!("the function {name}")));
        }
        let mut call = Call { name, args: Vec::new(), star: false, distinct: false, filter: None };
        if self.is_symbol(")") {
            return self.node(position, ExprKind::Call(call));
        }
        if self.is_symbol("*") && self.is_symbol_nth(1, ")") {
            self.advance();
            call.star = true;
            return self.node(position, ExprKind::Call(call));
        }
        call.distinct = self.take_word("DISTINCT");
        if !call.distinct {
            self.take_word("ALL");
        }
        call.args.push(self.expression()?);
        match call.name.as_str() {
            "SUBSTRING" | "SUBSTR" if self.take_word("FROM") => {
                call.args.push(self.expression()?);
                if self.take_word("FOR") {
                    call.args.push(self.expression()?);
                }
            }
            "FLOOR" | "CEIL" | "CEILING" if self.take_word("TO") => {
                let unit = self.unit_literal()?;
                call.name = if call.name == "FLOOR" { "FLOOR_TO".to_owned() } else { "CEIL_TO".to_owned() };
                call.args.insert(0, unit);
            }
            _ => {
                if self.is_symbol("=>") {
                    return Err(SqlError::unsupported(self.position(), "a named argument"));
                }
                while self.take_symbol(",") {
                    call.args.push(self.expression()?);
                }
            }
        }
        self.node(position, ExprKind::Call(call))
    }

    /// FILTER (WHERE ...), and what is refused behind a call.
    fn after_function(&mut self, mut expr: Expr) -> Result<Expr> {
        for (word, construct) in
            [("OVER", "OVER"), ("WITHIN", "WITHIN GROUP"), ("IGNORE", "IGNORE NULLS"), ("RESPECT", "RESPECT NULLS")]
        {
            let refused = match word {
                "IGNORE" | "RESPECT" => self.is_words(&[word, "NULLS"]),
                "WITHIN" => self.is_words(&[word, "GROUP"]),
                _ => self.is_word(word),
            };
            if refused {
                return Err(SqlError::unsupported(self.position(), construct));
            }
        }
        if self.is_word("FILTER") && self.is_symbol_nth(1, "(") {
            let position = self.advance().position;
            self.advance();
            self.expect_word("WHERE")?;
            let filter = self.expression()?;
            self.expect_symbol(")")?;
            match &mut expr.kind {
                ExprKind::Call(call) => call.filter = Some(Box::new(filter)),
                _ => return Err(SqlError::at(position, "FILTER stands behind an aggregate function")),
            }
            return self.node(expr.position, expr.kind);
        }
        Ok(expr)
    }
}
