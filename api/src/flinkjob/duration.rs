//! Durations as Flink writes them: `10 s`, `500ms`, `1 min`, `2 h`, `7 d`.
//!
//! Owns: the one reader of them, for the manifest, SET and WITH. A number without a unit means milliseconds in Flink's
//! own options; in the manifest it is refused, because people who write one mean seconds.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u64);

/// Text that is no duration of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    #[error(
        "`{0}` is not a duration: write a whole number and a unit, such as `500 ms`, `10 s`, `1 min`, `2 h` or `7 d`"
    )]
    Malformed(String),
    #[error("the duration `{0}` has no unit: write `{0} ms`, `{0} s` or `{0} min`")]
    NoUnit(u64),
}

/// What [`parse_duration_ms`] reads, for messages.
pub const DURATION_EXPECTED: &str = "a duration such as 10 s, 500 ms or 5 min";

/// Flink's durations: a whole number and a unit (`d h min s ms us ns` and their long names); without a unit, milliseconds.
/// What is finer than a millisecond is cut off.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    match unit.to_ascii_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => Some(number),
        "s" | "sec" | "secs" | "second" | "seconds" => number.checked_mul(1000),
        "m" | "min" | "minute" | "minutes" => number.checked_mul(60_000),
        "h" | "hour" | "hours" => number.checked_mul(3_600_000),
        "d" | "day" | "days" => number.checked_mul(86_400_000),
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => Some(number / 1000),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => Some(number / 1_000_000),
        _ => None,
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

impl Duration {
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    /// # Errors
    /// When the text is not a whole number with a known unit, or too large.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        match number_and_unit(text) {
            Some((number, "")) if number != 0 => Err(DurationError::NoUnit(number)),
            _ => parse_duration_ms(text).map(Duration).ok_or_else(|| DurationError::Malformed(text.to_owned())),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, millis) = match self.0 {
            0 => ("s", 1_000),
            n if n % 86_400_000 == 0 => ("d", 86_400_000),
            n if n % 3_600_000 == 0 => ("h", 3_600_000),
            n if n % 60_000 == 0 => ("min", 60_000),
            n if n % 1_000 == 0 => ("s", 1_000),
            _ => ("ms", 1),
        };
        write!(f, "{} {name}", self.0 / millis)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DurationVisitor)
    }
}

/// Refuses while the reader is still at the value: only then does its error name the field and the place.
struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DURATION_EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
        text.parse().map_err(E::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^\s*\d+\s*[A-Za-z]*\s*$", "maxLength": 40 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flinks_spellings_are_read() {
        for (text, millis) in
            [("10 s", 10_000), ("500ms", 500), ("1 min", 60_000), ("2 h", 7_200_000), ("7 d", 604_800_000), ("0", 0)]
        {
            assert_eq!(text.parse::<Duration>().map(Duration::as_millis), Ok(millis), "{text}");
        }
    }

    #[test]
    fn options_and_the_manifest_read_the_same_but_for_a_bare_number() {
        for (text, ms) in
            [("10s", 10_000), ("1 min", 60_000), ("2 days", 172_800_000), ("1500 us", 1), ("3000000 ns", 3), (" 0 ", 0)]
        {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
            assert_eq!(text.parse(), Ok(Duration(ms)), "{text}");
        }
        assert_eq!(parse_duration_ms("250"), Some(250));
        assert_eq!("250".parse::<Duration>(), Err(DurationError::NoUnit(250)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "10", "-1 s", "1.5 s", "10 parsecs", "99999999999999999999 s", "18446744073709551615 d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
            assert!(text == "10" || parse_duration_ms(text).is_none(), "{text}");
        }
    }

    #[test]
    fn display_reads_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 60_000, 3_600_000, 86_400_000, 86_400_001] {
            let d = Duration::from_millis(millis);
            assert_eq!(d.to_string().parse(), Ok(d));
        }
    }
}
