//! `millstream run`: coordinator and one worker in this process, until the job ends; and what it shares with the roles that
//! have a process of their own (`coordinator`, `worker`).
//!
//! Owns: the order in which things are set up, what people are told, the exit code. Does not own: any decision about
//! the job.

pub mod front;
mod live;
mod metrics;
pub mod page;
pub mod settings;
pub mod signals;
pub mod words;

use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::graph::{DatagenField, JobGraph, SourceConnector, TransformKind};
use millstream_api::log::{Address, Owner};
use millstream_coordinator::job::{JobConfig, Notice, Status};
use millstream_coordinator::runtime::{WorkerLink, job_config, own_address};
use millstream_coordinator::savepoint::Places;
use millstream_net::Security;
use millstream_store::{ObjectStore, StoreError, StoreErrorKind};
use millstream_worker::exchange::remote::ShuffleConfig;
use millstream_worker::metrics::JobMetrics;
use millstream_worker::runtime::Worker;
use tokio::sync::{mpsc, watch};

use crate::args::{OneProcessArguments, RunArguments};
use crate::exit::Exit;
use crate::logging::{self, Display};
use crate::{explain, http, owner};
use front::Front;
use live::LiveLine;
use page::RunPage;
use words::refuse;

/// Where a job's savepoints go, below its folder in the store.
pub const SAVEPOINTS_FOLDER: &str = "savepoints";

/// Runs the job. Everything that people should know is on standard error when it returns.
pub fn run(arguments: &OneProcessArguments) -> Exit {
    let display = logging::install(arguments.run.log_format);
    let loaded = match Loaded::load(&arguments.run) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    on_event_loop(run_job(arguments, loaded, display))
}

/// Drives a role on this thread until it has ended.
pub fn on_event_loop(role: impl Future<Output = Exit>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(Exit::Environment, &format!("failed to start the event loop: {error}")),
    };
    let exit = runtime.block_on(role);
    runtime.shutdown_background();
    exit
}

/// A job as the command line wants it.
pub struct Loaded {
    pub job: FlinkJob,
    /// What people call the job, where that is not the manifest's name (`pipeline.name`).
    pub name: Option<String>,
    pub graph: Arc<JobGraph>,
}

impl Loaded {
    /// Reads and compiles the job, or prints why not.
    pub fn load(arguments: &RunArguments) -> Result<Self, Exit> {
        let file = explain::load(&arguments.job)?;
        let mut job = file.job;
        if let Some(parallelism) = arguments.parallelism {
            job.spec.parallelism = parallelism;
        }
        if let Some(previous) = &arguments.take_over {
            job.spec.restore.take_over = Some(previous.clone());
        }
        if let Some(savepoint) = &arguments.from_savepoint {
            job.spec.restore.savepoint = Some(savepoint.clone());
        }
        let name = file.compiled.settings.name.filter(|name| !name.is_empty());
        Ok(Self { job, name, graph: Arc::new(file.compiled.graph) })
    }

    /// For people.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.job.metadata.name.clone())
    }
}

