//! Commits of this process that are under way: what the crash test's fault points around them are placed by.

use std::sync::atomic::{AtomicUsize, Ordering};

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// One sink's commit, from its permit to the broker's answer.
pub(super) struct CommitUnderWay(());

impl CommitUnderWay {
    /// To be called before anything is sent.
    pub(super) fn begin() -> Self {
        millstream_fault::reach("before-commit");
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// The broker has answered.
    pub(super) fn done(self) {
        millstream_fault::reach("after-commit");
        drop(self);
        // Others of the same epoch: they were all permitted by the same manifest.
        if UNDER_WAY.load(Ordering::SeqCst) == 0 {
            millstream_fault::reach("after-last-commit");
        } else {
            millstream_fault::reach("before-last-commit");
        }
    }
}

impl Drop for CommitUnderWay {
    /// Done, or given up with its sink.
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}
