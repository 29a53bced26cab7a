//! Workers, and other coordinators of the job, that are reached over the network.
//!
//! Owns: the server, what one worker says and hears as a [`WorkerLink`], heartbeats, refusals, the question whether another
//! coordinator rules. Does not own: what commands mean, what follows from the loss of a worker, who rules.

mod conversation;
#[cfg(test)]
mod fuzz;
mod probe;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_api::control::WorkerSettings;
use millstream_api::ids::Generation;
pub use millstream_net::Pace;
use millstream_net::{Listener, Roles, Security};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::job::{JobState, Status};
use crate::operations::{Operations, server};
use crate::runtime::WorkerLink;
pub use probe::{ProbeError, probe};
use service::ControlService;

mod calls {
    #![allow(clippy::all)]
    tonic::include_proto!("millstream.control.v1");
}

/// A deployment carries the graph and a manifest of at most 1 MiB, a report a task's share of one; JSON in base64 makes more
/// of it. Beyond this something is wrong, and the connection closes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// For the last commands to reach the workers when the job is over. One that hangs does not hold up the end.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// How a coordinator presents itself to workers.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// What workers are told of the job when they register.
    pub settings: WorkerSettings,
    /// Workers of another version are refused.
    pub version: String,
    pub pace: Pace,
}

/// The generation in which this process rules, from what its job master shows. To be called within a runtime.
#[must_use]
pub fn ruling(mut status: watch::Receiver<Status>) -> watch::Receiver<Option<Generation>> {
    let (rules_in, rules) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let rule = {
                let status = status.borrow_and_update();
                let over = matches!(
                    status.state,
                    JobState::Finished | JobState::Stopped | JobState::Failed | JobState::Fenced
                );
                status.generation.filter(|_| !over).map(Generation)
            };
            rules_in.send_if_modified(|known| std::mem::replace(known, rule) != rule);
            if status.changed().await.is_err() {
                break;
            }
        }
        rules_in.send_replace(None);
    });
    rules
}

/// The version of this binary, which workers must have.
#[must_use]
pub fn own_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// What was turned away since the start.
#[derive(Debug, Default)]
pub struct Refusals {
    registrations: AtomicU64,
    messages: AtomicU64,
}

impl Refusals {
    /// Workers of another version or job, and probes for another job.
    #[must_use]
    pub fn registrations(&self) -> u64 {
        self.registrations.load(Ordering::Relaxed)
    }

    /// Messages that could not be read or came at the wrong time; each closed its connection.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    fn count_registration(&self) {
        self.registrations.fetch_add(1, Ordering::Relaxed);
    }

    fn count_message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what ended a call, if it was a message that is no protobuf, or too long: other ends are the connection's.
    fn count_unreadable(&self, end: &tonic::Status) {
        if matches!(end.code(), tonic::Code::Internal | tonic::Code::OutOfRange | tonic::Code::InvalidArgument) {
            self.count_message();
        }
    }
}

/// What conversations do once no more commands will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The job is over: say so.
    Farewell,
    /// Somebody else goes on with the job: just close.
    Silent,
}

/// A server that workers attach to. It ends when it is dropped, or told by `close`.
#[derive(Debug)]
pub struct WorkerServer {
    pub refusals: Arc<Refusals>,
    ending: watch::Sender<Option<Ending>>,
    end: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl WorkerServer {
    /// Binds `address` (`host:port`) for workers and coordinators of the job, and for people.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(address: &str, security: &Security) -> std::io::Result<Listener> {
        Listener::bind(address, security, Roles::ANY).await
    }

    /// Serves on what `bind` gave; each worker that registers comes out of `workers`. `rules`: the generation in which this
    /// process rules. `operations`: served to people on the same address, where workers
    /// may not be told apart from them but by `security`. To be called within a runtime.
    #[must_use]
    pub fn start(
        listener: Listener,
        config: TransportConfig,
        rules: watch::Receiver<Option<Generation>>,
        workers: mpsc::Sender<WorkerLink>,
        operations: Option<Operations>,
        security: Security,
    ) -> Self {
        let refusals = Arc::new(Refusals::default());
        let (ending, endings) = watch::channel(None);
        let service = ControlService::new(config, rules, workers, endings, Arc::clone(&refusals));
        let (end, ended) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, service, operations, security, ended));
        Self { refusals, ending, end, serving }
    }

    /// Ends it once the workers have heard what is queued for them, or after a short time. `job_over`: they are told so, and
    /// end; otherwise they look for another coordinator.
    pub async fn close(self, job_over: bool) {
        let ending = if job_over { Ending::Farewell } else { Ending::Silent };
        self.ending.send_replace(Some(ending));
        let _ = self.end.send(());
        let _ = tokio::time::timeout(FAREWELL_MAX, self.serving).await;
    }
}

/// The one place where connections are taken in.
async fn serve(
    listener: Listener,
    service: ControlService,
    operations: Option<Operations>,
    security: Security,
    ended: oneshot::Receiver<()>,
) {
    let service = calls::control_server::ControlServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let service = InterceptedService::new(service, security.only(Roles::CONTROL));
    let server = Server::builder().add_service(service);
    let server = server.add_optional_service(operations.map(server::service));
    let served = server.serve_with_incoming_shutdown(listener.incoming(), async {
        // Dropped or told: both mean the end.
        let _ = ended.await;
    });
    if let Err(error) = served.await {
        tracing::error!("the server for workers has ended: {error}");
    }
}
