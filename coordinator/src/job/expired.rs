//! What to do when the broker has given up a prepared transaction (protocol section 6).
//!
//! Owns: the verdict over what the broker said of a manifest's transactions. Does not own: carrying it out (`restore`).

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::control::FinishOutcome;
use millstream_api::flinkjob::ExpiredTransactions;
use millstream_api::ids::Epoch;
use millstream_api::log::{Manifest, PreparedTransaction};

/// How to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is committed.
    Settled,
    /// The broker did not answer for all: ask again.
    Again { detail: String },
    /// The epoch goes: abort these (possibly none), write `void`, restore the manifest before.
    GiveUp { abort: Vec<PreparedTransaction> },
    /// Commit these, the rest of the epoch is lost, as the user set.
    CommitRest { commit: Vec<PreparedTransaction> },
    /// A person must choose.
    Ask { message: String },
}

/// Judges the outcomes of `FinishTransactions` for all pending transactions of `tip`; `before` is the manifest before it.
#[must_use]
pub fn judge(
    tip: &Manifest,
    before: Option<&Manifest>,
    outcomes: &[(PreparedTransaction, FinishOutcome)],
    setting: ExpiredTransactions,
) -> Verdict {
    if let Some(detail) = outcomes.iter().find_map(|(_, o)| unavailable(o)) {
        return Verdict::Again { detail };
    }
    if outcomes.iter().all(|(_, o)| *o == FinishOutcome::Committed) {
        return Verdict::Settled;
    }
    if outcomes.iter().all(|(_, o)| matches!(o, FinishOutcome::Committed | FinishOutcome::Open)) {
        // The broker changed its mind between describing and committing, or a commit was lost: nothing is given up.
        return Verdict::Again { detail: "a transaction is still open".to_owned() };
    }
    let earlier: BTreeSet<&PreparedTransaction> = before.into_iter().flat_map(|m| &m.transactions).collect();
    let of_tip: Vec<_> = outcomes.iter().filter(|(t, _)| !earlier.contains(t)).collect();
    // What the tip names and nobody asked for is recorded as committed, by a later manifest that was given up since.
    let asked: BTreeSet<&PreparedTransaction> = outcomes.iter().map(|(t, _)| t).collect();
    let recorded = tip.transactions.iter().filter(|t| !earlier.contains(t) && !asked.contains(t)).count();
    let visible = recorded + of_tip.iter().filter(|(_, o)| may_be_visible(o)).count();
    let open = |o: &FinishOutcome| *o == FinishOutcome::Open;
    match setting {
        _ if visible == 0 && before.is_some() => {
            Verdict::GiveUp { abort: of_tip.iter().filter(|(_, o)| open(o)).map(|(t, _)| t.clone()).collect() }
        }
        ExpiredTransactions::AcceptDuplicates if before.is_some() => {
            Verdict::GiveUp { abort: of_tip.iter().filter(|(_, o)| open(o)).map(|(t, _)| t.clone()).collect() }
        }
        ExpiredTransactions::AcceptLoss => {
            Verdict::CommitRest { commit: outcomes.iter().filter(|(_, o)| open(o)).map(|(t, _)| t.clone()).collect() }
        }
        ExpiredTransactions::Fail | ExpiredTransactions::AcceptDuplicates => {
            Verdict::Ask { message: question(tip.epoch, outcomes, recorded) }
        }
    }
}

/// Judges the outcomes of `AbortTransactions`: whether the epoch may be voided now.
#[must_use]
pub fn judge_abort(
    tip: &Manifest,
    outcomes: &[(PreparedTransaction, FinishOutcome)],
    setting: ExpiredTransactions,
) -> Verdict {
    if let Some(detail) = outcomes.iter().find_map(|(_, o)| unavailable(o)) {
        return Verdict::Again { detail };
    }
    let visible = outcomes.iter().any(|(_, o)| may_be_visible(o));
    if visible && setting != ExpiredTransactions::AcceptDuplicates {
        return Verdict::Ask { message: question(tip.epoch, outcomes, 0) };
    }
    if outcomes.iter().any(|(_, o)| *o == FinishOutcome::Open) {
        return Verdict::Again { detail: "a transaction is still open".to_owned() };
    }
    Verdict::GiveUp { abort: Vec::new() }
}

fn unavailable(outcome: &FinishOutcome) -> Option<String> {
    match outcome {
        FinishOutcome::Unavailable { detail } => Some(detail.clone()),
        _ => None,
    }
}

fn may_be_visible(outcome: &FinishOutcome) -> bool {
    matches!(outcome, FinishOutcome::Committed | FinishOutcome::Unknown { .. })
}

