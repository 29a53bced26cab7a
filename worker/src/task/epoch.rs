//! One task's share of a checkpoint, from its barrier to its commit.
//!
//! ```text
//! Collecting --all rows with the writer--> Flushing --written and sinks prepared--> Acknowledged
//!      |                                      |                                       |  Sealed: commit
//!      +------------- Aborted, or the store failed: Declined -------------------------+
//! ```
//! Everything here happens beside the processing of rows, in bounded pieces (`SNAPSHOT_ROWS_PER_STEP`). Owns: what is
//! handed in for the epoch. Does not own: rows and their versions (`state`), objects (`snapshot`), transactions (`sink`).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use millstream_api::ids::{Epoch, Generation, TaskId, TransformUid};
use millstream_api::log::{Manifest, PreparedTransaction, SplitState, TableSnapshot, TaskSnapshot};

use super::chain::Chain;
use super::error::{TaskError, refused_write};
use super::event::{Events, TaskEventKind, WriteRequest};
use super::merges::{MergeAnswer, Merges, inline_bytes_in};
use crate::metrics::TaskMetrics;
use crate::snapshot::{SegmentWriter, SnapshotError};
use crate::state::{ChangeBatch, State};

/// Rows of changed state that one step reads: well under a millisecond of work.
const SNAPSHOT_ROWS_PER_STEP: usize = 8_192;
/// A segment is handed to the writer when it has so many rows, so that a large first snapshot is not held in memory.
const SEGMENT_ROWS_MAX: usize = 1 << 20;
/// Segments that wait for the writer; collecting pauses beyond.
const WRITES_WAITING_MAX: usize = 2;

/// What the writer answers: the table's share and what is left of the inline budget.
pub(crate) type Written = Result<(TableSnapshot, usize), SnapshotError>;

/// Epochs of one task.
pub(super) struct Epochs {
    task: TaskId,
    generation: Generation,
    groups: Range<u16>,
    inline_bytes_max: usize,
    /// What the newest manifest leaves of it.
    inline_bytes_left: usize,
    merges: Merges,
    pending: Option<Pending>,
    /// The last epoch whose barrier passed, until it is sealed or aborted, with the split positions at it.
    undecided: Option<Undecided>,
    /// Sealed, and some sink has not committed yet.
    committing: Option<Epoch>,
    /// The end of input is in a sealed epoch: nothing more is handed in.
    retired: bool,
}

struct Undecided {
    epoch: Epoch,
    splits: Vec<SplitState>,
    finished: bool,
}

struct Pending {
    epoch: Epoch,
    snapshot: Box<TaskSnapshot>,
    /// Number of the state that is being read, in chain order.
    state: usize,
    collected: bool,
    /// Rows of the current state by table.
    rows: BTreeMap<u32, Vec<ChangeBatch>>,
    waiting: VecDeque<WriteRequest>,
    writing: bool,
    inline_bytes_left: usize,
    prepared: BTreeMap<usize, Vec<PreparedTransaction>>,
    sinks_prepared: bool,
}

impl Epochs {
    pub(super) fn new(task: TaskId, generation: Generation, groups: Range<u16>, inline_bytes_max: usize) -> Self {
        Self {
            task,
            generation,
            groups,
            inline_bytes_max,
            inline_bytes_left: inline_bytes_max,
            merges: Merges::default(),
            pending: None,
            undecided: None,
            committing: None,
            retired: false,
        }
    }

    /// The end of input is in a sealed epoch: the task takes part in no further one, it only passes barriers on.
    pub(super) fn retired(&self) -> bool {
        self.retired
    }

    /// The last epoch that came through here is neither sealed nor given up, as far as this task knows.
    pub(super) fn awaits_decision(&self) -> bool {
        self.undecided.is_some()
    }

