//! What the crash test expects: the records it feeds in, and the windows over them, computed without Millstream.

use std::collections::BTreeMap;

use super::watch::without_markers;
use crate::support::kafka::CommittedReader;

/// Event time moves 10 ms per record, windows are one second: a hundred records a window.
const WINDOW_MS: u64 = 1_000;
pub const STEP_MS: u64 = 10;
const KEYS: u64 = 23;

/// (key, window start) -> (count, sum of ids)
pub type Windows = BTreeMap<(u64, u64), (u64, u64)>;

/// The windows of the numbers below `total`, computed without Millstream. The closing records have keys of their own
/// far in the future, whose windows never close.
pub fn reference_windows(total: u64) -> Windows {
    let mut windows = Windows::new();
    for id in 0..total {
        let window = windows.entry((id % KEYS, id * STEP_MS / WINDOW_MS * WINDOW_MS)).or_default();
        window.0 += 1;
        window.1 += id;
    }
    windows
}

pub fn window_rows(reader: &CommittedReader) -> Windows {
    let mut windows = Windows::new();
    for row in without_markers(reader) {
        let number = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{name} in {row}"));
        let start = event_millis(row["window_start"].as_str().unwrap());
        let before = windows.insert((number("k"), start), (number("cnt"), number("total")));
        assert_eq!(before, None, "window twice: {row}");
    }
    windows
}

/// `2026-01-01 HH:MM:SS[.fff]` to milliseconds since the start of that day (the test stays below a day of event time).
fn event_millis(text: &str) -> u64 {
    let time = text.strip_prefix("2026-01-01 ").unwrap_or_else(|| panic!("window start {text}"));
    let mut parts = time.split(':');
    let hours: u64 = parts.next().unwrap().parse().unwrap();
    let minutes: u64 = parts.next().unwrap().parse().unwrap();
    let seconds: f64 = parts.next().unwrap_or("0").parse().unwrap();
    (hours * 3_600 + minutes * 60) * 1_000 + (seconds * 1_000.0).round() as u64
}

fn event_time(millis: u64) -> String {
    let (seconds, fraction) = (millis / 1_000, millis % 1_000);
    format!("2026-01-01 {:02}:{:02}:{:02}.{fraction:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

pub fn record(id: u64, millis: u64, key: u64) -> String {
    format!("{{\"id\":{id},\"k\":{key},\"ts\":\"{}\"}}", event_time(millis))
}

/// The record of this number.
pub fn numbered(id: u64) -> String {
    record(id, id * STEP_MS, id % KEYS)
}
