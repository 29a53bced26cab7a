//! What tasks tell the worker's runtime.

use millstream_api::control::Failure;
use millstream_api::ids::{Epoch, TaskId, TransformUid};
use millstream_api::log::TaskSnapshot;
use tokio::sync::mpsc::UnboundedSender;

use super::merges::MergeRequest;
use crate::snapshot::SegmentWriter;
use crate::state::{ChangeBatch, TableSpec};

/// A task's message. `deployment` tells those of tasks that were replaced meanwhile.
#[derive(Debug)]
pub(crate) struct TaskEvent {
    pub(crate) deployment: u64,
    pub(crate) task: TaskId,
    pub(crate) kind: TaskEventKind,
}

#[derive(Debug)]
pub(crate) enum TaskEventKind {
    Acknowledged(Box<TaskSnapshot>),
    /// The task cannot take part in the epoch; it goes on.
    Declined {
        epoch: Epoch,
        failure: Failure,
    },
    Committed(Epoch),
    EndOfInput,
    Failed {
        failure: Failure,
    },
    /// Write these rows to the store and answer with `SlotCommand::Written`.
    Write(WriteRequest),
    /// Merge these segments and answer with `SlotCommand::Merged`.
    Merge(Box<MergeRequest>),
}

/// Changes of one table that are to become a segment.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) writer: SegmentWriter,
    pub(crate) uid: TransformUid,
    pub(crate) spec: TableSpec,
    pub(crate) changes: Vec<ChangeBatch>,
    /// What the task may still put into the manifest.
    pub(crate) inline_bytes_left: usize,
}

/// Where a task puts its events.
///
/// Unbounded because a slot must not wait for the runtime; bounded in effect: one checkpoint is in flight, so a task
/// has at most one acknowledgement, one write, one commit and one end or failure under way.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    deployment: u64,
    sender: UnboundedSender<TaskEvent>,
}

impl Events {
    pub(crate) fn new(deployment: u64, sender: UnboundedSender<TaskEvent>) -> Self {
        Self { deployment, sender }
    }

    pub(crate) fn deployment(&self) -> u64 {
        self.deployment
    }

    /// Once the runtime is gone, there is nobody left to tell: the slots are being stopped.
    pub(crate) fn send(&self, task: TaskId, kind: TaskEventKind) {
        let _ = self.sender.send(TaskEvent { deployment: self.deployment, task, kind });
    }
}
