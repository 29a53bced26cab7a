//! `millstream run`: coordinator and one worker in this process, until the job ends.
//!
//! Owns: the order in which things are set up, what people are told, the exit code. Does not own: any decision about
//! the job.

mod http;
mod live;
mod metrics;
mod page;
mod settings;
mod signals;

use std::io::{self, Write};
use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::graph::{DatagenField, JobGraph, SourceConnector, TransformKind};
use millstream_coordinator::job::{JobConfig, Notice, Outcome, Status};
use millstream_coordinator::runtime::{WorkerLink, job_config, own_address};
use millstream_store::{ObjectStore, StoreError, StoreErrorKind};
use millstream_worker::exchange::remote::ShuffleConfig;
use millstream_worker::metrics::JobMetrics;
use millstream_worker::runtime::{Worker, WorkerConfig};
use tokio::sync::{mpsc, watch};

use crate::args::RunArguments;
use crate::exit::Exit;
use crate::logging::{self, Display};
use crate::{explain, owner};
use live::LiveLine;
use page::RunPage;

/// Threads for the store and the brokers: they wait, mostly.
const IO_THREADS: usize = 2;

/// Runs the job. Everything that people should know is on standard error when it returns.
pub fn run(arguments: &RunArguments) -> Exit {
    let display = logging::install(arguments.log_format);
    let file = match explain::load(&arguments.job) {
        Ok(file) => file,
        Err(exit) => return exit,
    };
    let mut job = file.job;
    if let Some(parallelism) = arguments.parallelism {
        job.spec.parallelism = parallelism;
    }
    if let Some(previous) = &arguments.take_over {
        job.spec.restore.take_over = Some(previous.clone());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(Exit::Environment, &format!("failed to start the event loop: {error}")),
    };
    let name = file.compiled.settings.name.filter(|name| !name.is_empty());
    let exit = runtime.block_on(run_job(arguments, job, name, Arc::new(file.compiled.graph), display));
    runtime.shutdown_background();
    exit
}

