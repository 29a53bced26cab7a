//! `millstream explain --against`: what would become of stored state under the job as it is now, without anybody running.
//!
//! Owns: finding the savepoint or checkpoint. Does not own: the comparison (the coordinator's), nor its words (`ask::prepare`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::ids::Seq;
use millstream_api::log::{Manifest, SAVEPOINT_OBJECT, Savepoint};
use millstream_coordinator::job::{LogView, Sealed, StoreProblemKind};
use millstream_coordinator::log::Log;
use millstream_coordinator::operations::{Prepared, against};
use millstream_store::{StoreError, StoreErrorKind};

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
        return newest_checkpoint(job).await;
    }
    let path = Path::new(place);
    if path.is_file() && path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
        let other = job_file::load(path).map_err(|errors| (Exit::InvalidJob, errors.join("\nerror: ")))?;
        return newest_checkpoint(&other.job).await;
    }
    savepoint(job, place).await.map(Some)
}

/// What the job would go on from, if it started now. `None`: from nothing.
async fn newest_checkpoint(job: &FlinkJob) -> Result<Option<Arc<Manifest>>, (Exit, String)> {
    let state = owner::state_directory()
        .map_err(|e| (Exit::Environment, format!("failed to open the state directory: {e}")))?;
    let (uri, options) = settings::storage(&job.spec.checkpoint, &state);
    if folder(&uri).is_some_and(|folder| !folder.is_dir()) {
        return Ok(None);
    }
    let store = millstream_store::open(&uri, &options).await.map_err(|e| store_failure(&e))?;
    let path = format!("{}/{}", job.metadata.namespace, job.metadata.name);
    let tail = Log::new(store, path).read_tail().await.map_err(|problem| {
        let exit = if problem.kind == StoreProblemKind::Corrupt { Exit::State } else { Exit::Environment };
        (exit, problem.message)
    })?;
    let view = LogView::of(&tail);
    let named = |seq: u64| {
        let found: Option<&Sealed> = view.sealed().iter().find(|s| s.seq == Seq(seq));
        found.ok_or_else(|| (Exit::State, format!("spec.restore.from: {seq} is no retained checkpoint of this job")))
    };
    let sealed = job.spec.restore.from.map(named).transpose()?.or_else(|| view.tip());
    Ok(sealed.map(|sealed| Arc::clone(&sealed.manifest)))
}

/// The manifest of a savepoint; S3 is reached as the job reaches it.
async fn savepoint(job: &FlinkJob, place: &str) -> Result<Arc<Manifest>, (Exit, String)> {
    let missing = || {
        let message = format!("there is no savepoint in {place}: it has no {SAVEPOINT_OBJECT}");
        (Exit::Environment, message)
    };
    let bytes = match folder(place) {
        // Opening a folder as a store would write into it.
        Some(folder) => match std::fs::read(folder.join(SAVEPOINT_OBJECT)) {
            Ok(bytes) => bytes.into(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err((Exit::Environment, format!("failed to read the savepoint in {place}: {error}"))),
        },
        None => {
            let options = settings::store_options(&job.spec.checkpoint.s3);
            let store = millstream_store::open(place, &options).await.map_err(|e| store_failure(&e))?;
            match store.get(SAVEPOINT_OBJECT).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind == StoreErrorKind::NotFound => return Err(missing()),
                Err(error) => return Err(store_failure(&error)),
            }
        }
    };
    let savepoint = Savepoint::parse(&bytes).map_err(|e| (Exit::State, format!("the savepoint in {place}: {e}")))?;
    Ok(savepoint.manifest)
}

/// The directory that a URI means, if it is one of this machine.
fn folder(uri: &str) -> Option<PathBuf> {
    if uri.starts_with("s3://") || uri.starts_with("s3a://") {
        return None;
    }
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:")).unwrap_or(uri);
    Some(PathBuf::from(path))
}

fn store_failure(error: &StoreError) -> (Exit, String) {
    let exit = if error.kind == StoreErrorKind::Corrupt { Exit::State } else { Exit::Environment };
    (exit, error.to_string())
}
