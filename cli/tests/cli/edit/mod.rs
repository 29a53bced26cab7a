//! Editing a job: what becomes of its state.

mod against;
mod kept;
mod migrated;
mod stored_graph;
mod under_living_workers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_api::log::{EntryKind, LogEntry, Manifest};
use millstream_coordinator::log;
use millstream_e2e::process::{Job, binary};

use crate::scripts::{self, Topics};

const LIMIT: Duration = Duration::from_secs(60);

/// A job's settings beside its script.
#[derive(Clone, Copy)]
struct Settings<'a> {
    backend: &'a str,
    parallelism: u32,
    /// Lines of `spec.restore`.
    restore: &'a str,
}

const PLAIN: Settings<'_> = Settings { backend: "memory", parallelism: 2, restore: "" };

/// The manifest of the job `edited` with this script.
fn manifest(settings: Settings<'_>, sql: &str) -> String {
    let Settings { backend, parallelism, restore } = settings;
    let restore = if restore.is_empty() { String::new() } else { format!("  restore:\n    {restore}\n") };
    scripts::manifest("edited", backend, parallelism, &format!("    retained: 1\n{restore}"), sql)
}

/// Runs `explain --against`: exit code, standard output, standard error.
fn against(job: &Job, place: &[&str]) -> (i32, String, String) {
    let mut command = binary();
    command.env("MILLSTREAM_STATE_DIR", job.folder.path().join("state"));
    let output = command.arg("explain").arg(&job.manifest).arg("--against").args(place).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The job's folder in its store.
fn stored(job: &Job) -> PathBuf {
    job.folder.path().join("state/checkpoints/default/edited")
}

/// The entries of the job's log, oldest first.
fn entries(job: &Job) -> Vec<(PathBuf, LogEntry)> {
    let folder = stored(job).join("log");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let entry = log::decode(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, entry)
    };
    paths.into_iter().map(read).collect()
}

/// The newest checkpoint of a job that is at rest.
fn newest(job: &Job) -> Manifest {
    let manifests = entries(job).into_iter().filter_map(|(_, entry)| match entry.kind {
        EntryKind::Manifest(manifest) => Some(*manifest),
        _ => None,
    });
    manifests.last().expect("there is a checkpoint")
}

/// Changes every checkpoint of a job that is at rest.
fn alter(job: &Job, change: impl Fn(&mut Manifest)) {
    for (path, mut entry) in entries(job) {
        if let EntryKind::Manifest(manifest) = &mut entry.kind {
            change(manifest);
            replace(&path, &log::encode(&entry));
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}
