//! `millstream state`: what tables there are, and how large they are.

use indicatif::{BinaryBytes, HumanCount};
use millstream_inspect::{Stored, StoredTable, TableSurvey, survey};
use serde_json::{Value, json};

use super::args::{RowFormat, SourceArguments};
use super::print::{csv_line, head, out};
use super::source::{Stop, open_one};
use crate::ask::table::aligned;
use crate::exit::Exit;

pub async fn tables(source: &SourceArguments, key_groups: bool, output: RowFormat) -> Result<Exit, Stop> {
    let stored = open_one(source).await?;
    let mut surveys = Vec::new();
    for table in StoredTable::all(&stored) {
        surveys.push(survey(&stored, table).await?);
    }
    let text = match output {
        RowFormat::Table => as_table(&stored, &surveys, key_groups),
        RowFormat::Csv => as_csv(&surveys),
        RowFormat::Json => as_json(&stored, &surveys).to_string() + "\n",
    };
    out(&text);
    Ok(Exit::Success)
}

fn as_table(stored: &Stored, surveys: &[TableSurvey], key_groups: bool) -> String {
    let mut text = head(stored);
    if surveys.is_empty() {
        return text + "\nno keyed state\n";
    }
    let columns = ["TABLE", "UID", "STATE", "ROWS", "ROW BYTES", "STORED", "SEGMENTS", "KEY GROUPS"];
    let row = |survey: &TableSurvey| {
        let used = survey.groups.iter().filter(|group| group.rows > 0).count();
        vec![
            survey.table.alias.clone(),
            survey.table.manifest.uid.0.clone(),
            survey.table.manifest.table.clone(),
            HumanCount(survey.total.rows).to_string(),
            BinaryBytes(survey.total.bytes).to_string(),
            BinaryBytes(survey.stored_bytes).to_string(),
            survey.segments.to_string(),
            used.to_string(),
        ]
    };
    text += &format!("\n{}\n\n", aligned(&columns, &surveys.iter().map(row).collect::<Vec<_>>()));
    for survey in surveys {
        text += &format!("{} ({})\n", survey.table.alias, survey.table.columns().join(", "));
    }
    if key_groups {
        text += &format!("\n{}\n", group_lines(surveys));
    }
    text
}

fn as_csv(surveys: &[TableSurvey]) -> String {
    let mut text = csv_line(["table", "uid", "state", "key_group", "rows", "bytes"]);
    for survey in surveys {
        for (group, size) in survey.groups.iter().enumerate().filter(|(_, size)| size.rows > 0) {
            let manifest = &survey.table.manifest;
            let (group, rows, bytes) = (group.to_string(), size.rows.to_string(), size.bytes.to_string());
            text += &csv_line(
                [&survey.table.alias, &manifest.uid.0, &manifest.table, &group, &rows, &bytes].map(|s| s.as_str()),
            );
        }
    }
    text
}

fn group_lines(surveys: &[TableSurvey]) -> String {
    let mut rows = Vec::new();
    for survey in surveys {
        for (group, size) in survey.groups.iter().enumerate().filter(|(_, size)| size.rows > 0) {
            let (count, bytes) = (HumanCount(size.rows).to_string(), BinaryBytes(size.bytes).to_string());
            rows.push(vec![survey.table.alias.clone(), group.to_string(), count, bytes]);
        }
    }
    aligned(&["TABLE", "KEY GROUP", "ROWS", "ROW BYTES"], &rows)
}

fn as_json(stored: &Stored, surveys: &[TableSurvey]) -> Value {
    let table = |survey: &TableSurvey| {
        let groups = survey.groups.iter().enumerate().filter(|(_, size)| size.rows > 0);
        let groups: Vec<Value> =
            groups.map(|(group, size)| json!({ "keyGroup": group, "rows": size.rows, "bytes": size.bytes })).collect();
        json!({
            "table": survey.table.alias,
            "uid": survey.table.manifest.uid,
            "state": survey.table.manifest.table,
            "columns": survey.table.columns(),
            "rows": survey.total.rows,
            "bytes": survey.total.bytes,
            "storedBytes": survey.stored_bytes,
            "segments": survey.segments,
            "keyGroups": groups,
        })
    };
    json!({
        "job": stored.job,
        "checkpoint": stored.seq(),
        "epoch": stored.manifest.epoch,
        "atMs": stored.at_ms,
        "parallelism": stored.manifest.parallelism,
        "maxParallelism": stored.manifest.max_parallelism,
        "tables": surveys.iter().map(table).collect::<Vec<_>>(),
    })
}
