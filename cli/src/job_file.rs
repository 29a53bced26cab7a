//! A job from its manifest file: read, checked, with its SQL compiled and every error placed in the right file.

use std::path::{Path, PathBuf};

use millstream_api::flinkjob::{self, FlinkJob};
use millstream_sql::{CompileOptions, Compiled, SqlError};

/// A manifest whose SQL compiles.
pub struct JobFile {
    pub job: FlinkJob,
    pub compiled: Compiled,
}

/// Reads and compiles the job.
///
/// # Errors
/// Lines for people, each with file, line and column where they are known.
pub fn load(path: &Path) -> Result<JobFile, Vec<String>> {
    let text = read(path)?;
    let job = flinkjob::parse(&text).map_err(|errors| errors.iter().map(|e| located(path, &e.to_string())).collect::<Vec<_>>())?;
    let script = Script::of(&job, path, &text)?;
    let options = CompileOptions { options: job.spec.options.clone(), ..CompileOptions::default() };
    let compiled = millstream_sql::compile(&script.text, &options)
        .map_err(|errors| errors.iter().map(|e| script.describe(e)).collect::<Vec<_>>())?;
    Ok(JobFile { job, compiled })
}

fn read(path: &Path) -> Result<String, Vec<String>> {
    std::fs::read_to_string(path).map_err(|e| vec![format!("failed to read {}: {e}", path.display())])
}

fn located(path: &Path, message: &str) -> String {
    format!("{}:{message}", path.display())
}

/// The SQL text and where it stands.
struct Script {
    text: String,
    file: PathBuf,
    /// Added to a line and a column of the text to get those of the file.
    offset: (usize, usize),
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
        let mut text = format!(
            "{}:{}:{}: {}",
            self.file.display(),
            error.line + self.offset.0,
            error.column + self.offset.1,
            error.message
        );
        if let Some(hint) = &error.hint {
            text.push_str("; ");
            text.push_str(hint);
        }
        text
    }
}

/// Where the text of a block scalar `sql: |` begins: lines before it, and its indentation.
fn block_offset(manifest: &str) -> Option<(usize, usize)> {
    let lines: Vec<&str> = manifest.lines().collect();
    let at = lines.iter().position(|l| {
        l.trim_start().strip_prefix("sql:").is_some_and(|rest| rest.trim_start().starts_with('|'))
    })?;
    let first = lines[at + 1..].iter().find(|l| !l.trim().is_empty())?;
    Some((at + 1, first.len() - first.trim_start().len()))
}
