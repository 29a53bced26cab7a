//! From the manifest to what the parts of a run want to know.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_api::control::WorkerSettings;
use millstream_api::flinkjob::{CheckpointSpec, FlinkJob, RestoreSpec, S3Spec, ShuffleCompression, StateBackend};
use millstream_coordinator::job::JobConfig;
use millstream_store::{Credentials, ObjectStore, StoreOptions};
use millstream_worker::exchange::remote::{Compression, ShuffleConfig};
use millstream_worker::limits::{Budgets, Limits};
use millstream_worker::runtime as worker;

use super::Loaded;
use super::words::announce;
use crate::exit::Exit;
use crate::logging::Display;
use crate::owner;

/// Where the job's checkpoints are, as a URI or an absolute path, and how to reach it.
///
/// # Errors
/// Nothing says where: neither the manifest nor the environment; or the working directory is gone.
pub fn storage(checkpoint: &CheckpointSpec) -> Result<(String, StoreOptions), (Exit, String)> {
    let uri = match &checkpoint.storage {
        Some(uri) => uri.clone(),
        None => {
            let state = owner::state_directory()
                .map_err(|e| (Exit::Environment, format!("failed to find the state directory: {e}")))?;
            state.join("checkpoints").to_string_lossy().into_owned()
        }
    };
    Ok((resolved(&uri)?, store_options(&checkpoint.s3)))
}

/// What the job starts from, with the savepoint's path as it means the same in every process of this machine.
///
/// # Errors
/// When the working directory is gone.
pub fn restore(job: &FlinkJob) -> Result<RestoreSpec, (Exit, String)> {
    let mut restore = job.spec.restore.clone();
    if let Some(savepoint) = &mut restore.savepoint {
        *savepoint = resolved(savepoint)?;
    }
    Ok(restore)
}

/// How S3 is reached.
pub fn store_options(s3: &S3Spec) -> StoreOptions {
    let credentials = match &s3.credentials {
        None => Credentials::Chain,
        Some(c) => match (&c.access_key_id_env, &c.secret_access_key_env, &c.file) {
            (Some(id), Some(secret), _) => {
                Credentials::Variables { access_key_id: id.clone(), secret_access_key: secret.clone() }
            }
            (_, _, Some(file)) => Credentials::File { path: PathBuf::from(file), profile: c.profile.clone() },
            _ => Credentials::Chain,
        },
    };
    StoreOptions {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        path_style: s3.path_style,
        ca_file: s3.ca_file.as_ref().map(PathBuf::from),
        credentials,
        ..StoreOptions::default()
    }
}

/// A path that means the same in every process of this machine; a URI stays as it is.
///
/// # Errors
/// When the working directory is gone.
pub fn resolved(place: &str) -> Result<String, (Exit, String)> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    let absolute = std::path::absolute(place.strip_prefix("file:").unwrap_or(place));
    let absolute = absolute.map_err(|e| (Exit::Environment, format!("failed to resolve the path {place}: {e}")))?;
    Ok(absolute.to_string_lossy().into_owned())
}

/// What a worker needs to know of the job, on this machine or another.
pub fn worker_settings(loaded: &Loaded, config: &JobConfig) -> WorkerSettings {
    let (metadata, spec) = (&loaded.job.metadata, &loaded.job.spec);
    WorkerSettings {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        job_name: loaded.name.clone(),
        checkpoint: spec.checkpoint.clone(),
        state: spec.state.clone(),
        shuffle: spec.shuffle.clone(),
        // Settings that cannot work together are refused before anything runs.
        pause_after_ms: config.validate().ok().flatten().map(|timeout_ms| timeout_ms / 2),
    }
}

/// A worker of this process.
pub fn worker_config(
    told: &WorkerSettings,
    slots: u32,
    store: Arc<dyn ObjectStore>,
    shuffle: ShuffleConfig,
    display: Display,
) -> worker::WorkerConfig {
    let backend = state_backend(told);
    let limits = Limits::of_this_process();
    let budgets = limits.budgets(&backend);
    announce(display, &format!("limits: {limits}; {budgets}"));
    let Budgets { state_bytes_max, undo_bytes_max, fetch_bytes_max, io_threads } = budgets;
    worker::WorkerConfig {
        slots,
        store,
        job_path: format!("{}/{}", told.namespace, told.name),
        job_name: told.job_name.clone(),
        backend,
        state_bytes_max,
        undo_bytes_max,
        fetch_bytes_max,
        io_threads,
        shuffle: ShuffleConfig { compression: compression(told), ..shuffle },
    }
}

/// How rows are packed for other workers.
fn compression(told: &WorkerSettings) -> Compression {
    match told.shuffle.compression {
        ShuffleCompression::None => Compression::None,
        ShuffleCompression::Lz4 => Compression::Lz4,
    }
}

/// Where keyed state lives. The disk backend's scratch folder is this process's own.
fn state_backend(told: &WorkerSettings) -> worker::StateBackend {
    match told.state.backend {
        StateBackend::Memory => worker::StateBackend::Memory,
        StateBackend::Disk => {
            let parent = told.state.directory.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
            let name = format!("millstream-{}-{}-{}", told.namespace, told.name, std::process::id());
            worker::StateBackend::Disk { dir: parent.join(name) }
        }
    }
}