/// `name`: what people call the job, where that is not the manifest's name (`pipeline.name`).
async fn run_job(
    arguments: &RunArguments,
    job: FlinkJob,
    name: Option<String>,
    graph: Arc<JobGraph>,
    display: Display,
) -> Exit {
    let prepared = match prepare(&job, name.clone(), Arc::clone(&graph)).await {
        Ok(prepared) => prepared,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let Prepared { config, store, worker } = prepared;
    let store_name = store.describe();
    let (status_in, status) = watch::channel(Status::default());
    let page =
        RunPage::new(name.unwrap_or_else(|| job.metadata.name.clone()), Arc::clone(&worker.metrics), status.clone());
    if let Some(address) = arguments.http {
        match http::serve(address, Arc::new(page)).await {
            Ok(bound) => announce(display, &format!("serving metrics and status on http://{bound}/")),
            Err(error) => return refuse(Exit::Environment, &format!("failed to listen on {address}: {error}")),
        }
    }
    let stop = signals::stop_requests();
    let line = (display == Display::LiveLine).then(|| LiveLine::new(is_bounded(&graph)));
    let drawing = line.map(|line| tokio::spawn(draw(line, status, Arc::clone(&worker.metrics))));
    // One worker, and no other will come: the sending end is gone with this line.
    let (arrivals, workers) = mpsc::channel(1);
    let _ = arrivals.send(WorkerLink::local(job.spec.parallelism, worker.commands, worker.reports)).await;
    drop(arrivals);
    let outcome = millstream_coordinator::runtime::run(config, store, workers, stop, status_in, |notice| {
        say(display, &store_name, notice);
    })
    .await;
    // The status channel is closed now, so the line ends by itself.
    if let Some(drawing) = drawing {
        let _ = drawing.await;
    }
    let joined = tokio::task::spawn_blocking(move || worker.thread.join());
    let _ = joined.await;
    match outcome {
        Err(error) => refuse(Exit::InvalidJob, &error.to_string()),
        Ok(outcome) => conclude(&store_name, &outcome),
    }
}

/// What a run stands on.
struct Prepared {
    config: JobConfig,
    store: Arc<dyn ObjectStore>,
    worker: Worker,
}

/// Opens and probes the store, and starts the worker's threads.
async fn prepare(job: &FlinkJob, job_name: Option<String>, graph: Arc<JobGraph>) -> Result<Prepared, (Exit, String)> {
    let environment =
        |what: &str, error: &dyn std::fmt::Display| (Exit::Environment, format!("failed to {what}: {error}"));
    let state = owner::state_directory().map_err(|e| environment("open the state directory", &e))?;
    let owner = owner::local_owner(&state).map_err(|e| environment("read or make the owner's id", &e))?;
    let (uri, options) = settings::storage(&job.spec.checkpoint, &state);
    let store = millstream_store::open(&uri, &options).await.map_err(|e| store_failure(&e))?;
    millstream_store::probe(&*store).await.map_err(|e| store_failure(&e))?;
    let config =
        job_config(job, graph, owner, own_address(None)).map_err(|e| environment("draw random numbers", &e))?;
    let (state_bytes_max, undo_bytes_max) = settings::state_budget_bytes();
    let worker = Worker::spawn(WorkerConfig {
        slots: job.spec.parallelism,
        store: Arc::clone(&store),
        job_path: settings::job_path(job),
        job_name,
        backend: settings::state_backend(&job.spec.state, job),
        state_bytes_max,
        undo_bytes_max,
        io_threads: IO_THREADS,
        shuffle: ShuffleConfig::default(),
    })
    .map_err(|e| environment("start the worker", &e))?;
    Ok(Prepared { config, store, worker })
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

fn refuse(exit: Exit, message: &str) -> Exit {
    eprintln!("error: {message}");
    exit
}

/// Told in the log, or above the live line.
fn announce(display: Display, text: &str) {
    match display {
        Display::LogOnly => tracing::info!("{text}"),
        // A failed write to a terminal that is gone concerns nobody.
        Display::LiveLine => drop(writeln!(io::stderr(), "\r\x1b[2K{text}")),
    }
}

fn say(display: Display, store: &str, notice: &Notice) {
    let routine = matches!(notice, Notice::CheckpointCompleted { .. });
    match display {
        Display::LiveLine if routine => {}
        Display::LiveLine => announce(display, &notice.to_string()),
        Display::LogOnly => tracing::info!(store, "{notice}"),
    }
}

/// The last words, and the exit code.
fn conclude(store: &str, outcome: &Outcome) -> Exit {
    let place = |path: &str| format!("{}/{path}", store.trim_end_matches('/'));
    match outcome {
        Outcome::Finished { already: true, .. } => eprintln!("the job had finished before: nothing to run"),
        Outcome::Finished { .. } => eprintln!("finished: all input was read, everything is committed"),
        Outcome::Stopped { checkpoint, incomplete } => {
            let at = checkpoint.as_ref().map_or("before its first checkpoint".to_owned(), |c| {
                format!("at checkpoint {}: {}", c.epoch, place(&c.path))
            });
            eprintln!("stopped {at}");
            if let Some(reason) = incomplete {
                eprintln!(
                    "the last checkpoint is older than the stop: {reason}; the next run goes on from it, nothing is lost"
                );
            }
        }
        Outcome::Failed { failure, earlier, checkpoint } => {
            for line in earlier_failures(earlier, &failure.message) {
                eprintln!("{line}");
            }
            eprintln!("error: {}", failure.message);
            if let Some(checkpoint) = checkpoint {
                eprintln!("the last checkpoint is {}: {}", checkpoint.epoch, place(&checkpoint.path));
            }
            return failure.kind.into();
        }
        Outcome::Fenced { by } => {
            let who = by.as_ref().map_or(String::new(), |s| {
                format!(": {} on {}, process {}", s.owner, s.address.host, s.address.process_id)
            });
            return refuse(Exit::State, &format!("another process took the job over{who}"));
        }
    }
    Exit::Success
}

/// One line per failure that differs from the final one, with how often it came, oldest first.
fn earlier_failures(earlier: &[String], last: &str) -> Vec<String> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for reason in earlier.iter().map(String::as_str).filter(|reason| *reason != last) {
        match counted.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, times)) => *times += 1,
            None => counted.push((reason, 1)),
        }
    }
    let line = |(reason, times): (&str, usize)| match times {
        1 => format!("earlier failure: {reason}"),
        _ => format!("earlier failure, {times} times: {reason}"),
    };
    counted.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::earlier_failures;

    #[test]
    fn earlier_failures_are_told_once_and_only_where_they_differ() {
        let earlier = ["broker away", "store away", "broker away", "disk full"].map(str::to_owned);
        assert_eq!(
            earlier_failures(&earlier, "disk full"),
            ["earlier failure, 2 times: broker away", "earlier failure: store away"]
        );
        assert!(earlier_failures(&earlier[3..], "disk full").is_empty());
    }
}
