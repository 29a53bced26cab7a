//! From the manifest to what the parts of a run want to know.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_api::control::WorkerSettings;
use millstream_api::flinkjob::{CheckpointSpec, S3Spec, ShuffleCompression, StateBackend};
use millstream_coordinator::job::JobConfig;
use millstream_store::{Credentials, ObjectStore, StoreOptions};
use millstream_worker::exchange::remote::{Compression, ShuffleConfig};
use millstream_worker::limits::{Budgets, Limits};
use millstream_worker::runtime as worker;

use super::Loaded;
use super::words::announce;
use crate::logging::Display;

/// Where the job's checkpoints are, and how to reach it.
pub fn storage(checkpoint: &CheckpointSpec, state_directory: &Path) -> (String, StoreOptions) {
    let default = || state_directory.join("checkpoints").to_string_lossy().into_owned();
    let uri = checkpoint.storage.clone().unwrap_or_else(default);
    (uri, store_options(&checkpoint.s3))
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
pub fn absolute(storage: &str) -> std::io::Result<String> {
    if storage.contains("://") {
        return Ok(storage.to_owned());
    }
    Ok(std::path::absolute(storage)?.to_string_lossy().into_owned())
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
