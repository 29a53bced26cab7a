//! Scalar expressions, by precedence climbing.

use super::cursor::{Cursor, DEPTH_MAX, too_deep};
use crate::ast::{Call, Expr, ExprKind, Literal, TimeUnit};
use crate::error::{Position, Result, SqlError};
use crate::lexer::TokenKind;

/// Binding strengths, weakest first: Calcite's order.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARE: u8 = 5;
pub(super) const ADD: u8 = 6;
const MULTIPLY: u8 = 7;
const UNARY: u8 = 8;

/// Names of functions that Flink lets stand without parentheses.
const WITHOUT_PARENTHESES: &[&str] =
    &["CURRENT_TIMESTAMP", "LOCALTIMESTAMP", "CURRENT_DATE", "CURRENT_TIME", "LOCALTIME"];

/// What became of a left side at the token behind it.
enum Infix {
    /// An operator took it as its left operand; another one may follow.
    Applied(Expr),
    /// The expression ends here.
    End(Expr),
}

impl Cursor {
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.binding(OR)
    }

    /// An expression of operators that bind at least as strongly as `least`.
    pub(super) fn binding(&mut self, least: u8) -> Result<Expr> {
        self.nested(|c| {
            let mut left = c.prefix()?;
            loop {
                left = match c.infix(left, least)? {
                    Infix::Applied(expr) => expr,
                    Infix::End(expr) => return Ok(expr),
                }
            }
        })
    }

    pub(super) fn node(&self, position: Position, kind: ExprKind) -> Result<Expr> {
        let depth = 1 + children_depth(&kind);
        if depth > DEPTH_MAX {
            return Err(too_deep(position));
        }
        Ok(Expr { position, depth, kind })
    }

    pub(super) fn call(&self, position: Position, name: &str, args: Vec<Expr>) -> Result<Expr> {
        let call = Call { name: name.to_owned(), args, star: false, distinct: false, filter: None };
        self.node(position, ExprKind::Call(call))
    }

    pub(super) fn literal(&self, position: Position, literal: Literal) -> Result<Expr> {
        self.node(position, ExprKind::Literal(literal))
    }

    /// The operator here and its right side, applied to `left`.
    fn infix(&mut self, left: Expr, least: u8) -> Result<Infix> {
        if let TokenKind::Symbol(symbol) = self.peek().kind {
            return self.infix_symbol(left, symbol, least);
        }
        let Some(word) = self.keyword() else { return Ok(Infix::End(left)) };
        let applied = match word.as_str() {
            "OR" if least <= OR => self.chain(left, "OR", AND),
            "AND" if least <= AND => self.chain(left, "AND", NOT),
            "IS" if least <= IS => self.is(left),
            "NOT"
                if least <= COMPARE && ["BETWEEN", "IN", "LIKE", "SIMILAR"].iter().any(|w| self.is_word_nth(1, w)) =>
            {
                self.advance();
                self.predicate(left, true)
            }
            "BETWEEN" | "IN" | "LIKE" | "SIMILAR" if least <= COMPARE => self.predicate(left, false),
            "COLLATE" | "OVERLAPS" | "CONTAINS" | "PRECEDES" | "SUCCEEDS" | "RLIKE" | "ILIKE" | "MEMBER"
                if least <= COMPARE =>
            {
                // A name in such a place is an alias unless an operand follows.
                let operand = self.is_symbol_nth(1, "(") || matches!(self.peek_nth(1).kind, TokenKind::String(_));
                if operand { Err(SqlError::unsupported(self.position(), word)) } else { return Ok(Infix::End(left)) }
            }
            _ => return Ok(Infix::End(left)),
        };
        applied.map(Infix::Applied)
    }

    fn infix_symbol(&mut self, left: Expr, symbol: &'static str, least: u8) -> Result<Infix> {
        let (name, strength) = match symbol {
            "=" | "<>" | "<" | "<=" | ">" | ">=" => (symbol, COMPARE),
            "!=" => ("<>", COMPARE),
            "+" | "-" => (symbol, ADD),
            "*" | "/" | "%" => (symbol, MULTIPLY),
            "||" => (symbol, MULTIPLY),
            "::" => return Err(SqlError::unsupported(self.position(), "the operator ::").hint("write CAST(x AS type)")),
            "[" => return Err(SqlError::unsupported(self.position(), "element access with [ ]")),
            _ => return Ok(Infix::End(left)),
        };
        if least > strength {
            return Ok(Infix::End(left));
        }
        if name == "||" {
            return self.chain(left, "||", strength + 1).map(Infix::Applied);
        }
        self.advance();
        for word in ["ANY", "SOME", "ALL"] {
            if self.is_word(word) && self.is_symbol_nth(1, "(") {
                return Err(SqlError::unsupported(self.position(), format!("{name} {word} (...)")));
            }
        }
        let right = self.binding(strength + 1)?;
        self.call(left.position, name, vec![left, right]).map(Infix::Applied)
    }

    /// `left op a op b op c` as one call with all operands: long conditions stay flat.
    fn chain(&mut self, left: Expr, name: &'static str, operand: u8) -> Result<Expr> {
        let position = left.position;
        let mut args = vec![left];
        loop {
            let again = if name == "||" { self.take_symbol("||") } else { self.take_word(name) };
            if !again {
                return self.call(position, name, args);
            }
            args.push(self.binding(operand)?);
        }
    }

    fn is(&mut self, left: Expr) -> Result<Expr> {
        self.expect_word("IS")?;
        let negated = self.take_word("NOT");
        if self.take_words(&["DISTINCT", "FROM"]) {
            let right = self.binding(ADD)?;
            let name = if negated { "IS NOT DISTINCT FROM" } else { "IS DISTINCT FROM" };
            return self.call(left.position, name, vec![left, right]);
        }
        let Some(word) = self.keyword() else {
            return Err(self.expected("NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM"));
        };
        let name = match (word.as_str(), negated) {
            ("NULL" | "UNKNOWN", false) => "IS NULL",
            ("NULL" | "UNKNOWN", true) => "IS NOT NULL",
            ("TRUE", false) => "IS TRUE",
            ("TRUE", true) => "IS NOT TRUE",
            ("FALSE", false) => "IS FALSE",
            ("FALSE", true) => "IS NOT FALSE",
            ("JSON" | "NORMALIZED" | "A", _) => {
                return Err(SqlError::unsupported(self.position(), format!("IS {word}")));
            }
            _ => return Err(self.expected("NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM")),
        };
        self.advance();
        self.call(left.position, name, vec![left])
    }

    /// BETWEEN, IN, LIKE.
    fn predicate(&mut self, left: Expr, negated: bool) -> Result<Expr> {
        let (start, position) = (left.position, self.position());
        if self.take_word("BETWEEN") {
            if self.take_word("SYMMETRIC") {
                return Err(SqlError::unsupported(position, "BETWEEN SYMMETRIC"));
            }
            self.take_word("ASYMMETRIC");
            let low = self.binding(ADD)?;
            self.expect_word("AND")?;
            let high = self.binding(ADD)?;
            let (value, low, high) = (Box::new(left), Box::new(low), Box::new(high));
            return self.node(start, ExprKind::Between { value, low, high, negated });
        }
        let found = if self.take_word("IN") {
            if self.is_symbol("(") && ["SELECT", "WITH", "VALUES"].iter().any(|w| self.is_word_nth(1, w)) {
                return Err(SqlError::unsupported(position, "IN (subquery)"));
            }
            let mut args = vec![left];
            args.extend(self.parenthesised(Self::expression)?);
            self.call(start, "IN", args)?
        } else if self.take_word("LIKE") {
            let mut args = vec![left, self.binding(ADD)?];
            if self.take_word("ESCAPE") {
                args.push(self.binding(ADD)?);
            }
            self.call(start, "LIKE", args)?
        } else {
            return Err(SqlError::unsupported(position, "SIMILAR TO").hint("use REGEXP(string, pattern)"));
        };
        if negated { self.call(start, "NOT", vec![found]) } else { Ok(found) }
    }

    fn prefix(&mut self) -> Result<Expr> {
        let position = self.position();
        match self.peek().kind.clone() {
            TokenKind::Number(text) => {
                self.advance();
                self.literal(position, Literal::Number(text))
            }
            TokenKind::String(text) => {
                self.advance();
                self.literal(position, Literal::String(text))
            }
            TokenKind::Bytes(bytes) => {
                self.advance();
                self.literal(position, Literal::Bytes(bytes))
            }
            TokenKind::Symbol("(") => self.parentheses(),
            TokenKind::Symbol("-") => {
                self.advance();
                let arg = self.binding(UNARY)?;
                self.call(position, "NEGATE", vec![arg])
            }
            TokenKind::Symbol("+") => {
                self.advance();
                self.binding(UNARY)
            }
            TokenKind::Word { quoted: false, .. } => self.word_expression(),
            TokenKind::Word { quoted: true, .. } => self.column(),
            _ => Err(self.expected("an expression")),
        }
    }

    fn parentheses(&mut self) -> Result<Expr> {
        let position = self.position();
        self.expect_symbol("(")?;
        if self.is_word("SELECT") || self.is_word("WITH") {
            return Err(SqlError::unsupported(position, "a subquery as an expression"));
        }
        let inner = self.expression()?;
        if self.is_symbol(",") {
            return Err(SqlError::unsupported(position, "a row (a, b)"));
        }
        self.expect_symbol(")")?;
        Ok(inner)
    }

    fn word_expression(&mut self) -> Result<Expr> {
        let position = self.position();
        let word = self.keyword().unwrap_or_default();
        let is_call = self.is_symbol_nth(1, "(");
        let before_string = matches!(self.peek_nth(1).kind, TokenKind::String(_));
        match word.as_str() {
            "NOT" => {
                self.advance();
                let arg = self.binding(NOT)?;
                self.call(position, "NOT", vec![arg])
            }
            "NULL" | "TRUE" | "FALSE" | "UNKNOWN" if !is_call => {
                self.advance();
                let literal = match word.as_str() {
                    "TRUE" => Literal::Boolean(true),
                    "FALSE" => Literal::Boolean(false),
                    _ => Literal::Null,
                };
                self.literal(position, literal)
            }
            "CASE" => self.case(),
            "CAST" | "TRY_CAST" if is_call => self.cast(word == "TRY_CAST"),
            "INTERVAL" => self.interval(),
            "DATE" | "TIME" | "TIMESTAMP" if before_string => {
                self.advance();
                let (text, _) = self.string("a literal")?;
                let literal = match word.as_str() {
                    "DATE" => Literal::Date(text),
                    "TIME" => Literal::Time(text),
                    _ => Literal::Timestamp(text),
                };
                self.literal(position, literal)
            }
            "TIMESTAMP_LTZ" | "N" | "U" | "B" if before_string => {
                Err(SqlError::unsupported(position, format!("the literal {word} '...'")))
            }
            "EXISTS" | "UNIQUE" if is_call => Err(SqlError::unsupported(position, format!("{word} (subquery)"))),
            "ARRAY" | "MAP" | "ROW" | "MULTISET" | "PERIOD" if is_call || self.is_symbol_nth(1, "[") => {
                Err(SqlError::unsupported(position, format!("the constructor {word}")))
            }
            _ if is_call => self.function(),
            _ if WITHOUT_PARENTHESES.contains(&word.as_str()) && !self.is_symbol_nth(1, ".") => {
                self.advance();
                self.call(position, &word, Vec::new())
            }
            _ => self.column(),
        }
    }

    fn column(&mut self) -> Result<Expr> {
        let position = self.position();
        let first = self.ident("an expression")?;
        if !self.is_symbol(".") {
            return self.node(position, ExprKind::Column { qualifier: None, name: first });
        }
        self.advance();
        let name = self.ident("a column")?;
        if self.is_symbol(".") {
            return Err(SqlError::unsupported(position, "a nested field or a path of more than table and column"));
        }
        self.node(position, ExprKind::Column { qualifier: Some(first), name })
    }

    fn case(&mut self) -> Result<Expr> {
        let position = self.expect_word("CASE")?;
        let operand = if self.is_word("WHEN") { None } else { Some(Box::new(self.expression()?)) };
        let mut branches = Vec::new();
        while self.take_word("WHEN") {
            let when = self.expression()?;
            if operand.is_some() && self.is_symbol(",") {
                return Err(SqlError::unsupported(self.position(), "WHEN with several values"));
            }
            self.expect_word("THEN")?;
            branches.push((when, self.expression()?));
        }
        if branches.is_empty() {
            return Err(self.expected("WHEN"));
        }
        let otherwise = if self.take_word("ELSE") { Some(Box::new(self.expression()?)) } else { None };
        if !self.is_word("END") {
            return Err(self.expected("WHEN, ELSE or END"));
        }
        self.advance();
        self.node(position, ExprKind::Case { operand, branches, otherwise })
    }

    fn cast(&mut self, try_cast: bool) -> Result<Expr> {
        let position = self.advance().position;
        self.expect_symbol("(")?;
        let arg = Box::new(self.expression()?);
        self.expect_word("AS")?;
        let ty = self.type_def()?;
        if self.is_word("FORMAT") {
            return Err(SqlError::unsupported(self.position(), "CAST with FORMAT"));
        }
        self.expect_symbol(")")?;
        self.node(position, ExprKind::Cast { arg, ty, try_cast })
    }

    /// `INTERVAL '10' SECOND`, `INTERVAL -'1 02:03' DAY TO MINUTE`, `INTERVAL '1' DAY(3)`
    fn interval(&mut self) -> Result<Expr> {
        let position = self.expect_word("INTERVAL")?;
        let negative = self.take_symbol("-");
        if !negative {
            self.take_symbol("+");
        }
        if !matches!(self.peek().kind, TokenKind::String(_)) {
            return Err(self.expected("the interval's value in quotes: INTERVAL '10' SECOND"));
        }
        let (value, _) = self.string("the interval's value")?;
        let from = self.interval_unit()?;
        let to = if self.take_word("TO") { Some(self.interval_unit()?) } else { None };
        self.literal(position, Literal::Interval { value, from, to, negative })
    }

    fn interval_unit(&mut self) -> Result<TimeUnit> {
        let unit = self.unit().filter(|u| {
            use TimeUnit::{Day, Hour, Minute, Month, Quarter, Second, Week, Year};
            matches!(u, Year | Quarter | Month | Week | Day | Hour | Minute | Second)
        });
        let Some(unit) = unit else { return Err(self.expected("YEAR, MONTH, DAY, HOUR, MINUTE or SECOND")) };
        self.advance();
        if self.is_symbol("(") {
            // The precision of the leading field has no effect on the value.
            self.parenthesised(|c| match c.advance().kind {
                TokenKind::Number(_) => Ok(()),
                _ => Err(c.expected("a precision")),
            })?;
        }
        Ok(unit)
    }

    fn unit(&self) -> Option<TimeUnit> {
        self.keyword().and_then(|w| TimeUnit::parse(&w))
    }

    pub(super) fn unit_literal(&mut self) -> Result<Expr> {
        let position = self.position();
        let Some(unit) = self.unit() else { return Err(self.expected("a unit of time (YEAR, MONTH, DAY, HOUR, ...)")) };
        self.advance();
        self.literal(position, Literal::Unit(unit))
    }
}

/// Height of the highest child.
fn children_depth(kind: &ExprKind) -> usize {
    let most = |exprs: &mut dyn Iterator<Item = &Expr>| exprs.map(|e| e.depth).max().unwrap_or(0);
    match kind {
        ExprKind::Column { .. } | ExprKind::Literal(_) => 0,
        ExprKind::Call(call) => most(&mut call.args.iter().chain(call.filter.as_deref())),
        ExprKind::Cast { arg, .. } => arg.depth,
        ExprKind::Case { operand, branches, otherwise } => {
            let parts = branches.iter().flat_map(|(when, then)| [when, then]);
            most(&mut parts.chain(operand.as_deref()).chain(otherwise.as_deref()))
        }
        ExprKind::Between { value, low, high, .. } => most(&mut [&**value, &**low, &**high].into_iter()),
    }
}
