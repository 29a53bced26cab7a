//! `millstream worker`: slots for a job whose coordinator is another process.
//!
//! Owns: setting up, the exit code. Does not own: the conversation (`worker::attach`), nor what runs.

use std::net::TcpListener;
use std::sync::Arc;

use millstream_api::control::WorkerSettings;
use millstream_coordinator::runtime::own_address;
use millstream_store::StoreOptions;
use millstream_worker::attach::{self, AttachConfig, AttachError, Pace, Parting, ShuffleAddress};
use millstream_worker::exchange::remote::ShuffleConfig;
use millstream_worker::runtime::Worker;
use tokio::sync::watch;

use crate::args::WorkerArguments;
use crate::exit::Exit;
use crate::http;
use crate::logging::{self, Display};
use crate::run::page::WorkerPage;
use crate::run::words::refuse;
use crate::run::{on_event_loop, settings, signals};
use crate::tls;

/// What the second signal comes to.
const GONE_AT_ONCE: &str = "stopped at once: the job goes on from its last checkpoint where there are slots";

/// Serves until the job is over, or the process was asked to stop and its tasks have moved.
pub fn run(arguments: &WorkerArguments) -> Exit {
    logging::install(arguments.log_format.without_live_line());
    on_event_loop(serve(arguments))
}

/// Where rows of other workers come in, and how they find it.
fn bind_shuffle(arguments: &WorkerArguments) -> std::io::Result<(TcpListener, ShuffleAddress)> {
    let listener = TcpListener::bind(&arguments.shuffle_listen)?;
    let bound = listener.local_addr()?;
    // An address that is listened on alone is the one to be reached by.
    let own = (!bound.ip().is_unspecified()).then(|| bound.ip().to_string());
    let host = arguments.advertise.clone().or(own);
    Ok((listener, ShuffleAddress { host, port: bound.port() }))
}

async fn serve(arguments: &WorkerArguments) -> Exit {
    let security = match tls::security(&arguments.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let job = match tls::job_of_worker(&security, arguments.job.as_deref()) {
        Ok(job) => job,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let page = Arc::new(WorkerPage::new(security.clone()));
    let served = http::serve_if_asked(arguments.http, Arc::clone(&page) as _, None, Display::LogOnly).await;
    // Serves until it is dropped.
    let _http = match served {
        Ok(http) => http,
        Err(exit) => return exit,
    };
    let (leave_in, leave) = watch::channel(false);
    // The channel stays open while somebody can ask.
    let asks = leave_in.clone();
    let ask = move || {
        asks.send_replace(true);
    };
    signals::forward(ask, GONE_AT_ONCE);
    let (listener, address) = match bind_shuffle(arguments) {
        Ok(bound) => bound,
        Err(error) => {
            return refuse(Exit::Environment, &format!("failed to listen on {}: {error}", arguments.shuffle_listen));
        }
    };
    let process = std::process::id();
    let config = AttachConfig {
        coordinators: arguments.coordinator.clone(),
        job,
        slots: arguments.slots,
        shuffle: Some(address),
        name: format!("process {process} on {}", own_address(None).host),
        version: attach::own_version(),
        pace: Pace::default(),
        security: security.clone(),
        drain_timeout: std::time::Duration::from_millis(arguments.drain_timeout.as_millis()),
    };
    let slots = arguments.slots;
    let shuffle = ShuffleConfig { listener: Some(Arc::new(listener)), security, ..ShuffleConfig::default() };
    let start = async |told: WorkerSettings| start(told, slots, shuffle.clone(), &page).await;
    match attach::run(config, leave, start).await {
        Ok(Parting::JobOver) => {
            eprintln!("the job is over");
            Exit::Success
        }
        Ok(Parting::Released) => {
            eprintln!("stopped: nothing of the job runs here any more");
            Exit::Success
        }
        Ok(Parting::NotReleased) => {
            eprintln!(
                "stopped: the tasks had not moved within the drain timeout, the job goes on from its last checkpoint"
            );
            Exit::Success
        }
        Err(error @ AttachError::NoCoordinator) => refuse(Exit::Usage, &error.to_string()),
        Err(error @ AttachError::ThreadsEnded) => refuse(Exit::Defect, &error.to_string()),
        Err(error) => refuse(Exit::Environment, &error.to_string()),
    }
}

/// Opens the job's store as this machine reaches it, and starts the threads.
async fn start(told: WorkerSettings, slots: u32, shuffle: ShuffleConfig, page: &WorkerPage) -> Result<Worker, String> {
    let Some(uri) = &told.checkpoint.storage else {
        return Err("the coordinator names no checkpoint storage (a defect of Millstream)".to_owned());
    };
    let options: StoreOptions = settings::store_options(&told.checkpoint.s3);
    let store = millstream_store::open(uri, &options).await.map_err(|e| e.to_string())?;
    let worker = Worker::spawn(settings::worker_config(&told, slots, store, shuffle, Display::LogOnly))
        .map_err(|e| e.to_string())?;
    let title = told.job_name.unwrap_or(told.name);
    page.show(title, Arc::clone(&worker.metrics));
    Ok(worker)
}
