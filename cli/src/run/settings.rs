//! From the manifest to what the parts of a run want to know.

use std::path::{Path, PathBuf};

use millstream_api::flinkjob::{CheckpointSpec, FlinkJob, S3Spec, StateBackend, StateSpec};
use millstream_store::{Credentials, StoreOptions};
use millstream_worker::runtime as worker;

/// Share of the memory limit that keyed state may take, and that its pre-images may take beside it.
const STATE_SHARE: u64 = 2;
const UNDO_SHARE: u64 = 8;

/// Where the job's checkpoints are, and how to reach it.
pub fn storage(checkpoint: &CheckpointSpec, state_directory: &Path) -> (String, StoreOptions) {
    let default = || state_directory.join("checkpoints").to_string_lossy().into_owned();
    let uri = checkpoint.storage.clone().unwrap_or_else(default);
    (uri, store_options(&checkpoint.s3))
}

fn store_options(s3: &S3Spec) -> StoreOptions {
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

/// The job's folder below the store's root.
pub fn job_path(job: &FlinkJob) -> String {
    format!("{}/{}", job.metadata.namespace, job.metadata.name)
}

/// Where keyed state lives. The disk backend's scratch folder is this process's own.
pub fn state_backend(state: &StateSpec, job: &FlinkJob) -> worker::StateBackend {
    match state.backend {
        StateBackend::Memory => worker::StateBackend::Memory,
        StateBackend::Disk => {
            let parent = state.directory.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
            let name = format!("millstream-{}-{}-{}", job.metadata.namespace, job.metadata.name, std::process::id());
            worker::StateBackend::Disk { dir: parent.join(name) }
        }
    }
}

/// Bytes of keyed state and of pre-images that fit this machine or container.
pub fn state_budget_bytes() -> (u64, u64) {
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
