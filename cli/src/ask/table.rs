//! A job's status as tables for people.
//!
//! Owns: columns, units, what is left out. Does not own: the values.

use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount, HumanDuration};
use millstream_api::proto::operations::v1::{
    Checkpoint, CheckpointState, Checkpoints, JobState, JobStatus, Split, SplitUnit, Task, Worker,
};

/// Splits that are shown, those that are furthest behind; all are in the JSON.
const SPLITS_SHOWN_MAX: usize = 20;
/// Checkpoints and failures that are shown, the newest.
const RECENT_SHOWN_MAX: usize = 5;
/// Width of a chain's name.
const NAME_CHARS_MAX: usize = 48;

/// The whole page, without a line end.
pub fn render(status: &JobStatus) -> String {
    let mut parts = vec![head(status)];
    if let Some(checkpoints) = &status.checkpoints {
        parts.push(checkpoint_lines(checkpoints, status.at_ms));
    }
    parts.push(tasks(status));
    if !status.splits.is_empty() {
        parts.push(splits(status));
    }
    let late = status.transforms.iter().filter(|t| t.late_records > 0);
    let late: Vec<String> = late.map(|t| format!("late records  {}: {}", t.name, HumanCount(t.late_records))).collect();
    if !late.is_empty() {
        parts.push(late.join("\n"));
    }
    if !status.failures.is_empty() {
        parts.push(failures(status));
    }
    parts.join("\n\n")
}

fn head(status: &JobStatus) -> String {
    let mut line = format!("{}  {}", status.job, state_text(status.state()));
    if let Some(generation) = status.generation {
        line += &format!("  generation {generation}");
    }
    line += &format!("  parallelism {}", status.parallelism);
    if status.parallelism < status.parallelism_wanted {
        line += &format!(" of {}", status.parallelism_wanted);
    }
    if status.slots_missing > 0 {
        line += &format!("  {} slots missing", status.slots_missing);
    }
    if status.restarts > 0 {
        line += &format!("  {} restarts", status.restarts);
    }
    if status.sources_paused {
        line += "  sources paused";
    }
    let mut lines = vec![line];
    let coordinators = status.coordinators.iter().map(|c| {
        let address = if c.address.is_empty() { String::new() } else { format!(" {}", c.address) };
        let rules = if c.ruling { "" } else { " (stands by)" };
        format!("process {} on {}{address}{rules}", c.process_id, c.host)
    });
    lines.push(format!("coordinator  {}", coordinators.collect::<Vec<_>>().join(", ")));
    let workers: Vec<String> = status.workers.iter().map(worker).collect();
    if let Some(change) = &status.change {
        let to =
            change.parallelism.map_or("tasks move".to_owned(), |parallelism| format!("to parallelism {parallelism}"));
        lines.push(format!("change       {to}: {}", change.doing));
    }
    lines.push(format!("workers      {}", if workers.is_empty() { "none".to_owned() } else { workers.join(", ") }));
    lines.join("\n")
}

fn worker(worker: &Worker) -> String {
    format!("{} {} ({} of {} slots free)", worker.id, worker.name, worker.slots_free, worker.slots)
}

fn checkpoint_lines(checkpoints: &Checkpoints, now_ms: u64) -> String {
    let Checkpoints { completed, failed, .. } = checkpoints;
    let mut line = format!("checkpoints  {completed} completed, {failed} failed");
    if let Some(epoch) = checkpoints.restored_epoch {
        line += &format!(", began from {epoch}");
    }
    if let (Some(epoch), Some(since)) = (checkpoints.in_flight_epoch, checkpoints.in_flight_since_ms) {
        line += &format!(", {epoch} in flight for {}", millis(now_ms.saturating_sub(since)));
    }
    let recent = checkpoints.history.iter().rev().take(RECENT_SHOWN_MAX);
    let rows = recent.map(|c| checkpoint_row(c, now_ms)).collect::<Vec<_>>();
    if rows.is_empty() {
        return line;
    }
    let columns = ["EPOCH", "STATE", "AGE", "DURATION", "BYTES", "STATE BYTES", "ALIGNMENT", "STALL", "SLOWEST"];
    format!("{line}\n{}", aligned(&columns, &rows))
}

