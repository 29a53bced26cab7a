//! How the world names what happens, for its trace and its coverage.

use millstream_api::ids::Generation;
use millstream_coordinator::job::{Core, Event};

use crate::process::Input;
use crate::worker::Done;

/// Where in the job's life a crash came.
pub fn crash_name(core: &Core) -> &'static str {
    use millstream_coordinator::job::{CheckpointPhase, JobState};
    match (core.status().state, core.checkpoint().map(|c| c.phase)) {
        (_, Some(CheckpointPhase::Triggered)) => "crash while barriers travel",
        (_, Some(CheckpointPhase::Acknowledged)) => "crash while a manifest is put",
        (JobState::Running, None) if core.status().commits_open > 0 => "crash with commits open",
        (JobState::Running, None) => "crash between checkpoints",
        (JobState::Restoring, _) => "crash while restoring",
        (JobState::Restarting, _) => "crash between attempts",
        (JobState::Starting, _) => "crash while starting",
        _ => "crash while ending",
    }
}

/// The term that a transactional id is of.
pub fn term_of(id: &str) -> Option<Generation> {
    id.split('-').nth(2).and_then(|g| g.parse().ok()).map(Generation)
}

/// An input in few words.
pub fn brief(input: &Input) -> String {
    let text = match input {
        Input::Core(Event::Worker { report, .. }) => format!("<- {:?} {:?}", report.attempt.number, report.report),
        Input::Core(event) => format!("{event:?}"),
        Input::Worker(command) => format!("-> {:?} {:?}", command.attempt.number, command.command),
        Input::Done(Done::Restored(..)) => "done: restored".to_owned(),
        Input::Done(done) => format!("done: {done:?}"),
        Input::Answer { .. } | Input::Step => String::new(),
    };
    text.chars().take(220).collect()
}
