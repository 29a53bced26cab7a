//! A place in the token list, and the questions that the grammar asks there.

use crate::ast::Ident;
use crate::error::{Position, Result, SqlError};
use crate::lexer::{Token, TokenKind};

/// How deep parentheses, calls, subqueries and operators may nest: recursion is bounded by it.
pub(crate) const DEPTH_MAX: usize = 100;

/// Words that are no names unless they stand in back-quotes: the grammar needs them.
const RESERVED: &[&str] = &[
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASYMMETRIC",
    "BETWEEN",
    "BOTH",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "CROSS",
    "CUBE",
    "DEFAULT",
    "DELETE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "ESCAPE",
    "EXCEPT",
    "EXECUTE",
    "EXISTS",
    "FALSE",
    "FETCH",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "HAVING",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MATCH_RECOGNIZE",
    "MERGE",
    "MINUS",
    "MULTISET",
    "NATURAL",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PIVOT",
    "PRIMARY",
    "QUALIFY",
    "RIGHT",
    "ROLLUP",
    "ROW",
    "SELECT",
    "SET",
    "SIMILAR",
    "SOME",
    "SYMMETRIC",
    "TABLE",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "TRAILING",
    "LEADING",
    "TRUE",
    "UNION",
    "UNIQUE",
    "UNKNOWN",
    "UNNEST",
    "UPDATE",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
];

/// Reserved words that begin or end a part of a query: where one is found, something is missing before it.
const CLAUSES: &[&str] = &[
    "AND", "AS", "BY", "ELSE", "END", "FROM", "GROUP", "HAVING", "INSERT", "INTO", "IS", "ON", "OR", "SELECT", "SET",
    "THEN", "UNION", "WHEN", "WHERE", "WITH",
];

pub(super) struct Cursor {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Cursor {
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    /// The token `ahead` of the next one; `End` beyond the end.
    pub fn peek_nth(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).unwrap_or_else(|| self.tokens.last().expect("the lexer ends with End"))
    }

    pub fn peek(&self) -> &Token {
        self.peek_nth(0)
    }

    pub fn position(&self) -> Position {
        self.peek().position
    }

    pub fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub fn at_end(&self) -> bool {
        self.peek().kind == TokenKind::End
    }

    /// Moves behind the next semicolon at this place or later; nesting begins anew.
    pub fn skip_statement(&mut self) {
        self.depth = 0;
        while !self.at_end() && !self.take_symbol(";") {
            self.advance();
        }
    }

    /// Runs `parse` one level deeper.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= DEPTH_MAX {
            return Err(too_deep(self.position()));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.is_symbol_nth(0, symbol)
    }

    pub fn is_symbol_nth(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek_nth(ahead).kind, TokenKind::Symbol(s) if s == symbol)
    }

    pub fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect_symbol(&mut self, symbol: &str) -> Result<Position> {
        if self.is_symbol(symbol) {
            return Ok(self.advance().position);
        }
        Err(self.expected(&format!("'{symbol}'")))
    }

    /// Whether the token `ahead` is this keyword: not quoted, any case.
    pub fn is_word_nth(&self, ahead: usize, word: &str) -> bool {
        matches!(&self.peek_nth(ahead).kind, TokenKind::Word { text, quoted: false } if text.eq_ignore_ascii_case(word))
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.is_word_nth(0, word)
    }

    pub fn is_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, w)| self.is_word_nth(i, w))
    }

    /// Takes the keywords when all of them stand here.
    pub fn take_words(&mut self, words: &[&str]) -> bool {
        let found = self.is_words(words);
        if found {
            words.iter().for_each(|_| {
                self.advance();
            });
        }
        found
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        self.take_words(&[word])
    }

    pub fn expect_word(&mut self, word: &str) -> Result<Position> {
        if self.is_word(word) {
            return Ok(self.advance().position);
        }
        Err(self.expected(word))
    }

    /// The next word in upper case, when it is not quoted.
    pub fn keyword(&self) -> Option<String> {
        self.keyword_nth(0)
    }

    pub fn keyword_nth(&self, ahead: usize) -> Option<String> {
        match &self.peek_nth(ahead).kind {
            TokenKind::Word { text, quoted: false } => Some(text.to_uppercase()),
            _ => None,
        }
    }

    pub fn is_reserved(&self) -> bool {
        self.keyword().is_some_and(|w| RESERVED.contains(&w.as_str()))
    }

    /// A name: quoted, or a word that the grammar does not need.
    pub fn ident(&mut self, what: &str) -> Result<Ident> {
        let position = self.position();
        if self.is_reserved() {
            let error = self.expected(what);
            let word = self.keyword().unwrap_or_default();
            if CLAUSES.contains(&word.as_str()) {
                return Err(error);
            }
            return Err(error.hint(format!("{word} is a keyword: as a name it stands in back-quotes")));
        }
        match self.peek().kind.clone() {
            TokenKind::Word { text, .. } => {
                self.advance();
                Ok(Ident { text, position })
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A table's name. There is one catalog with one database, so a qualified name is refused unless it names Flink's own.
    pub fn table_name(&mut self, what: &str) -> Result<Ident> {
        let mut parts = vec![self.ident(what)?];
        while self.take_symbol(".") {
            parts.push(self.ident(what)?);
        }
        let table = parts.pop().expect("at least one part");
        let path: Vec<&str> = parts.iter().map(|p| p.text.as_str()).collect();
        match path[..] {
            [] | ["default_database"] | ["default_catalog", "default_database"] => Ok(table),
            _ => Err(SqlError::unsupported(parts[0].position, format!("the catalog or database '{}'", path.join(".")))
                .hint("all tables of a job are in one database: name them without a path")),
        }
    }

    pub fn string(&mut self, what: &str) -> Result<(String, Position)> {
        let position = self.position();
        match self.peek().kind.clone() {
            TokenKind::String(text) => {
                self.advance();
                Ok((text, position))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// `( item, item, ... )`
    pub fn parenthesised<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_symbol("(")?;
        let mut items = vec![item(self)?];
        while self.take_symbol(",") {
            items.push(item(self)?);
        }
        if !self.is_symbol(")") {
            return Err(self.expected("',' or ')'"));
        }
        self.advance();
        Ok(items)
    }

    /// The error that something else was expected here.
    pub fn expected(&self, what: &str) -> SqlError {
        if let TokenKind::Hint(_) = self.peek().kind {
            return SqlError::unsupported(self.position(), "a hint (/*+ ... */) here")
                .hint("options stand in the table's WITH clause; a statement's label behind INSERT INTO <table>");
        }
        SqlError::at(self.position(), format!("expected {what}, found {}", describe(self.peek())))
    }
}

pub(super) fn too_deep(position: Position) -> SqlError {
    SqlError::at(position, format!("nested more than {DEPTH_MAX} levels deep")).hint("split it with views")
}

fn describe(token: &Token) -> String {
    match &token.kind {
        TokenKind::Word { text, quoted: false } => text.clone(),
        TokenKind::Word { text, quoted: true } => format!("`{text}`"),
        TokenKind::Number(text) => text.clone(),
        TokenKind::String(text) => format!("'{}'", text.chars().take(40).collect::<String>()),
        TokenKind::Bytes(_) => "a binary literal".to_owned(),
        TokenKind::Hint(_) => "a hint".to_owned(),
        TokenKind::Symbol(symbol) => format!("'{symbol}'"),
        TokenKind::End => "the end of the text".to_owned(),
    }
}
