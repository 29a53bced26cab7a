//! What must hold after every event, by name. Checked in debug builds and by the simulation.

use std::collections::BTreeSet;
use std::fmt;

use millstream_api::control;
use millstream_api::ids::{Epoch, Seq};
use millstream_api::log::{EntryKind, Manifest};

use super::message::Command;
use super::{CheckpointPhase, Core, Phase};

/// The name of an invariant that does not hold, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub name: &'static str,
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.seen)
    }
}

type Check = fn(&Core) -> Result<(), String>;

/// Every invariant of the core.
const INVARIANTS: &[(&str, Check)] = &[
    ("epochs in effect rise", epochs_rise),
    ("pending transactions are the tip's", pending_is_of_the_tip),
    ("an epoch in flight is newer than the tip", flight_is_newer),
    ("an acknowledged epoch is the one being put", acknowledged_is_put),
    ("tasks run only on sealed positions", running_is_anchored),
    ("nothing is fenced while a commit is open", fencing_is_settled),
    ("a split has one position", splits_once),
    ("segments hold a group range", segments_in_range),
    ("the watermark never falls", watermark_never_falls),
    ("an entry follows the last one", entry_follows),
    ("only one entry is put per event", one_put),
    ("a manifest is sealed before workers hear of it", sealed_is_in_the_log),
];

/// Checks all of them.
///
/// # Errors
/// The first one that does not hold.
pub fn holds(core: &Core) -> Result<(), Broken> {
    INVARIANTS.iter().try_for_each(|(name, check)| check(core).map_err(|seen| Broken { name, seen }))
}

fn ensure(holds: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen()) }
}

fn epochs_rise(core: &Core) -> Result<(), String> {
    let epochs: Vec<(Seq, Epoch)> = core.view.sealed().iter().map(|s| (s.seq, s.manifest.epoch)).collect();
    ensure(epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), || format!("{epochs:?}"))
}

fn pending_is_of_the_tip(core: &Core) -> Result<(), String> {
    let named = |m: &Manifest| core.view.pending().iter().all(|p| m.transactions.contains(p));
    let holds = core.view.pending().is_empty() || core.view.tip().is_some_and(|tip| named(&tip.manifest));
    ensure(holds, || format!("{:?}", core.view.pending()))
}

fn flight_is_newer(core: &Core) -> Result<(), String> {
    let Some(checkpoint) = &core.checkpoint else { return Ok(()) };
    let tip = core.view.tip().map(|tip| tip.manifest.epoch);
    ensure(Some(checkpoint.epoch) > tip, || format!("epoch {} in flight, tip {tip:?}", checkpoint.epoch))
}

fn acknowledged_is_put(core: &Core) -> Result<(), String> {
    let Some(checkpoint) = core.checkpoint.as_ref().filter(|c| c.phase == CheckpointPhase::Acknowledged) else {
        return Ok(());
    };
    let put = core.append.as_ref().and_then(|a| match &a.entry.kind {
        EntryKind::Manifest(manifest) => Some(manifest.epoch),
        _ => None,
    });
    ensure(put == Some(checkpoint.epoch), || format!("acknowledged {}, put {put:?}", checkpoint.epoch))
}

fn running_is_anchored(core: &Core) -> Result<(), String> {
    ensure(core.phase != Phase::Running || core.sources_known(), || "a source's position is not in the log".to_owned())
}

fn fencing_is_settled(core: &Core) -> Result<(), String> {
    let past = matches!(core.phase, Phase::Fencing { .. } | Phase::Deploying { .. } | Phase::Anchoring);
    ensure(!past || core.view.pending().is_empty(), || format!("{:?}", core.view.pending()))
}

fn splits_once(core: &Core) -> Result<(), String> {
    let Some(tip) = core.view.tip() else { return Ok(()) };
    for (uid, splits) in &tip.manifest.splits {
        let names: BTreeSet<&str> = splits.iter().map(|s| s.split.as_str()).collect();
        ensure(names.len() == splits.len(), || format!("{uid} has a split twice"))?;
    }
    Ok(())
}

fn segments_in_range(core: &Core) -> Result<(), String> {
    let Some(tip) = core.view.tip() else { return Ok(()) };
    let max = tip.manifest.max_parallelism;
    let mut segments = tip.manifest.tables.iter().flat_map(|t| &t.segments);
    let bad = segments.find(|s| s.first_group >= s.end_group || u32::from(s.end_group) > max);
    ensure(bad.is_none(), || format!("{bad:?}"))
}

fn watermark_never_falls(core: &Core) -> Result<(), String> {
    let (Some(tip), Some(before)) = (core.view.tip(), core.view.before_tip()) else { return Ok(()) };
    if tip.manifest.graph_hash != before.manifest.graph_hash {
        return Ok(());
    }
    for (uid, now) in &tip.manifest.watermarks {
        let was = before.manifest.watermarks.get(uid).and_then(|w| w.iter().min());
        ensure(now.iter().min() >= was, || format!("{uid}: {was:?} -> {now:?}"))?;
    }
    Ok(())
}

fn entry_follows(core: &Core) -> Result<(), String> {
    let Some(append) = &core.append else { return Ok(()) };
    let follows = core.view.last().map_or(Seq(0), |(seq, _)| seq.next());
    ensure(append.entry.seq == follows, || format!("putting {}, last is before {follows}", append.entry.seq))
}

fn one_put(core: &Core) -> Result<(), String> {
    let puts = core.out.iter().filter(|c| matches!(c, Command::Append(_))).count();
    ensure(puts <= 1, || format!("{puts} puts"))
}

fn sealed_is_in_the_log(core: &Core) -> Result<(), String> {
    for command in &core.out {
        let Command::Tell { command, .. } = command else { continue };
        let control::Command::Sealed { epoch, .. } = &command.command else { continue };
        let known = core.view.sealed().iter().any(|s| s.manifest.epoch == *epoch);
        ensure(known, || format!("epoch {epoch}"))?;
    }
    Ok(())
}
