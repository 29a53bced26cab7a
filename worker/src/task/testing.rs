//! A task around one transform, for tests.

use std::sync::Arc;

use millstream_api::ids::{Generation, TaskId, TransformUid};

use super::{Chain, Events, Head, Inputs, Node, Task, TaskParts};
use crate::element::WATERMARK_MIN;
use crate::metrics::{TaskMetrics, TaskRole};
use crate::state::State;
use crate::transform::Transform;

pub(crate) fn task(id: TaskId, transform: Box<dyn Transform>, inputs: Inputs, events: Events) -> Task {
    let uid = TransformUid("t".to_owned());
    Task::new(TaskParts {
        id,
        head: Head::Inputs(inputs),
        chain: Chain::new(vec![Node::transform(uid, transform, State::default(), WATERMARK_MIN)]),
        events,
        metrics: Arc::new(TaskMetrics::new(id, String::new(), TaskRole::default())),
        generation: Generation(0),
        watermark: WATERMARK_MIN,
        processing_time_ms: i64::MIN,
        groups: 0..1,
        inline_bytes_max: 0,
    })
}