    /// The barrier has passed the chain. `snapshot`: everything but tables and transactions.
    pub(super) fn begin(&mut self, snapshot: TaskSnapshot) {
        let epoch = snapshot.epoch;
        let splits = snapshot.splits.values().flatten().cloned().collect();
        self.undecided = Some(Undecided { epoch, splits, finished: snapshot.finished });
        millstream_fault::reach("before-snapshot");
        self.pending = Some(Pending {
            epoch,
            snapshot: Box::new(snapshot),
            state: 0,
            collected: false,
            rows: BTreeMap::new(),
            waiting: VecDeque::new(),
            writing: false,
            inline_bytes_left: self.inline_bytes_left,
            prepared: BTreeMap::new(),
            sinks_prepared: false,
        });
    }

    /// Goes on with what is under way. True: there was something to do right now.
    pub(super) fn advance(
        &mut self,
        chain: &mut Chain,
        events: &Events,
        metrics: &TaskMetrics,
    ) -> Result<bool, TaskError> {
        let mut worked = self.advance_commit(chain, events)?;
        let Some(pending) = &mut self.pending else { return Ok(worked) };
        worked |= pending.collect(chain, self.task, self.generation)?;
        worked |= pending.write_next(self.task, events);
        if !pending.sinks_prepared {
            pending.sinks_prepared = chain.poll_prepared(pending.epoch, &mut pending.prepared)?;
        }
        if pending.is_complete() {
            let pending = self.pending.take().expect("it is pending");
            self.acknowledge(pending, chain, events, metrics);
            worked = true;
        }
        Ok(worked)
    }

