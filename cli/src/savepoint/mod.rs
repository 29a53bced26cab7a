//! `millstream savepoint`: taking one by the job's coordinator; listing and deleting them in their store.
//!
//! Owns: which store is meant, what people read. Does not own: what a savepoint is (`api::log`), taking it (the coordinator).

pub mod args;

use indicatif::BinaryBytes;
use millstream_api::log::{SAVEPOINT_OBJECT, Savepoint};
use millstream_api::proto::operations::v1::SavepointRequest;
use millstream_coordinator::savepoint::{Places, SavepointFailure, find};
use millstream_store::{StoreError, StoreOptions};

use self::args::{DeleteArguments, ListArguments, SavepointArguments, SavepointCommand, TakeArguments};
use crate::args::{AskedArguments, StatusFormat};
use crate::ask::{self, Words};
use crate::exit::Exit;
use crate::run::words::refuse;
use crate::run::{SAVEPOINTS_FOLDER, settings};
use crate::state::answer;
use crate::state::source::{Stop, load_resource, manifest_in};

/// Runs the command.
pub fn run(arguments: &SavepointArguments) -> Exit {
    match &arguments.command {
        Some(SavepointCommand::List(arguments)) => answer(list(arguments)),
        Some(SavepointCommand::Delete(arguments)) => answer(delete(arguments)),
        None => take(&arguments.take),
    }
}

fn take(arguments: &TakeArguments) -> Exit {
    let TakeArguments { coordinator, tls, path, stop, drain, operation_id } = arguments;
    let Some(coordinator) = coordinator.clone() else {
        return refuse(Exit::Usage, "say which coordinator is to take it: --coordinator HOST:PORT");
    };
    let asked = AskedArguments { coordinator, tls: tls.clone() };
    // A path means here what it means to whoever types it.
    let folder = match path.as_deref().map(settings::resolved).transpose() {
        Ok(folder) => folder.unwrap_or_default(),
        Err((exit, message)) => return refuse(exit, &message),
    };
    let mut flags = if folder.is_empty() { String::new() } else { format!("--path {folder} ") };
    flags += if *stop { "--stop " } else { "" };
    flags += if *drain { "--drain " } else { "" };
    let words = Words { kind: "savepoint", may_be: "taking a savepoint", flags };
    ask::operate(&asked, operation_id.as_ref(), &words, async |client, id| {
        let (operation_id, folder) = (id.to_owned(), folder.clone());
        let request = SavepointRequest { operation_id, folder, stop: *stop, drain: *drain, ..Default::default() };
        client.savepoint(request).await
    })
}

/// A savepoint in a list.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    location: String,
    id: String,
    job: String,
    taken_at_ms: i64,
    epoch: u64,
    parallelism: u32,
    max_parallelism: u32,
    bytes: u64,
}

async fn list(arguments: &ListArguments) -> Result<Exit, Stop> {
    let (uri, options) = savepoints_of(arguments)?;
    let failed = |error: StoreError| Stop::new(Exit::Environment, error.to_string());
    let store = millstream_store::open_existing(&uri, &options).await.map_err(failed)?;
    let objects = store.list("", None).await.map_err(failed)?;
    let marker = |path: &str| path == SAVEPOINT_OBJECT || path.ends_with(&format!("/{SAVEPOINT_OBJECT}"));
    let mut found = Vec::new();
    for object in objects.iter().filter(|object| marker(&object.path)) {
        let folder = object.path.trim_end_matches(SAVEPOINT_OBJECT).trim_end_matches('/');
        let location = if folder.is_empty() { uri.clone() } else { format!("{uri}/{folder}") };
        match find(&*store, folder, &location).await {
            Ok(Some(savepoint)) => found.push(listed(location, &savepoint)),
            // Deleted meanwhile.
            Ok(None) => {}
            Err(failure) => eprintln!("{failure}"),
        }
    }
    found.sort_by_key(|savepoint| savepoint.taken_at_ms);
    for savepoint in &found {
        match arguments.output {
            StatusFormat::Json => println!("{}", serde_json::to_string(savepoint).expect("numbers and texts")),
            StatusFormat::Table => println!(
                "{}  {}  checkpoint {} of {}, parallelism {}, {}",
                time(savepoint.taken_at_ms),
                savepoint.location,
                savepoint.epoch,
                savepoint.job,
                savepoint.parallelism,
                BinaryBytes(savepoint.bytes)
            ),
        }
    }
    if found.is_empty() {
        eprintln!("there is no savepoint in {uri}");
    }
    Ok(Exit::Success)
}

fn listed(location: String, savepoint: &Savepoint) -> Listed {
    let manifest = &savepoint.manifest;
    Listed {
        location,
        id: savepoint.id.clone(),
        job: savepoint.job.clone(),
        taken_at_ms: savepoint.taken_at_ms,
        epoch: manifest.epoch.0,
        parallelism: manifest.parallelism,
        max_parallelism: manifest.max_parallelism,
        bytes: manifest.object_bytes(),
    }
}

async fn delete(arguments: &DeleteArguments) -> Result<Exit, Stop> {
    let (uri, options) = (resolved(&arguments.place)?, arguments.s3.options());
    let objects = Places { options }.delete(&uri, arguments.incomplete).await.map_err(|failure| match failure {
        SavepointFailure::None { .. } if !arguments.incomplete => {
            let message = format!(
                "{uri} is no savepoint: it has no {SAVEPOINT_OBJECT}. Nothing was deleted; --incomplete deletes what one that \
                 was not completed left there"
            );
            Stop::new(Exit::Usage, message)
        }
        SavepointFailure::Store(_) => Stop::new(Exit::Environment, failure.to_string()),
        _ => Stop::new(Exit::Usage, failure.to_string()),
    })?;
    println!("{uri} and {objects} objects of it are deleted");
    Ok(Exit::Success)
}

/// Where the savepoints of a job, or in a folder, are.
fn savepoints_of(arguments: &ListArguments) -> Result<(String, StoreOptions), Stop> {
    let Some(manifest) = manifest_in(&arguments.place, &arguments.s3)? else {
        return Ok((resolved(&arguments.place)?, arguments.s3.options()));
    };
    let job = load_resource(manifest)?;
    let (uri, options) = settings::storage(&job.spec.checkpoint)?;
    Ok((format!("{}/{}/{SAVEPOINTS_FOLDER}", uri.trim_end_matches('/'), job.path()), options))
}

fn resolved(place: &str) -> Result<String, Stop> {
    Ok(settings::resolved(place.trim_end_matches('/'))?)
}

/// UTC.
fn time(at_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
