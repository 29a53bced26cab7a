//! The textual forms of values, as Flink reads and prints them.
//!
//! Owns: calendar arithmetic (proleptic Gregorian, as `java.time`), date, time and timestamp text, Java's printing of
//! doubles, `BigDecimal` text. Shared by the JSON format and by CAST; it knows neither Arrow nor JSON.

pub mod calendar;
pub mod decimal;
pub mod number;
pub mod time;
