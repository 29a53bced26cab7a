//! Whether a manifest can be restored by this job: what becomes of each transform's state under another graph.
//!
//! Owns: the comparison of two graphs by what has state, and the words for it: the start of a job, `prepare` and
//! `explain --against` all say what stands here. Does not own: which change of columns loses nothing (`api::graph`), nor reading
//! rows into other columns (the worker).
//!
//! State is found by uid, and compared by what its columns mean: where a column stands in a batch depends on what other
//! statements read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use millstream_api::graph::{
    ColumnChange, GRAPH_VERSION, JobGraph, Origin, Schema, SourceConnector, StateTable, Transform, TransformKind,
};
use millstream_api::ids::TransformUid;
use millstream_api::log::{Manifest, SegmentContent, TableManifest};

/// Differences named in one message, the rest counted: a rewritten script differs everywhere.
const DIFFERENCES_SHOWN_MAX: usize = 8;

/// What becomes of the state of one transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is read as it was written.
    Kept,
    /// It is read into other columns.
    Migrated,
    /// It has no home in the new graph, and the job may drop it.
    Dropped,
    /// It fits nothing in the new graph, so the job does not start.
    Refused,
    /// There is none: the transform begins with the job.
    New,
}

/// What becomes of the state of one transform, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFate {
    pub uid: TransformUid,
    pub fate: Fate,
    /// Stored changes: at least as many as there are rows. Of a source: its splits.
    pub rows: u64,
    pub bytes: u64,
    /// One line for people; empty: nothing to tell.
    pub reason: String,
}

impl StateFate {
    /// Whether people hear of it when the job starts.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        match self.fate {
            Fate::Migrated | Fate::Dropped => true,
            Fate::Kept => !self.reason.is_empty(),
            Fate::Refused | Fate::New => false,
        }
    }
}

/// `state of old/aggregate/0 is dropped (120 rows, 4100 bytes): ..`
impl fmt::Display for StateFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fate {
            Fate::Kept => "kept",
            Fate::Migrated => "read into other columns",
            Fate::Dropped => "dropped",
            Fate::Refused => "refused",
            Fate::New => "new",
        };
        write!(f, "state of {} is {what} ({} rows, {} bytes): {}", self.uid, self.rows, self.bytes, self.reason)
    }
}

/// The graph that goes on from `manifest`: the stored one where it was made from the same text and options, whatever this
/// binary makes of them; `compiled` otherwise, and where the user wants it so.
#[must_use]
pub fn graph_for(manifest: Option<&Manifest>, compiled: &Arc<JobGraph>, recompile: bool) -> Arc<JobGraph> {
    let same_text = |m: &&Manifest| m.graph.compiled_from.is_some() && m.graph.compiled_from == compiled.compiled_from;
    let stored = manifest.filter(same_text).filter(|m| !recompile && m.graph_hash != compiled.hash());
    stored.map_or_else(|| Arc::clone(compiled), |manifest| Arc::clone(&manifest.graph))
}

/// What becomes of each transform's state in `manifest` under `graph`, by uid, then of those that begin without any.
#[must_use]
pub fn fates(manifest: &Manifest, graph: &JobGraph, allow_non_restored_state: bool) -> Vec<StateFate> {
    let new: BTreeMap<&TransformUid, &Transform> = graph.transforms.iter().map(|t| (&t.uid, t)).collect();
    let old: BTreeMap<&TransformUid, &Transform> = manifest.graph.transforms.iter().map(|t| (&t.uid, t)).collect();
    let changed = manifest.graph_hash != graph.hash();
    let of = |uid: &TransformUid| {
        let (fate, reason) = match (old.get(uid), new.get(uid)) {
            (_, None) if allow_non_restored_state => {
                (Fate::Dropped, "it is no longer in the job, and allowNonRestoredState is set".to_owned())
            }
            (_, None) => (Fate::Refused, "it has state and is no longer in the job".to_owned()),
            (Some(was), Some(is)) if changed => Comparison { manifest, graph, was, is }.judge(),
            (_, Some(_)) => (Fate::Kept, String::new()),
        };
        let (rows, bytes) = size(manifest, uid);
        StateFate { uid: uid.clone(), fate, rows, bytes, reason }
    };
    let stateful = stateful(manifest);
    let begins = |t: &&Transform| keeps_state(&t.kind) && !stateful.contains(&t.uid) && !old.contains_key(&t.uid);
    let begin =
        |t: &Transform| StateFate { uid: t.uid.clone(), fate: Fate::New, rows: 0, bytes: 0, reason: String::new() };
    stateful.iter().map(|uid| of(uid)).chain(graph.transforms.iter().filter(begins).map(begin)).collect()
}