fn question(epoch: Epoch, outcomes: &[(PreparedTransaction, FinishOutcome)], recorded: usize) -> String {
    let mut counts: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    for (transaction, outcome) in outcomes {
        let (visible, gone, unknown) = counts.entry(&transaction.topic).or_default();
        match outcome {
            FinishOutcome::Committed => *visible += 1,
            FinishOutcome::Unknown { .. } => *unknown += 1,
            _ => *gone += 1,
        }
    }
    let mut topics: Vec<String> = counts
        .iter()
        .map(|(topic, (visible, gone, unknown))| {
            let unknown = if *unknown > 0 { format!(", {unknown} unknown to the broker") } else { String::new() };
            format!("topic {topic}: {visible} transactions committed, {gone} not{unknown}")
        })
        .collect();
    if recorded > 0 {
        topics.push(format!("{recorded} more were committed before"));
    }
    format!(
        "checkpoint {epoch} is partly visible and the broker gave up the rest ({}). Going on needs a choice: \
         spec.restore.expiredTransactions: acceptDuplicates reads the epoch's input again (what is visible appears \
         twice), acceptLoss goes on after it (what is not visible is lost)",
        topics.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::fixture::{manifest, transaction};

    fn expired() -> FinishOutcome {
        FinishOutcome::Expired { detail: "timed out".to_owned() }
    }

    #[test]
    fn an_epoch_of_which_nothing_is_visible_is_given_up_and_its_open_rest_aborted() {
        let (a, b) = (transaction(5, 0), transaction(5, 1));
        let before = manifest(4, vec![]);
        let tip = manifest(5, vec![a.clone(), b.clone()]);
        let outcomes = [(a, expired()), (b.clone(), FinishOutcome::Open)];
        assert_eq!(
            judge(&tip, Some(&before), &outcomes, ExpiredTransactions::Fail),
            Verdict::GiveUp { abort: vec![b] }
        );
    }

    #[test]
    fn a_partly_visible_epoch_is_a_question_that_names_topic_epoch_and_both_ways() {
        let (a, b) = (transaction(5, 0), transaction(5, 1));
        let (before, tip) = (manifest(4, vec![]), manifest(5, vec![a.clone(), b.clone()]));
        let outcomes = [(a, expired()), (b, FinishOutcome::Committed)];
        let Verdict::Ask { message } = judge(&tip, Some(&before), &outcomes, ExpiredTransactions::Fail) else {
            panic!("must ask");
        };
        for part in ["checkpoint 5", "topic out", "acceptDuplicates", "acceptLoss"] {
            assert!(message.contains(part), "{message}");
        }
        let judged = judge(&tip, Some(&before), &outcomes, ExpiredTransactions::AcceptDuplicates);
        assert_eq!(judged, Verdict::GiveUp { abort: vec![] });
        let judged = judge(&tip, Some(&before), &outcomes, ExpiredTransactions::AcceptLoss);
        assert_eq!(judged, Verdict::CommitRest { commit: vec![] });
    }

    #[test]
    fn commits_of_the_epoch_before_do_not_make_this_one_visible() {
        let (old, new) = (transaction(4, 0), transaction(5, 0));
        let (before, tip) = (manifest(4, vec![old.clone()]), manifest(5, vec![old.clone(), new.clone()]));
        let outcomes = [(old, FinishOutcome::Committed), (new, expired())];
        let judged = judge(&tip, Some(&before), &outcomes, ExpiredTransactions::Fail);
        assert_eq!(judged, Verdict::GiveUp { abort: vec![] });
    }

    #[test]
    fn what_is_recorded_as_committed_is_visible_even_when_nobody_asks_for_it() {
        // Epoch 6 was given up after it had recorded a part of epoch 5.
        let (recorded, open) = (transaction(5, 0), transaction(5, 1));
        let (before, tip) = (manifest(4, vec![]), manifest(5, vec![recorded, open.clone()]));
        let judged = judge(&tip, Some(&before), &[(open, expired())], ExpiredTransactions::Fail);
        assert!(matches!(judged, Verdict::Ask { message } if message.contains("1 more")));
    }

    #[test]
    fn an_id_that_the_broker_forgot_may_have_been_committed() {
        let a = transaction(5, 0);
        let (before, tip) = (manifest(4, vec![]), manifest(5, vec![a.clone()]));
        let outcomes = [(a, FinishOutcome::Unknown { detail: String::new() })];
        assert!(matches!(judge(&tip, Some(&before), &outcomes, ExpiredTransactions::Fail), Verdict::Ask { .. }));
    }

    #[test]
    fn a_commit_that_slips_in_before_the_abort_is_noticed() {
        let a = transaction(5, 0);
        let tip = manifest(5, vec![a.clone()]);
        let outcomes = [(a.clone(), FinishOutcome::Committed)];
        assert!(matches!(judge_abort(&tip, &outcomes, ExpiredTransactions::Fail), Verdict::Ask { .. }));
        let outcomes = [(a, FinishOutcome::Aborted)];
        assert_eq!(judge_abort(&tip, &outcomes, ExpiredTransactions::Fail), Verdict::GiveUp { abort: vec![] });
    }
}
