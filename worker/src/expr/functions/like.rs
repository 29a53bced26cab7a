//! LIKE. A constant pattern is prepared once; the usual ones become comparisons of a prefix, a suffix or a part.

use arrow_array::ArrayRef;
use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Call, Function};
use crate::expr::operand::boolean_rows;
use crate::expr::{EvalError, ExprError};

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `%`
    Any,
    /// `_`
    One,
    Char(char),
}

/// A pattern, in the cheapest form it has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    General(Vec<Part>),
}

impl Pattern {
    fn parse(pattern: &str, escape: Option<&str>) -> Result<Self, String> {
        let escape = match escape.map(|e| (e, e.chars().count())) {
            None => None,
            Some((e, 1)) => e.chars().next(),
            Some((e, _)) => return Err(format!("the escape of LIKE must be one character, it is '{e}'")),
        };
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some(next) if next == '%' || next == '_' || Some(next) == escape => Part::Char(next),
                    _ => return Err(format!("invalid escape sequence in the LIKE pattern '{pattern}'")),
                },
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                c => Part::Char(c),
            });
        }
        Ok(Self::simplest(parts))
    }

    fn simplest(parts: Vec<Part>) -> Self {
        let open_start = parts.len() > 1 && parts.first() == Some(&Part::Any);
        let open_end = parts.last() == Some(&Part::Any);
        let middle = &parts[usize::from(open_start)..parts.len() - usize::from(open_end)];
        let text: Option<String> = middle
            .iter()
            .map(|part| match part {
                Part::Char(c) => Some(*c),
                _ => None,
            })
            .collect();
        match (text, open_start, open_end) {
            (None, ..) => Pattern::General(parts),
            (Some(text), false, false) => Pattern::Exact(text),
            (Some(text), false, true) => Pattern::Prefix(text),
            (Some(text), true, false) => Pattern::Suffix(text),
            (Some(text), true, true) => Pattern::Contains(text),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(t) => text == t,
            Pattern::Prefix(t) => text.starts_with(t.as_str()),
            Pattern::Suffix(t) => text.ends_with(t.as_str()),
            Pattern::Contains(t) => text.contains(t.as_str()),
            Pattern::General(parts) => general(parts, text),
        }
    }
}

/// Greedy with one place to come back to, the last `%`: no exponential patterns.
fn general(parts: &[Part], text: &str) -> bool {
    let (mut part, mut rest) = (0, text);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        match (parts.get(part), rest.chars().next()) {
            (Some(Part::Any), _) => {
                part += 1;
                retry = Some((part, rest));
                continue;
            }
            (Some(Part::One), Some(c)) => {
                part += 1;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            (Some(Part::Char(wanted)), Some(c)) if *wanted == c => {
                part += 1;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        // A mismatch: let the last % take one more character.
        let Some((after, from)) = retry else {
            return false;
        };
        let Some(c) = from.chars().next() else {
            return false;
        };
        part = after;
        rest = &from[c.len_utf8()..];
        retry = Some((after, rest));
    }
}

pub fn bind(name: &str, args: &[ArgInfo<'_>], _result: &SqlType) -> Binding {
    if name != "LIKE" {
        return Ok(None);
    }
    let constant_escape = args.len() == 2 || args[2].text().is_some();
    if let (Some(pattern), true) = (args[1].text(), constant_escape) {
        let pattern = Pattern::parse(pattern, args.get(2).and_then(ArgInfo::text)).map_err(ExprError::new)?;
        return Ok(Some(Function::total(move |call| {
            let strings = call.args[0].text();
            Ok(boolean_rows(call.rows, |row| strings.get(row).map(|s| pattern.matches(s))))
        })));
    }
    Ok(Some(Function::partial(like_rows)))
}

/// Patterns that differ from row to row.
fn like_rows(call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let (strings, patterns) = (call.args[0].text(), call.args[1].text());
    let mut failure = None;
    let result = boolean_rows(call.rows, |row| {
        let (text, pattern) = (strings.get(row)?, patterns.get(row)?);
        let escape = match call.args.get(2) {
            Some(escapes) => Some(escapes.text().get(row)?),
            None => None,
        };
        match Pattern::parse(pattern, escape) {
            Ok(pattern) => Some(pattern.matches(text)),
            Err(reason) => {
                failure = Some(reason);
                None
            }
        }
    });
    failure.map_or(Ok(result), |reason| Err(EvalError::user(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str, escape: Option<&str>) -> bool {
        Pattern::parse(pattern, escape).unwrap().matches(text)
    }

    #[test]
    fn patterns_match_whole_strings() {
        for (text, pattern, expected) in [
            ("abc", "abc", true),
            ("abc", "ab", false),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "%", true),
            ("", "%", true),
            ("", "", true),
            ("abc", "", false),
            ("abc", "a_c", true),
            ("aéc", "a_c", true),
            ("a\nc", "a%c", true),
            ("abbbc", "a%b_c", true),
            ("aXbXc", "%X_X%", true),
            ("ab", "%_%_%_%", false),
            ("a%c", "a%%c", true),
            ("mississippi", "m%iss%p_", true),
        ] {
            assert_eq!(like(text, pattern, None), expected, "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn the_escape_takes_the_meaning_away() {
        assert!(like("100%", "100!%", Some("!")));
        assert!(!like("1000", "100!%", Some("!")));
        assert!(like("a!b", "a!!b", Some("!")));
        assert!(like("a\\b", "a\\b", None));
        assert!(Pattern::parse("a!b", Some("!")).is_err());
        assert!(Pattern::parse("a!", Some("!")).is_err());
        assert!(Pattern::parse("a", Some("!!")).is_err());
    }
}
