//! What tasks that run no more have prepared, and nobody has reported as committed (protocol section 8).
//!
//! It is committed by its stored ids, by whatever worker, beside what runs. A task that runs may have the number of one that
//! left something, so its reports say nothing of that. Owns: what is left, until it is committed. Does not own: the commits
//! of running tasks (`running`), those that a restore finishes (`restore`).

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::control::FinishOutcome;
use millstream_api::ids::TransformUid;
use millstream_api::log::{PreparedTransaction, TransactionalIds};

use super::message::Millis;
use super::{Core, Phase, transient};

/// Pause before the broker is asked again.
const COMMIT_RETRY_MS: Millis = 200;

#[derive(Clone, Debug)]
pub(super) struct Left {
    /// Not known to be committed.
    transactions: BTreeSet<PreparedTransaction>,
    deadline: Millis,
    /// `None`: a worker is at it.
    retry_at: Option<Millis>,
}

impl Left {
    pub(super) fn deadline(&self) -> Millis {
        self.retry_at.unwrap_or(self.deadline).min(self.deadline)
    }
}

impl Core {
    /// Has these committed while other tasks run than those that prepared them.
    pub(super) fn commit_left(&mut self, now: Millis, transactions: BTreeSet<PreparedTransaction>) {
        if transactions.is_empty() {
            return;
        }
        let deadline = now + self.config.limits.commit_timeout_ms;
        self.left = Some(Left { transactions, deadline, retry_at: Some(now) });
        self.advance_left(now);
    }

    /// Whether a transaction is of tasks that run no more.
    pub(super) fn is_left(&self, transaction: &PreparedTransaction) -> bool {
        self.left.as_ref().is_some_and(|left| left.transactions.contains(transaction))
    }

    /// Those of them that the tasks of these ids did not prepare.
    pub(super) fn of_other_tasks(
        transactions: &[PreparedTransaction],
        ids: &BTreeMap<TransformUid, TransactionalIds>,
    ) -> BTreeSet<PreparedTransaction> {
        let own = |t: &&PreparedTransaction| ids.get(&t.uid).is_some_and(|ids| ids.has(&t.transactional_id));
        transactions.iter().filter(|t| !own(t)).cloned().collect()
    }

    /// The transactions of the tasks before are committed by their stored ids, by whatever worker.
    pub(super) fn advance_left(&mut self, now: Millis) {
        if !matches!(self.phase, Phase::Running | Phase::Committing { .. }) {
            // A restore finishes all that the log's tip names.
            self.left = None;
        }
        let Some(left) = &mut self.left else { return };
        if left.deadline <= now {
            let message = "the broker did not commit what the tasks before a change had prepared, in time".to_owned();
            return self.fail(now, transient(message));
        }
        if left.retry_at.is_none_or(|at| at > now) {
            return;
        }
        left.retry_at = None;
        let transactions = left.transactions.iter().cloned().collect();
        self.ask_to_finish(now, transactions);
    }

    pub(super) fn on_left_finished(&mut self, now: Millis, outcomes: &[(PreparedTransaction, FinishOutcome)]) {
        let Some(left) = self.left.as_mut().filter(|f| f.retry_at.is_none()) else { return };
        let unavailable = |outcome: &FinishOutcome| matches!(outcome, FinishOutcome::Unavailable { .. });
        if outcomes.iter().any(|(_, outcome)| unavailable(outcome)) {
            left.retry_at = Some(now + COMMIT_RETRY_MS);
            return;
        }
        if let Some((given_up, _)) = outcomes.iter().find(|(_, outcome)| *outcome != FinishOutcome::Committed) {
            // The restart looks at all of them, and decides by protocol section 6.
            let message = format!("the broker gave up a transaction on {} before its commit", given_up.topic);
            return self.fail(now, transient(message));
        }
        self.left = None;
        let done: BTreeSet<&PreparedTransaction> = outcomes.iter().map(|(transaction, _)| transaction).collect();
        for open in self.uncommitted.values_mut() {
            open.retain(|transaction| !done.contains(transaction));
        }
        self.uncommitted.retain(|_, open| !open.is_empty());
    }

    /// A worker is gone, which may have been at it: it is asked of another.
    pub(super) fn ask_another_for_left(&mut self, now: Millis) {
        if let Some(left) = self.left.as_mut().filter(|left| left.retry_at.is_none()) {
            left.retry_at = Some(now);
        }
    }
}
