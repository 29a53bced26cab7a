//! `millstream checkpoints list`: what is retained, and which one a start goes on from.

use indicatif::BinaryBytes;
use millstream_api::ids::Seq;
use millstream_coordinator::job::{LogView, StartPoint};
use millstream_coordinator::retained::{Retained, retained, stored_bytes};
use serde_json::{Value, json};

use super::args::{CheckpointFormat, ListArguments};
use crate::ask::table::aligned;
use crate::exit::Exit;
use crate::state::print::{ago, out};
use crate::state::source::{JobStore, Stop};

pub async fn list(arguments: &ListArguments) -> Result<Exit, Stop> {
    let job = JobStore::open(&arguments.manifest).await?;
    let view = job.view().await?;
    let start = view.start_point(&job.restore);
    let found = retained(&view);
    let text = match arguments.output {
        CheckpointFormat::Json => as_json(&job, &view, &found, start).to_string() + "\n",
        CheckpointFormat::Table => as_table(&job, &view, &found, start),
    };
    out(&text);
    Ok(Exit::Success)
}

/// Whether a start goes on from this checkpoint.
fn goes_on_from(start: StartPoint<'_>, seq: Seq) -> bool {
    matches!(start, StartPoint::Checkpoint(Some(sealed)) if sealed.seq == seq)
}

fn as_table(job: &JobStore, view: &LogView, found: &[Retained], start: StartPoint<'_>) -> String {
    let mut text = format!("{} in {}: {}\n\n", job.path, job.store.describe(), state_of(view));
    let columns = ["CHECKPOINT", "EPOCH", "SEALED", "PARALLELISM", "OWN", "SHARED", "COMMITS", "A START"];
    let row = |checkpoint: &Retained| {
        let goes_on = goes_on_from(start, checkpoint.seq);
        let open = checkpoint.manifest.transactions.len();
        let commits = match (checkpoint.committed, open) {
            (true, _) => "recorded".to_owned(),
            (false, open) => format!("{open} open"),
        };
        vec![
            checkpoint.seq.to_string(),
            checkpoint.manifest.epoch.to_string(),
            ago(checkpoint.written_at_ms),
            checkpoint.manifest.parallelism.to_string(),
            BinaryBytes(checkpoint.own_bytes).to_string(),
            BinaryBytes(checkpoint.shared_bytes).to_string(),
            commits,
            if goes_on { "goes on from here".to_owned() } else { "-".to_owned() },
        ]
    };
    text += &aligned(&columns, &found.iter().map(row).collect::<Vec<_>>());
    text += &format!("\n\nall of them, each object once: {}\n", BinaryBytes(stored_bytes(view)));
    match start {
        StartPoint::Checkpoint(_) => {}
        StartPoint::Savepoint(savepoint) => text += &format!("a start goes on from savepoint {savepoint}, once\n"),
        StartPoint::Missing(named) => {
            text += &format!("a start is refused: spec.restore.from is {named}, which is not retained\n");
        }
    }
    text
}

/// Who has the job.
fn state_of(view: &LogView) -> String {
    match (view.stopped(), view.holder()) {
        (Some(reason), _) => format!("{reason:?}").to_lowercase(),
        (None, Some(holder)) => {
            format!("held by process {} on {}", holder.address.process_id, holder.address.host)
        }
        (None, None) => "nobody holds it".to_owned(),
    }
}

fn as_json(job: &JobStore, view: &LogView, found: &[Retained], start: StartPoint<'_>) -> Value {
    let one = |checkpoint: &Retained| {
        let manifest = &checkpoint.manifest;
        json!({
            "checkpoint": checkpoint.seq,
            "epoch": manifest.epoch,
            "sealedAtMs": checkpoint.written_at_ms,
            "parallelism": manifest.parallelism,
            "ownBytes": checkpoint.own_bytes,
            "sharedBytes": checkpoint.shared_bytes,
            "committed": checkpoint.committed,
            "openTransactions": if checkpoint.committed { 0 } else { manifest.transactions.len() },
            "restoredByAStart": goes_on_from(start, checkpoint.seq),
        })
    };
    json!({
        "job": job.path,
        "store": job.store.describe(),
        "state": state_of(view),
        "storedBytes": stored_bytes(view),
        "checkpoints": found.iter().map(one).collect::<Vec<_>>(),
    })
}
