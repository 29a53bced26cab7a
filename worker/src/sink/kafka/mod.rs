//! Flink's `kafka` and `upsert-kafka` connectors, writing.
//!
//! Owns: encoding, partitions, the order of sending, flushing and committing (protocol section 4). Does not own: when
//! an epoch ends and whether it was sealed. Nothing here blocks: the producers' I/O threads wake the slot.
//!
//! Rows and barriers stand in one backlog, in order. It moves while a producer takes records; at a barrier it waits
//! until the epoch's flush is done, so that nothing of epoch n + 1 is sent before.

mod encode;
mod pace;
mod pool;
mod quota;
pub mod recovery;
mod target;
#[cfg(test)]
mod tests;
mod under_way;

use std::collections::VecDeque;
use std::time::Instant;

use arrow_array::RecordBatch;
use millstream_api::graph::{KafkaSink, SinkTransform, UpsertKafkaSink};
use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use millstream_kafka::{ErrorKind, KafkaError, RecordBuffer, Throttle};

use self::encode::Encoder;
use self::pace::Pace;
use self::target::{Setup, Target};
use self::under_way::CommitUnderWay;
use super::{Sink, SinkContext, SinkError};
use crate::source::kafka::connection::ConnectionError;

/// Rows that wait for the producer: past it the task takes no more input.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Encoded records are handed to the producer when so many bytes, or so many records, are there, or nothing more comes.
/// More at once makes fewer and larger requests, and later ones.
const HAND_OVER_BYTES: usize = 512 << 10;
const HAND_OVER_RECORDS: usize = 8_192;
/// Encoded records that wait because the producer has enough to do: past it nothing more is encoded.
const ENCODED_BYTES_MAX: usize = 4 << 20;

/// Writes the rows of one task to one topic.
pub struct KafkaSinkTask {
    encoder: Encoder,
    /// By partition.
    buffers: Vec<RecordBuffer>,
    buffered_records: usize,
    backlog: VecDeque<Item>,
    backlog_bytes: usize,
    backlog_rows: usize,
    rows_taken: u64,
    pace: Pace,
    throttle: Throttle,
    target: Target,
    /// What is encoded should go out at once: nothing more comes right now.
    hurried: bool,
    /// The last epoch whose rows were all sent.
    ended: Option<Epoch>,
    /// Sealed, and not committed yet.
    committing: Option<(Epoch, CommitUnderWay)>,
    /// Committed, and not told yet.
    committed: Option<Epoch>,
    /// Found by a call that could not return it.
    failure: Option<SinkError>,
    uid: TransformUid,
    index: u32,
    topic: String,
    ids: Option<TransactionalIds>,
}

/// What waits to be sent.
enum Item {
    Rows(RecordBatch),
    Barrier(Epoch),
}

/// Opens the sink of one task of a `kafka` table. Blocks, within a minute.
pub fn open(sink: &KafkaSink, _transform: &SinkTransform, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
    let prefix = sink.transactional_id_prefix.as_deref();
    let setup = Setup::new(&sink.topic, &sink.properties, sink.guarantee, prefix, &context)?;
    let partitions = setup.partitions()?;
    let encoder = Encoder::append(sink, &context.schema, &context.changelog, context.index, partitions)?;
    KafkaSinkTask::open(setup, encoder, context)
}

/// Opens the sink of one task of an `upsert-kafka` table. Blocks, within a minute.
pub fn open_upsert(
    sink: &UpsertKafkaSink,
    transform: &SinkTransform,
    context: SinkContext,
) -> Result<Box<dyn Sink>, SinkError> {
    let prefix = sink.transactional_id_prefix.as_deref();
    let setup = Setup::new(&sink.topic, &sink.properties, sink.guarantee, prefix, &context)?;
    let partitions = setup.partitions()?;
    let encoder = Encoder::upsert(sink, &transform.primary_key, &context.schema, &context.changelog, partitions)?;
    KafkaSinkTask::open(setup, encoder, context)
}

impl KafkaSinkTask {
    fn open(setup: Setup, encoder: Encoder, context: SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        let topic = setup.topic().to_owned();
        let ids = setup.transactional_ids();
        Ok(Box::new(Self {
            encoder,
            buffers: setup.buffers(),
            buffered_records: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            backlog_rows: 0,
            rows_taken: 0,
            pace: Pace::new(Instant::now()),
            throttle: setup.throttle(),
            target: setup.start()?,
            hurried: false,
            ended: None,
            committing: None,
            committed: None,
            failure: None,
            uid: context.uid,
            index: context.index,
            topic,
            ids,
        }))
    }

