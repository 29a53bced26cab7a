//! A job from its manifest file: read, checked, with its SQL compiled and every error placed in the right file.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_api::flinkjob::options::JobOptions;
use millstream_api::flinkjob::{self, Duration, FlinkJob, ManifestError};
use millstream_api::log::Owner;
use millstream_coordinator::job::ConfigError;
use millstream_coordinator::runtime::{job_config, own_address};
use millstream_sql::{CompileOptions, Compiled, Position, SqlError, StatementInfoKind};

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
    compile(&Manifest { path, text: read(path)? }, &SqlFile::OnDisk)
}

/// Compiles texts that came from elsewhere: no file is read. `sql`: the script, where the manifest names a file.
///
/// # Errors
/// Likewise; the manifest is called `manifest` and the script by the name that the manifest gives it.
pub fn load_texts(manifest: &str, sql: Option<&str>) -> Result<JobFile, Vec<String>> {
    let manifest = Manifest { path: Path::new(MANIFEST), text: manifest.to_owned() };
    compile(&manifest, &SqlFile::Given(sql))
}

/// Reads the manifest alone, for whoever only wants to find the job's checkpoints: its SQL need not compile.
///
/// # Errors
/// Lines for people.
pub fn load_resource(path: &Path) -> Result<FlinkJob, Vec<String>> {
    let manifest = Manifest { path, text: read(path)? };
    flinkjob::parse(&manifest.text).map_err(|errors| errors.iter().map(|e| manifest.line(e)).collect())
}

/// The texts of a job for whoever compiles them elsewhere.
pub struct Texts {
    pub manifest: String,
    /// The script, where the manifest names a file, and that file.
    pub sql: Option<(PathBuf, String)>,
    /// The file as the manifest names it.
    sql_file: Option<String>,
}

/// Reads the files of a job, and compiles nothing. What cannot be read as a manifest has no script.
///
/// # Errors
/// Lines for people: a file is not there.
pub fn read_texts(path: &Path) -> Result<Texts, Vec<String>> {
    let manifest = read(path)?;
    let sql_file = flinkjob::parse(&manifest).ok().and_then(|job| job.spec.sql_file);
    let sql = match &sql_file {
        Some(file) => {
            let file = beside(path, file);
            let text = read(&file)?;
            Some((file, text))
        }
        None => None,
    };
    Ok(Texts { manifest, sql, sql_file })
}

impl Texts {
    /// A line that [`load_texts`] gave elsewhere, with the files as they are called here.
    pub fn called_here(&self, path: &Path, line: &str) -> String {
        let here = |called: &str, file: &Path| {
            Some(format!("{}:{}", file.display(), line.strip_prefix(called)?.strip_prefix(':')?))
        };
        let script = self.sql_file.as_deref().zip(self.sql.as_ref()).and_then(|(called, (file, _))| here(called, file));
        script.or_else(|| here(MANIFEST, path)).unwrap_or_else(|| line.to_owned())
    }
}

/// What a manifest that came as a text is called.
const MANIFEST: &str = "manifest";

/// A file that the manifest names.
fn beside(manifest: &Path, file: &str) -> PathBuf {
    manifest.parent().unwrap_or(Path::new(".")).join(file)
}

/// Where the script of a manifest that names its file comes from.
enum SqlFile<'a> {
    OnDisk,
    Given(Option<&'a str>),
}

fn compile(manifest: &Manifest<'_>, sql_file: &SqlFile<'_>) -> Result<JobFile, Vec<String>> {
    let mut job = flinkjob::parse(&manifest.text)
        .map_err(|errors| errors.iter().map(|e| manifest.line(e)).collect::<Vec<_>>())?;
    let script = Script::of(&job, manifest, sql_file)?;
    let options = CompileOptions { options: manifest.options(&job)? };
    let compiled = millstream_sql::compile(&script.text, &options)
        .map_err(|errors| errors.iter().map(|e| script.describe(e)).collect::<Vec<_>>())?;
    apply(&compiled.settings, &mut job);
    let errors = WithOptions { manifest, script: &script, job: &job, compiled: &compiled }.errors();
    if errors.is_empty() { Ok(JobFile { job, compiled }) } else { Err(errors) }
}

fn read(path: &Path) -> Result<String, Vec<String>> {
    std::fs::read_to_string(path).map_err(|e| vec![format!("failed to read {}: {e}", path.display())])
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

/// The options behind a field of the manifest, as [`apply`] has them.
fn options_of(field: &str) -> &'static [&'static str] {
    match field {
        "spec.parallelism" => {
            &["parallelism.default", "table.exec.resource.default-parallelism", "pipeline.max-parallelism"]
        }
        "spec.maxParallelism" => &["pipeline.max-parallelism"],
        "spec.checkpoint.tolerableFailures" => &["execution.checkpointing.tolerable-failed-checkpoints"],
        "spec.checkpoint.retained" => &["execution.checkpointing.num-retained", "state.checkpoints.num-retained"],
        "spec.checkpoint.interval" => &["execution.checkpointing.interval"],
        "spec.checkpoint.timeout" => &["execution.checkpointing.timeout"],
        "spec.checkpoint.minPause" => &["execution.checkpointing.min-pause"],
        _ => &[],
    }
}

/// The manifest's file.
struct Manifest<'a> {
    path: &'a Path,
    text: String,
}

