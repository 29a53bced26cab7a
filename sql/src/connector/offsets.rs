//! `scan.startup.*` and `scan.bounded.*` of the kafka connector: where reading starts and ends.

use std::collections::BTreeMap;

use millstream_api::graph::{KafkaEnd, KafkaStart};

use super::options::Options;
use crate::error::{Result, SqlError};

#[derive(Clone, Copy, PartialEq)]
enum Offsets {
    Earliest,
    Latest,
    Group,
    Timestamp,
    Specific,
    Unbounded,
}

/// Options that belong to another mode than the one that is set.
fn refuse_unused(options: &mut Options<'_>, mode: &str) -> Result<()> {
    for (name, of) in [("timestamp-millis", "timestamp"), ("specific-offsets", "specific-offsets")] {
        let key = format!("{mode}.{name}");
        if let Some(option) = options.take_left(&key) {
            let message = format!("the option '{key}' has no effect without '{mode}.mode' = '{of}'");
            return Err(SqlError::at(option.position, message));
        }
    }
    Ok(())
}

pub(super) fn startup(options: &mut Options<'_>) -> Result<KafkaStart> {
    let modes = [
        ("earliest-offset", Offsets::Earliest),
        ("latest-offset", Offsets::Latest),
        ("group-offsets", Offsets::Group),
        ("timestamp", Offsets::Timestamp),
        ("specific-offsets", Offsets::Specific),
    ];
    let start = match options.choice("scan.startup.mode", &modes)? {
        Some(Offsets::Earliest) => KafkaStart::EarliestOffset,
        Some(Offsets::Latest) => KafkaStart::LatestOffset,
        Some(Offsets::Timestamp) => KafkaStart::Timestamp { millis: millis(options, "scan.startup")? },
        Some(Offsets::Specific) => KafkaStart::SpecificOffsets { offsets: specific(options, "scan.startup")? },
        _ => KafkaStart::GroupOffsets,
    };
    refuse_unused(options, "scan.startup")?;
    Ok(start)
}

pub(super) fn bounded(options: &mut Options<'_>) -> Result<Option<KafkaEnd>> {
    let modes = [
        ("unbounded", Offsets::Unbounded),
        ("latest-offset", Offsets::Latest),
        ("group-offsets", Offsets::Group),
        ("timestamp", Offsets::Timestamp),
        ("specific-offsets", Offsets::Specific),
    ];
    let end = match options.choice("scan.bounded.mode", &modes)? {
        Some(Offsets::Latest) => Some(KafkaEnd::LatestOffset),
        Some(Offsets::Group) => Some(KafkaEnd::GroupOffsets),
        Some(Offsets::Timestamp) => Some(KafkaEnd::Timestamp { millis: millis(options, "scan.bounded")? }),
        Some(Offsets::Specific) => Some(KafkaEnd::SpecificOffsets { offsets: specific(options, "scan.bounded")? }),
        _ => None,
    };
    refuse_unused(options, "scan.bounded")?;
    Ok(end)
}

fn needed(options: &Options<'_>, mode: &str, key: &str) -> SqlError {
    SqlError::at(options.position(), format!("'{mode}.mode' needs the option '{key}'"))
}

fn millis(options: &mut Options<'_>, mode: &str) -> Result<i64> {
    let key = format!("{mode}.timestamp-millis");
    options.number(&key, "milliseconds since 1970")?.ok_or_else(|| needed(options, mode, &key))
}

/// `partition:0,offset:42;partition:1,offset:300`
fn specific(options: &mut Options<'_>, mode: &str) -> Result<BTreeMap<i32, i64>> {
    let key = format!("{mode}.specific-offsets");
    let parsed = options.typed(&key, "partition:0,offset:42;partition:1,offset:300", |text| {
        let mut offsets = BTreeMap::new();
        for pair in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let (partition, offset) = pair.split_once(',')?;
            let partition: i32 = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
            let offset: i64 = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
            if partition < 0 || offset < 0 || offsets.insert(partition, offset).is_some() {
                return None;
            }
        }
        (!offsets.is_empty()).then_some(offsets)
    })?;
    parsed.ok_or_else(|| needed(options, mode, &key))
}
