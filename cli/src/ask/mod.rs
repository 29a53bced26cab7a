//! `millstream status`, `millstream stop`, `millstream rescale` and `millstream prepare`: asking a coordinator.
//!
//! Owns: which coordinator is asked, what people are told when it does not answer. Does not own: the tables (`table`).

pub mod prepare;
mod table;

use std::io::{self, IsTerminal, Write};

use millstream_api::proto::operations::v1::{JobStatus, Operation, OperationState};
use millstream_coordinator::operations::client::{CallError, Client};
use millstream_net::Security;

use crate::args::{RescaleArguments, StatusArguments, StatusFormat, StopArguments};
use crate::exit::Exit;
use crate::{owner, tls};

/// Prints the status, once or at every change.
pub fn status(arguments: &StatusArguments) -> Exit {
    let mut screen = Screen { format: arguments.output, redraws: arguments.watch && io::stdout().is_terminal() };
    let asked = &arguments.asked;
    let security = match tls::security(&asked.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let address = &asked.coordinator;
    run(async {
        if !arguments.watch {
            let status = at_the_ruling_one(address, &security, async |client| client.status().await).await?;
            screen.show(&status);
            return Ok(Exit::Success);
        }
        let mut statuses = at_the_ruling_one(address, &security, async |client| client.watch().await).await?;
        while let Some(status) = statuses.next().await? {
            if !screen.show(&status) {
                // Whoever read it has seen enough.
                return Ok(Exit::Success);
            }
        }
        eprintln!("the coordinator on {address} has ended");
        Ok(Exit::Success)
    })
}

/// Stops the job, and says what came of it.
pub fn stop(arguments: &StopArguments) -> Exit {
    let id = match operation_id(arguments.operation_id.as_ref(), "stop") {
        Ok(id) => id,
        Err(exit) => return exit,
    };
    let asked = &arguments.asked;
    let security = match tls::security(&asked.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let address = &asked.coordinator;
    // The same id asks for the same.
    let again = format!("{}--operation-id {id}", if arguments.drain { "--drain " } else { "" });
    run(async {
        let stopped =
            at_the_ruling_one(address, &security, async |client| client.stop(&id, arguments.drain).await).await;
        match stopped {
            Err(error @ CallError::Lost { .. }) => {
                eprintln!("the job may be stopping; to hear what came of it, ask again with {again}");
                Err(error)
            }
            stopped => Ok(concluded(&stopped?, "stopping", &again)),
        }
    })
}

/// Changes the parallelism, and says what came of it.
pub fn rescale(arguments: &RescaleArguments) -> Exit {
    let id = match operation_id(arguments.operation_id.as_ref(), "rescale") {
        Ok(id) => id,
        Err(exit) => return exit,
    };
    let asked = &arguments.asked;
    let security = match tls::security(&asked.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let (address, parallelism) = (&asked.coordinator, arguments.parallelism);
    let again = format!("--parallelism {parallelism} --operation-id {id}");
    run(async {
        let changed =
            at_the_ruling_one(address, &security, async |client| client.rescale(&id, parallelism).await).await;
        match changed {
            Err(error @ CallError::Lost { .. }) => {
                eprintln!("the job may be changing; to hear what came of it, ask again with {again}");
                Err(error)
            }
            changed => Ok(concluded(&changed?, "changing", &again)),
        }
    })
}

/// The one that was given, or a new one.
fn operation_id(given: Option<&String>, kind: &str) -> Result<String, Exit> {
    let drawn = || owner::random_hex().map(|id| format!("{kind}-{id}"));
    let id = given.map_or_else(drawn, |id| Ok(id.clone()));
    id.map_err(|error| refuse(Exit::Environment, &format!("failed to draw an operation id: {error}")))
}

/// `doing`: what goes on while it has not ended; `again`: how to ask for the same once more.
fn concluded(operation: &Operation, doing: &str, again: &str) -> Exit {
    let Operation { operation_id: id, message, .. } = operation;
    match operation.state() {
        OperationState::Done => println!("{message} (operation {id})"),
        OperationState::Failed => return refuse(Exit::Environment, &format!("{message} (operation {id})")),
        OperationState::Accepted | OperationState::Running | OperationState::Unspecified => {
            println!("still {doing}; ask again with {again}");
        }
    }
    Exit::Success
}

/// Asks a coordinator; one that stands by names the ruling one, which is asked then. No further: two that name each other
/// would go on for ever.
async fn at_the_ruling_one<T>(
    address: &str,
    security: &Security,
    ask: impl AsyncFn(&mut Client) -> Result<T, CallError>,
) -> Result<T, CallError> {
    let mut client = Client::connect(address, security).await?;
    match ask(&mut client).await {
        Err(CallError::NotRuling { coordinator: Some(ruling), .. }) if ruling != address => {
            ask(&mut Client::connect(&ruling, security).await?).await
        }
        answer => answer,
    }
}

/// Runs a conversation to its end.
fn run(conversation: impl Future<Output = Result<Exit, CallError>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(Exit::Environment, &format!("failed to start the event loop: {error}")),
    };
    match runtime.block_on(conversation) {
        Ok(exit) => exit,
        Err(error @ CallError::Address { .. }) => refuse(Exit::Usage, &error.to_string()),
        Err(error) => refuse(Exit::Environment, &error.to_string()),
    }
}

fn refuse(exit: Exit, message: &str) -> Exit {
    eprintln!("error: {message}");
    exit
}

/// Where statuses go.
struct Screen {
    format: StatusFormat,
    /// Each takes the place of the one before.
    redraws: bool,
}

impl Screen {
    /// False: nobody reads any more.
    fn show(&mut self, status: &JobStatus) -> bool {
        let mut text = match self.format {
            StatusFormat::Table => table::render(status),
            StatusFormat::Json => serde_json::to_string(status).expect("numbers and texts"),
        };
        text.push('\n');
        if self.redraws && self.format == StatusFormat::Table {
            // Home, and each line cleared as it is written: no flicker. What is left below goes at the end.
            text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }
}