fn checkpoint_row(checkpoint: &Checkpoint, now_ms: u64) -> Vec<String> {
    let ended = checkpoint.triggered_at_ms + checkpoint.duration_ms;
    let max = |of: fn(&millstream_api::proto::operations::v1::TaskCheckpoint) -> u64| {
        checkpoint.tasks.iter().map(of).max().map_or("-".to_owned(), micros)
    };
    let state = match checkpoint.state() {
        CheckpointState::Completed => "completed",
        CheckpointState::Aborted => "aborted",
        CheckpointState::Unspecified => "?",
    };
    let slowest = checkpoint.tasks.first().map(|t| format!("{} {}", t.task, millis(t.acknowledged_after_ms)));
    vec![
        checkpoint.epoch.to_string(),
        state.to_owned(),
        age(now_ms.saturating_sub(ended)),
        millis(checkpoint.duration_ms),
        BinaryBytes(checkpoint.bytes).to_string(),
        BinaryBytes(checkpoint.state_bytes).to_string(),
        max(|t| t.alignment_us),
        max(|t| t.stall_us),
        slowest.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn tasks(status: &JobStatus) -> String {
    let row = |task: &Task| {
        vec![
            task.id.clone(),
            shortened(&task.name),
            format!("{:?}", task.state()).to_lowercase(),
            task.worker.map_or("-".to_owned(), |worker| worker.to_string()),
            per_second(task.records_in_per_second),
            per_second(task.records_out_per_second),
            percent(task.busy_share),
            percent(task.backpressured_share),
            percent(task.idle_share),
            behind(task.watermark_ms, status.at_ms),
        ]
    };
    let rows: Vec<Vec<String>> = status.tasks.iter().map(row).collect();
    let columns =
        ["TASK", "NAME", "STATE", "WORKER", "IN/S", "OUT/S", "BUSY", "BACK-PRESSURE", "IDLE", "EVENT TIME BEHIND"];
    let left = u64::from(status.tasks_total).saturating_sub(rows.len() as u64);
    aligned(&columns, &rows) + &left_out(left, "tasks")
}

fn splits(status: &JobStatus) -> String {
    let row = |split: &Split| {
        let unit = |n: u64| match split.unit() {
            SplitUnit::Bytes => BinaryBytes(n).to_string(),
            SplitUnit::Records | SplitUnit::Unspecified => n.to_string(),
        };
        let known = |n: Option<u64>| n.map_or("-".to_owned(), unit);
        let state = match (split.finished, split.idle) {
            (true, _) => "finished",
            (false, true) => "idle",
            (false, false) => "active",
        };
        vec![
            split.name.clone(),
            split.task.clone(),
            state.to_owned(),
            unit(split.position),
            known(split.end),
            known(split.lag),
            behind(split.watermark_ms, status.at_ms),
        ]
    };
    let rows: Vec<Vec<String>> = status.splits.iter().take(SPLITS_SHOWN_MAX).map(row).collect();
    let columns = ["SPLIT", "TASK", "STATE", "POSITION", "END", "LAG", "EVENT TIME BEHIND"];
    let lag = status.lag_records.map(|lag| format!("lag          {} records\n", HumanCount(lag))).unwrap_or_default();
    let left = u64::from(status.splits_total).saturating_sub(rows.len() as u64);
    lag + &aligned(&columns, &rows) + &left_out(left, "splits")
}

fn failures(status: &JobStatus) -> String {
    let recent = status.failures.iter().rev().take(RECENT_SHOWN_MAX);
    let line = |at_ms: u64, reason: &str| format!("failed {} ago: {reason}", age(status.at_ms.saturating_sub(at_ms)));
    recent.map(|failure| line(failure.at_ms, &failure.reason)).collect::<Vec<_>>().join("\n")
}

fn left_out(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!("\nand {} more {what}", HumanCount(count)) }
}

/// Columns as wide as their widest cell, two spaces between, none at the end of a line.
pub fn aligned(columns: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([columns[at].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: String = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        padded.trim_end().to_owned()
    };
    let head = line(&mut columns.iter().copied());
    let rows = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

fn state_text(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "?",
        JobState::Starting => "starting",
        JobState::AwaitingSlots => "awaiting slots",
        JobState::Restoring => "restoring",
        JobState::Running => "running",
        JobState::Restarting => "restarting",
        JobState::Stopping => "stopping",
        JobState::Finished => "finished",
        JobState::Stopped => "stopped",
        JobState::Failed => "failed",
        JobState::Fenced => "fenced",
        JobState::StandingBy => "standing by",
        JobState::TakingOver => "taking over",
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        None => name.to_owned(),
        Some((at, _)) => format!("{}…", &name[..at]),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

fn per_second(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| HumanCount(rate.round() as u64).to_string())
}

/// How far a time of events is behind the coordinator's clock.
fn behind(watermark_ms: Option<i64>, now_ms: u64) -> String {
    let Some(watermark) = watermark_ms else { return "-".to_owned() };
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    u64::try_from(now.saturating_sub(watermark)).map_or("ahead".to_owned(), age)
}

pub fn age(ms: u64) -> String {
    HumanDuration(Duration::from_secs(ms / 1_000)).to_string()
}

fn millis(ms: u64) -> String {
    format!("{ms} ms")
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{:.1} ms", us as f64 / 1_000.0) } else { millis(us / 1_000) }
}

#[cfg(test)]
mod tests {
    use millstream_api::proto::operations::v1::{TaskCheckpoint, TaskState};

    use super::*;

    #[test]
    fn a_status_reads_as_tables() {
        let task = Task {
            id: "0/0".to_owned(),
            name: "orders -> totals".to_owned(),
            worker: Some(3),
            state: TaskState::Running.into(),
            records_in_per_second: Some(12_345.4),
            busy_share: Some(0.254),
            ..Task::default()
        };
        let checkpoint = Checkpoint {
            epoch: 7,
            state: CheckpointState::Completed.into(),
            triggered_at_ms: 10_000,
            duration_ms: 250,
            bytes: 2_048,
            tasks: vec![TaskCheckpoint { task: "0/0".to_owned(), stall_us: 1_250, ..TaskCheckpoint::default() }],
            ..Checkpoint::default()
        };
        let split = Split { name: "in/1".to_owned(), position: 5, end: Some(9), lag: Some(4), ..Split::default() };
        let text = render(&JobStatus {
            job: "default/copy".to_owned(),
            state: JobState::Running.into(),
            parallelism: 1,
            parallelism_wanted: 2,
            slots_missing: 1,
            at_ms: 15_250,
            checkpoints: Some(Checkpoints { completed: 8, history: vec![checkpoint], ..Checkpoints::default() }),
            tasks: vec![task],
            tasks_total: 3,
            splits: vec![split],
            splits_total: 1,
            lag_records: Some(4),
            ..JobStatus::default()
        });
        let expected = "default/copy  running  parallelism 1 of 2  1 slots missing";
        assert_eq!(text.lines().next(), Some(expected), "{text}");
        for line in [
            "7      completed  5 seconds  250 ms    2.00 KiB  0 B          0.0 ms     1.2 ms  0/0 0 ms",
            "0/0   orders -> totals  running  3       12,345  -      25 %  -              -     -",
            "and 2 more tasks",
            "in/1         active  5         9    4    -",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` in\n{text}");
        }
    }
}
