//! `millstream checkpoints`: what a job retains in its store.
//!
//! Owns: what is asked of the store, exit codes. Does not own: what a log says (`coordinator::retained`), reading
//! segments (`inspect`).

pub mod args;
mod list;
mod show;
mod verify;

use args::{CheckpointsArguments, CheckpointsCommand, ReleaseArguments};
use indicatif::BinaryBytes;
use millstream_api::ids::Seq;
use millstream_coordinator::retained::{ReleaseError, release};
use millstream_inspect::InspectError;

use crate::exit::Exit;
use crate::state::answer;
use crate::state::print::now_ms;
use crate::state::source::{JobStore, Stop};

/// Runs the command.
pub fn run(arguments: &CheckpointsArguments) -> Exit {
    answer(async {
        match &arguments.command {
            CheckpointsCommand::List(arguments) => list::list(arguments).await,
            CheckpointsCommand::Show(arguments) => show::show(arguments).await,
            CheckpointsCommand::Verify(arguments) => verify::verify(arguments).await,
            CheckpointsCommand::Release(arguments) => drop_one(arguments).await,
        }
    })
}

async fn drop_one(arguments: &ReleaseArguments) -> Result<Exit, Stop> {
    let job = JobStore::open(&arguments.manifest).await?;
    let (seq, older) = (Seq(arguments.checkpoint), arguments.and_older);
    let released = release(job.store, &job.path, seq, older, job.restore.from.map(Seq), now_ms()).await;
    let released = released.map_err(|error| match error {
        ReleaseError::Store(problem) => Stop::from(InspectError::from(problem)),
        ReleaseError::Refused(message) => Stop::new(Exit::Environment, message),
        error @ ReleaseError::Unwritten(_) => Stop::new(Exit::Environment, error.to_string()),
    })?;
    let gone: Vec<String> = released.checkpoints.iter().map(Seq::to_string).collect();
    println!("released checkpoint {}: {} objects, {}", gone.join(", "), released.objects, BinaryBytes(released.bytes));
    Ok(Exit::Success)
}
