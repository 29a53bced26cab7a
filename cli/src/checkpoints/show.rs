//! `millstream checkpoints show`: what is in one checkpoint, as its manifest says. No segment is read.

use indicatif::{BinaryBytes, HumanCount};
use millstream_api::log::{Manifest, SegmentContent, TableManifest};
use millstream_inspect::Stored;
use serde_json::{Value, json};

use super::args::{CheckpointFormat, ShowArguments};
use crate::ask::table::aligned;
use crate::exit::Exit;
use crate::state::print::{ago, head, out};
use crate::state::source::{Stop, open_one};

/// Before the first watermark, and after the end of input.
const NO_WATERMARK: i64 = i64::MIN;
const END_OF_INPUT: i64 = i64::MAX;

pub async fn show(arguments: &ShowArguments) -> Result<Exit, Stop> {
    let stored = open_one(&arguments.source).await?;
    let text = match arguments.output {
        CheckpointFormat::Json => as_json(&stored).to_string() + "\n",
        CheckpointFormat::Table => as_table(&stored),
    };
    out(&text);
    Ok(Exit::Success)
}

fn as_table(stored: &Stored) -> String {
    let manifest = &stored.manifest;
    let mut parts = vec![head(stored).trim_end().to_owned()];
    parts.push(section("no keyed state", &["UID", "STATE", "SEGMENTS", "CHANGES", "STORED"], tables(manifest)));
    parts.push(section("no splits", &["SOURCE", "SPLIT", "POSITION", "WATERMARK", "STATE"], splits(manifest)));
    parts.push(section("no watermarks", &["TASKS OF", "WATERMARKS"], watermarks(manifest)));
    parts.push(section(
        "no transactions",
        &["TRANSACTION", "EPOCH", "SINK", "TOPIC"],
        manifest
            .transactions
            .iter()
            .map(|t| vec![t.transactional_id.clone(), t.epoch.to_string(), t.uid.to_string(), t.topic.clone()])
            .collect(),
    ));
    let committed = manifest.committed_through.map_or("nothing yet".to_owned(), |epoch| format!("epoch {epoch}"));
    parts.push(format!("commits recorded through: {committed}"));
    parts.join("\n\n") + "\n"
}

fn section(none: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { none.to_owned() } else { aligned(columns, &rows) }
}

fn tables(manifest: &Manifest) -> Vec<Vec<String>> {
    let row = |table: &TableManifest| {
        let changes = table.segments.iter().map(|s| s.rows).sum();
        vec![
            table.uid.to_string(),
            table.table.clone(),
            table.segments.len().to_string(),
            HumanCount(changes).to_string(),
            BinaryBytes(stored_bytes(table)).to_string(),
        ]
    };
    manifest.tables.iter().map(row).collect()
}

fn stored_bytes(table: &TableManifest) -> u64 {
    let bytes = |content: &SegmentContent| match content {
        SegmentContent::Object(object) => object.bytes,
        SegmentContent::Inline { data } => data.len() as u64,
    };
    table.segments.iter().map(|segment| bytes(&segment.content)).sum()
}

fn splits(manifest: &Manifest) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (uid, splits) in &manifest.splits {
        for split in splits {
            let state = match (split.finished, split.idle) {
                (true, _) => "finished",
                (false, true) => "idle",
                (false, false) => "active",
            };
            let watermark = watermark_text(split.watermark.unwrap_or(NO_WATERMARK));
            rows.push(vec![
                uid.to_string(),
                split.split.clone(),
                split.position.to_string(),
                watermark,
                state.to_owned(),
            ]);
        }
    }
    rows
}

fn watermarks(manifest: &Manifest) -> Vec<Vec<String>> {
    let text = |watermarks: &Vec<i64>| watermarks.iter().copied().map(watermark_text).collect::<Vec<_>>().join(" ");
    manifest.watermarks.iter().map(|(uid, watermarks)| vec![uid.to_string(), text(watermarks)]).collect()
}

/// Epoch ms, and how long ago that is.
fn watermark_text(watermark: i64) -> String {
    match watermark {
        NO_WATERMARK => "-".to_owned(),
        END_OF_INPUT => "end".to_owned(),
        at_ms => format!("{at_ms} ({})", ago(at_ms)),
    }
}

fn as_json(stored: &Stored) -> Value {
    let manifest = &stored.manifest;
    let table = |table: &TableManifest| {
        json!({
            "uid": table.uid,
            "state": table.table,
            "key": table.key,
            "value": table.value,
            "storedBytes": stored_bytes(table),
            "segments": table.segments.iter().map(segment).collect::<Vec<_>>(),
        })
    };
    json!({
        "job": stored.job,
        "checkpoint": stored.seq(),
        "epoch": manifest.epoch,
        "atMs": stored.at_ms,
        "parallelism": manifest.parallelism,
        "maxParallelism": manifest.max_parallelism,
        "tables": manifest.tables.iter().map(table).collect::<Vec<_>>(),
        "splits": manifest.splits,
        "watermarks": manifest.watermarks,
        "operatorState": manifest.operator_state,
        "finishedTasks": manifest.finished_tasks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "transactions": manifest.transactions,
        "committedThrough": manifest.committed_through,
    })
}

fn segment(segment: &millstream_api::log::Segment) -> Value {
    let (path, bytes) = match &segment.content {
        SegmentContent::Object(object) => (Some(&object.path), object.bytes),
        SegmentContent::Inline { data } => (None, data.len() as u64),
    };
    json!({
        "epoch": segment.epoch,
        "firstGroup": segment.first_group,
        "endGroup": segment.end_group,
        "rows": segment.rows,
        "path": path,
        "bytes": bytes,
    })
}
