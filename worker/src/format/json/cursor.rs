//! Reads JSON tokens from a record, strictly by RFC 8259 but for control characters in strings, as Flink's reader.

use super::error::{DecodeError, DecodeReason};
use super::scan;
use super::strings::hex;

/// Deepest nesting of objects and arrays, Jackson's limit.
const DEPTH_MAX: usize = 1000;

/// A record that is not JSON. Small, because every token's result carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Syntax { at: usize, problem: &'static str },
    Utf8 { at: usize },
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        DecodeError::record(match fault {
            Fault::Syntax { at, problem } => DecodeReason::Malformed { at, problem },
            Fault::Utf8 { at } => DecodeReason::Utf8 { at },
        })
    }
}

/// A value as it stands in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    Null,
    True,
    False,
    /// `float`: with a fraction or an exponent.
    Number {
        raw: &'a [u8],
        float: bool,
    },
    /// Between the quotes; valid UTF-8.
    Text(RawText<'a>),
    /// An object or an array, checked.
    Container(&'a [u8]),
}

/// The inside of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawText<'a> {
    pub raw: &'a [u8],
    /// Whether it has escapes; all of them are well formed.
    pub escaped: bool,
}

/// A position in a record.
pub struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn fault(&self, problem: &'static str) -> Fault {
        Fault::Syntax { at: self.at, problem }
    }

    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    pub fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Steps over `expected`.
    #[inline(always)]
    pub fn expect(&mut self, expected: u8, problem: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(expected) {
            return Err(self.fault(problem));
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a string whose opening quote is at the cursor.
    #[inline(always)]
    pub fn text(&mut self) -> Result<RawText<'a>, Fault> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let Some(stop) = scan::string_end(self.bytes, start) else {
            return Err(self.fault("a string has no end"));
        };
        if self.bytes[stop.at] == b'"' && !stop.non_ascii {
            self.at = stop.at + 1;
            return Ok(RawText { raw: &self.bytes[start..stop.at], escaped: false });
        }
        self.text_rest(start, stop)
    }

    /// The rest of a string with escapes or with characters beyond ASCII.
    #[inline(never)]
    fn text_rest(&mut self, start: usize, mut stop: scan::Stop) -> Result<RawText<'a>, Fault> {
        let (mut escaped, mut non_ascii) = (false, stop.non_ascii);
        while self.bytes[stop.at] == b'\\' {
            escaped = true;
            self.at = stop.at;
            self.escape()?;
            stop = scan::string_end(self.bytes, self.at).ok_or(self.fault("a string has no end"))?;
            non_ascii |= stop.non_ascii;
        }
        let raw = &self.bytes[start..stop.at];
        if non_ascii && simdutf8::basic::from_utf8(raw).is_err() {
            return Err(Fault::Utf8 { at: start });
        }
        self.at = stop.at + 1;
        Ok(RawText { raw, escaped })
    }

    /// Steps over an escape.
    fn escape(&mut self) -> Result<(), Fault> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if hex(self.bytes, self.at + 2).is_some() => 6,
            _ => return Err(self.fault("an escape that JSON does not have")),
        };
        self.at += length;
        Ok(())
    }

    /// Reads a number.
    #[inline(always)]
    pub fn number(&mut self) -> Result<(&'a [u8], bool), Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.bytes[self.at - whole] == b'0') {
            return Err(Fault::Syntax { at: start, problem: "expected a value" });
        }
        let mut float = false;
        if self.peek() == Some(b'.') {
            self.at += 1;
            float = true;
            if self.digits() == 0 {
                return Err(self.fault("a number needs a digit behind its point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            float = true;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.fault("a number needs a digit in its exponent"));
            }
        }
        Ok((&self.bytes[start..self.at], float))
    }

    #[inline(always)]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    /// Reads any value.
    #[inline(always)]
    pub fn value(&mut self) -> Result<Token<'a>, Fault> {
        match self.peek() {
            Some(b'"') => self.text().map(Token::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(|(raw, float)| Token::Number { raw, float }),
            Some(b'{' | b'[') => {
                let start = self.at;
                self.container()?;
                Ok(Token::Container(&self.bytes[start..self.at]))
            }
            Some(b'n') => self.word(b"null", Token::Null),
            Some(b't') => self.word(b"true", Token::True),
            Some(b'f') => self.word(b"false", Token::False),
            Some(_) => Err(self.fault("expected a value")),
            None => Err(self.fault("the record ends where a value is expected")),
        }
    }

    fn word(&mut self, word: &'static [u8], token: Token<'a>) -> Result<Token<'a>, Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.fault("expected a value"));
        }
        self.at += word.len();
        Ok(token)
    }

    /// Steps over an object or array and checks everything inside. Its own stack of one bit per level, no recursion.
    #[inline(never)]
    fn container(&mut self) -> Result<(), Fault> {
        let mut in_object: Vec<bool> = Vec::new();
        loop {
            // At the start of a value.
            self.skip_blanks();
            if let Some(open @ (b'{' | b'[')) = self.peek() {
                if in_object.len() == DEPTH_MAX {
                    return Err(self.fault("nested deeper than 1000 levels"));
                }
                self.at += 1;
                self.skip_blanks();
                in_object.push(open == b'{');
                if self.peek() != Some(if open == b'{' { b'}' } else { b']' }) {
                    if open == b'{' {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.value()?;
            }
            if self.close(&mut in_object)? {
                return Ok(());
            }
        }
    }

    /// Behind a value: steps over closing brackets up to the next comma. True when the outermost one is closed.
    fn close(&mut self, in_object: &mut Vec<bool>) -> Result<bool, Fault> {
        while let Some(object) = in_object.last().copied() {
            self.skip_blanks();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if object {
                        self.skip_blanks();
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                _ => return Err(self.fault("expected a comma or a closing bracket")),
            }
            self.at += 1;
            in_object.pop();
        }
        Ok(true)
    }

    /// Reads a key and the colon behind it.
    pub fn key(&mut self) -> Result<RawText<'a>, Fault> {
        let key = self.text()?;
        self.skip_blanks();
        self.expect(b':', "expected a colon")?;
        Ok(key)
    }
}

