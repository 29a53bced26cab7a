//! The `blackhole` connector: takes every row and forgets it.

use arrow_array::RecordBatch;
use millstream_api::ids::Epoch;
use millstream_api::log::PreparedTransaction;

use super::{Sink, SinkError};

/// See the module.
#[derive(Debug, Default)]
pub struct Blackhole {
    committed: Option<Epoch>,
}

impl Sink for Blackhole {
    fn ready(&mut self) -> bool {
        true
    }

    fn write(&mut self, _batch: RecordBatch) -> Result<(), SinkError> {
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }

    fn poll_prepared(&mut self, _epoch: Epoch) -> Result<Option<Vec<PreparedTransaction>>, SinkError> {
        Ok(Some(Vec::new()))
    }

    fn sealed(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.committed = Some(epoch);
        Ok(())
    }

    fn aborted(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }

    fn poll_committed(&mut self) -> Result<Option<Epoch>, SinkError> {
        Ok(self.committed.take())
    }

    fn idle(&self) -> bool {
        self.committed.is_none()
    }
}
