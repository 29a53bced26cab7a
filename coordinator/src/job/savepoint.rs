//! Savepoints of the running job: for each request a checkpoint, which is copied once its commits are done (protocol
//! section 10).
//!
//! ```text
//! Waiting -> a checkpoint that was triggered after the request is sealed -> Committing -> all of it is committed -> Copying
//! ```
//! A failure of the job leaves the request where it can go on: the checkpoint is in the log, or another one is waited for.
//! Owns: these steps, what is pinned meanwhile, how each request ended. Does not own: the copy (`crate::savepoint`).

use std::sync::Arc;

use millstream_api::ids::{Epoch, Seq};

use super::message::{Command, Millis, Notice, StopMode};
use super::{Core, Phase, Purpose, Sealed};

/// Requests at a time: each may copy the whole state.
pub const SAVEPOINTS_MAX: usize = 4;
/// Requests that are remembered: whoever asked looks at once.
const ENDED_MAX: usize = 16;

/// A savepoint that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavepointRequest {
    /// Tells requests apart, and is the savepoint's own id.
    pub id: String,
    /// The folder that is to be the savepoint: `s3://bucket/path`, `file:///path` or an absolute path.
    pub target: String,
    /// The job ends with it.
    pub then: Option<StopMode>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SavepointEnd {
    Taken { epoch: Epoch, bytes: u64 },
    Failed { reason: String },
}

/// What people see of requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavepointStatus {
    /// Each request that has not ended, with what it waits for.
    pub under_way: Vec<(SavepointRequest, String)>,
    /// The newest that ended, newest last.
    pub ended: Arc<Vec<(SavepointRequest, SavepointEnd)>>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Savepoints {
    under_way: Vec<UnderWay>,
    ended: Arc<Vec<(SavepointRequest, SavepointEnd)>>,
}

#[derive(Clone, Debug)]
struct UnderWay {
    request: SavepointRequest,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// For an epoch above this one.
    Waiting {
        after: Option<Epoch>,
    },
    /// For the commits of a checkpoint.
    Committing(Sealed),
    Copying(Sealed),
}

impl Savepoints {
    pub(super) fn none_under_way(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn wait_for_a_checkpoint(&self) -> bool {
        self.under_way.iter().any(|savepoint| matches!(savepoint.step, Step::Waiting { .. }))
    }

    /// The job may not end yet.
    pub(super) fn copying(&self) -> bool {
        self.under_way.iter().any(|savepoint| matches!(savepoint.step, Step::Copying(_)))
    }

    /// The oldest checkpoint that is needed.
    pub(super) fn pinned(&self) -> Option<Seq> {
        let needed = self.under_way.iter().filter_map(|savepoint| match &savepoint.step {
            Step::Waiting { .. } => None,
            Step::Committing(sealed) | Step::Copying(sealed) => Some(sealed.seq),
        });
        needed.min()
    }

    fn knows(&self, id: &str) -> bool {
        self.under_way.iter().any(|savepoint| savepoint.request.id == id)
            || self.ended.iter().any(|(request, _)| request.id == id)
    }

    /// For people.
    pub(super) fn status(&self) -> SavepointStatus {
        let doing = |step: &Step| match step {
            Step::Waiting { .. } => "a checkpoint is to complete".to_owned(),
            Step::Committing(sealed) => format!("the commits of checkpoint {} are to end", sealed.manifest.epoch),
            Step::Copying(sealed) => format!("checkpoint {} is copied", sealed.manifest.epoch),
        };
        let under_way = self.under_way.iter().map(|savepoint| (savepoint.request.clone(), doing(&savepoint.step)));
        SavepointStatus { under_way: under_way.collect(), ended: Arc::clone(&self.ended) }
    }
}

impl Core {
    /// The user wants a savepoint. One of a job that does not run yet is taken once it does.
    pub(super) fn on_savepoint_requested(&mut self, now: Millis, request: SavepointRequest) {
        if self.savepoints.knows(&request.id) {
            return;
        }
        if self.savepoints.under_way.len() >= SAVEPOINTS_MAX {
            let reason = format!("{SAVEPOINTS_MAX} savepoints are being taken already");
            return self.end_savepoint(request, SavepointEnd::Failed { reason });
        }
        self.out.push(Command::Notice(Notice::SavepointRequested { target: request.target.clone() }));
        let then = request.then;
        // A checkpoint in flight may have been triggered before.
        self.savepoints.under_way.push(UnderWay { request, step: Step::Waiting { after: self.view.epoch_max() } });
        match then {
            None => {}
            Some(StopMode::Suspend) => self.on_stop_requested(now),
            Some(StopMode::Drain) => self.on_drain_requested(),
        }
    }