// The forms that are expected, as functions of a position instead of methods: the position then stays in a register. A
// cursor that is also lent to functions of their own lives in memory, and every value would wait for the last one's store.

/// A plain integer of at most 15 digits at `at`, eight digits at a time, and the position behind it; `None` for everything
/// else.
#[inline(always)]
pub fn short_integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = *bytes.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (mut value, mut length) = leading_digits(chunk(bytes, start));
    if length == 8 {
        let (low, more) = leading_digits(chunk(bytes, start + 8));
        value = value * POWERS[more] + low;
        length += more;
        if length == 16 {
            return None;
        }
    }
    if length == 0 || (length > 1 && bytes[start] == b'0') {
        return None;
    }
    let end = start + length;
    if matches!(bytes.get(end), None | Some(b'.' | b'e' | b'E')) {
        return None;
    }
    Some((if negative { -(value as i64) } else { value as i64 }, end))
}

/// The eight bytes at `at`, zeros beyond the end of the record.
#[inline(always)]
fn chunk(bytes: &[u8], at: usize) -> [u8; 8] {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(chunk) => *chunk,
        None => {
            let mut chunk = [0; 8];
            chunk[..rest.len()].copy_from_slice(rest);
            chunk
        }
    }
}

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number that the digits at the start of `chunk` make, and how many they are.
#[inline(always)]
fn leading_digits(chunk: [u8; 8]) -> (u64, usize) {
    const HIGH_NIBBLES: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let word = u64::from_le_bytes(chunk);
    // A byte is a digit when it and it plus six have the high nibble 3. Carries only reach bytes behind a non-digit.
    let other = ((word & HIGH_NIBBLES) ^ ZEROS) | ((word.wrapping_add(0x0606_0606_0606_0606) & HIGH_NIBBLES) ^ ZEROS);
    let count = (other.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // Digits to the end of the word, zeros before them; then pairs, quadruples and all eight are put together.
    let mut value = (word << (64 - 8 * count)) & 0x0f0f_0f0f_0f0f_0f0f;
    value = (value.wrapping_mul(2561) >> 8) & 0x00ff_00ff_00ff_00ff;
    value = (value.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    value = value.wrapping_mul(42_949_672_960_001) >> 32;
    (value, count)
}

/// The inside of an ASCII string without escapes at `at`, and the position behind it; `None` for everything else.
#[inline(always)]
pub fn plain_text(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let stop = scan::string_end(bytes, at + 1)?;
    (bytes[stop.at] == b'"' && !stop.non_ascii).then(|| (&bytes[at + 1..stop.at], stop.at + 1))
}

/// The position behind such an integer or string.
#[inline(always)]
pub fn skip_plain(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => plain_text(bytes, at).map(|(_, end)| end),
        _ => short_integer(bytes, at).map(|(_, end)| end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_integers_are_exact_or_refused() {
        for text in ["0", "-0", "7", "12345678", "123456789", "-999999999999999", "1234567", "100000000"] {
            for tail in [",xxxxxxxxxxxxxxxx", "}xxxxxxxxxxxxxxxxx"] {
                let record = format!("{text}{tail}");
                assert_eq!(short_integer(record.as_bytes(), 0), Some((text.parse().unwrap(), text.len())), "{record}");
            }
        }
        for text in [
            "01,        ",
            "1.5,        ",
            "1e5,         ",
            "-,         ",
            "x           ",
            "1234567890123456789,                ",
        ] {
            assert_eq!(short_integer(text.as_bytes(), 0), None, "{text}");
        }
    }
}
