//! From the graph's description of a transform to one that runs.
//!
//! Owns: the choice of implementation, and the keyed tables it declares. Does not own: sources and sinks
//! (`source::open`, `sink::open`).

use millstream_api::graph::{ChangelogMode, JobGraph, Schema, SinkConnector, StateTable, Transform, TransformKind};
use millstream_api::ids::TransformId;
use thiserror::Error;

use super::calc::Calc;
use super::global_group::GlobalGroupAggregate;
use super::global_window::GlobalWindowAggregate;
use super::local_group::LocalGroupAggregate;
use super::local_window::LocalWindowAggregate;
use super::union::Union;
use super::window_assign::WindowAssign;
use crate::state::{State, StateError, TableSpec};

/// What building a transform takes beside its description.
#[derive(Clone, Copy, Debug)]
pub struct BuildContext<'a> {
    pub graph: &'a JobGraph,
    pub max_parallelism: u32,
}

/// Where a transform declares its tables.
#[derive(Debug)]
pub struct StateBuild<'a> {
    pub state: &'a mut State,
    pub max_parallelism: u32,
}

/// A transform that cannot be built: the graph does not fit this build.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("failed to build transform {name} ({uid}): {reason}")]
    Unsupported { name: String, uid: String, reason: String },
    #[error(transparent)]
    State(#[from] StateError),
}

impl BuildError {
    pub(super) fn new(transform: &Transform, reason: impl Into<String>) -> Self {
        Self::Unsupported { name: transform.name.clone(), uid: transform.uid.to_string(), reason: reason.into() }
    }
}

/// Makes `transform`, which is neither a source nor a sink, and declares its tables in `state`.
pub fn build(
    transform: &Transform,
    cx: &BuildContext<'_>,
    state: &mut State,
) -> Result<Box<dyn super::Transform>, BuildError> {
    let keyed = StateBuild { state, max_parallelism: cx.max_parallelism };
    let input = || only_input(transform, cx.graph);
    Ok(match &transform.kind {
        TransformKind::Calc { filter, projection } => {
            Box::new(Calc::new(transform, filter.as_ref(), projection, &input()?.output)?)
        }
        TransformKind::Union => Box::new(Union::new(transform)),
        TransformKind::WindowAssign { window } => {
            append_input(transform, cx.graph)?;
            Box::new(WindowAssign::new(transform, window)?)
        }
        TransformKind::LocalWindowAggregate { window, keys, aggregates } => {
            let input = append_input(transform, cx.graph)?;
            Box::new(LocalWindowAggregate::new(transform, window, keys, aggregates, &input.fields)?)
        }
        TransformKind::GlobalWindowAggregate { window, keys, aggregates, window_columns } => {
            Box::new(GlobalWindowAggregate::new(transform, window, keys, aggregates, window_columns, keyed)?)
        }
        TransformKind::LocalGroupAggregate { keys, aggregates, mini_batch } => {
            let input = append_input(transform, cx.graph)?;
            Box::new(LocalGroupAggregate::new(transform, keys, aggregates, *mini_batch, &input.fields)?)
        }
        TransformKind::GlobalGroupAggregate { keys, aggregates, mini_batch, .. } => {
            if !matches!(transform.changelog, ChangelogMode::Retract { .. }) {
                return Err(BuildError::new(transform, "its result updates, but its output is append-only"));
            }
            let emit_update_before = needs_update_before(cx.graph, transform.id);
            Box::new(GlobalGroupAggregate::new(transform, keys, aggregates, *mini_batch, emit_update_before, keyed)?)
        }
        TransformKind::Source(_) | TransformKind::Sink(_) => {
            return Err(BuildError::new(transform, "sources and sinks are opened, not built"));
        }
    })
}

/// The table that the graph says the transform has.
pub(super) fn state_table(transform: &Transform) -> Result<TableSpec, BuildError> {
    let Some(StateTable { name, key, value, ttl_ms }) = transform.kind.state_table() else {
        return Err(BuildError::new(transform, "it has no keyed table"));
    };
    Ok(TableSpec { name: name.to_owned(), key, value, ttl_ms })
}

fn only_input<'a>(transform: &Transform, graph: &'a JobGraph) -> Result<&'a Transform, BuildError> {
    match graph.inputs_of(transform.id)[..] {
        [edge] => Ok(graph.transform(edge.from)),
        ref edges => Err(BuildError::new(transform, format!("{} inputs where it has one", edges.len()))),
    }
}

/// The columns of the input, on which no updates may occur.
fn append_input<'a>(transform: &Transform, graph: &'a JobGraph) -> Result<&'a Schema, BuildError> {
    let input = only_input(transform, graph)?;
    if input.changelog.is_append() {
        Ok(&input.output)
    } else {
        Err(BuildError::new(transform, format!("its input {} has updates, which it cannot retract", input.name)))
    }
}

/// Whether some consumer looks at -U rows. An upsert sink does not, and neither does what only passes rows on to one;
/// a filter does: the +U may be filtered out, and then the -U is what removes the old row.
fn needs_update_before(graph: &JobGraph, id: TransformId) -> bool {
    graph.outputs_of(id).any(|edge| match &graph.transform(edge.to).kind {
        TransformKind::Sink(sink) => !matches!(sink.connector, SinkConnector::UpsertKafka(_)),
        TransformKind::Calc { filter: None, .. } | TransformKind::Union => needs_update_before(graph, edge.to),
        _ => true,
    })
}