    /// A checkpoint is in the log.
    pub(super) fn note_sealed_for_savepoints(&mut self, purpose: Purpose) {
        let Some(tip) = self.view.tip() else { return };
        for savepoint in &mut self.savepoints.under_way {
            if let Step::Waiting { after } = savepoint.step
                && purpose != Purpose::Anchor
                && Some(tip.manifest.epoch) > after
            {
                // Waiting => Committing: its manifest is in the log.
                savepoint.step = Step::Committing(tip.clone());
            }
        }
    }

    /// While tasks run, or their last commits do.
    pub(super) fn advance_savepoints(&mut self) {
        if matches!(self.phase, Phase::Running | Phase::Committing { .. }) {
            let through = self.committed_through();
            self.copy_committed(through);
        }
    }

    /// The job ends with its tip, all of which is committed; whatever was read after it is not visible, and is read again. So it
    /// is what a savepoint of the end holds, also where the job did not run when it was asked for.
    pub(super) fn copy_the_end(&mut self) {
        let Some(tip) = self.view.tip().cloned() else { return };
        for savepoint in &mut self.savepoints.under_way {
            if let Step::Waiting { .. } = savepoint.step {
                // Waiting => Committing: no other checkpoint will come.
                savepoint.step = Step::Committing(tip.clone());
            }
        }
        self.copy_committed(Some(tip.manifest.epoch));
    }

    /// Has what is committed copied, and waits for another checkpoint where one was given up.
    pub(super) fn copy_committed(&mut self, through: Option<Epoch>) {
        let after = self.view.epoch_max();
        for UnderWay { request, step } in &mut self.savepoints.under_way {
            let Step::Committing(sealed) = step else { continue };
            if !self.view.sealed().iter().any(|other| other.seq == sealed.seq) {
                // Committing => Waiting: the epoch was given up after all.
                *step = Step::Waiting { after };
            } else if through >= Some(sealed.manifest.epoch) {
                let (request, manifest) = (request.clone(), Arc::clone(&sealed.manifest));
                self.out.push(Command::CopySavepoint { request, manifest });
                // Committing => Copying: it owes the broker nothing.
                *step = Step::Copying(sealed.clone());
            }
        }
    }

    pub(super) fn on_savepoint_copied(&mut self, now: Millis, id: &str, copied: Result<u64, String>) {
        let Some(at) = self.savepoints.under_way.iter().position(|savepoint| savepoint.request.id == id) else {
            return;
        };
        let UnderWay { request, step } = self.savepoints.under_way.remove(at);
        let end = match (copied, step) {
            (Ok(bytes), Step::Copying(sealed)) => SavepointEnd::Taken { epoch: sealed.manifest.epoch, bytes },
            (Ok(_), _) => SavepointEnd::Failed { reason: "it was not asked for".to_owned() },
            (Err(reason), _) => SavepointEnd::Failed { reason },
        };
        self.end_savepoint(request, end);
        // What it kept may go.
        self.collect();
        if let Phase::Closing { deadline: deadline @ Some(_), .. } = &mut self.phase {
            // The end of the job waited for it.
            *deadline = Some(now + self.config.limits.store_patience_ms);
        }
    }

    fn end_savepoint(&mut self, request: SavepointRequest, end: SavepointEnd) {
        self.out.push(Command::Notice(Notice::SavepointEnded { target: request.target.clone(), end: end.clone() }));
        let ended = Arc::make_mut(&mut self.savepoints.ended);
        if ended.len() == ENDED_MAX {
            ended.remove(0);
        }
        ended.push((request, end));
    }
}
