//! Text to tokens, each with its place.
//!
//! Owns: Flink's (Calcite's) lexical rules: back-quoted identifiers, case kept, `''` inside strings, comments. Does
//! not own: which words are keywords; a word is a word until the parser asks.

use crate::error::{Position, Result, SqlError};

/// Longest text that is compiled.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// An identifier or keyword; `quoted`: it stood in back-quotes and is no keyword.
    Word {
        text: String,
        quoted: bool,
    },
    /// Digits, with an optional fraction and exponent.
    Number(String),
    /// '...' with the quotes removed.
    String(String),
    /// X'...'
    Bytes(Vec<u8>),
    /// What stands between `/*+` and `*/`.
    Hint(String),
    /// Punctuation and operators.
    Symbol(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub position: Position,
}

/// Longest first, so that the first match wins.
const SYMBOLS: &[&str] = &[
    "<>", "!=", "<=", ">=", "||", "=>", "::", "(", ")", ",", ";", ".", "=", "<", ">", "+", "-", "*", "/", "%", "[",
    "]", "{", "}", ":", "?", "|", "^",
];

/// Splits the text. The last token is always `End`.
pub(crate) fn tokenize(text: &str) -> Result<Vec<Token>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SqlError::at(
            Position::START,
            format!("the text has {} bytes, at most {TEXT_BYTES_MAX} are read", text.len()),
        ));
    }
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, position: Position::START };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let position = lexer.position;
        let kind = lexer.token()?;
        let end = kind == TokenKind::End;
        tokens.push(Token { kind, position });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    position: Position,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.position.line += 1;
            self.position.column = 1;
        } else {
            self.position.column += 1;
        }
        Some(c)
    }

    fn starts_with(&self, s: &str) -> bool {
        s.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c))
    }

    fn skip_blanks(&mut self) -> Result<()> {
        loop {
            match self.peek(0) {
                Some(c) if c.is_whitespace() || c == '\u{feff}' => {
                    self.next();
                }
                Some('-') if self.starts_with("--") => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                Some('/') if self.starts_with("/*") && self.peek(2) != Some('+') => self.skip_block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<()> {
        self.block_comment("/*").map(drop)
    }

    /// The text between `opening`, which stands here, and the end of the comment.
    fn block_comment(&mut self, opening: &str) -> Result<String> {
        let start = self.position;
        for _ in opening.chars() {
            self.next();
        }
        let mut text = String::new();
        while !self.starts_with("*/") {
            match self.next() {
                Some(c) => text.push(c),
                None => return Err(SqlError::at(start, "the comment that begins here has no end")),
            }
        }
        self.next();
        self.next();
        Ok(text)
    }

    fn token(&mut self) -> Result<TokenKind> {
        let Some(c) = self.peek(0) else { return Ok(TokenKind::End) };
        match c {
            '/' if self.starts_with("/*+") => self.block_comment("/*+").map(TokenKind::Hint),
            '\'' => self.quoted('\'', "string").map(TokenKind::String),
            '`' => {
                let start = self.position;
                let text = self.quoted('`', "identifier")?;
                if text.is_empty() {
                    return Err(SqlError::at(start, "an identifier cannot be empty"));
                }
                Ok(TokenKind::Word { text, quoted: true })
            }
            '"' => Err(SqlError::at(self.position, "unexpected \"")
                .hint("strings stand in single quotes, identifiers in back-quotes")),
            'x' | 'X' if self.peek(1) == Some('\'') => self.bytes(),
            c if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) => {
                Ok(self.number())
            }
            c if c.is_alphabetic() || c == '_' || c == '$' => Ok(self.word()),
            c => self.symbol(c),
        }
    }

    fn symbol(&mut self, c: char) -> Result<TokenKind> {
        let Some(symbol) = SYMBOLS.iter().find(|s| self.starts_with(s)) else {
            return Err(SqlError::at(self.position, format!("unexpected character {c:?}")));
        };
        for _ in 0..symbol.len() {
            self.next();
        }
        Ok(TokenKind::Symbol(symbol))
    }

    fn word(&mut self) -> TokenKind {
        let mut text = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_' || *c == '$') {
            text.push(c);
            self.next();
        }
        TokenKind::Word { text, quoted: false }
    }

    fn digits(&mut self, text: &mut String) {
        while let Some(c) = self.peek(0).filter(char::is_ascii_digit) {
            text.push(c);
            self.next();
        }
    }

    fn number(&mut self) -> TokenKind {
        let mut text = String::new();
        self.digits(&mut text);
        if self.peek(0) == Some('.') {
            text.push('.');
            self.next();
            self.digits(&mut text);
        }
        let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if matches!(self.peek(0), Some('e' | 'E')) && self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
            for _ in 0..=sign {
                text.extend(self.next());
            }
            self.digits(&mut text);
        }
        TokenKind::Number(text)
    }

    /// Text between two `quote`s; a doubled quote stands for one.
    fn quoted(&mut self, quote: char, what: &str) -> Result<String> {
        let start = self.position;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(SqlError::at(start, format!("the {what} that begins here has no closing {quote}"))),
                Some(c) if c != quote => text.push(c),
                Some(_) if self.peek(0) == Some(quote) => {
                    text.push(quote);
                    self.next();
                }
                Some(_) => return Ok(text),
            }
        }
    }

    fn bytes(&mut self) -> Result<TokenKind> {
        let start = self.position;
        self.next();
        let text = self.quoted('\'', "binary literal")?;
        let bad = || SqlError::at(start, "a binary literal has an even number of hexadecimal digits: X'0aff'");
        let digits: Vec<u8> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        if !digits.len().is_multiple_of(2) {
            return Err(bad());
        }
        Ok(TokenKind::Bytes(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokenize(text).unwrap().into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn tokens_have_their_places() {
        let tokens = tokenize("SELECT `a``b`,\n  'it''s' -- note\n/* x\n */ <> 1.5e-3").unwrap();
        let places: Vec<(u32, u32)> = tokens.iter().map(|t| (t.position.line, t.position.column)).collect();
        assert_eq!(places, [(1, 1), (1, 8), (1, 14), (2, 3), (4, 5), (4, 8), (4, 14)]);
        assert_eq!(tokens[1].kind, TokenKind::Word { text: "a`b".into(), quoted: true });
        assert_eq!(tokens[3].kind, TokenKind::String("it's".into()));
        assert_eq!(tokens[5].kind, TokenKind::Number("1.5e-3".into()));
    }

    #[test]
    fn numbers_bytes_and_symbols() {
        assert_eq!(kinds("X'0aFF'")[0], TokenKind::Bytes(vec![0x0a, 0xff]));
        assert_eq!(kinds(".5 1e 2.")[0], TokenKind::Number(".5".into()));
        assert_eq!(
            kinds("1e")[..2],
            [TokenKind::Number("1".into()), TokenKind::Word { text: "e".into(), quoted: false }]
        );
        assert_eq!(kinds("a=>b")[1], TokenKind::Symbol("=>"));
    }

    #[test]
    fn what_has_no_end_is_reported_where_it_begins() {
        for (text, place) in
            [("a 'b", "1:3"), ("\n `b", "2:2"), ("/* x", "1:1"), ("\"x\"", "1:1"), ("X'0'", "1:1"), ("a \u{1}", "1:3")]
        {
            assert_eq!(tokenize(text).unwrap_err().position().to_string(), place, "{text}");
        }
    }
}
