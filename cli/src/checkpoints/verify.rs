//! `millstream checkpoints verify`: is everything there, and what is left if not.

use std::io::IsTerminal;

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use millstream_api::ids::Seq;
use millstream_coordinator::job::LogView;
use millstream_coordinator::log::Log;
use millstream_coordinator::retained::LogReading;
use millstream_inspect::{Damage, Stored, Verified, verify as read_all};
use serde_json::{Value, json};

use super::args::{CheckpointFormat, VerifyArguments};
use crate::exit::Exit;
use crate::state::print::out;
use crate::state::source::{JobStore, Opened, Stop, open};

pub async fn verify(arguments: &VerifyArguments) -> Result<Exit, Stop> {
    let (log, checkpoints) = match open(&arguments.source).await? {
        Opened::Savepoint(stored) => (Vec::new(), vec![*stored]),
        Opened::Job(job) => of_job(&job, arguments.source.checkpoint).await?,
    };
    let bar = progress_bar();
    let answers = read_all(&checkpoints, |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
    })
    .await?;
    bar.finish_and_clear();
    let report = Report { log, found: checkpoints.into_iter().zip(answers).collect() };
    let text = match arguments.output {
        CheckpointFormat::Json => report.as_json().to_string() + "\n",
        CheckpointFormat::Table => report.as_text(),
    };
    out(&text);
    Ok(if report.is_whole() { Exit::Success } else { Exit::State })
}

/// What is wrong with the log, and the checkpoints in it that can be looked at.
async fn of_job(job: &JobStore, seq: Option<u64>) -> Result<(Vec<String>, Vec<Stored>), Stop> {
    if seq.is_some() {
        return Ok((Vec::new(), vec![job.checkpoint(&job.view().await?, seq)?]));
    }
    let log = Log::new(job.store.clone(), job.path.clone());
    let reading = LogReading::of(&log).await.map_err(millstream_inspect::InspectError::from)?;
    let view = LogView::of(&reading.tail());
    let mut wrong: Vec<String> = reading.unread.iter().map(|entry| entry.reason.clone()).collect();
    wrong.extend(reading.gaps());
    if view.sealed().is_empty() && wrong.is_empty() {
        let message = format!("job {} has no checkpoint in {}", job.path, job.store.describe());
        return Err(Stop::new(Exit::Environment, message));
    }
    Ok((wrong, view.sealed().iter().map(|sealed| Stored::checkpoint(&job.store, &job.path, sealed)).collect()))
}

/// On a terminal; elsewhere nothing is drawn.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
    );
    ProgressBar::new(0).with_style(style.expect("the template is well formed"))
}

struct Report {
    /// What is wrong with the log.
    log: Vec<String>,
    found: Vec<(Stored, Verified)>,
}

impl Report {
    fn is_whole(&self) -> bool {
        self.log.is_empty() && self.found.iter().all(|(_, verified)| verified.damages.is_empty() || verified.dropped)
    }

    fn as_text(&self) -> String {
        let mut text: String = self.log.iter().map(|wrong| format!("DAMAGED  {wrong}\n")).collect();
        for (stored, verified) in &self.found {
            let (objects, bytes) = (verified.objects, BinaryBytes(verified.bytes));
            let state = match (verified.dropped, verified.damages.is_empty()) {
                (true, _) => "dropped ",
                (false, true) => "whole   ",
                (false, false) => "DAMAGED ",
            };
            text += &format!("{state} {}: {objects} objects, {bytes}\n", stored.title());
            if !verified.dropped {
                text.extend(verified.damages.iter().map(damage_line));
            }
        }
        text + &self.conclusion() + "\n"
    }

    /// What to do.
    fn conclusion(&self) -> String {
        let Some((newest, verified)) = self.found.last() else {
            return "no checkpoint can be read: restore the log from a copy of the store".to_owned();
        };
        if self.is_whole() {
            return "everything is as it was written".to_owned();
        }
        if newest.seq().is_none() {
            return "this savepoint cannot be restored: take it from a copy".to_owned();
        }
        let whole =
            self.found.iter().rev().filter(|(_, verified)| verified.is_whole()).find_map(|(stored, _)| stored.seq());
        if !self.log.is_empty() {
            let whole = whole.map_or(String::new(), |seq| format!("; the state of checkpoint {seq} is whole"));
            return format!("no start goes on until the log is mended from a copy of the store{whole}");
        }
        match whole {
            _ if verified.damages.is_empty() => {
                "a start goes on from the newest checkpoint, which is whole; the damaged ones go by themselves"
                    .to_owned()
            }
            Some(Seq(seq)) => format!(
                "the newest checkpoint that is whole is {seq}: bring the objects back from a copy of the store, or set \
                 spec.restore.from: {seq}"
            ),
            None => "no checkpoint is whole: bring the objects back from a copy of the store, or restore a savepoint"
                .to_owned(),
        }
    }

    fn as_json(&self) -> Value {
        let damage = |damage: &Damage| {
            json!({
                "uid": damage.uid,
                "state": damage.table,
                "firstGroup": damage.first_group,
                "endGroup": damage.end_group,
                "reason": damage.reason,
            })
        };
        let one = |(stored, verified): &(Stored, Verified)| {
            json!({
                "checkpoint": stored.seq(),
                "job": stored.job,
                "epoch": stored.manifest.epoch,
                "whole": verified.is_whole(),
                "dropped": verified.dropped,
                "objects": verified.objects,
                "bytes": verified.bytes,
                "damages": verified.damages.iter().map(damage).collect::<Vec<_>>(),
            })
        };
        json!({
            "whole": self.is_whole(),
            "log": self.log,
            "checkpoints": self.found.iter().map(one).collect::<Vec<_>>(),
            "conclusion": self.conclusion(),
        })
    }
}

fn damage_line(damage: &Damage) -> String {
    let Damage { uid, table, first_group, end_group, reason } = damage;
    let last = end_group.saturating_sub(1);
    format!("         key groups {first_group} to {last} of {uid}, {table}: {reason}\n")
}
