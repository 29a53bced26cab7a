//! What would become of the job's state under another manifest. Nothing is touched.

use std::sync::Arc;

use millstream_api::flinkjob::FlinkJob;
use millstream_api::graph::JobGraph;
use millstream_api::log::Manifest;
use millstream_api::proto::operations::v1;

use crate::job::compatible::{self, Fate, StateFate};
use crate::job::{REASON_BYTES_MAX, shortened};

/// Texts of a request: a long script has a few hundred kilobytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Problems that are told; whoever mends so many asks again.
const PROBLEMS_MAX: usize = 64;
/// As the API states it.
pub(super) const STATES_MAX: usize = 1_000;

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
    let named = prepared.job.path();
    if named != job {
        return refused(vec![format!("the manifest is of job {named}, this coordinator's is {job}")]);
    }
    newest.map_or_else(
        || v1::PrepareResponse { accepted: true, ..v1::PrepareResponse::default() },
        |newest| against(prepared, newest),
    )
}

/// Compares what was prepared with a checkpoint or savepoint, as a start from there would.
#[must_use]
pub fn against(prepared: &Prepared, manifest: &Manifest) -> v1::PrepareResponse {
    let spec = &prepared.job.spec;
    let graph = compatible::graph_for(Some(manifest), &prepared.graph, spec.restore.recompile);
    let allow = spec.restore.allow_non_restored_state;
    let checked = compatible::check(manifest, &graph, spec.max_parallelism, allow);
    // What is refused is told with everything else.
    let fates = compatible::fates(manifest, &graph, allow);
    v1::PrepareResponse {
        accepted: checked.is_ok(),
        epoch: Some(manifest.epoch.0),
        states_total: u32::try_from(fates.len()).unwrap_or(u32::MAX),
        states: fates.iter().take(STATES_MAX).map(state_fate).collect(),
        same_graph: manifest.graph_hash == graph.hash(),
        stored_graph: !Arc::ptr_eq(&graph, &prepared.graph),
        ..refused(checked.err().into_iter().collect())
    }
}

/// As the API tells it.
pub(super) fn state_fate(of: &StateFate) -> v1::StateFate {
    let fate = match of.fate {
        Fate::Kept => v1::Fate::Kept,
        Fate::Migrated => v1::Fate::Migrated,
        Fate::Dropped => v1::Fate::Dropped,
        Fate::Refused => v1::Fate::Refused,
        Fate::New => v1::Fate::New,
    };
    let reason = shortened(&of.reason, REASON_BYTES_MAX);
    v1::StateFate { uid: of.uid.0.clone(), fate: fate.into(), bytes: of.bytes, reason, rows: of.rows }
}

#[cfg(test)]
mod tests {
    use millstream_api::ids::TransformUid;

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
