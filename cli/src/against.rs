//! `millstream explain --against`: what would become of stored state under the job as it is now, without anybody running.
//!
//! Owns: finding the savepoint or checkpoint. Does not own: the comparison (the coordinator's), nor its words (`ask::prepare`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::ids::Seq;
use millstream_api::log::Manifest;
use millstream_coordinator::job::{LogView, Sealed, StoreProblem, StoreProblemKind};
use millstream_coordinator::log::{Log, problem};
use millstream_coordinator::operations::{Prepared, against};
use millstream_coordinator::savepoint::Places;

use crate::args::ExplainFormat;
use crate::ask::prepare;
use crate::exit::Exit;
use crate::job_file::{self, JobFile};
use crate::owner;
use crate::run::words::refuse;
use crate::run::{on_event_loop, settings};

/// Prints what becomes of each transform's state. `place`: a savepoint's folder or URI, or a job's manifest; empty: the job's
/// own newest checkpoint.
pub fn explain(file: JobFile, place: &str, output: ExplainFormat) -> Exit {
    let prepared = Prepared { job: file.job, graph: Arc::new(file.compiled.graph) };
    on_event_loop(async {
        let manifest = match find(&prepared.job, place).await {
            Ok(manifest) => manifest,
            Err((exit, message)) => return refuse(exit, &message),
        };
        let answer = match manifest {
            Some(manifest) => against(&prepared, &manifest),
            None => prepare::nothing_stored(),
        };
        match output {
            ExplainFormat::Json => prepare::print_json(&answer),
            ExplainFormat::Text | ExplainFormat::Mermaid => prepare::show(&answer),
        }
        prepare::exit_of(&answer)
    })
}

async fn find(job: &FlinkJob, place: &str) -> Result<Option<Arc<Manifest>>, (Exit, String)> {
    if place.is_empty() {
        return start_point(job).await;
    }
    let path = Path::new(place);
    if path.is_file() && path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
        let other = job_file::load(path).map_err(|errors| (Exit::InvalidJob, errors.join("\nerror: ")))?;
        return start_point(&other.job).await;
    }
    savepoint_in(job, place).await.map(Some)
}

/// What the job would go on from, if it started now. `None`: from nothing.
async fn start_point(job: &FlinkJob) -> Result<Option<Arc<Manifest>>, (Exit, String)> {
    let view = log_of(job).await?;
    let mut restore = job.spec.restore.clone();
    if let Some(savepoint) = &restore.savepoint {
        let uri = settings::absolute(savepoint)
            .map_err(|e| (Exit::Environment, format!("failed to resolve the savepoint's path: {e}")))?;
        restore.savepoint = Some(uri.clone());
        let name = restore.savepoint_name();
        if view.tip().is_none_or(|tip| tip.manifest.restored_savepoint != name) {
            return savepoint_in(job, &uri).await.map(Some);
        }
    }
    let named = |seq: u64| {
        let found: Option<&Sealed> = view.sealed().iter().find(|s| s.seq == Seq(seq));
        found.ok_or_else(|| (Exit::State, format!("spec.restore.from: {seq} is no retained checkpoint of this job")))
    };
    let sealed = restore.from.map(named).transpose()?.or_else(|| view.tip());
    Ok(sealed.map(|sealed| Arc::clone(&sealed.manifest)))
}

/// What the job's log says; nothing, where there is no store yet.
async fn log_of(job: &FlinkJob) -> Result<LogView, (Exit, String)> {
    let state = owner::state_directory()
        .map_err(|e| (Exit::Environment, format!("failed to open the state directory: {e}")))?;
    let (uri, options) = settings::storage(&job.spec.checkpoint, &state);
    if folder(&uri).is_some_and(|folder| !folder.is_dir()) {
        return Ok(LogView::default());
    }
    let store = millstream_store::open(&uri, &options).await.map_err(|e| told(problem(&e)))?;
    let path = format!("{}/{}", job.metadata.namespace, job.metadata.name);
    Ok(LogView::of(&Log::new(store, path).read_tail().await.map_err(told)?))
}

/// The manifest of a savepoint; S3 is reached as the job reaches it.
async fn savepoint_in(job: &FlinkJob, place: &str) -> Result<Arc<Manifest>, (Exit, String)> {
    let read = Places { options: settings::store_options(&job.spec.checkpoint.s3) }.read(place).await;
    read.map(|savepoint| savepoint.manifest).map_err(|failure| told(failure.problem()))
}

/// The directory that a URI means, if it is one of this machine.
fn folder(uri: &str) -> Option<PathBuf> {
    if uri.starts_with("s3://") || uri.starts_with("s3a://") {
        return None;
    }
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:")).unwrap_or(uri);
    Some(PathBuf::from(path))
}

fn told(problem: StoreProblem) -> (Exit, String) {
    let exit = if problem.kind == StoreProblemKind::Corrupt { Exit::State } else { Exit::Environment };
    (exit, problem.message)
}
