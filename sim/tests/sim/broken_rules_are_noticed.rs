//! A world in which one rule of the protocol is switched off: the oracle must notice.

use millstream_sim::{Invariant, Rules, Watch};

use crate::many_seeds::broken;

/// Seeds tried until one shows the damage.
const SEEDS_MAX: u64 = 3_000;

fn noticed(name: &str, rules: Rules) {
    let hit = (0..SEEDS_MAX).find_map(|seed| broken(seed, rules, Watch::ReaderOnly, false).0.map(|why| (seed, why)));
    let (seed, why) = hit.unwrap_or_else(|| panic!("{name}: not noticed in {SEEDS_MAX} seeds"));
    eprintln!("{name}: seed {seed}: {why}");
}

/// The invariant by itself, with the others and the reader's view left out of it.
fn noticed_by(invariant: Invariant, rules: Rules) {
    let by_name = |why: &String| why.starts_with(invariant.name());
    let only = Watch::Only(invariant);
    let hit = (0..SEEDS_MAX).find_map(|seed| Some((seed, broken(seed, rules, only, false).0.filter(by_name)?)));
    let (seed, why) = hit.unwrap_or_else(|| panic!("{}: not noticed in {SEEDS_MAX} seeds", invariant.name()));
    eprintln!("{}: seed {seed}: {why}", invariant.name());
}

#[test]
fn one_entry_per_seq() {
    noticed_by(Invariant::OneEntryPerSeq, Rules { put_if_absent: false, ..Rules::default() });
}

#[test]
fn no_commit_without_a_sealed_manifest() {
    noticed_by(Invariant::SealedBeforeCommit, Rules { commit_after_seal: false, ..Rules::default() });
}

#[test]
fn no_commit_by_a_stale_generation() {
    noticed_by(Invariant::NoStaleCommit, Rules { losers_step_down: false, ..Rules::default() });
}

#[test]
fn every_split_and_key_group_has_one_owner() {
    noticed_by(Invariant::OwnedOnce, Rules { own_by_placement: false, ..Rules::default() });
}

#[test]
fn the_watermark_of_a_task_never_falls() {
    noticed_by(Invariant::WatermarkNeverFalls, Rules { keep_watermark: false, ..Rules::default() });
}

#[test]
fn the_processing_time_of_a_task_never_falls() {
    noticed_by(Invariant::ProcessingTimeNeverFalls, Rules { keep_processing_time: false, ..Rules::default() });
}

#[test]
fn who_rules_is_replaced_only_after_silence() {
    noticed_by(Invariant::ClaimAfterSilence, Rules { know_the_dead: false, ..Rules::default() });
}

#[test]
fn commits_before_sealing() {
    noticed("commits before sealing", Rules { commit_after_seal: false, ..Rules::default() });
}

#[test]
fn no_fencing() {
    noticed("no fencing", Rules { fence: false, ..Rules::default() });
}

#[test]
fn transactions_of_aborted_epochs_forgotten() {
    noticed("uncovered not listed", Rules { list_uncovered: false, ..Rules::default() });
}

#[test]
fn producers_that_do_not_rest() {
    noticed("no rest", Rules { rest_producers: false, ..Rules::default() });
}

#[test]
fn puts_that_overwrite() {
    noticed("puts overwrite", Rules { put_if_absent: false, ..Rules::default() });
}

#[test]
fn changes_of_aborted_epochs_dropped() {
    noticed("aborted changes dropped", Rules { merge_aborted: false, ..Rules::default() });
}

#[test]
fn deadlines_by_the_wall_clock() {
    noticed("deadlines by the wall clock", Rules { count_time: false, ..Rules::default() });
}

#[test]
fn open_commits_not_finished() {
    noticed("not finished", Rules { finish: false, ..Rules::default() });
}