/// Checks that the state in `manifest` has a home in `graph`. What becomes of it.
///
/// # Errors
/// One message for people: what differs and what to do.
pub fn check(
    manifest: &Manifest,
    graph: &JobGraph,
    max_parallelism: u32,
    allow_non_restored_state: bool,
) -> Result<Vec<StateFate>, String> {
    if manifest.max_parallelism != max_parallelism {
        return Err(format!(
            "maxParallelism is {max_parallelism} but checkpoint {} was written with {}, and it cannot change while there \
             is state: set spec.maxParallelism: {}",
            manifest.epoch, manifest.max_parallelism, manifest.max_parallelism
        ));
    }
    if graph.version > GRAPH_VERSION {
        return Err(format!(
            "the graph in checkpoint {} has format version {}, this binary runs up to {GRAPH_VERSION}: run the job with the \
             version that wrote it, or set spec.restore.recompile: true to go on with a plan of this version",
            manifest.epoch, graph.version
        ));
    }
    let fates = fates(manifest, graph, allow_non_restored_state);
    let refused: Vec<&StateFate> = fates.iter().filter(|f| f.fate == Fate::Refused).collect();
    if refused.is_empty() {
        return Ok(fates);
    }
    let has_home = |f: &&&StateFate| graph.transforms.iter().any(|t| t.uid == f.uid);
    let advice = if refused.iter().any(|f| has_home(&f)) {
        "restore the old statement, or give the changed one a label of its own (INSERT INTO t /*+ LABEL('name') */ ...), so \
         that it begins without state, and set spec.restore.allowNonRestoredState: true to drop what it had"
    } else {
        "restore the old statement, or set spec.restore.allowNonRestoredState: true to drop that state"
    };
    let shown = refused.len().min(DIFFERENCES_SHOWN_MAX);
    let more = refused.len() - shown;
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let told: Vec<String> = refused[..shown].iter().map(|f| format!("{}: {}", f.uid, f.reason)).collect();
    Err(format!("checkpoint {} is of another job graph: {}{more}. {advice}", manifest.epoch, told.join("; ")))
}

/// Transforms that the manifest holds state of.
fn stateful(manifest: &Manifest) -> BTreeSet<&TransformUid> {
    let tables = manifest.tables.iter().filter(|t| !t.segments.is_empty()).map(|t| &t.uid);
    let splits = manifest.splits.iter().filter(|(_, list)| !list.is_empty()).map(|(uid, _)| uid);
    tables.chain(manifest.operator_state.keys()).chain(splits).collect()
}

fn keeps_state(kind: &TransformKind) -> bool {
    matches!(kind, TransformKind::Source(_)) || kind.state_table().is_some()
}

/// Rows and bytes of a transform's state.
fn size(manifest: &Manifest, uid: &TransformUid) -> (u64, u64) {
    let segments = manifest.tables.iter().filter(|table| table.uid == *uid).flat_map(|table| &table.segments);
    let of_tables = segments.fold((0, 0), |(rows, bytes), segment| {
        let size = match &segment.content {
            SegmentContent::Object(object) => object.bytes,
            SegmentContent::Inline { data } => data.len() as u64,
        };
        (rows + segment.rows, bytes + size)
    });
    (of_tables.0 + manifest.splits.get(uid).map_or(0, |splits| splits.len() as u64), of_tables.1)
}

/// One transform under two graphs.
struct Comparison<'a> {
    manifest: &'a Manifest,
    graph: &'a JobGraph,
    was: &'a Transform,
    is: &'a Transform,
}

