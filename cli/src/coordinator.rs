//! `millstream coordinator`: the job's master in a process of its own; workers come over the network.
//!
//! Owns: setting up, and the last word to the workers. Does not own: any decision about the job.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_api::log::Owner;
use millstream_coordinator::job::{Notice, Outcome, Status};
use millstream_coordinator::runtime::own_address;
use millstream_coordinator::transport::{Pace, TransportConfig, WorkerServer, own_version, ruling};
use millstream_net::Role;
use tokio::sync::{mpsc, watch};

use crate::args::CoordinatorArguments;
use crate::exit::Exit;
use crate::http;
use crate::logging::{self, Display};
use crate::run::front::Front;
use crate::run::page::RunPage;
use crate::run::words::{self, refuse};
use crate::run::{Loaded, PreparedJob, on_event_loop, prepare, settings};
use crate::tls;

/// Workers that have registered and that the event loop has not taken yet.
const ARRIVALS_MAX: usize = 16;

/// Runs the job's master until the job ends.
pub fn run(arguments: &CoordinatorArguments) -> Exit {
    logging::install(arguments.run.log_format.without_live_line());
    let mut loaded = match Loaded::load(&arguments.run) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let Some(storage) = &loaded.job.spec.checkpoint.storage else {
        let message = "spec.checkpoint.storage is not set: a coordinator and its workers need a place that all of them reach, \
                       such as s3://bucket/path, or a directory when they all run on this machine";
        return refuse(Exit::InvalidJob, message);
    };
    match settings::resolved(storage) {
        Ok(storage) => loaded.job.spec.checkpoint.storage = Some(storage),
        Err((exit, message)) => return refuse(exit, &message),
    }
    on_event_loop(serve(arguments, loaded))
}

async fn serve(arguments: &CoordinatorArguments, loaded: Loaded) -> Exit {
    let security = match tls::security(&arguments.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let job = &loaded.job.metadata;
    if let Err((exit, message)) = tls::check_is(&security, &job.namespace, &job.name, Role::Coordinator) {
        return refuse(exit, &message);
    }
    // Bound first: the address goes into the log with the claim to the job.
    let listener = match WorkerServer::bind(&arguments.listen, &security).await {
        Ok(listener) => listener,
        Err(error) => return refuse(Exit::Environment, &format!("failed to listen on {}: {error}", arguments.listen)),
    };
    let Ok(bound) = listener.local_addr() else {
        return refuse(Exit::Environment, "the address that is listened on cannot be told");
    };
    let advertised = arguments.advertise.clone().unwrap_or_else(|| advertised(bound));
    let owner = arguments.owner.clone().map(Owner);
    let prepared = match prepare(&loaded, owner, own_address(Some(advertised.clone()))).await {
        Ok(prepared) => prepared,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let (status_in, status) = watch::channel(Status::default());
    let (arrivals, workers) = mpsc::channel(ARRIVALS_MAX);
    let transport = TransportConfig {
        settings: settings::worker_settings(&loaded, &prepared.config),
        version: own_version(),
        pace: Pace::default(),
    };
    let Front { operations, board, wishes } = Front::new(&loaded, &prepared, Some(advertised.clone()), status.clone());
    let server = WorkerServer::start(
        listener,
        transport,
        ruling(status.clone()),
        arrivals,
        Some(operations.clone()),
        security.clone(),
    );
    tracing::info!("listening for workers on {bound}, as {advertised}");
    let (title, refusals) = (loaded.title(), Arc::clone(&server.refusals));
    let page = RunPage::of_coordinator(title, refusals, security.clone(), operations.clone(), status.clone());
    // Nobody is asked who he is on this port, so where certificates are, it shows and does nothing of the job.
    let open = Some(operations.clone()).filter(|_| security.identity().is_none());
    let http = match http::serve_if_asked(arguments.run.http, Arc::new(page), open, Display::LogOnly).await {
        Ok(http) => http,
        Err(exit) => return exit,
    };
    let PreparedJob { config, store, places, .. } = prepared;
    let store_name = store.describe();
    let say = |notice: &Notice| words::say(Display::LogOnly, &store_name, notice);
    let outcome =
        millstream_coordinator::runtime::run(config, (store, places), workers, wishes, status_in, board, security, say)
            .await;
    if let Ok(outcome) = &outcome {
        operations.conclude(outcome).await;
    }
    let ruled = status.borrow().generation.is_some();
    server.close(outcome.as_ref().is_ok_and(|outcome| is_over(outcome, ruled))).await;
    if let Some(http) = http {
        http.close().await;
    }
    match outcome {
        Err(error) => refuse(Exit::InvalidJob, &error.to_string()),
        Ok(outcome) => words::conclude(&store_name, &outcome),
    }
}

/// Whether workers have nothing to wait for. A coordinator that never ruled cannot tell: another one may.
fn is_over(outcome: &Outcome, ruled: bool) -> bool {
    match outcome {
        Outcome::Finished { .. } => true,
        Outcome::Stopped { .. } | Outcome::Failed { .. } => ruled,
        Outcome::StoodBy { over } => over.is_some(),
        Outcome::Fenced { .. } => false,
    }
}

/// Where others reach what is bound here.
fn advertised(bound: SocketAddr) -> String {
    if bound.ip().is_unspecified() { format!("{}:{}", own_address(None).host, bound.port()) } else { bound.to_string() }
}

#[cfg(test)]
mod tests {
    use super::advertised;

    #[test]
    fn what_is_bound_to_every_address_is_advertised_by_the_hosts_name() {
        let advertised = |bound: &str| advertised(bound.parse().expect("an address"));
        assert_eq!(advertised("127.0.0.1:7"), "127.0.0.1:7");
        assert!(!advertised("0.0.0.0:7").contains("0.0.0.0"));
        assert!(advertised("[::]:7").ends_with(":7"));
    }
}
