//! Durations as Flink writes them: `10 s`, `500ms`, `1 min`, `2 h`, `7 d`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u64);

/// Text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a duration: write a whole number and a unit, such as `500 ms`, `10 s`, `1 min`, `2 h` or `7 d`")]
pub struct DurationError(String);

/// Unit names of Flink's `TimeUtils`, with their length in milliseconds.
const UNITS: &[(&[&str], u64)] = &[
    (&["ms", "milli", "millis", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "secs", "second", "seconds", ""], 1_000),
    (&["m", "min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
];

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
        let error = || DurationError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = trimmed[..digits].parse().map_err(|_| error())?;
        let unit = trimmed[digits..].trim().to_ascii_lowercase();
        // A bare number has no unit: Flink reads milliseconds, people mean seconds. So it is refused, but for 0.
        if unit.is_empty() && number != 0 {
            return Err(error());
        }
        let (_, millis) = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str())).ok_or_else(error)?;
        number.checked_mul(*millis).map(Duration).ok_or_else(error)
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
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
    fn nonsense_is_refused() {
        for text in ["", "s", "10", "-1 s", "1.5 s", "10 parsecs", "99999999999999999999 s", "18446744073709551615 d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
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