impl Comparison<'_> {
    fn judge(&self) -> (Fate, String) {
        let (was, is) = (shape(&self.was.kind), shape(&self.is.kind));
        if was != is {
            return (Fate::Refused, format!("was {was}, is {is}"));
        }
        let Some(table) = self.is.kind.state_table() else { return (Fate::Kept, String::new()) };
        let stored = self.manifest.tables.iter().find(|t| t.uid == self.was.uid && t.table == table.name);
        let (mut refused, mut told) = (Vec::new(), Vec::new());
        let migrates = stored.is_some_and(|stored| columns(stored, &table, &mut refused, &mut told));
        if let (Some(was), Some(is)) = (self.manifest.graph.origin(self.was), self.graph.origin(self.is)) {
            self.meaning(&was, &is, &table, &mut refused, &mut told);
        }
        match (refused.is_empty(), migrates) {
            (false, _) => (Fate::Refused, refused.join(", ")),
            (true, true) => (Fate::Migrated, told.join(", ")),
            (true, false) => (Fate::Kept, told.join(", ")),
        }
    }

    /// Columns of one name and type may mean something else. Of keys and times that is refused; what was aggregated from other
    /// rows, or by another expression, is told: it may be just what a corrected statement wants.
    fn meaning(
        &self,
        was: &Origin,
        is: &Origin,
        table: &StateTable,
        refused: &mut Vec<String>,
        told: &mut Vec<String>,
    ) {
        let keys = was.keys.iter().zip(&is.keys).zip(&table.key.fields).filter(|((was, is), _)| was != is);
        // Where the columns differ, that has been said.
        let said = !refused.is_empty();
        refused
            .extend(keys.filter(|_| !said).map(|((was, is), field)| format!("key {}: was {was}, is {is}", field.name)));
        if let (Some(was), Some(is)) = (&was.time, &is.time)
            && was != is
        {
            refused.push(format!("event time: was {was}, is {is}"));
        }
        let told_before = told.len();
        for (name, is_now, was_before) in self.calls(was, is) {
            let difference = format!("{name}: was {was_before}, is {is_now}");
            // Two that look alike have changed places: each would go on with what the other one has counted.
            if was.aggregates.contains(is_now) { refused.push(difference) } else { told.push(difference) }
        }
        if was.conditions != is.conditions {
            told.push(format!("its rows: were {}, are {}", conditions(was), conditions(is)));
        }
        if told.len() > told_before && self.one_of_several() {
            refused.extend(told.drain(told_before..));
            refused
                .push("several INSERTs into its table have no label, so whose state it is cannot be told".to_owned());
        }
    }

    /// Aggregates of one name that are computed otherwise: name, now, before.
    fn calls<'o>(&self, was: &'o Origin, is: &'o Origin) -> Vec<(String, &'o String, &'o String)> {
        let names = |kind: &TransformKind| -> Vec<String> {
            match kind {
                TransformKind::GlobalWindowAggregate { aggregates, .. }
                | TransformKind::GlobalGroupAggregate { aggregates, .. } => {
                    aggregates.iter().map(|a| a.output.name.clone()).collect()
                }
                _ => Vec::new(),
            }
        };
        let (was_names, is_names) = (names(&self.was.kind), names(&self.is.kind));
        let before = |name: &String| was.aggregates.get(was_names.iter().position(|was| was == name)?);
        let pairs =
            is_names.iter().zip(&is.aggregates).filter_map(|(name, now)| Some((name.clone(), now, before(name)?)));
        pairs.filter(|(_, now, before)| now != before).collect()
    }

    /// Whether the statement is known by its place among others that write to the same table.
    fn one_of_several(&self) -> bool {
        let label = self.is.uid.0.split('/').next().unwrap_or_default();
        let second = format!("{}#2/", label.split('#').next().unwrap_or_default());
        let has_second = |graph: &JobGraph| graph.transforms.iter().any(|t| t.uid.0.starts_with(&second));
        has_second(&self.manifest.graph) || has_second(self.graph)
    }
}

fn conditions(origin: &Origin) -> String {
    if origin.conditions.is_empty() { "all".to_owned() } else { format!("where {}", origin.conditions.join(" and ")) }
}

/// Compares the stored columns with those of the job. Whether rows have to be read into other columns.
fn columns(stored: &TableManifest, table: &StateTable, refused: &mut Vec<String>, told: &mut Vec<String>) -> bool {
    let keys = stored.key.differences(&table.key);
    if !keys.is_empty() {
        refused.push(format!("the key was ({}), is ({})", listed(&stored.key), listed(&table.key)));
    }
    match stored.value.migration_to(&table.value) {
        Err(differences) => refused.extend(differences),
        Ok(changes) => {
            for change in changes {
                match &change {
                    // What an aggregate has counted begins with the first row of its key; NULL would say that there was none.
                    ColumnChange::Added { name, ty } => {
                        refused.push(format!(
                            "{name}: was not there, is {ty}, and cannot be made up for rows that have passed"
                        ));
                    }
                    ColumnChange::Widened { .. } | ColumnChange::Moved { .. } => told.push(change.to_string()),
                }
            }
        }
    }
    !told.is_empty()
}

fn listed(schema: &Schema) -> String {
    schema.fields.iter().map(|f| format!("{} {}", f.name, f.ty)).collect::<Vec<_>>().join(", ")
}

/// What a transform is, beside its columns. A source's state is positions: its columns may change, what it reads may not.
fn shape(kind: &TransformKind) -> String {
    match kind {
        TransformKind::Source(source) => match &source.connector {
            SourceConnector::Kafka(kafka) => format!("a source of kafka topic {}", kafka.topics.join(";")),
            SourceConnector::Filesystem(files) => format!("a source of files {}", files.path),
            SourceConnector::Datagen(_) => "a datagen source".to_owned(),
        },
        TransformKind::GlobalWindowAggregate { window, .. } => {
            format!("an aggregate over {} of {}", window.shape_text(), window.time_type)
        }
        TransformKind::GlobalGroupAggregate { .. } => "an aggregate without a window".to_owned(),
        TransformKind::LocalGroupAggregate { .. } => "a local aggregate".to_owned(),
        TransformKind::LocalWindowAggregate { .. } => "a local window aggregate".to_owned(),
        TransformKind::Calc { .. } => "a calculation".to_owned(),
        TransformKind::Union => "a union".to_owned(),
        TransformKind::WindowAssign { .. } => "a window assignment".to_owned(),
        TransformKind::Sink(sink) => format!("sink {}", sink.table),
    }
}