impl Manifest<'_> {
    fn line(&self, message: &dyn Display) -> String {
        format!("{}:{message}", self.path.display())
    }

    fn option_error(&self, key: &str, message: String) -> String {
        let at = flinkjob::find_key(&self.text, &["spec", "options", key]);
        self.line(&ManifestError { message: format!("spec.options: {message}"), field: String::new(), at })
    }

    fn options(&self, job: &FlinkJob) -> Result<JobOptions, Vec<String>> {
        let mut options = JobOptions::default();
        let set = |(key, value): (&String, &String)| {
            options.set(key, value).err().map(|error| self.option_error(key, error.to_string()))
        };
        let errors: Vec<String> = job.spec.options.iter().filter_map(set).collect();
        if errors.is_empty() { Ok(options) } else { Err(errors) }
    }
}

/// The SQL text and where it stands.
struct Script {
    text: String,
    file: PathBuf,
    /// Added to a line and a column of the text to get those of the file. `None`: its lines are not the file's.
    offset: Option<(u32, u32)>,
    /// Where `spec.sql` stands.
    key: (usize, usize),
}

impl Script {
    fn of(job: &FlinkJob, manifest: &Manifest<'_>, sql_file: &SqlFile<'_>) -> Result<Self, Vec<String>> {
        if let Some(file) = &job.spec.sql_file {
            let (file, text) = match sql_file {
                SqlFile::OnDisk => {
                    let file = beside(manifest.path, file);
                    let text = read(&file)?;
                    (file, text)
                }
                SqlFile::Given(Some(text)) => (PathBuf::from(file), (*text).to_owned()),
                SqlFile::Given(None) => {
                    return Err(vec![format!(
                        "spec.sqlFile is {file}, which is not read here: give the script's text, too"
                    )]);
                }
            };
            return Ok(Self { text, file, offset: Some((0, 0)), key: (1, 1) });
        }
        if let SqlFile::Given(Some(_)) = sql_file {
            return Err(vec!["a script was given beside a manifest that has its own in spec.sql".to_owned()]);
        }
        let text = job.spec.sql.clone().unwrap_or_default();
        let offset = flinkjob::sql_offset(&manifest.text, &text);
        let key = flinkjob::find_key(&manifest.text, &["spec", "sql"]).unwrap_or((1, 1));
        Ok(Self { text, file: manifest.path.to_owned(), offset, key })
    }

    fn describe(&self, error: &SqlError) -> String {
        let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        self.line(error.position(), &format!("{}{hint}", error.message))
    }

    fn line(&self, at: Position, message: &str) -> String {
        let file = self.file.display();
        match self.offset {
            Some((lines, columns)) => format!("{file}:{}:{}: {message}", at.line + lines, at.column + columns),
            None => {
                let (line, column) = self.key;
                format!("{file}:{line}:{column}: line {}, column {} of spec.sql: {message}", at.line, at.column)
            }
        }
    }
}

/// A job whose SQL compiles, with the options of the script applied: what is wrong now may come from any of the places.
struct WithOptions<'a> {
    manifest: &'a Manifest<'a>,
    script: &'a Script,
    job: &'a FlinkJob,
    compiled: &'a Compiled,
}

impl WithOptions<'_> {
    fn errors(&self) -> Vec<String> {
        let mut errors: Vec<String> =
            flinkjob::check(self.job, &self.manifest.text).iter().map(|e| self.field_error(e)).collect();
        for (key, message) in self.compiled.settings.check() {
            errors.push(self.option_error(key, &message).unwrap_or(message));
        }
        if errors.is_empty() {
            errors.extend(self.job_error());
        }
        errors
    }

    /// A field's value at the option that it comes from, or in the manifest.
    fn field_error(&self, error: &ManifestError) -> String {
        let from = |key: &&str| self.option_error(key, &format!("{} (set by '{key}')", error.message));
        options_of(&error.field).iter().find_map(from).unwrap_or_else(|| self.manifest.line(error))
    }

    /// At the SET of the option, or else at its place in the manifest. `None`: it is set nowhere.
    fn option_error(&self, key: &str, message: &str) -> Option<String> {
        let sets = |kind: &StatementInfoKind| matches!(kind, StatementInfoKind::Set { key: k } if k == key);
        let set = self.compiled.statements.iter().rev().find(|s| sets(&s.kind));
        match set {
            Some(set) => Some(self.script.line(set.position, message)),
            None if self.job.spec.options.contains_key(key) => {
                Some(self.manifest.option_error(key, message.to_owned()))
            }
            None => None,
        }
    }

    /// Settings of tables and of the job that cannot work together, at the table.
    fn job_error(&self) -> Option<String> {
        let graph = Arc::new(self.compiled.graph.clone());
        let config = match job_config(self.job, graph, Owner(String::new()), own_address(None)) {
            Ok(config) => config,
            Err(error) => return Some(format!("failed to draw random numbers: {error}")),
        };
        let error = config.validate().err()?;
        let (ConfigError::TransactionTimeout { table, .. } | ConfigError::TransactionTimeoutText { table, .. }) =
            &error
        else {
            return Some(self.manifest.line(&format!(" {error}")));
        };
        let creates =
            |kind: &StatementInfoKind| matches!(kind, StatementInfoKind::CreateTable { table: t } if t == table);
        let at = self.compiled.statements.iter().find(|s| creates(&s.kind)).map_or(Position::START, |s| s.position);
        Some(self.script.line(at, &error.to_string()))
    }
}