    /// Moves everything as far as it goes now.
    fn pump(&mut self) -> Result<(), SinkError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.target.advance()?.committed
            && let Some((epoch, under_way)) = self.committing.take()
        {
            under_way.done();
            self.committed = Some(epoch);
        }
        while !self.target.flushing() {
            match self.backlog.pop_front() {
                None => break,
                Some(Item::Rows(batch)) => {
                    if self.should_hand_over() && !self.hand_over()? && self.encoded_bytes() >= ENCODED_BYTES_MAX {
                        self.backlog.push_front(Item::Rows(batch));
                        break;
                    }
                    self.backlog_bytes -= batch.get_array_memory_size();
                    self.backlog_rows -= batch.num_rows();
                    self.buffered_records += self.encoder.encode(&batch, &mut self.buffers);
                }
                Some(Item::Barrier(epoch)) => {
                    self.target.hurry();
                    if !self.hand_over()? {
                        self.backlog.push_front(Item::Barrier(epoch));
                        break;
                    }
                    self.target.end_epoch(epoch);
                    self.ended = Some(epoch);
                }
            }
        }
        if self.should_hand_over() && !self.target.flushing() {
            self.hand_over()?;
        }
        self.hurried &= self.buffered_records > 0 || !self.backlog.is_empty();
        Ok(())
    }

    fn should_hand_over(&self) -> bool {
        self.hurried || self.buffered_records >= HAND_OVER_RECORDS || self.encoded_bytes() >= HAND_OVER_BYTES
    }

    fn encoded_bytes(&self) -> usize {
        self.buffers.iter().map(RecordBuffer::pending_bytes).sum()
    }

    /// Gives what is encoded to the producer. False: it did not take everything; it wakes the slot when it can.
    fn hand_over(&mut self) -> Result<bool, SinkError> {
        if self.buffered_records == 0 {
            return Ok(true);
        }
        let all = self.target.send(&mut self.buffers)?;
        self.buffered_records = self.buffers.iter().map(RecordBuffer::pending_records).sum();
        Ok(all)
    }

    /// Not more is under way than the brokers acknowledge in a short time.
    fn keeps_pace(&mut self) -> bool {
        let under_way = self.backlog_rows + self.buffered_records + self.target.unacknowledged();
        let acknowledged = self.rows_taken.saturating_sub(under_way as u64);
        if self.pace.allows(Instant::now(), acknowledged, under_way, self.throttle.latest()) {
            return true;
        }
        // What is waited for must be on its way.
        self.hurried = true;
        self.target.hurry();
        let pumped = self.pump();
        self.keep_failure(pumped);
        self.target.wake_for_room();
        false
    }

    /// For calls that cannot return an error: the next one that can will.
    fn keep_failure(&mut self, result: Result<(), SinkError>) {
        if let Err(failure) = result {
            self.failure.get_or_insert(failure);
        }
    }
}

impl Sink for KafkaSinkTask {
    fn ready(&mut self) -> bool {
        let pumped = self.pump();
        self.keep_failure(pumped);
        self.backlog_bytes < BACKLOG_BYTES_MAX && self.keeps_pace()
    }

    fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.backlog_bytes += batch.get_array_memory_size();
        self.backlog_rows += batch.num_rows();
        self.rows_taken += batch.num_rows() as u64;
        self.backlog.push_back(Item::Rows(batch));
        self.pump()
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.backlog.push_back(Item::Barrier(epoch));
        self.pump()
    }

    fn poll_prepared(&mut self, epoch: Epoch) -> Result<Option<Vec<PreparedTransaction>>, SinkError> {
        self.pump()?;
        if self.ended < Some(epoch) || self.target.flushing() {
            return Ok(None);
        }
        let Some(listed) = self.target.listed_in(epoch) else { return Ok(None) };
        if !listed.is_empty() {
            under_way::prepared(epoch);
        }
        let prepared = listed.into_iter().map(|listed| PreparedTransaction {
            epoch: listed.epoch,
            uid: self.uid.clone(),
            task: self.index,
            transactional_id: listed.transactional_id,
            producer_id: listed.identity.producer_id,
            producer_epoch: listed.identity.producer_epoch,
            topic: self.topic.clone(),
        });
        Ok(Some(prepared.collect()))
    }

    fn newest_manifest(&mut self, transactions: &[PreparedTransaction]) -> Result<(), SinkError> {
        self.target.release(transactions);
        Ok(())
    }

    fn sealed(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        // An epoch counts as committed when those before it are.
        let under_way = self.committing.take().map(|(_, under_way)| under_way);
        if self.target.lists(epoch) {
            let under_way = under_way.unwrap_or_else(|| CommitUnderWay::begin(epoch));
            self.target.commit(epoch);
            self.committing = Some((epoch, under_way));
        } else if let Some(under_way) = under_way {
            self.committing = Some((epoch, under_way));
        } else {
            self.committed = Some(epoch);
        }
        self.pump()
    }

    fn aborted(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        // A barrier that was not reached yet is not one any more: the rows before it belong to the next epoch.
        self.backlog.retain(|item| !matches!(item, Item::Barrier(e) if *e == epoch));
        self.target.abort(epoch);
        self.pump()
    }

    fn abandon(&mut self, sealed: Option<Epoch>) {
        self.target.abandon(sealed);
    }

    fn poll_committed(&mut self) -> Result<Option<Epoch>, SinkError> {
        self.pump()?;
        Ok(self.committed.take())
    }

    fn transactional_ids(&self) -> Option<TransactionalIds> {
        self.ids.clone()
    }

    fn idle(&self) -> bool {
        self.backlog.is_empty()
            && self.buffered_records == 0
            && self.committing.is_none()
            && self.committed.is_none()
            && self.failure.is_none()
            && self.target.idle()
    }

    fn flush_hint(&mut self) {
        self.hurried = true;
        let pumped = self.pump();
        self.keep_failure(pumped);
    }
}

/// What the caller of a sink must do about a failed call to Kafka.
impl From<KafkaError> for SinkError {
    fn from(error: KafkaError) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::UserData => SinkError::UserData { reason },
            ErrorKind::User => SinkError::User { reason },
            ErrorKind::Refused => SinkError::Refused { reason },
            ErrorKind::Retry => SinkError::Transient { reason },
            ErrorKind::Fenced => {
                SinkError::Transient { reason: format!("{reason}; the job goes back to its last checkpoint") }
            }
        }
    }
}

impl From<ConnectionError> for SinkError {
    fn from(error: ConnectionError) -> Self {
        SinkError::User { reason: error.to_string() }
    }
}
