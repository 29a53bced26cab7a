//! Whether checkpoints are whole: every segment that they name is read and checked, each once.
//!
//! Owns: what damage means for which checkpoint. Does not own: the checks of one segment (`worker::snapshot`), nor the log
//! (`coordinator::retained`).

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::ids::TransformUid;
use millstream_api::log::{ObjectRef, Segment, SegmentContent, TableManifest};
use millstream_worker::snapshot::SnapshotError;

use crate::{InspectError, InspectErrorKind, Stored};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub bytes: u64,
    pub bytes_total: u64,
}

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub uid: TransformUid,
    pub table: String,
    /// Key groups whose state it hits.
    pub first_group: u16,
    pub end_group: u16,
    /// The object, and what is wrong with it.
    pub reason: String,
}

/// What was found of one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub objects: usize,
    pub bytes: u64,
    pub damages: Vec<Damage>,
    /// It went while it was read: what is missing was not needed any more.
    pub dropped: bool,
}

impl Verified {
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && !self.dropped
    }
}

/// What a segment's bytes are known by. Checkpoints share objects.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Object(ObjectRef),
    Inline(TransformUid, String, String),
}

impl Content {
    fn of(table: &TableManifest, segment: &Segment) -> Self {
        match &segment.content {
            SegmentContent::Object(object) => Self::Object(object.clone()),
            SegmentContent::Inline { data } => Self::Inline(table.uid.clone(), table.table.clone(), data.clone()),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Object(object) => object.bytes,
            Self::Inline(_, _, data) => data.len() as u64,
        }
    }
}

/// Reads everything that these checkpoints of one job, or this savepoint, name. One answer for each of them.
///
/// # Errors
/// When it cannot be told whether they are whole: the store does not answer, or the disk here is full.
pub async fn verify(
    checkpoints: &[Stored],
    mut on_progress: impl FnMut(Progress),
) -> Result<Vec<Verified>, InspectError> {
    let mut progress = Progress { bytes: 0, bytes_total: total_bytes(checkpoints) };
    // What is wrong with each content that was read.
    let mut known: BTreeMap<Content, Option<String>> = BTreeMap::new();
    let mut answers = Vec::new();
    for stored in checkpoints {
        let mut answer = Verified::default();
        let mut counted = BTreeSet::new();
        for (table, segment) in segments_of(stored) {
            let content = Content::of(table, segment);
            if counted.insert(content.clone()) {
                answer.bytes += content.bytes();
                answer.objects += usize::from(matches!(content, Content::Object(_)));
            }
            let wrong = match known.get(&content) {
                Some(wrong) => wrong.clone(),
                None => {
                    let wrong = read(stored, table, segment).await?;
                    progress.bytes += content.bytes();
                    on_progress(progress);
                    known.insert(content, wrong.clone());
                    wrong
                }
            };
            answer.damages.extend(damage(stored, table, segment, wrong));
        }
        if !answer.damages.is_empty() {
            answer.dropped = stored.was_dropped().await;
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn segments_of(stored: &Stored) -> impl Iterator<Item = (&TableManifest, &Segment)> {
    stored.manifest.tables.iter().flat_map(|table| table.segments.iter().map(move |segment| (table, segment)))
}

fn total_bytes(checkpoints: &[Stored]) -> u64 {
    let contents = checkpoints.iter().flat_map(segments_of).map(|(table, segment)| Content::of(table, segment));
    contents.collect::<BTreeSet<_>>().iter().map(Content::bytes).sum()
}

/// What is wrong with a segment's content.
async fn read(stored: &Stored, table: &TableManifest, segment: &Segment) -> Result<Option<String>, InspectError> {
    let max_parallelism = stored.manifest.max_parallelism;
    let verified = stored.segments.verify(table, segment, &stored.spec(table), max_parallelism).await;
    match verified.map_err(InspectError::Snapshot) {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == InspectErrorKind::Damaged => Ok(Some(match error {
            InspectError::Snapshot(SnapshotError::Corrupt { object, reason }) => format!("{object}: {reason}"),
            error => error.to_string(),
        })),
        Err(error) => Err(error),
    }
}

/// `wrong`: of the content. Where it counts is the checkpoint's own.
fn damage(stored: &Stored, table: &TableManifest, segment: &Segment, wrong: Option<String>) -> Option<Damage> {
    let (first_group, end_group) = (segment.first_group, segment.end_group);
    let max_parallelism = stored.manifest.max_parallelism;
    let nowhere = first_group >= end_group || u32::from(end_group) > max_parallelism;
    let out_of_range = || {
        format!(
            "a segment of epoch {} counts for key groups {first_group} to {end_group} of {max_parallelism}",
            segment.epoch
        )
    };
    let reason = wrong.or_else(|| nowhere.then(out_of_range))?;
    Some(Damage { uid: table.uid.clone(), table: table.table.clone(), first_group, end_group, reason })
}

#[cfg(test)]
mod tests;
