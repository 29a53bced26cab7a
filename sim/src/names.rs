//! How the world names what happens, for its trace and its coverage.

use millstream_api::ids::Generation;
use millstream_api::log::{EntryKind, LogEntry};
use millstream_coordinator::job::{Core, Event, Notice, RescaleEnd, SavepointEnd};

use crate::network::Message;
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
        (JobState::StandingBy, _) => "crash while standing by",
        (JobState::TakingOver, _) => "crash while taking over",
        (JobState::AwaitingSlots, _) => "crash while slots are missing",
        _ => "crash while ending",
    }
}

/// The term that a transactional id is of.
pub fn term_of(id: &str) -> Option<Generation> {
    id.split('-').nth(2).and_then(|g| g.parse().ok()).map(Generation)
}

/// The kind of an entry in a word.
#[must_use]
pub fn kind_name(entry: &LogEntry) -> &'static str {
    match entry.kind {
        EntryKind::Start(_) => "start",
        EntryKind::Manifest(_) => "manifest",
        EntryKind::Void { .. } => "void",
        EntryKind::Settled(_) => "settled",
        EntryKind::Stopped { .. } => "stopped",
    }
}

/// What a notice counts as.
#[must_use]
pub fn notice_name(notice: &Notice) -> &'static str {
    match notice {
        Notice::NewJob => "new job",
        Notice::Restored { .. } => "restored",
        Notice::SavepointPassedOver { .. } => "a savepoint that came too late",
        Notice::StoredGraph { .. } => "stored graph runs",
        Notice::State { .. } => "state restored otherwise",
        Notice::CommitsFinished { .. } => "commits finished on restore",
        Notice::NothingLeft { .. } => "restart of a finished job",
        Notice::CheckpointCompleted { .. } => "checkpoint completed",
        Notice::CheckpointAborted { .. } => "checkpoint aborted",
        Notice::SealUnknown { .. } => "put of unknown outcome",
        Notice::GivenUp { .. } => "epoch given up",
        Notice::Restarting { .. } => "restart within a term",
        Notice::Running { .. } => "running",
        Notice::SourcesPaused { .. } => "sources paused",
        Notice::SourcesResumed => "sources resumed",
        Notice::AwaitingSlots { .. } => "waiting for slots",
        Notice::StartingSmaller { .. } => "starting smaller",
        Notice::RescaleRequested { .. } => "another parallelism asked for",
        Notice::Preparing { .. } => "workers prepare a change",
        Notice::RescaleEnded { end: RescaleEnd::Done { .. }, .. } => "rescaled",
        Notice::RescaleEnded { .. } => "request for another parallelism over",
        Notice::Changed { .. } => "tasks gone to other places",
        Notice::ChangeGivenUp { .. } => "change given up",
        Notice::SavepointRequested { .. } => "savepoint asked for",
        Notice::SavepointEnded { end: SavepointEnd::Taken { .. }, .. } => "savepoint taken",
        Notice::SavepointEnded { .. } => "savepoint failed",
        Notice::StandingBy { .. } => "standing by",
        Notice::StoodStill { .. } => "a coordinator that stood still claims again",
        Notice::Adopted { .. } => "adopted",
        Notice::Moving { room: true, .. } => "tasks move away from a worker",
        Notice::Moving { room: false, .. } => "no room for the tasks of a worker that leaves",
        Notice::Stopping => "stopping",
        Notice::Draining => "draining",
        Notice::TookOver { .. } => "taken over",
        Notice::NotCollected { .. } => "not collected",
    }
}

/// An input in few words.
pub fn brief(input: &Input) -> String {
    let text = match input {
        Input::Core(event) => format!("{event:?}"),
        Input::Message { connection, message } => match message {
            Message::Report(r) => format!("<- {}: {:?} {:?}", connection.0, r.attempt, r.report),
            Message::Command(c) => format!("-> {}: {:?} {:?}", connection.0, c.attempt, c.command),
            other => format!("-- {}: {other:?}", connection.0),
        },
        Input::Done(Done::Restored(..)) => "done: restored".to_owned(),
        Input::Done(done) => format!("done: {done:?}"),
        Input::Opened { .. } | Input::Closed { .. } => format!("{input:?}"),
        Input::Answer { .. } | Input::Step => String::new(),
    };
    text.chars().take(220).collect()
}

/// Whether a trace leaves the input out: it says little, and often.
#[must_use]
pub fn is_noise(input: &Input) -> bool {
    let frame = matches!(input, Input::Message { message: Message::Frame(_) | Message::Heard { .. }, .. });
    frame || matches!(input, Input::Step | Input::Answer { .. } | Input::Core(Event::Tick))
}
