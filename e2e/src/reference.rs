//! What a job of numbers is to give: the records it feeds in, and the windows over them, computed without Millstream.

use std::collections::{BTreeMap, HashSet};

use crate::kafka::CommittedReader;
use crate::watch::without_markers;

/// Event time moves 10 ms per record, windows are one second: a hundred records a window.
const WINDOW_MS: u64 = 1_000;
pub const STEP_MS: u64 = 10;
const KEYS: u64 = 23;
/// Of the input. All numbers of a key are in one of them, so that their order means something.
pub const PARTITIONS: i32 = 4;

/// Of many mistakes so many are shown.
const SHOWN_MAX: usize = 10;

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

/// The record of this number, and the partition that it goes to.
pub fn numbered(id: u64) -> (i32, String) {
    let key = id % KEYS;
    let partition = i32::try_from(key).unwrap() % PARTITIONS;
    (partition, record(id, id * STEP_MS, key))
}

/// Checks that each number is there once, and each key's in the order in which they went in.
pub fn check_copies(test: &str, reader: &CommittedReader, count: u64) {
    let mut last_of_key: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ids = HashSet::new();
    for row in without_markers(reader) {
        let (key, id) = (row["k"].as_u64().unwrap(), row["id"].as_u64().unwrap());
        assert!(ids.insert(id), "{test}: number {id} twice");
        let last = last_of_key.insert(key, id);
        assert!(last < Some(id), "{test}: of key {key}, number {id} came after {last:?}");
    }
    let lost: Vec<u64> = (0..count).filter(|id| !ids.contains(id)).take(SHOWN_MAX).collect();
    assert!(lost.is_empty(), "{test}: {} of {count} numbers are there, lost ones are {lost:?}", ids.len());
    assert_eq!(u64::try_from(ids.len()).unwrap(), count, "{test}: numbers that nobody wrote");
}
