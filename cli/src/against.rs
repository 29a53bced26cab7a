//! `millstream explain --against`: what would become of stored state under the job as it is now, without anybody running.
//!
//! Owns: finding the savepoint or checkpoint. Does not own: the comparison (the coordinator's), nor its words (`ask::prepare`).

use std::path::Path;
use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::log::Manifest;
use millstream_coordinator::job::{LogView, StartPoint};
use millstream_coordinator::operations::{Prepared, against};
use millstream_coordinator::savepoint::Places;
use millstream_inspect::InspectError;

use crate::args::ExplainFormat;
use crate::ask::prepare;
use crate::exit::Exit;
use crate::job_file::JobFile;
use crate::run::settings;
use crate::state::answer;
use crate::state::source::{JobStore, Stop, load_resource};

/// Prints what becomes of each transform's state. `place`: a savepoint's folder or URI, or a job's manifest; empty: the job's
/// own newest checkpoint.
pub fn explain(file: JobFile, place: &str, output: ExplainFormat) -> Exit {
    let prepared = Prepared { job: file.job, graph: Arc::new(file.compiled.graph) };
    answer(async {
        let answer = match find(&prepared.job, place).await? {
            Some(manifest) => against(&prepared, &manifest),
            None => prepare::nothing_stored(),
        };
        match output {
            ExplainFormat::Json => prepare::print_json(&answer),
            ExplainFormat::Text | ExplainFormat::Mermaid => prepare::show(&answer),
        }
        Ok(prepare::exit_of(&answer))
    })
}

async fn find(job: &FlinkJob, place: &str) -> Result<Option<Arc<Manifest>>, Stop> {
    if place.is_empty() {
        return start_point(job).await;
    }
    let path = Path::new(place);
    if path.is_file() && path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
        return start_point(&load_resource(path)?).await;
    }
    savepoint_in(job, place).await.map(Some)
}

/// What the job would go on from, if it started now. `None`: from nothing.
async fn start_point(job: &FlinkJob) -> Result<Option<Arc<Manifest>>, Stop> {
    let log = match JobStore::of(job).await? {
        Some(stored) => stored.log().await?,
        None => LogView::default(),
    };
    match log.start_point(&settings::restore(job)?) {
        StartPoint::Checkpoint(sealed) => Ok(sealed.map(|sealed| Arc::clone(&sealed.manifest))),
        StartPoint::Savepoint(uri) => savepoint_in(job, uri).await.map(Some),
        StartPoint::Missing(seq) => {
            Err(Stop::new(Exit::State, format!("spec.restore.from: {seq} is no retained checkpoint of this job")))
        }
    }
}

/// The manifest of a savepoint; S3 is reached as the job reaches it, and what is wrong ends the command as it would end the job.
async fn savepoint_in(job: &FlinkJob, place: &str) -> Result<Arc<Manifest>, Stop> {
    let read = Places { options: settings::store_options(&job.spec.checkpoint.s3) }.read(place).await;
    Ok(read.map_err(|failure| InspectError::from(failure.problem()))?.manifest)
}