    /// The writer's answer.
    pub(super) fn written(&mut self, epoch: Epoch, written: Written, events: &Events) -> Result<(), TaskError> {
        let Some(pending) = self.pending.as_mut().filter(|p| p.epoch == epoch) else { return Ok(()) };
        match written {
            Ok((table, inline_bytes_left)) => {
                pending.writing = false;
                pending.inline_bytes_left = inline_bytes_left;
                pending.add(table);
                Ok(())
            }
            Err(SnapshotError::Store(e)) => {
                // Collecting => Declined: the store is away, or refuses. What was collected stays dirty until a manifest
                // has it.
                self.pending = None;
                events.send(self.task, TaskEventKind::Declined { epoch, failure: refused_write(&e) });
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A merge has ended.
    pub(super) fn merged(&mut self, answer: MergeAnswer) -> Result<(), TaskError> {
        Ok(self.merges.answered(answer)?)
    }

    /// The manifest is in the log. Returns the split positions that it holds, if this task's last cut is its epoch.
    pub(super) fn sealed(
        &mut self,
        manifest: &Arc<Manifest>,
        chain: &mut Chain,
        events: &Events,
        now_ms: i64,
    ) -> Result<Option<Vec<SplitState>>, TaskError> {
        let epoch = manifest.epoch;
        let Some(undecided) = self.undecided.take_if(|u| u.epoch == epoch) else { return Ok(None) };
        chain.sealed(manifest)?;
        self.merges.sealed(epoch);
        self.inline_bytes_left = self.inline_bytes_max.saturating_sub(inline_bytes_in(manifest, chain, &self.groups));
        let writer = SegmentWriter { generation: self.generation, epoch, task: self.task };
        for request in self.merges.plan(manifest, chain, &self.groups, &writer, now_ms) {
            events.send(self.task, TaskEventKind::Merge(Box::new(request)));
        }
        if chain.has_sinks() {
            self.committing = Some(epoch);
        }
        self.retired |= undecided.finished;
        Ok(Some(undecided.splits))
    }

    /// The epoch was given up: what it held goes into the next one.
    pub(super) fn aborted(&mut self, epoch: Epoch, chain: &mut Chain) -> Result<(), TaskError> {
        self.pending.take_if(|p| p.epoch == epoch);
        self.merges.aborted(epoch);
        match self.undecided.take_if(|u| u.epoch == epoch) {
            Some(_) => chain.aborted(epoch),
            // Its barrier never came through here.
            None => Ok(()),
        }
    }

    fn advance_commit(&mut self, chain: &mut Chain, events: &Events) -> Result<bool, TaskError> {
        if !chain.has_sinks() || (self.committing.is_none() && chain.sinks_idle()) {
            return Ok(false);
        }
        let committed = chain.poll_committed()?;
        let Some(epoch) = self.committing.take_if(|e| committed >= Some(*e)) else { return Ok(false) };
        events.send(self.task, TaskEventKind::Committed(epoch));
        Ok(true)
    }

    fn acknowledge(&mut self, mut pending: Pending, chain: &Chain, events: &Events, metrics: &TaskMetrics) {
        millstream_fault::reach("after-snapshot");
        self.merges.hand_in(&mut pending.snapshot);
        pending.snapshot.transactions = pending.prepared.into_values().flatten().collect();
        pending.snapshot.transactional_ids = chain.transactional_ids();
        millstream_fault::reach("before-acknowledgement");
        events.send(self.task, TaskEventKind::Acknowledged(pending.snapshot));
        millstream_fault::reach("after-acknowledgement");
        metrics.add_checkpoint();
        chain.report_counters(metrics);
    }
}

impl Pending {
    /// Reads one piece of changed rows.
    fn collect(&mut self, chain: &mut Chain, task: TaskId, generation: Generation) -> Result<bool, TaskError> {
        if self.collected || self.waiting.len() >= WRITES_WAITING_MAX {
            return Ok(false);
        }
        let Some((uid, state)) = chain.states().nth(self.state) else {
            self.collected = true;
            return Ok(true);
        };
        let writer = SegmentWriter { generation, epoch: self.epoch, task };
        match state.snapshot_piece(self.epoch, SNAPSHOT_ROWS_PER_STEP)? {
            Some(piece) => {
                let table = piece.table.0;
                let rows = self.rows.entry(table).or_default();
                rows.push(piece);
                if rows.iter().map(|c| c.batch.num_rows()).sum::<usize>() >= SEGMENT_ROWS_MAX {
                    let rows = std::mem::take(rows);
                    self.waiting.push_back(request(&writer, uid, state, table, rows)?);
                }
            }
            None => {
                for (table, rows) in std::mem::take(&mut self.rows) {
                    if !rows.is_empty() {
                        self.waiting.push_back(request(&writer, uid, state, table, rows)?);
                    }
                }
                self.state += 1;
            }
        }
        Ok(true)
    }

    /// Hands the next segment to the writer, one at a time.
    fn write_next(&mut self, task: TaskId, events: &Events) -> bool {
        if self.writing {
            return false;
        }
        let Some(mut request) = self.waiting.pop_front() else { return false };
        request.inline_bytes_left = self.inline_bytes_left;
        self.writing = true;
        events.send(task, TaskEventKind::Write(request));
        true
    }

    fn is_complete(&self) -> bool {
        self.collected && self.waiting.is_empty() && !self.writing && self.sinks_prepared
    }

    /// Segments of one table stay in the order in which they were collected: later ones win.
    fn add(&mut self, table: TableSnapshot) {
        let tables = &mut self.snapshot.tables;
        match tables.iter_mut().find(|t| t.uid == table.uid && t.table == table.table) {
            Some(known) => {
                known.added.extend(table.added);
                known.replaced.extend(table.replaced);
            }
            None => tables.push(table),
        }
    }
}

fn request(
    writer: &SegmentWriter,
    uid: &TransformUid,
    state: &State,
    table: u32,
    changes: Vec<ChangeBatch>,
) -> Result<WriteRequest, TaskError> {
    let spec = state.tables().find(|(id, _)| id.0 == table).map(|(_, spec)| spec.clone());
    let spec = spec.ok_or_else(|| TaskError::Bug { reason: format!("{uid} has no table number {table}") })?;
    Ok(WriteRequest { writer: writer.clone(), uid: uid.clone(), spec, changes, inline_bytes_left: 0 })
}
