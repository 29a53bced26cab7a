//! From what a command was given to the checkpoint or savepoint that it means.

use std::path::Path;
use std::sync::Arc;

use millstream_api::flinkjob::{FlinkJob, RestoreSpec};
use millstream_api::ids::Seq;
use millstream_coordinator::job::LogView;
use millstream_coordinator::savepoint::{Places, SavepointFailure};
use millstream_inspect::{InspectError, InspectErrorKind, Stored, checkpoints_of};
use millstream_store::{ObjectStore, StoreErrorKind};

use super::args::SourceArguments;
use crate::args::S3Arguments;
use crate::exit::Exit;
use crate::job_file;
use crate::run::settings;
use crate::run::words::refuse;

/// Why a command ends, and with what.
pub struct Stop {
    pub exit: Exit,
    pub message: String,
}

impl Stop {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Says it, a line for each thing.
    pub fn tell(&self) -> Exit {
        let mut lines = self.message.lines();
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            eprintln!("error: {line}");
        }
        refuse(self.exit, last)
    }
}

impl From<InspectError> for Stop {
    fn from(error: InspectError) -> Self {
        let exit = match error.kind() {
            InspectErrorKind::Asked => Exit::Usage,
            InspectErrorKind::Environment => Exit::Environment,
            InspectErrorKind::Damaged => Exit::State,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<(Exit, String)> for Stop {
    fn from((exit, message): (Exit, String)) -> Self {
        Self { exit, message }
    }
}

/// A job as its manifest names it.
pub struct JobStore {
    pub store: Arc<dyn ObjectStore>,
    /// `namespace/name`, and where its objects are in the store.
    pub path: String,
    /// What a start is told.
    pub restore: RestoreSpec,
}

impl JobStore {
    /// Reads the manifest and opens the store that it names.
    pub async fn open(manifest: &Path) -> Result<Self, Stop> {
        let job = load_resource(manifest)?;
        let (uri, _) = settings::storage(&job.spec.checkpoint)?;
        let nowhere =
            || Stop::new(Exit::Environment, format!("job {} has no checkpoint: there is no {uri}", job.path()));
        Self::of(&job).await?.ok_or_else(nowhere)
    }

    /// Opens the store that a manifest names. `None`: nothing was ever stored there.
    pub async fn of(job: &FlinkJob) -> Result<Option<Self>, Stop> {
        let (uri, options) = settings::storage(&job.spec.checkpoint)?;
        let restore = settings::restore(job)?;
        match millstream_store::open_existing(&uri, &options).await {
            Ok(store) => Ok(Some(Self { store, path: job.path(), restore })),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(InspectError::Store(error).into()),
        }
    }

    /// What the job's log says.
    pub async fn log(&self) -> Result<LogView, Stop> {
        Ok(checkpoints_of(&self.store, &self.path).await?)
    }

    /// The same; a job without a checkpoint is an error.
    pub async fn view(&self) -> Result<LogView, Stop> {
        let view = self.log().await?;
        if view.sealed().is_empty() {
            let message = format!("job {} has no checkpoint in {}", self.path, self.store.describe());
            return Err(Stop::new(Exit::Environment, message));
        }
        Ok(view)
    }

    /// The checkpoint of this number; the newest one if none is named.
    pub fn checkpoint(&self, view: &LogView, seq: Option<u64>) -> Result<Stored, Stop> {
        let sealed = view.sealed();
        let found = match seq {
            Some(seq) => sealed.iter().find(|sealed| sealed.seq == Seq(seq)),
            None => sealed.last(),
        };
        let Some(found) = found else {
            let known: Vec<String> = sealed.iter().map(|sealed| sealed.seq.to_string()).collect();
            let message = format!(
                "{} is no retained checkpoint of job {}; there are: {}",
                seq.unwrap_or_default(),
                self.path,
                known.join(", ")
            );
            return Err(Stop::new(Exit::Usage, message));
        };
        Ok(Stored::checkpoint(&self.store, &self.path, found))
    }
}

/// Reads a manifest for whoever only wants to find what the job stored.
pub fn load_resource(manifest: &Path) -> Result<FlinkJob, Stop> {
    job_file::load_resource(manifest).map_err(|errors| Stop::new(Exit::InvalidJob, errors.join("\n")))
}

/// The manifest file that a place is, if it is one; then how S3 is reached stands in it.
pub fn manifest_in<'a>(place: &'a str, s3: &S3Arguments) -> Result<Option<&'a Path>, Stop> {
    let manifest = Some(Path::new(place)).filter(|path| !place.contains("://") && path.is_file());
    if manifest.is_some() && s3.are_given() {
        return Err(Stop::new(Exit::Usage, "a job's manifest says how its store is reached: leave out --s3-*"));
    }
    Ok(manifest)
}

/// What a place is.
pub enum Opened {
    Job(JobStore),
    Savepoint(Box<Stored>),
}

/// Opens the job or the savepoint: a file is a manifest, anything else a savepoint.
pub async fn open(arguments: &SourceArguments) -> Result<Opened, Stop> {
    let place = arguments.place.as_str();
    if let Some(manifest) = manifest_in(place, &arguments.s3)? {
        return Ok(Opened::Job(JobStore::open(manifest).await?));
    }
    if let Some(seq) = arguments.checkpoint {
        let message = format!("--checkpoint {seq}: {place} is no job's manifest file; a savepoint is one checkpoint");
        return Err(Stop::new(Exit::Usage, message));
    }
    let places = Places { options: arguments.s3.options() };
    let stored = Stored::savepoint(&places, place).await.map_err(|error| match error {
        InspectError::Savepoint(none @ SavepointFailure::None { .. }) => {
            Stop::new(Exit::Usage, format!("{none}, or a job's manifest file"))
        }
        error => error.into(),
    })?;
    Ok(Opened::Savepoint(Box::new(stored)))
}

/// The one checkpoint or savepoint that is meant.
pub async fn open_one(arguments: &SourceArguments) -> Result<Stored, Stop> {
    match open(arguments).await? {
        Opened::Savepoint(stored) => Ok(*stored),
        Opened::Job(job) => job.checkpoint(&job.view().await?, arguments.checkpoint),
    }
}
