//! The `print` connector: a line per row, as Flink's prints it, e.g. `+I[1, a, null]`.
//!
//! At least once: a barrier passes when everything before it was written and flushed. Lines of one task keep their
//! order; those of several tasks mix by whole lines. Owns: prefixes, buffering, flushing. Does not own: the text of a
//! row (`row`), the terminal (`output`, one writer for the whole process).

pub mod output;
pub(crate) mod row;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use millstream_api::graph::{ChangelogMode, PrintSink as PrintOptions};
use millstream_api::ids::Epoch;
use millstream_api::log::PreparedTransaction;

use super::{Sink, SinkContext, SinkError};
use crate::source::SlotWaker;
use output::{Message, Printer, Progress, Stream};
use row::RowText;

/// Text handed to the writer at once.
const CHUNK_BYTES: usize = 64 << 10;

/// See the module.
pub struct PrintSink {
    printer: &'static Printer,
    stream: Stream,
    progress: Progress,
    waker: SlotWaker,
    row: RowText,
    prefix: String,
    /// Not taken by the writer yet.
    pending: VecDeque<Message>,
    /// Messages made so far; the writer has handled `progress.handled()` of them.
    sent: u64,
    /// How many messages must be handled for the epoch to be prepared.
    preparing: Option<(Epoch, u64)>,
    committed: Option<Epoch>,
}

impl PrintSink {
    /// Opens the sink of one task.
    pub fn open(options: &PrintOptions, cx: &SinkContext) -> Result<Self, SinkError> {
        let is_changelog = !matches!(cx.changelog, ChangelogMode::Append);
        Ok(Self {
            printer: Printer::of_process().map_err(|reason| SinkError::Transient { reason })?,
            stream: if options.standard_error { Stream::Error } else { Stream::Output },
            progress: Progress::default(),
            waker: cx.waker.clone(),
            row: RowText::new(&cx.schema, is_changelog),
            prefix: prefix(options.identifier.as_deref(), cx.index, cx.parallelism),
            pending: VecDeque::new(),
            sent: 0,
            preparing: None,
            committed: None,
        })
    }

    fn send(&mut self, text: Vec<u8>, flush: bool) {
        self.sent += 1;
        let (progress, waker) = (self.progress.clone(), self.waker.clone());
        self.pending.push_back(Message { stream: self.stream, text, flush, progress, waker });
        self.pump();
    }

    /// Hands over what the writer takes without waiting.
    fn pump(&mut self) {
        while let Some(message) = self.pending.pop_front() {
            if let Err(message) = self.printer.try_send(message) {
                self.pending.push_front(message);
                break;
            }
        }
    }

    fn check(&self) -> Result<(), SinkError> {
        self.progress.failure().map_or(Ok(()), |reason| Err(SinkError::User { reason }))
    }
}

/// `identifier:task> ` as `PrintSinkOutputWriter` has it; tasks count from 1 and are named when there are several.
fn prefix(identifier: Option<&str>, index: u32, parallelism: u32) -> String {
    match (identifier.filter(|i| !i.is_empty()), parallelism > 1) {
        (Some(identifier), true) => format!("{identifier}:{}> ", index + 1),
        (Some(identifier), false) => format!("{identifier}> "),
        (None, true) => format!("{}> ", index + 1),
        (None, false) => String::new(),
    }
}

impl Sink for PrintSink {
    fn ready(&mut self) -> bool {
        self.pump();
        self.pending.is_empty()
    }

    fn write(&mut self, batch: RecordBatch) -> Result<(), SinkError> {
        self.check()?;
        let mut text = Vec::with_capacity(CHUNK_BYTES);
        for row in 0..batch.num_rows() {
            text.extend_from_slice(self.prefix.as_bytes());
            self.row.write(&batch, row, &mut text);
            text.push(b'\n');
            if text.len() >= CHUNK_BYTES {
                self.send(std::mem::take(&mut text), false);
            }
        }
        if !text.is_empty() {
            self.send(text, false);
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.send(Vec::new(), true);
        self.preparing = Some((epoch, self.sent));
        Ok(())
    }

    fn poll_prepared(&mut self, epoch: Epoch) -> Result<Option<Vec<PreparedTransaction>>, SinkError> {
        self.pump();
        self.check()?;
        let flushed = self.preparing.is_none_or(|(_, wanted)| self.progress.handled() >= wanted);
        debug_assert!(self.preparing.is_none_or(|(preparing, _)| preparing == epoch));
        Ok(flushed.then(Vec::new))
    }

    fn sealed(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.preparing = None;
        self.committed = Some(epoch);
        Ok(())
    }

    fn aborted(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        self.preparing = None;
        Ok(())
    }

    fn poll_committed(&mut self) -> Result<Option<Epoch>, SinkError> {
        self.check()?;
        Ok(self.committed.take())
    }

    fn idle(&self) -> bool {
        self.pending.is_empty() && self.committed.is_none() && self.progress.handled() >= self.sent
    }
}
