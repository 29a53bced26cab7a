//! From the manifest to what the parts of a run want to know.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_api::control::WorkerSettings;
use millstream_api::flinkjob::{CheckpointSpec, S3Spec, StateBackend};
use millstream_coordinator::job::JobConfig;
use millstream_store::{Credentials, ObjectStore, StoreOptions};
use millstream_worker::exchange::remote::ShuffleConfig;
use millstream_worker::runtime as worker;

use super::Loaded;

/// Threads for the store and the brokers: they wait, mostly.
const IO_THREADS: usize = 2;

/// Share of the memory limit that keyed state may take, and that its pre-images may take beside it.
const STATE_SHARE: u64 = 2;
const UNDO_SHARE: u64 = 8;

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
) -> worker::WorkerConfig {
    let (state_bytes_max, undo_bytes_max) = state_budget_bytes();
    worker::WorkerConfig {
        slots,
        store,
        job_path: format!("{}/{}", told.namespace, told.name),
        job_name: told.job_name.clone(),
        backend: state_backend(told),
        state_bytes_max,
        undo_bytes_max,
        io_threads: IO_THREADS,
        shuffle,
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

/// Bytes of keyed state and of pre-images that fit this machine or container.
fn state_budget_bytes() -> (u64, u64) {
    let limit = memory_limit_bytes();
    (limit / STATE_SHARE, limit / UNDO_SHARE)
}

/// The smaller of the machine's memory and the limit of the control group (v2 or v1).
fn memory_limit_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let kilobytes = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.trim().trim_end_matches(" kB");
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    });
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| read(path)?.trim().parse::<u64>().ok());
    // Neither is readable only where /proc is not mounted: a cautious guess.
    machine.into_iter().chain(group).min().unwrap_or(1 << 30)
}
