//! Sinks: batches in, records out, with the two-phase commit of Flink's `TwoPhaseCommittingSink`.

pub mod blackhole;
pub mod kafka;
pub mod open;
pub mod print;

use arrow_array::RecordBatch;
use millstream_api::graph::{ChangelogMode, Schema};
use millstream_api::ids::{Epoch, TransformUid};
use millstream_api::log::{PreparedTransaction, TransactionalIds};
use thiserror::Error;

use crate::source::SlotWaker;

/// What a connector is given to open its sink: `<connector>::open(&<Connector>Sink, &SinkTransform, SinkContext)
/// -> Result<Box<dyn Sink>, SinkError>`. Called on an I/O thread: it may block, within a bounded time.
#[derive(Clone)]
pub struct SinkContext {
    pub uid: TransformUid,
    /// For names that people see: client ids, messages.
    pub job: String,
    /// Namespace of transactional ids: unique to the job's log.
    pub job_uid: String,
    pub index: u32,
    pub parallelism: u32,
    /// Columns of the batches, without the row kind.
    pub schema: Schema,
    /// Unless `Append`, batches end with the row-kind column.
    pub changelog: ChangelogMode,
    /// Producers in the pool of an exactly-once sink.
    pub transaction_pool: u32,
    /// Transactions named by the manifest that is restored: a producer of these must not be reused blindly.
    pub restored_transactions: Vec<PreparedTransaction>,
    /// To be called whenever something that the sink waits for has happened: the slot then polls it again.
    pub waker: SlotWaker,
    /// The worker's I/O runtime.
    pub io: tokio::runtime::Handle,
}

/// Writes the rows of one task. No method blocks: waiting is a state that the task polls.
///
/// The order per epoch: `write`* , `prepare(n)`, `poll_prepared` until `Some`, later `sealed(n)` (then it commits) or
/// `aborted(n)`. Rows of epoch n+1 may be written before n is prepared; the sink buffers them, bounded by `ready`.
pub trait Sink: Send {
    /// False while the sink's buffer is full: the task takes no more input.
    fn ready(&mut self) -> bool;

    /// Takes the rows. On a changelog edge the last column is the row kind.
    fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError>;

    /// The epoch's last row has been written: begin to flush.
    fn prepare(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// `Some` once everything of the epoch is flushed: all transactions that no manifest covers yet. Drives I/O.
    fn poll_prepared(&mut self, epoch: Epoch) -> Result<Option<Vec<PreparedTransaction>>, SinkError>;

    /// A manifest came into the log that names these transactions, of this sink and others; called before `sealed` of
    /// its epoch. A transactional producer that it does not name may be used again (protocol section 4): without this
    /// call an exactly-once sink runs out of producers.
    fn newest_manifest(&mut self, _transactions: &[PreparedTransaction]) -> Result<(), SinkError> {
        Ok(())
    }

    /// The epoch's manifest is in the log: begin to commit.
    fn sealed(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// The epoch was given up for certain: its rows go on in the next one.
    fn aborted(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// Another process owns the job: aborts what no manifest up to `sealed` can name. Nothing else is called after it.
    fn abandon(&mut self, _sealed: Option<Epoch>) {}

    /// Drives I/O. The latest epoch whose commit is done, when it changed.
    fn poll_committed(&mut self) -> Result<Option<Epoch>, SinkError>;

    /// Transactional ids that this sink may use, for the manifest.
    fn transactional_ids(&self) -> Option<TransactionalIds> {
        None
    }

    /// True when nothing is in flight: the slot may park.
    fn idle(&self) -> bool;

    /// Sends what lingers: the producer has nothing more to do right now.
    fn flush_hint(&mut self) {}
}

/// A failed sink.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The same row fails again the same way: a record too large, a value that cannot be encoded. Not retried.
    #[error("{reason}")]
    UserData { reason: String },
    /// A person must act: a missing topic.
    #[error("{reason}")]
    User { reason: String },
    /// The broker does not let the job's user in, or write.
    #[error("{reason}")]
    Refused { reason: String },
    /// It may work after a restart: the broker is away, or it fenced or aborted the producer.
    #[error("{reason}")]
    Transient { reason: String },
}
