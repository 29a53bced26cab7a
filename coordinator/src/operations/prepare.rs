//! What would become of the job's state under another manifest. Nothing is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::graph::{JobGraph, TransformKind};
use millstream_api::ids::TransformUid;
use millstream_api::log::{Manifest, SegmentContent};
use millstream_api::proto::operations::v1;

use crate::job::compatible::{self, Fate};
use crate::job::{REASON_BYTES_MAX, shortened};

/// Texts of a request: a long script has a few hundred kilobytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Problems that are told; whoever mends so many asks again.
const PROBLEMS_MAX: usize = 64;
const STATES_MAX: usize = 1_000;

/// Compiles a manifest and its script, where the manifest has the script's file instead. Errors are lines for people. The
/// compiler is not the coordinator's: whoever starts it brings one.
pub type Compile = Arc<dyn Fn(&str, Option<&str>) -> Result<Prepared, Vec<String>> + Send + Sync>;

/// A manifest whose SQL compiles.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub job: FlinkJob,
    pub graph: Arc<JobGraph>,
}

/// The answer to texts that do not compile.
pub(super) fn refused(errors: Vec<String>) -> v1::PrepareResponse {
    let problem = |message: String| v1::Problem { message: shortened(&message, REASON_BYTES_MAX) };
    v1::PrepareResponse {
        problems: errors.into_iter().take(PROBLEMS_MAX).map(problem).collect(),
        ..v1::PrepareResponse::default()
    }
}

/// Compares what was prepared with the newest checkpoint of `job` (`<namespace>/<name>`).
pub(super) fn compare(prepared: &Prepared, job: &str, newest: Option<&Manifest>) -> v1::PrepareResponse {
    let Prepared { job: resource, graph } = prepared;
    let named = format!("{}/{}", resource.metadata.namespace, resource.metadata.name);
    if named != job {
        return refused(vec![format!("the manifest is of job {named}, this coordinator's is {job}")]);
    }
    let Some(newest) = newest else {
        return v1::PrepareResponse { accepted: true, ..v1::PrepareResponse::default() };
    };
    let allow = resource.spec.restore.allow_non_restored_state;
    let checked = compatible::check(newest, graph, resource.spec.max_parallelism, allow);
    let mut states = states(newest, graph, allow);
    let states_total = u32::try_from(states.len()).unwrap_or(u32::MAX);
    states.truncate(STATES_MAX);
    v1::PrepareResponse {
        accepted: checked.is_ok(),
        epoch: Some(newest.epoch.0),
        states,
        states_total,
        same_graph: newest.graph_hash == graph.hash(),
        ..refused(checked.err().into_iter().collect())
    }
}

/// Of each transform with state in the manifest, then those that begin without.
fn states(newest: &Manifest, graph: &JobGraph, allow_non_restored_state: bool) -> Vec<v1::StateFate> {
    let mut bytes: BTreeMap<&TransformUid, u64> = BTreeMap::new();
    for table in &newest.tables {
        let size = table.segments.iter().map(|segment| match &segment.content {
            SegmentContent::Object(object) => object.bytes,
            SegmentContent::Inline { data } => data.len() as u64,
        });
        *bytes.entry(&table.uid).or_default() += size.sum::<u64>();
    }
    let fates = compatible::fates(newest, graph);
    let fate = |(uid, fate): (&&TransformUid, &Fate)| {
        let (fate, reason) = match fate {
            Fate::Kept => (v1::Fate::Kept, String::new()),
            Fate::Homeless if allow_non_restored_state => {
                (v1::Fate::Dropped, "it is no longer in the job, and allowNonRestoredState is set".to_owned())
            }
            Fate::Homeless => (v1::Fate::Refused, "it has state and is no longer in the job".to_owned()),
            Fate::Changed(difference) => (v1::Fate::Refused, shortened(difference, REASON_BYTES_MAX)),
        };
        let bytes = bytes.get(*uid).copied().unwrap_or(0);
        v1::StateFate { uid: uid.0.clone(), fate: fate.into(), bytes, reason }
    };
    let new = graph.transforms.iter().filter(|t| keeps_state(&t.kind) && !fates.contains_key(&t.uid));
    let new = new.filter(|t| newest.graph.transforms.iter().all(|old| old.uid != t.uid));
    let new =
        new.map(|t| v1::StateFate { uid: t.uid.0.clone(), fate: v1::Fate::New.into(), ..v1::StateFate::default() });
    fates.iter().map(fate).chain(new).collect()
}

fn keeps_state(kind: &TransformKind) -> bool {
    matches!(
        kind,
        TransformKind::Source(_)
            | TransformKind::GlobalWindowAggregate { .. }
            | TransformKind::GlobalGroupAggregate { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{graph, manifest};
    use super::*;

    fn prepared(name: &str, graph: &Arc<JobGraph>, allow: bool) -> Prepared {
        let text = format!(
            "apiVersion: millstream.dev/v1alpha1\nkind: FlinkJob\nmetadata:\n  name: {name}\nspec:\n  maxParallelism: 8\n  \
             restore:\n    allowNonRestoredState: {allow}\n  sql: SELECT 1\n"
        );
        let job = millstream_api::flinkjob::parse(&text).unwrap_or_else(|e| panic!("{e:?}"));
        Prepared { job, graph: Arc::clone(graph) }
    }

    fn fates(answer: &v1::PrepareResponse) -> Vec<(&str, v1::Fate)> {
        answer.states.iter().map(|s| (s.uid.as_str(), s.fate())).collect()
    }

    #[test]
    fn state_without_a_home_is_refused_or_dropped_and_new_transforms_are_named() {
        let newest = manifest(7);
        let same = compare(&prepared("job", &graph(), false), "default/job", Some(&newest));
        assert!(same.accepted && same.same_graph, "{same:?}");
        assert_eq!((same.epoch, fates(&same)), (Some(7), vec![("numbers", v1::Fate::Kept)]));

        let mut other = graph().as_ref().clone();
        other.transforms[0].uid = TransformUid("letters".to_owned());
        let other = Arc::new(other);
        let refused = compare(&prepared("job", &other, false), "default/job", Some(&newest));
        assert!(!refused.accepted && !refused.same_graph);
        assert_eq!(fates(&refused), [("numbers", v1::Fate::Refused), ("letters", v1::Fate::New)]);
        assert!(refused.problems[0].message.contains("no longer in the job"), "{refused:?}");
        let dropped = compare(&prepared("job", &other, true), "default/job", Some(&newest));
        assert!(dropped.accepted && dropped.problems.is_empty());
        assert_eq!(fates(&dropped), [("numbers", v1::Fate::Dropped), ("letters", v1::Fate::New)]);
    }

    #[test]
    fn the_manifest_of_another_job_is_refused_and_a_first_one_accepted() {
        let answer = compare(&prepared("other", &graph(), false), "default/job", None);
        assert!(!answer.accepted && answer.problems[0].message.contains("default/other"), "{answer:?}");
        assert!(compare(&prepared("job", &graph(), false), "default/job", None).accepted);
    }
}
