//! The log folded into what it says now.
//!
//! Owns: which manifests are in effect, what is not yet recorded as committed, who rules. Does not own: reading and
//! writing (`crate::log`), nor what to do about it (`Core`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_api::flinkjob::RestoreSpec;
use millstream_api::ids::{Epoch, Generation, Seq, TransformUid};
use millstream_api::log::{
    EntryKind, LogEntry, Manifest, Nonce, PreparedTransaction, Start, StopReason, TransactionalIds,
};

use super::message::LogTail;

/// A manifest in the log.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub seq: Seq,
    /// Wall clock of the coordinator that sealed it.
    pub written_at_ms: i64,
    pub manifest: Arc<Manifest>,
}

/// What a start goes on from.
#[derive(Clone, Copy, Debug)]
pub enum StartPoint<'a> {
    /// `None`: from nothing.
    Checkpoint(Option<&'a Sealed>),
    /// The savepoint in this place, which has not counted yet.
    Savepoint(&'a str),
    /// A checkpoint is named that is not retained: the start is refused.
    Missing(Seq),
}

/// What the log says after its last entry.
#[derive(Clone, Debug, Default)]
pub struct LogView {
    last: Option<(Seq, Nonce)>,
    generation: Option<Generation>,
    holder: Option<Start>,
    stopped: Option<StopReason>,
    /// In effect, oldest first. The last is what a restart goes on from.
    sealed: Vec<Sealed>,
    /// In the log, but given up or left behind by a restore of an older one.
    dropped: Vec<Sealed>,
    /// Transactions of the tip whose commit is not recorded.
    pending: Vec<PreparedTransaction>,
    /// Ids under which a transaction may be open: those of the newest manifest, then of each later attempt. What is older
    /// was fenced before the tasks of that manifest ran.
    transactional_ids: Vec<BTreeMap<TransformUid, TransactionalIds>>,
    epoch_max: Option<Epoch>,
    /// Where the last restore of an older checkpoint went, until a manifest carries it.
    rewound_to: Option<Seq>,
    stored: BTreeSet<Seq>,
}

impl LogView {
    /// Folds a tail as it was read.
    #[must_use]
    pub fn of(tail: &LogTail) -> Self {
        let mut view = Self { holder: tail.start.clone(), ..Self::default() };
        for entry in &tail.entries {
            view.apply(entry);
        }
        // Keys outside of the gapless run wait for their deletion, too.
        view.stored.extend(tail.stored.iter().copied());
        view
    }

    /// Adds the entry that is now the last.
    pub fn apply(&mut self, entry: &LogEntry) {
        self.last = Some((entry.seq, entry.nonce.clone()));
        self.generation = Some(entry.generation);
        self.stored.insert(entry.seq);
        self.stopped = None;
        match &entry.kind {
            EntryKind::Start(start) => self.apply_start(start),
            EntryKind::Manifest(manifest) => self.apply_manifest(entry, Arc::new(manifest.as_ref().clone())),
            EntryKind::Void { epoch } => self.apply_void(*epoch),
            EntryKind::Settled(settled) => {
                self.pending.clear();
                if settled.fenced {
                    let newest = self.transactional_ids.len().saturating_sub(1);
                    self.transactional_ids.drain(..newest);
                }
                if !self.transactional_ids.contains(&settled.transactional_ids) {
                    self.transactional_ids.push(settled.transactional_ids.clone());
                }
            }
            EntryKind::Stopped { reason, epoch, committed_through } => {
                if committed_through >= epoch {
                    self.pending.clear();
                }
                self.stopped = Some(*reason);
            }
        }
    }

    fn apply_start(&mut self, start: &Start) {
        self.holder = Some(start.clone());
        let Some(restores) = start.restores else { return };
        if self.tip().is_some_and(|tip| tip.seq > restores) {
            // A user went back: what came after is left behind, and so are its transactions (protocol section 4).
            let keep = self.sealed.partition_point(|s| s.seq <= restores);
            self.dropped.extend(self.sealed.drain(keep..));
            self.pending.clear();
            self.rewound_to = Some(restores);
        }
    }

    fn apply_manifest(&mut self, entry: &LogEntry, manifest: Arc<Manifest>) {
        if self.begins_a_line(&manifest) {
            // What came before is left behind, and so are its transactions.
            self.dropped.append(&mut self.sealed);
        }
        // A manifest that was taken over names no ids: no task has run since those before it may have left something open.
        if manifest.restored_savepoint.is_none() || !manifest.transactional_ids.is_empty() {
            self.transactional_ids = vec![manifest.transactional_ids.clone()];
        }
        for earlier in &manifest.earlier_transactional_ids {
            // The entries that said so before it may be gone.
            if !self.transactional_ids.contains(earlier) {
                self.transactional_ids.push(earlier.clone());
            }
        }
        self.pending.clone_from(&manifest.transactions);
        if !manifest.next_transactional_ids.is_empty() {
            self.transactional_ids.push(manifest.next_transactional_ids.clone());
        }
        self.epoch_max = self.epoch_max.max(Some(manifest.epoch));
        self.rewound_to = manifest.restored_from;
        self.sealed.push(Sealed { seq: entry.seq, written_at_ms: entry.written_at_ms, manifest });
    }

    /// A savepoint's manifest, taken over into this log.
    fn begins_a_line(&self, manifest: &Manifest) -> bool {
        manifest.restored_savepoint.as_ref().is_some_and(|savepoint| !self.descends_from(savepoint))
    }

    fn apply_void(&mut self, epoch: Epoch) {
        self.epoch_max = self.epoch_max.max(Some(epoch));
        if self.tip().is_none_or(|tip| tip.manifest.epoch != epoch) {
            return;
        }
        self.dropped.extend(self.sealed.pop());
        // What the one before left uncommitted is still so, unless the given up manifest no longer named it.
        let before = self.tip().map(|tip| Arc::clone(&tip.manifest));
        self.pending.retain(|p| before.as_ref().is_some_and(|m| m.transactions.contains(p)));
    }

    /// The manifest that a start goes on from. `named`: the checkpoint that a user names, `spec.restore.from`; it counts once,
    /// as what descends from it is newer than it.
    ///
    /// # Errors
    /// The number that is not there.
    pub fn restored_by_a_start(&self, named: Option<Seq>) -> Result<Option<&Sealed>, Seq> {
        let already = self.tip().and_then(|tip| tip.manifest.restored_from);
        match named {
            Some(seq) if already != Some(seq) && self.rewound_to != Some(seq) => {
                self.sealed.iter().find(|sealed| sealed.seq == seq).map(Some).ok_or(seq)
            }
            _ => Ok(self.tip()),
        }
    }

    /// What a start goes on from that is told to restore so. A savepoint's path must mean the same to whoever started before.
    #[must_use]
    pub fn start_point<'a>(&'a self, restore: &'a RestoreSpec) -> StartPoint<'a> {
        match (&restore.savepoint, restore.savepoint_name()) {
            (Some(uri), Some(name)) if !self.descends_from(&name) => StartPoint::Savepoint(uri),
            _ => match self.restored_by_a_start(restore.from.map(Seq)) {
                Ok(sealed) => StartPoint::Checkpoint(sealed),
                Err(seq) => StartPoint::Missing(seq),
            },
        }
    }

    /// Whether the epochs in effect began with this savepoint, as a user names it: it counts once, too.
    #[must_use]
    pub fn descends_from(&self, savepoint: &str) -> bool {
        self.tip().is_some_and(|tip| tip.manifest.restored_savepoint.as_deref() == Some(savepoint))
    }

    /// The manifest that a restart goes on from.
    #[must_use]
    pub fn tip(&self) -> Option<&Sealed> {
        self.sealed.last()
    }

    /// The manifest before the tip.
    #[must_use]
    pub fn before_tip(&self) -> Option<&Sealed> {
        self.sealed.len().checked_sub(2).map(|i| &self.sealed[i])
    }

    #[must_use]
    pub fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    #[must_use]
    pub fn dropped(&self) -> &[Sealed] {
        &self.dropped
    }

    #[must_use]
    pub fn pending(&self) -> &[PreparedTransaction] {
        &self.pending
    }

    #[must_use]
    pub fn transactional_ids(&self) -> &[BTreeMap<TransformUid, TransactionalIds>] {
        &self.transactional_ids
    }

    #[must_use]
    pub fn last(&self) -> Option<&(Seq, Nonce)> {
        self.last.as_ref()
    }

    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// The `start` entry of the term that wrote last.
    #[must_use]
    pub fn holder(&self) -> Option<&Start> {
        self.holder.as_ref()
    }

    /// How the job ended, when its last entry says that it did.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.stopped
    }

    #[must_use]
    pub fn epoch_max(&self) -> Option<Epoch> {
        self.epoch_max
    }

    #[must_use]
    pub fn rewound_to(&self) -> Option<Seq> {
        self.rewound_to
    }

    #[must_use]
    pub fn stored(&self) -> &BTreeSet<Seq> {
        &self.stored
    }

    /// Takes up the epoch numbers that were used and not sealed.
    pub(super) fn raise_epoch(&mut self, epoch: Epoch) {
        self.epoch_max = self.epoch_max.max(Some(epoch));
    }

    /// Forgets what collection deletes: manifests below `first_kept` and the dropped ones, and the keys `deleted`.
    pub(super) fn forget(&mut self, first_kept: Seq, deleted: &[Seq]) {
        self.sealed.retain(|s| s.seq >= first_kept);
        self.dropped.clear();
        for seq in deleted {
            self.stored.remove(seq);
        }
    }
}
