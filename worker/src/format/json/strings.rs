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
                    // A tree is printed as characters: only what JSON demands is escaped.
                    match scan::needs_escape(&scratch, 0) {
                        None => out.extend_from_slice(&scratch),
                        Some(first) => write_escapes(&scratch, first, false, out),
                    }
                    out.push(b'"');
                }
                Token::Number { raw, float: true } => {
                    let value = read_double(raw).expect("JSON's numbers are Java's");
                    write_float(out, value, value.is_finite());
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

/// Appends UTF-8 text with JSON's escapes, as Jackson chooses them for bytes: what lies beyond the basic plane becomes two
/// escapes.
#[inline(always)]
pub fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    match scan::needs_escape(text, 0) {
        None => out.extend_from_slice(text),
        Some(first) => write_escapes(text, first, true, out),
    }
}

#[inline(never)]
fn write_escapes(text: &[u8], first: usize, basic_plane_only: bool, out: &mut Vec<u8>) {
    let mut from = 0;
    let mut next = Some(first);
    while let Some(at) = next {
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        match text[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control @ ..0x20 => write_unit(out, u16::from(control)),
            _ => {
                from = at + 4;
                let character = &text[at..from];
                if basic_plane_only {
                    let c = std::str::from_utf8(character).ok().and_then(|c| c.chars().next());
                    let c = c.expect("UTF-8 text has four bytes behind such a first one");
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write_unit(out, *unit));
                } else {
                    out.extend_from_slice(character);
                }
            }
        }
        next = scan::needs_escape(text, from);
    }
    out.extend_from_slice(&text[from..]);
}

/// Appends a number; what JSON has no number for is a string, Jackson's default.
pub fn write_float<T: JavaFloat>(out: &mut Vec<u8>, value: T, finite: bool) {
    if finite {
        value.write_java(out);
    } else {
        out.push(b'"');
        value.write_java(out);
        out.push(b'"');
    }
}

/// Appends `\uXXXX`.
fn write_unit(out: &mut Vec<u8>, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(unit >> shift & 15)]));
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
            compact(
                r#" { "a" : [ 1 , 2.50 , -0, 1e400, "😀x\u00e9\/\u0001" ] , "b" : { } , "c":[ ] , "d": null }"#.trim()
            ),
            r#"{"a":[1,2.5,0,"Infinity","😀xé/\u0001"],"b":{},"c":[],"d":null}"#
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
