//! Going on from a savepoint: it is copied into the job's own folder, and its manifest begins a new line of epochs in the log.
//!
//! ```text
//! the log does not descend from it -> read -> checked against the job -> the term is won -> objects copied -> manifest put
//! ```
//! Until that manifest is in the log nothing of the job has changed but who rules it, and a crash leads to the same steps
//! again. After it, the savepoint is needed no more: whoever begins later finds the manifest, or one that descends from it.
//! Owns: these steps. Does not own: the copy (`crate::savepoint`), what a manifest of another line drops (`view`).

use std::sync::Arc;

use millstream_api::control::{Failure, FailureKind};
use millstream_api::ids::Epoch;
use millstream_api::log::{EntryKind, Manifest, Savepoint};

use super::message::{Command, Millis, Notice, ProcessState, StoreProblem};
use super::{Core, Phase, failure_of};

/// A savepoint that this term is to begin with.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// As the user named it.
    name: String,
    savepoint: Arc<Savepoint>,
}

impl Core {
    /// Reading | StandingBy => Claiming, unless a savepoint is to be read first.
    pub(super) fn look_for_a_savepoint(&mut self, now: Millis, previous: ProcessState) {
        self.import = None;
        let Some(name) = self.config.restore.savepoint_name() else { return self.claim(now, previous) };
        if self.view.descends_from(&name) {
            return self.claim(now, previous);
        }
        if let Some(epoch) = self.sealed_since_it_began() {
            self.out.push(Command::Notice(Notice::SavepointPassedOver { savepoint: name, epoch }));
            return self.claim(now, previous);
        }
        let Some(uri) = self.config.restore.savepoint.clone() else { return };
        // Reading => ReadingSavepoint: nobody else is known to rule.
        self.phase = Phase::ReadingSavepoint { previous };
        self.out.push(Command::ReadSavepoint { uri });
    }

    /// A savepoint is named for the job as it is when a coordinator begins. What another one has sealed since then, a successor
    /// goes on from: nobody asked for that to be taken back.
    fn sealed_since_it_began(&self) -> Option<Epoch> {
        let found = self.found_tip?;
        self.view.tip().filter(|tip| Some(tip.seq) > found).map(|tip| tip.manifest.epoch)
    }

    pub(super) fn on_savepoint_read(&mut self, now: Millis, read: Result<Box<Savepoint>, StoreProblem>) {
        let Phase::ReadingSavepoint { previous } = self.phase else { return };
        if self.ending.is_some() {
            return self.end_stopped_before_start();
        }
        let (savepoint, name) = match (read, self.config.restore.savepoint_name()) {
            (Ok(savepoint), Some(name)) => (savepoint, name),
            (Err(problem), _) => {
                let failure = failure_of(problem);
                let message = format!("spec.restore.savepoint: {}", failure.message);
                return self.end_failed(Failure { message, ..failure });
            }
            (Ok(_), None) => return,
        };
        self.take_graph(Some(&savepoint.manifest));
        if let Err(message) = self.check_state(&savepoint.manifest) {
            return self.end_failed(Failure { kind: FailureKind::State, message });
        }
        self.import = Some(Import { name, savepoint: Arc::from(savepoint) });
        self.claim(now, previous);
    }

    /// The term is won. True: its first manifest comes from a savepoint.
    pub(super) fn begin_import(&mut self) -> bool {
        let (Some(import), Some(generation)) = (&self.import, self.generation) else { return false };
        let Some(uri) = self.config.restore.savepoint.clone() else { return false };
        let command = Command::ImportSavepoint {
            uri,
            savepoint: Arc::clone(&import.savepoint),
            epoch: self.epoch_of_import(&import.savepoint),
            generation,
        };
        self.out.push(command);
        // Claiming => Importing: nothing can be restored before.
        self.phase = Phase::Importing;
        true
    }

    /// Above all of this log, and of the savepoint's own: what a segment says of its epoch must not be newer.
    fn epoch_of_import(&self, savepoint: &Savepoint) -> Epoch {
        self.view.epoch_max().max(Some(savepoint.manifest.epoch)).map_or(Epoch(0), Epoch::next)
    }

    /// The objects are there, by the names that `manifest` has now.
    pub(super) fn on_savepoint_imported(&mut self, now: Millis, imported: Result<Box<Manifest>, StoreProblem>) {
        if self.phase != Phase::Importing || self.append.is_some() {
            return;
        }
        let Some(import) = &self.import else { return };
        match imported {
            Ok(mut manifest) => {
                manifest.epoch = self.epoch_of_import(&import.savepoint);
                manifest.committed_through = Some(manifest.epoch);
                manifest.restored_savepoint = Some(import.name.clone());
                manifest.earlier_transactional_ids = self.view.transactional_ids().to_vec();
                self.view.raise_epoch(manifest.epoch);
                self.append(now, EntryKind::Manifest(manifest));
            }
            Err(problem) => {
                let failure = failure_of(problem);
                let message = format!("the savepoint is not taken over: {}", failure.message);
                self.close_failed(now, Failure { message, ..failure });
            }
        }
    }

    /// Its manifest is in the log: from here on it is a restore like any other.
    pub(super) fn on_imported(&mut self, now: Millis) {
        self.import = None;
        self.go_on_from_the_tip(now);
    }
}
