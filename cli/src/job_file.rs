//! A job from its manifest file: read, checked, with its SQL compiled and every error placed in the right file.

use std::path::{Path, PathBuf};

use millstream_api::flinkjob::options::JobOptions;
use millstream_api::flinkjob::{self, Duration, FlinkJob, FlinkJobSpec};
use millstream_sql::{CompileOptions, Compiled, SqlError};

/// A manifest whose SQL compiles.
pub struct JobFile {
    /// With the script's SET statements applied to the fields that they concern.
    pub job: FlinkJob,
    pub compiled: Compiled,
}

/// Reads and compiles the job.
///
/// # Errors
/// Lines for people, each with file, line and column where they are known.
pub fn load(path: &Path) -> Result<JobFile, Vec<String>> {
    let text = read(path)?;
    let place = |message: &dyn std::fmt::Display| format!("{}:{message}", path.display());
    let mut job = flinkjob::parse(&text).map_err(|errors| errors.iter().map(|e| place(e)).collect::<Vec<_>>())?;
    let script = Script::of(&job, path, &text)?;
    let options = CompileOptions { options: manifest_options(&job.spec, path)? };
    let compiled = millstream_sql::compile(&script.text, &options)
        .map_err(|errors| errors.iter().map(|e| script.describe(e)).collect::<Vec<_>>())?;
    apply(&compiled.settings, &mut job);
    let errors = flinkjob::check(&job, &text);
    if errors.is_empty() { Ok(JobFile { job, compiled }) } else { Err(errors.iter().map(|e| place(e)).collect()) }
}

fn read(path: &Path) -> Result<String, Vec<String>> {
    std::fs::read_to_string(path).map_err(|e| vec![format!("failed to read {}: {e}", path.display())])
}

fn manifest_options(spec: &FlinkJobSpec, path: &Path) -> Result<JobOptions, Vec<String>> {
    let mut options = JobOptions::default();
    let set = |(key, value): (&String, &String)| options.set(key, value).err();
    let errors: Vec<String> =
        spec.options.iter().filter_map(set).map(|e| format!("{}: spec.options: {e}", path.display())).collect();
    if errors.is_empty() { Ok(options) } else { Err(errors) }
}

/// What the script or `spec.options` says in Flink's words goes before the manifest's own fields.
fn apply(options: &JobOptions, job: &mut FlinkJob) {
    let spec = &mut job.spec;
    let put = |value: Option<u32>, field: &mut u32| value.into_iter().for_each(|v| *field = v);
    let put_ms = |value: Option<u64>, field: &mut Duration| {
        value.into_iter().for_each(|v| *field = Duration::from_millis(v));
    };
    put(options.parallelism, &mut spec.parallelism);
    put(options.max_parallelism, &mut spec.max_parallelism);
    put(options.checkpoint_tolerable_failures, &mut spec.checkpoint.tolerable_failures);
    put(options.checkpoints_retained, &mut spec.checkpoint.retained);
    put_ms(options.checkpoint_interval_ms, &mut spec.checkpoint.interval);
    put_ms(options.checkpoint_timeout_ms, &mut spec.checkpoint.timeout);
    put_ms(options.checkpoint_min_pause_ms, &mut spec.checkpoint.min_pause);
}

/// The SQL text and where it stands.
struct Script {
    text: String,
    file: PathBuf,
    /// Added to a line and a column of the text to get those of the file.
    offset: (u32, u32),
}

impl Script {
    fn of(job: &FlinkJob, manifest: &Path, manifest_text: &str) -> Result<Self, Vec<String>> {
        if let Some(file) = &job.spec.sql_file {
            let file = manifest.parent().unwrap_or(Path::new(".")).join(file);
            return Ok(Self { text: read(&file)?, file, offset: (0, 0) });
        }
        let text = job.spec.sql.clone().unwrap_or_default();
        let offset = block_offset(manifest_text).unwrap_or((0, 0));
        Ok(Self { text, file: manifest.to_owned(), offset })
    }

    fn describe(&self, error: &SqlError) -> String {
        let (line, column) = (error.line + self.offset.0, error.column + self.offset.1);
        let mut text = format!("{}:{line}:{column}: {}", self.file.display(), error.message);
        if let Some(hint) = &error.hint {
            text.push_str("; ");
            text.push_str(hint);
        }
        text
    }
}

/// Where the text of a block scalar `sql: |` begins: lines before it, and its indentation.
fn block_offset(manifest: &str) -> Option<(u32, u32)> {
    let lines: Vec<&str> = manifest.lines().collect();
    let at = lines
        .iter()
        .position(|l| l.trim_start().strip_prefix("sql:").is_some_and(|rest| rest.trim_start().starts_with('|')))?;
    let first = lines[at + 1..].iter().find(|l| !l.trim().is_empty())?;
    let indent = first.len() - first.trim_start().len();
    Some((u32::try_from(at + 1).ok()?, u32::try_from(indent).ok()?))
}
