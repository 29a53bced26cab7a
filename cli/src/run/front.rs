//! Between people and the job's master, where that runs: what they ask reaches it, and its answers them.
//!
//! Owns: how the operations API is put together in a process. Does not own: what it does (`coordinator::operations`).

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_api::log::Address;
use millstream_coordinator::job::{Status, StopMode, Wish};
use millstream_coordinator::operations::server::Serving;
use millstream_coordinator::operations::{Board, JobFacts, Operations, OperationsConfig, Prepared};
use millstream_coordinator::runtime::WISHES_MAX;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::words::{announce, refuse};
use super::{Loaded, PreparedJob, SAVEPOINTS_FOLDER, signals};
use crate::exit::Exit;
use crate::job_file;
use crate::logging::Display;

/// The operations, and what they share with the job's master.
pub struct Front {
    pub operations: Operations,
    pub board: Board,
    /// What somebody asks of the job: by a signal, or by an operation.
    pub wishes: mpsc::Receiver<Wish>,
}

impl Front {
    /// `listens_on`: where people reach this process. To be called within a runtime.
    pub fn new(
        loaded: &Loaded,
        prepared: &PreparedJob,
        listens_on: Option<String>,
        status: watch::Receiver<Status>,
    ) -> Self {
        let (config, store) = (&prepared.config, Arc::clone(&prepared.store));
        let (wishes_in, wishes) = mpsc::channel(WISHES_MAX);
        let by_signal = wishes_in.clone();
        // A full queue holds a stop already, or drains that end in one when they fail.
        let ask = move || {
            let _ = by_signal.try_send(Wish::Stop(StopMode::Suspend));
        };
        signals::forward(ask, signals::GOES_ON);
        let facts = JobFacts {
            job: config.path.clone(),
            display_name: loaded.title(),
            graph: Arc::clone(&loaded.graph),
            address: Address { listen: listens_on, ..config.address.clone() },
        };
        let board = Board::default();
        let operations = Operations::start(OperationsConfig {
            facts,
            store,
            savepoints_folder: format!("{}/{}/{SAVEPOINTS_FOLDER}", prepared.storage, config.path),
            places: prepared.places.clone(),
            status,
            board: board.clone(),
            wishes: wishes_in,
            compile: Arc::new(compile),
        });
        Self { operations, board, wishes }
    }
}

/// For those who ask what would become of the job under another manifest.
fn compile(manifest: &str, sql: Option<&str>) -> Result<Prepared, Vec<String>> {
    let file = job_file::load_texts(manifest, sql)?;
    Ok(Prepared { job: file.job, graph: Arc::new(file.compiled.graph) })
}

/// Binds the address when one is given; or says why not.
pub async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Exit> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| refuse(Exit::Environment, &format!("failed to listen on {address}: {error}")))
}

/// Serves the operations where no other calls are served, and says where.
pub fn serve(listener: TcpListener, operations: &Operations, display: Display) -> Serving {
    if let Ok(bound) = listener.local_addr() {
        announce(display, &format!("listening on {bound}: millstream status --coordinator {bound}"));
    }
    Serving::operations(listener, operations.clone())
}
