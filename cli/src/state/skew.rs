//! `millstream state skew`: which keys, key groups and tasks have more than others.

use std::cmp::Reverse;

use indicatif::{BinaryBytes, HumanCount};
use millstream_inspect::{GroupSize, StoredTable, TableSkew, Verdict, skew as weigh, task_shares, verdict};
use serde_json::{Value, json};

use super::args::{SkewArguments, SkewFormat};
use super::print::{head, out};
use super::source::{Stop, open_one};
use crate::ask::table::aligned;
use crate::exit::Exit;

pub async fn skew(arguments: &SkewArguments) -> Result<Exit, Stop> {
    let stored = open_one(&arguments.source).await?;
    let (parallelism, max_parallelism) = (stored.manifest.parallelism, stored.manifest.max_parallelism);
    let parallelism = arguments.parallelism.unwrap_or(parallelism);
    if parallelism > max_parallelism {
        let message = format!("--parallelism {parallelism}: the job's maxParallelism is {max_parallelism}");
        return Err(Stop::new(Exit::Usage, message));
    }
    let top = usize::from(arguments.top);
    let mut found = Vec::new();
    for table in StoredTable::all(&stored) {
        let skew = weigh(&stored, table, top).await?;
        let verdict = verdict(&skew, parallelism);
        found.push((skew, verdict));
    }
    let text = match arguments.output {
        SkewFormat::Json => {
            let tables: Vec<Value> = found.iter().map(|(skew, verdict)| as_json(skew, verdict, top)).collect();
            json!({ "job": stored.job, "epoch": stored.manifest.epoch, "parallelism": parallelism, "tables": tables })
                .to_string()
                + "\n"
        }
        SkewFormat::Table => {
            let tables = found.iter().map(|(skew, verdict)| as_table(skew, verdict, top)).collect::<Vec<_>>();
            let none = if tables.is_empty() { "\nno keyed state\n" } else { "" };
            format!("{}{none}{}", head(&stored), tables.concat())
        }
    };
    out(&text);
    Ok(Exit::Success)
}

/// The heaviest key groups that have anything.
fn heavy_groups(skew: &TableSkew, top: usize) -> Vec<(usize, GroupSize)> {
    let mut groups: Vec<(usize, GroupSize)> =
        skew.groups.iter().copied().enumerate().filter(|(_, size)| size.rows > 0).collect();
    groups.sort_by_key(|(group, size)| (Reverse((size.bytes, size.rows)), *group));
    groups.truncate(top);
    groups
}

fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    format!("{share:.1} %")
}

fn as_table(skew: &TableSkew, verdict: &Verdict, top: usize) -> String {
    let (rows, bytes) = (HumanCount(skew.total.rows), BinaryBytes(skew.total.bytes));
    let (alias, keys) = (&skew.table.alias, HumanCount(skew.keys));
    let mut text = format!("\n{alias}: {rows} rows of {keys} keys, {bytes}\n{verdict}\n");
    if skew.total.rows == 0 {
        return text;
    }
    let line = |name: String, size: &GroupSize| {
        let share = percent(size.bytes, skew.total.bytes);
        vec![name, HumanCount(size.rows).to_string(), BinaryBytes(size.bytes).to_string(), share]
    };
    let keys: Vec<Vec<String>> = skew
        .heavy
        .iter()
        .map(|key| {
            let mut cells = line(key.key.clone(), &key.size);
            cells.insert(1, key.group.to_string());
            cells
        })
        .collect();
    text += &format!("\n{}\n", aligned(&["KEY", "KEY GROUP", "ROWS", "ROW BYTES", "SHARE"], &keys));
    let groups = heavy_groups(skew, top);
    let groups: Vec<_> = groups.iter().map(|(group, size)| line(group.to_string(), size)).collect();
    text += &format!("\n{}\n", aligned(&["KEY GROUP", "ROWS", "ROW BYTES", "SHARE"], &groups));
    let mut tasks: Vec<(usize, GroupSize)> =
        task_shares(&skew.groups, verdict.parallelism).into_iter().enumerate().collect();
    tasks.sort_by_key(|(task, size)| (Reverse(size.bytes), *task));
    let shown = tasks.iter().take(top).map(|(task, size)| line(task.to_string(), size)).collect::<Vec<_>>();
    text + &format!("\n{}\n", aligned(&["TASK", "ROWS", "ROW BYTES", "SHARE"], &shown))
}

fn as_json(skew: &TableSkew, verdict: &Verdict, top: usize) -> Value {
    let key = |key: &millstream_inspect::HeavyKey| json!({ "key": key.key, "keyGroup": key.group, "rows": key.size.rows, "bytes": key.size.bytes });
    let sized = |name: &str, at: usize, size: &GroupSize| json!({ name: at, "rows": size.rows, "bytes": size.bytes });
    let groups = heavy_groups(skew, top);
    let tasks = task_shares(&skew.groups, verdict.parallelism);
    json!({
        "table": skew.table.alias,
        "uid": skew.table.manifest.uid,
        "state": skew.table.manifest.table,
        "rows": skew.total.rows,
        "bytes": skew.total.bytes,
        "distinctKeys": skew.keys,
        "verdict": verdict.to_string(),
        "skewed": verdict.is_skewed(),
        "largestShare": verdict.share,
        "keys": skew.heavy.iter().map(key).collect::<Vec<_>>(),
        "keyGroups": groups.iter().map(|(group, size)| sized("keyGroup", *group, size)).collect::<Vec<_>>(),
        "tasks": tasks.iter().enumerate().map(|(task, size)| sized("task", task, size)).collect::<Vec<_>>(),
    })
}
