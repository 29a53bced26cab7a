//! Exit codes. They are part of the interface: scripts depend on them, so they never change their meaning.

use std::process::ExitCode;

use millstream_api::control::FailureKind;

/// Why the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command did what it was asked: finished, or stopped on request with a last checkpoint.
    Success = 0,
    /// A defect of Millstream.
    Defect = 1,
    /// The command line is wrong (clap's own code).
    Usage = 2,
    /// The manifest or its SQL is wrong.
    InvalidJob = 3,
    /// Something outside must be put right first: broker, topic, store, credentials, disk.
    Environment = 4,
    /// A record could not be processed, and would fail again.
    Data = 5,
    /// The stored state does not fit: another graph, another owner, an altered object.
    State = 6,
    /// The job failed and its restarts are used up.
    RestartsExhausted = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::UserData => Exit::Data,
            FailureKind::User | FailureKind::Refused => Exit::Environment,
            FailureKind::Transient => Exit::RestartsExhausted,
            FailureKind::State | FailureKind::Corrupt => Exit::State,
            FailureKind::Bug => Exit::Defect,
        }
    }
}
