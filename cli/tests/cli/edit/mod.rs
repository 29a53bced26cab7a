//! Editing a job: what becomes of its state.

mod against;
mod kept;
mod migrated;
mod stored_graph;
mod under_living_workers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_api::log::{EntryKind, LogEntry, Manifest};
use millstream_coordinator::log;
use millstream_e2e::kafka::{Broker, rand_id};
use millstream_e2e::process::{Job, binary};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

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
    let mut text = format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: edited
spec:
  parallelism: {parallelism}
  state:
    backend: {backend}
  checkpoint:
    interval: 50 ms
    retained: 1
"
    );
    if !restore.is_empty() {
        writeln!(text, "  restore:\n    {restore}").unwrap();
    }
    text.push_str("  sql: |\n");
    for line in sql.lines() {
        writeln!(text, "    {line}").unwrap();
    }
    text
}

/// Topics for the `@table` in a script.
struct Topics {
    by_table: BTreeMap<String, String>,
    bootstrap: String,
}

impl Topics {
    fn create(broker: &Broker, tables: &[&str]) -> Self {
        let topic =
            |table: &&str| ((*table).to_owned(), broker.create_topic(&format!("edit-{table}"), PARTITIONS, &[]));
        Self { by_table: tables.iter().map(topic).collect(), bootstrap: broker.bootstrap.clone() }
    }

    /// `@in <table>`, `@out <table>` and `@upsert <table>` with the options of the table's topic.
    fn fill(&self, sql: &str) -> String {
        let mut text = sql.to_owned();
        for (table, topic) in &self.by_table {
            let place = format!("'topic' = '{topic}', 'properties.bootstrap.servers' = '{}'", self.bootstrap);
            let sink = format!(
                "{place}, 'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'edit-{:016x}'",
                rand_id()
            );
            let input =
                format!("'connector' = 'kafka', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset', {place}");
            let upsert = "'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json'";
            text = text
                .replace(&format!("@in {table})"), &format!("{input})"))
                .replace(&format!("@in {table},"), &format!("{input},"))
                .replace(&format!("@out {table})"), &format!("'connector' = 'kafka', 'format' = 'json', {sink})"))
                .replace(&format!("@upsert {table})"), &format!("{upsert}, {sink})"));
        }
        text
    }

    fn feed(&self, broker: &Broker, table: &str, rows: impl IntoIterator<Item = String>) {
        broker.produce(&self.by_table[table], PARTITIONS, rows);
    }
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