async fn run_job(arguments: &OneProcessArguments, loaded: Loaded, display: Display) -> Exit {
    let slots = loaded.job.spec.parallelism;
    let listener = match front::listen(arguments.listen).await {
        Ok(listener) => listener,
        Err(exit) => return exit,
    };
    // Not for other coordinators: nobody stands by for one process, and it stands by for nobody.
    let prepared = match prepare(&loaded, None, own_address(None)).await {
        Ok(prepared) => prepared,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let store = Arc::clone(&prepared.store);
    let told = settings::worker_settings(&loaded, &prepared.config);
    let worker = match Worker::spawn(settings::worker_config(
        &told,
        slots,
        Arc::clone(&store),
        ShuffleConfig::default(),
        display,
    )) {
        Ok(worker) => worker,
        Err(error) => return refuse(Exit::Environment, &format!("failed to start the worker: {error}")),
    };
    let store_name = store.describe();
    let (status_in, status) = watch::channel(Status::default());
    let listens_on = listener.as_ref().and_then(|listener| Some(listener.local_addr().ok()?.to_string()));
    let Front { operations, board, wishes } = Front::new(&loaded, &prepared, listens_on, status.clone());
    let page =
        Arc::new(RunPage::of_run(loaded.title(), Arc::clone(&worker.metrics), operations.clone(), status.clone()));
    let http = match http::serve_if_asked(arguments.run.http, page, Some(operations.clone()), display).await {
        Ok(http) => http,
        Err(exit) => return exit,
    };
    let grpc = listener.map(|listener| front::serve(listener, &operations, display));
    let line = (display == Display::LiveLine).then(|| LiveLine::new(is_bounded(&loaded.graph)));
    let drawing = line.map(|line| tokio::spawn(draw(line, status, Arc::clone(&worker.metrics))));
    // One worker, and no other will come: the sending end is gone with this line.
    let (arrivals, workers) = mpsc::channel(1);
    let link = WorkerLink::local(slots, worker.commands, worker.reports, worker.readings);
    let _ = arrivals.send(link).await;
    drop(arrivals);
    let say = |notice: &Notice| words::say(display, &store_name, notice);
    let plain = Security::plain();
    let PreparedJob { config, places, .. } = prepared;
    let outcome =
        millstream_coordinator::runtime::run(config, (store, places), workers, wishes, status_in, board, plain, say)
            .await;
    // The status channel is closed now, so the line ends by itself.
    if let Some(drawing) = drawing {
        let _ = drawing.await;
    }
    if let Ok(outcome) = &outcome {
        operations.conclude(outcome).await;
    }
    for server in http.into_iter().chain(grpc) {
        server.close().await;
    }
    let joined = tokio::task::spawn_blocking(move || worker.thread.join());
    let _ = joined.await;
    match outcome {
        Err(error) => refuse(Exit::InvalidJob, &error.to_string()),
        Ok(outcome) => words::conclude(&store_name, &outcome),
    }
}

/// What the job's master stands on.
pub struct PreparedJob {
    pub config: JobConfig,
    pub store: Arc<dyn ObjectStore>,
    /// URI or absolute path of the store's root.
    pub storage: String,
    /// How other stores are reached.
    pub places: Places,
}

/// Opens and probes the store. `owner`: `None` is the user on this machine.
pub async fn prepare(loaded: &Loaded, owner: Option<Owner>, address: Address) -> Result<PreparedJob, (Exit, String)> {
    let environment =
        |what: &str, error: &dyn std::fmt::Display| (Exit::Environment, format!("failed to {what}: {error}"));
    let owner = match owner {
        Some(owner) => owner,
        None => owner::local_owner().map_err(|e| environment("read or make the owner's id", &e))?,
    };
    let (storage, options) = settings::storage(&loaded.job.spec.checkpoint)?;
    let store = millstream_store::open(&storage, &options).await.map_err(|e| store_failure(&e))?;
    millstream_store::probe(&*store).await.map_err(|e| store_failure(&e))?;
    let config = job_config(&loaded.job, Arc::clone(&loaded.graph), owner, address);
    let mut config = config.map_err(|e| environment("draw random numbers", &e))?;
    config.restore = settings::restore(&loaded.job)?;
    Ok(PreparedJob { config, store, storage, places: Places { options } })
}

fn store_failure(error: &StoreError) -> (Exit, String) {
    let exit = if error.kind == StoreErrorKind::Corrupt { Exit::State } else { Exit::Environment };
    (exit, error.to_string())
}

/// Draws the live line until the status channel closes.
async fn draw(mut line: LiveLine, mut status: watch::Receiver<Status>, metrics: Arc<JobMetrics>) {
    let mut ticks = tokio::time::interval(live::INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = status.changed() => if changed.is_err() { break },
        }
        let now = status.borrow_and_update().clone();
        line.draw(&now, &metrics.read());
    }
    line.finish();
}

fn is_bounded(graph: &JobGraph) -> bool {
    graph.transforms.iter().all(|t| match &t.kind {
        TransformKind::Source(source) => match &source.connector {
            SourceConnector::Kafka(kafka) => kafka.bounded.is_some(),
            SourceConnector::Filesystem(_) => true,
            SourceConnector::Datagen(datagen) => {
                let ends = |field: &DatagenField| matches!(field, DatagenField::Sequence { .. });
                datagen.number_of_rows.is_some() || datagen.fields.values().any(ends)
            }
        },
        _ => true,
    })
}
