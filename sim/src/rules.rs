//! The rules that a test switches off to see that it is noticed, and who is to notice.

/// Rules of the protocol that the simulated worker and the world keep. All true: the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A sink commits only what a sealed manifest names.
    pub commit_after_seal: bool,
    /// A restart initialises every transactional id ever used.
    pub fence: bool,
    /// An acknowledgement lists what earlier, aborted epochs prepared.
    pub list_uncovered: bool,
    /// A producer that the newest manifest names begins nothing.
    pub rest_producers: bool,
    /// A put to the log goes through only if the key is free.
    pub put_if_absent: bool,
    /// A dirty key stays dirty until a manifest covers it.
    pub merge_aborted: bool,
    /// A restart finishes what the last manifest left open.
    pub finish: bool,
    /// A coordinator whose put lost the race for its place in the log writes and commits nothing more.
    pub losers_step_down: bool,
    /// A worker runs the tasks that are placed on it, and no other one.
    pub own_by_placement: bool,
    /// A task's watermark is at least what it was, whatever its channels say after a restore.
    pub keep_watermark: bool,
    /// A task's processing time is at least what it was, whatever the wall clock says, now or after a restore.
    pub keep_processing_time: bool,
    /// A coordinator reads the wall clock once and counts from there.
    pub count_time: bool,
    /// Of a process one says that it is gone only when it is.
    pub know_the_dead: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            commit_after_seal: true,
            fence: true,
            list_uncovered: true,
            rest_producers: true,
            put_if_absent: true,
            merge_aborted: true,
            finish: true,
            losers_step_down: true,
            own_by_placement: true,
            keep_watermark: true,
            keep_processing_time: true,
            count_time: true,
            know_the_dead: true,
        }
    }
}

/// What must hold after every event, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    OneEntryPerSeq,
    SealedBeforeCommit,
    NoStaleCommit,
    OwnedOnce,
    WatermarkNeverFalls,
    ProcessingTimeNeverFalls,
    ClaimAfterSilence,
}

impl Invariant {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneEntryPerSeq => "one entry per seq",
            Self::SealedBeforeCommit => "no commit without a sealed manifest",
            Self::NoStaleCommit => "no commit by a stale generation",
            Self::OwnedOnce => "every split and key group has one owner",
            Self::WatermarkNeverFalls => "a task's watermark never falls",
            Self::ProcessingTimeNeverFalls => "a task's processing time never falls",
            Self::ClaimAfterSilence => "who rules is replaced only after silence",
        }
    }
}

/// Who looks for damage. The oracle at the end of a run always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// All invariants.
    All,
    /// None: the reader must notice by itself.
    ReaderOnly,
    /// This one alone.
    Only(Invariant),
}

impl Watch {
    #[must_use]
    pub fn includes(self, invariant: Invariant) -> bool {
        match self {
            Self::All => true,
            Self::ReaderOnly => false,
            Self::Only(one) => one == invariant,
        }
    }
}
