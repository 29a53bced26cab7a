//! `millstream status`, `millstream stop`, `millstream rescale` and `millstream prepare`: asking a coordinator.
//!
//! Owns: which coordinator is asked, what people are told when it does not answer. Does not own: the tables (`table`).

pub mod prepare;
pub mod table;

use std::io::{self, IsTerminal, Write};

use millstream_api::proto::operations::v1::{JobStatus, Operation, OperationState};
use millstream_coordinator::operations::client::{CallError, Client};
use millstream_net::Security;

use crate::args::{AskedArguments, RescaleArguments, StatusArguments, StatusFormat, StopArguments};
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
    let drain = arguments.drain;
    let words = Words { kind: "stop", may_be: "stopping", flags: if drain { "--drain " } else { "" }.to_owned() };
    operate(&arguments.asked, arguments.operation_id.as_ref(), &words, async |client, id| client.stop(id, drain).await)
}

/// Changes the parallelism, and says what came of it.
pub fn rescale(arguments: &RescaleArguments) -> Exit {
    let parallelism = arguments.parallelism;
    let words = Words { kind: "rescale", may_be: "changing", flags: format!("--parallelism {parallelism} ") };
    let id = arguments.operation_id.as_ref();
    operate(&arguments.asked, id, &words, async |client, id| client.rescale(id, parallelism).await)
}

/// How an operation is spoken of.
pub struct Words {
    pub kind: &'static str,
    /// What the job may be doing when the answer is lost.
    pub may_be: &'static str,
    /// What asks for the same once more, beside the id.
    pub flags: String,
}

/// Has an operation carried out, and says what came of it.
pub fn operate(
    asked: &AskedArguments,
    id: Option<&String>,
    words: &Words,
    call: impl AsyncFn(&mut Client, &str) -> Result<Operation, CallError>,
) -> Exit {
    let id = match operation_id(id, words.kind) {
        Ok(id) => id,
        Err(exit) => return exit,
    };
    let security = match tls::security(&asked.tls) {
        Ok(security) => security,
        Err((exit, message)) => return refuse(exit, &message),
    };
    let again = format!("{}--operation-id {id}", words.flags);
    run(async {
        match at_the_ruling_one(&asked.coordinator, &security, async |client| call(client, &id).await).await {
            Err(error @ CallError::Lost { .. }) => {
                let may_be = words.may_be;
                eprintln!("the job may be {may_be}; to hear what came of it, ask again with {again}");
                Err(error)
            }
            answer => Ok(concluded(&answer?, words.may_be, &again)),
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
