//! The inside of JSON strings: escapes read and written, and containers printed the way Jackson prints them.

use super::cursor::{Cursor, RawText, Token};
use super::scan;
use crate::format::text::number::{JavaFloat, read_double};

/// The number that four hexadecimal digits at `at` make.
pub fn hex(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 4)?.iter().try_fold(0u16, |value, c| {
        let digit = char::from(*c).to_digit(16)?;
        Some(value << 4 | digit as u16)
    })
}

impl RawText<'_> {
    /// Appends the string's meaning. A surrogate without its other half becomes `?`, as Java's UTF-8 encoder writes it.
    pub fn unescape(self, out: &mut Vec<u8>) {
        let mut rest = self.raw;
        while let Some(at) = rest.iter().position(|c| *c == b'\\') {
            out.extend_from_slice(&rest[..at]);
            let plain = match rest[at + 1] {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let (character, length) = unicode_escape(&rest[at..]);
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &rest[at + length..];
                    continue;
                }
                other => other,
            };
            out.push(plain);
            rest = &rest[at + 2..];
        }
        out.extend_from_slice(rest);
    }
}

/// The character of the `\uXXXX` (or pair of them) that `text` begins with, and the length of the escape.
fn unicode_escape(text: &[u8]) -> (char, usize) {
    let unit = hex(text, 2).expect("escapes are checked when the string is read");
    if let Some(character) = char::from_u32(u32::from(unit)) {
        return (character, 6);
    }
    let second = if text[6..].starts_with(b"\\u") { hex(text, 8) } else { None };
    match second {
        Some(low @ 0xdc00..=0xdfff) if unit < 0xdc00 => {
            let code = 0x1_0000 + ((u32::from(unit) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
            (char::from_u32(code).expect("a surrogate pair is a character"), 12)
        }
        _ => ('?', 6),
    }
}

/// Appends a checked container as Jackson prints its tree: no blanks, strings with the fewest escapes, floats as doubles.
pub fn write_compact(container: &[u8], out: &mut Vec<u8>) {
    let mut cursor = Cursor::new(container);
    let mut scratch = Vec::new();
    loop {
        cursor.skip_blanks();
        match cursor.peek() {
            None => return,
            Some(punctuation @ (b'{' | b'}' | b'[' | b']' | b',' | b':')) => {
                out.push(punctuation);
                cursor.at += 1;
            }
            Some(_) => match cursor.value().expect("the container was checked") {
                Token::Text(text) => {
                    scratch.clear();
                    text.unescape(&mut scratch);
                    out.push(b'"');
                    write_escaped(&scratch, out);
                    out.push(b'"');
                }
                Token::Number { raw, float: true } => {
                    read_double(raw).expect("JSON's numbers are Java's").write_java(out);
                }
                Token::Number { raw: b"-0", .. } => out.push(b'0'),
                Token::Number { raw, .. } => out.extend_from_slice(raw),
                Token::Null => out.extend_from_slice(b"null"),
                Token::True => out.extend_from_slice(b"true"),
                Token::False => out.extend_from_slice(b"false"),
                Token::Container(_) => unreachable!("brackets are handled as punctuation"),
            },
        }
    }
}

/// Appends the text with JSON's escapes, as Jackson chooses them.
#[inline(always)]
pub fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    match scan::needs_escape(text, 0) {
        None => out.extend_from_slice(text),
        Some(first) => write_escapes(text, first, out),
    }
}

#[inline(never)]
fn write_escapes(text: &[u8], first: usize, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut from = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        out.extend_from_slice(&text[from..at]);
        match text[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
            }
        }
        from = at + 1;
        next = scan::needs_escape(text, from);
    }
    out.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_checked_and_compacted() {
        let compact = |text: &str| {
            let mut cursor = Cursor::new(text.as_bytes());
            let token = cursor.value();
            let Ok(Token::Container(raw)) = token else { return format!("{token:?}") };
            let mut out = Vec::new();
            write_compact(raw, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            compact(r#" { "a" : [ 1 , 2.50 , -0, "x\u00e9\/\u0001" ] , "b" : { } , "c":[ ] , "d": null }"#.trim()),
            r#"{"a":[1,2.5,0,"xé/\u0001"],"b":{},"c":[],"d":null}"#
        );
        for bad in
            ["[1,]", "{\"a\"}", "{\"a\":1,}", "[1 2]", "[", "{\"a\":[}", "[01]", "[1.]", "[\"\\x\"]", "[nul]", "{1:2}"]
        {
            assert!(compact(bad).starts_with("Err"), "{bad}");
        }
        assert!(compact(&"[".repeat(1001)).contains("1000 levels"));
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(compact(&deep), deep);
    }
}
