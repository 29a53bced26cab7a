//! Which changes belong to which epoch.
//!
//! Time is cut at barriers into intervals, numbered by `Version` from 1; version 0 is what a restore loaded. The
//! barrier of an epoch ends an interval: a row written in version <= v is part of the epoch that ended v. Versions
//! are never used twice, also not after a roll back, so that a stamp in a row means one interval.

use std::collections::VecDeque;

use millstream_api::ids::Epoch;

use super::StateError;

/// Number of an interval between two barriers.
pub(crate) type Version = u32;

/// Stamps leave the highest bit to the backends.
const VERSION_MAX: Version = (1 << 31) - 2;

/// Epochs and their versions.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// 0 while a restore loads.
    current: Version,
    /// The last interval that a manifest covers.
    sealed: Version,
    sealed_epoch: Option<Epoch>,
    /// Ended, not yet sealed or aborted; oldest first.
    ended: VecDeque<(Epoch, Version)>,
    /// Roll back is possible to versions from this one on.
    images_from: Version,
}

impl Versions {
    /// The interval that changes belong to now. The first access ends the restore.
    pub fn current(&mut self) -> Version {
        self.current = self.current.max(1);
        self.current
    }

    pub fn sealed(&self) -> Version {
        self.sealed
    }

    pub fn restoring(&self) -> bool {
        self.current == 0
    }

    /// What was loaded is the epoch.
    pub fn loaded(&mut self, epoch: Epoch) {
        self.sealed_epoch = Some(epoch);
        self.current = self.sealed + 1;
    }

    /// While a restore loads: rows come with stamps up to `version`, which mean nothing newer than what is loaded.
    pub fn allow_stamps(&mut self, version: Version) {
        self.sealed = self.sealed.max(version);
    }

    /// The newest version that a row may have been written in.
    pub fn newest(&self) -> Version {
        self.current.max(self.sealed)
    }

    /// Ends the current interval; returns the next.
    pub fn end(&mut self, epoch: Epoch) -> Result<Version, StateError> {
        let last = self.ended.back().map(|e| e.0).or(self.sealed_epoch);
        if last.is_some_and(|last| last >= epoch) {
            let reason = format!("epoch {epoch} ends after epoch {}", last.expect("checked"));
            return Err(StateError::Bug { verb: "end an epoch of", reason });
        }
        let ended = self.current();
        if ended >= VERSION_MAX {
            let reason = format!("{ended} checkpoints in one attempt are the limit: restart the job");
            return Err(StateError::Bug { verb: "end an epoch of", reason });
        }
        self.ended.push_back((epoch, ended));
        self.current = ended + 1;
        Ok(self.current)
    }

    /// The version that the barrier of `epoch` ended, while it is known.
    pub fn of(&self, epoch: Epoch) -> Option<Version> {
        if self.sealed_epoch == Some(epoch) {
            return Some(self.sealed);
        }
        self.ended.iter().find(|(e, _)| *e == epoch).map(|(_, v)| *v)
    }

    /// Epochs that ended and are neither sealed nor aborted.
    pub fn pending(&self) -> impl Iterator<Item = (Epoch, Version)> + '_ {
        self.ended.iter().copied()
    }

    /// A manifest covers everything up to the epoch. `None`: that was known, or the epoch never was.
    pub fn seal(&mut self, epoch: Epoch) -> Option<Version> {
        let version = self.ended.iter().find(|(e, _)| *e == epoch)?.1;
        self.ended.retain(|(e, _)| *e > epoch);
        self.sealed = version;
        self.sealed_epoch = Some(epoch);
        Some(version)
    }

    pub fn abort(&mut self, epoch: Epoch) {
        self.ended.retain(|(e, _)| *e != epoch);
    }

    /// Pre-images up to now were given up.
    pub fn give_up_images(&mut self) {
        self.images_from = self.current();
    }

    /// Whether the current interval keeps pre-images.
    pub fn keeps_images(&self) -> bool {
        self.images_from < self.current.max(1)
    }

    pub fn can_roll_back(&self, epoch: Epoch) -> bool {
        self.of(epoch).is_some_and(|v| v >= self.images_from)
    }

    /// After a roll back to `epoch`: nothing later was, and it is sealed.
    pub fn rolled_back(&mut self, epoch: Epoch) {
        self.seal(epoch);
        self.ended.clear();
        self.current = self.current() + 1;
    }
}
