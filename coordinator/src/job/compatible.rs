//! Whether a manifest can be restored by this job: same state under the same names.
//!
//! Owns: the comparison of two graphs by what has state. Does not own: the tables' column types, which the worker checks
//! when a transform declares its tables.

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::graph::{JobGraph, Transform, TransformKind};
use millstream_api::ids::TransformUid;
use millstream_api::log::Manifest;

/// Differences named in one message, the rest counted: a rewritten script differs everywhere.
const DIFFERENCES_SHOWN_MAX: usize = 8;

/// What becomes of the state of one transform of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// It has no home in the new graph.
    Homeless,
    /// The transform of that name reads other state. Says which.
    Changed(String),
}

/// What becomes of each transform's state in `manifest` under `graph`.
#[must_use]
pub fn fates<'a>(manifest: &'a Manifest, graph: &JobGraph) -> BTreeMap<&'a TransformUid, Fate> {
    let new: BTreeMap<&TransformUid, &Transform> = graph.transforms.iter().map(|t| (&t.uid, t)).collect();
    let old: BTreeMap<&TransformUid, &Transform> = manifest.graph.transforms.iter().map(|t| (&t.uid, t)).collect();
    let fate = |uid: &TransformUid| match (old.get(uid), new.get(uid)) {
        (_, None) => Fate::Homeless,
        (Some(old), Some(new)) => difference(old, new).map_or(Fate::Kept, Fate::Changed),
        (None, Some(_)) => Fate::Kept,
    };
    stateful(manifest).into_iter().map(|uid| (uid, fate(uid))).collect()
}

/// Checks that the state in `manifest` has a home in `graph`.
///
/// # Errors
/// One message for people: what differs and what to do.
pub fn check(
    manifest: &Manifest,
    graph: &JobGraph,
    max_parallelism: u32,
    allow_non_restored_state: bool,
) -> Result<(), String> {
    if manifest.max_parallelism != max_parallelism {
        return Err(format!(
            "maxParallelism is {max_parallelism} but checkpoint {} was written with {}, and it cannot change while there \
             is state: set spec.maxParallelism: {}",
            manifest.epoch, manifest.max_parallelism, manifest.max_parallelism
        ));
    }
    if manifest.graph_hash == graph.hash() {
        return Ok(());
    }
    let mut lost = Vec::new();
    let mut changed = Vec::new();
    for (uid, fate) in fates(manifest, graph) {
        match fate {
            Fate::Kept => {}
            Fate::Homeless => lost.push(format!("{uid} has state and is no longer in the job")),
            Fate::Changed(difference) => changed.push(difference),
        }
    }
    let (differences, advice) = if !changed.is_empty() {
        changed.extend(lost);
        (changed, "restore the old statement, or run the job under another name to start without state")
    } else if !lost.is_empty() && !allow_non_restored_state {
        (lost, "restore the old statement, or set spec.restore.allowNonRestoredState: true to drop that state")
    } else {
        return Ok(());
    };
    let shown = differences.len().min(DIFFERENCES_SHOWN_MAX);
    let more = differences.len() - shown;
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(format!(
        "checkpoint {} is of another job graph: {}{more}. {advice}",
        manifest.epoch,
        differences[..shown].join("; ")
    ))
}

/// Transforms that the manifest holds state of.
fn stateful(manifest: &Manifest) -> BTreeSet<&TransformUid> {
    let tables = manifest.tables.iter().filter(|t| !t.segments.is_empty()).map(|t| &t.uid);
    let splits = manifest.splits.iter().filter(|(_, list)| !list.is_empty()).map(|(uid, _)| uid);
    tables.chain(manifest.operator_state.keys()).chain(splits).collect()
}

/// What makes the state of `old` unreadable for `new`.
fn difference(old: &Transform, new: &Transform) -> Option<String> {
    let (was, is) = (shape(&old.kind), shape(&new.kind));
    if was != is {
        return Some(format!("{}: was {was}, is {is}", old.uid));
    }
    None
}

/// The parts of a transform that its state depends on. A source's state is positions: its columns may change, what it
/// reads may not.
fn shape(kind: &TransformKind) -> String {
    let json = |value: serde_json::Result<String>| value.expect("a graph holds only serialisable data");
    match kind {
        TransformKind::Source(source) => {
            use millstream_api::graph::SourceConnector::{Datagen, Filesystem, Kafka};
            match &source.connector {
                Kafka(kafka) => format!("a source of kafka topic {}", kafka.topics.join(";")),
                Filesystem(files) => format!("a source of files {}", files.path),
                Datagen(_) => "a datagen source".to_owned(),
            }
        }
        TransformKind::GlobalWindowAggregate { window, keys, aggregates, .. } => format!(
            "a window aggregate of {} ms every {} ms, keys {}, aggregates {}",
            window.size_ms,
            window.slide_ms,
            json(serde_json::to_string(keys)),
            json(serde_json::to_string(aggregates))
        ),
        TransformKind::GlobalGroupAggregate { keys, aggregates, .. } => format!(
            "an aggregate, keys {}, aggregates {}",
            json(serde_json::to_string(keys)),
            json(serde_json::to_string(aggregates))
        ),
        TransformKind::LocalGroupAggregate { .. } => "a local aggregate".to_owned(),
        TransformKind::LocalWindowAggregate { .. } => "a local window aggregate".to_owned(),
        TransformKind::Calc { .. } => "a calculation".to_owned(),
        TransformKind::Union => "a union".to_owned(),
        TransformKind::WindowAssign { .. } => "a window assignment".to_owned(),
        TransformKind::Sink(sink) => format!("sink {}", sink.table),
    }
}
