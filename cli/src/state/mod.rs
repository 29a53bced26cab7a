//! `millstream state`: the tables of a checkpoint or a savepoint, SQL over them, skewed keys.
//!
//! Owns: what is read for which answer, exit codes. Does not own: reading and adding up (`inspect`).

pub mod args;
pub mod print;
mod query;
mod skew;
pub mod source;
mod tables;

use args::{StateArguments, StateCommand};
use source::Stop;

use crate::exit::Exit;
use crate::run::on_event_loop;

/// Runs the command.
pub fn run(arguments: StateArguments) -> Exit {
    let StateArguments { command, source, key_groups, output } = arguments;
    answer(async move {
        match (command, source) {
            (Some(StateCommand::Query(arguments)), _) => query::query(&arguments).await,
            (Some(StateCommand::Skew(arguments)), _) => skew::skew(&arguments).await,
            (None, Some(source)) => tables::tables(&source, key_groups, output).await,
            (None, None) => Err(Stop::new(Exit::Usage, "name a job's manifest or a savepoint")),
        }
    })
}

/// Runs a command that only reads, and says why it ended early.
pub fn answer(command: impl Future<Output = Result<Exit, Stop>>) -> Exit {
    on_event_loop(async { command.await.unwrap_or_else(|stop| stop.tell()) })
}
