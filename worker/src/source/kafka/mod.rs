//! Flink's `kafka` connector, reading.
//!
//! Owns: which task reads which partition, where each starts and ends, its position, decoding. Does not own:
//! watermarks, projection, when positions are stored. Records are decoded where the broker's answer was read to.
//!
//! A split goes `Reading -> Finished` (a bounded one whose position reached its end). The end is judged by position:
//! a topic written in transactions ends in a marker, so "the last record" never comes.

mod background;
pub(crate) mod connection;
mod rows;
mod split;
mod start;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_api::graph::kafka_properties::KafkaClient;
use millstream_api::graph::{KafkaSource, SourceTransform};
use millstream_api::log::SplitState;
use millstream_kafka::{Admin, Consumer, Deadline, KafkaError, Taken, TopicPartition};

use self::background::{Background, Notice, Request, Worker};
use self::connection::{Connection, ConnectionError};
use self::rows::{Pushed, Rows};
use self::split::{Position, Split, SplitStatus};
use self::start::{Resolver, START_TIMEOUT};
use super::{Polled, SourceContext, SourceError, SourceReader, SplitProgress, SplitRun, SplitUnit};

/// Reads the partitions of one task.
pub struct KafkaReader {
    consumer: Consumer,
    splits: Vec<Split>,
    /// Consumer's index -> split.
    split_of: Vec<usize>,
    rows: Rows,
    skipped: u64,
    background: Option<Background>,
    commits_offsets: bool,
    /// The table ends, and no partition is added.
    bounded: bool,
    /// The client reported what may be final: nothing is read any more, the message is on its way.
    failing: bool,
}

/// Opens the reader of one task: connects, resolves positions, reads nothing yet. Blocks, within a minute.
pub fn open(
    source: &KafkaSource,
    transform: &SourceTransform,
    context: SourceContext,
) -> Result<Box<dyn SourceReader>, SourceError> {
    let name = format!("{}-{}-{}", context.job, context.uid, context.index);
    let mut connection = Connection::new(&source.properties, KafkaClient::Consumer, &name)?;
    connection.config.buffered_bytes_max = context.fetch_bytes_max;
    let rows = Rows::new(source, &transform.scan)?;
    let mut resolver = Resolver {
        source,
        connection: &connection,
        admin: Admin::new(connection.config.clone())?,
        index: context.index,
        parallelism: context.parallelism,
        deadline: Deadline::after(START_TIMEOUT),
    };
    let splits = resolver.splits(context.restored.as_ref().map(|r| r.as_slice()))?;
    // Discovery makes no sense for a table that ends: as in Flink it is off then.
    let discovery_interval = source.discovery_interval_ms.filter(|ms| *ms > 0 && source.bounded.is_none());
    let mut reader = KafkaReader {
        consumer: Consumer::open(&connection.config, context.waker.clone())?,
        splits: Vec::new(),
        split_of: Vec::new(),
        rows,
        skipped: 0,
        background: None,
        commits_offsets: connection.group_id.is_some(),
        bounded: source.bounded.is_some(),
        failing: false,
    };
    let known = splits.iter().map(|s| (s.at.clone(), s.position.clone())).collect();
    splits.into_iter().try_for_each(|split| reader.add(split))?;
    reader.background = Some(Background::spawn(Worker {
        config: connection.config,
        topics: source.topics.clone(),
        group_id: connection.group_id,
        discovery_interval: discovery_interval.map(Duration::from_millis),
        index: context.index,
        parallelism: context.parallelism,
        known,
        waker: context.waker,
    })?);
    Ok(Box::new(reader))
}

impl KafkaReader {
    /// Takes a split over; the consumer begins to fetch it.
    fn add(&mut self, mut split: Split) -> Result<(), SourceError> {
        if !split.at_end() {
            let Position { offset, topic_id, .. } = split.position;
            let index = self.consumer.assign(&split.at.topic, topic_id, split.at.partition, offset)?;
            debug_assert_eq!(index, self.split_of.len());
            self.split_of.push(self.splits.len());
            split.status = SplitStatus::Reading(index);
        }
        self.splits.push(split);
        Ok(())
    }

    /// Takes in what the background found.
    fn take_notices(&mut self, polled: &mut Polled) -> Result<(), SourceError> {
        while let Some(notice) = self.background.as_ref().and_then(Background::notice) {
            match notice {
                Notice::Failed(error) => return Err(error),
                Notice::Found(found) => {
                    for split in found {
                        tracing::info!(split = split.name(), "a new partition, read from its beginning");
                        polled.added.push(self.splits.len());
                        self.add(split)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Decodes what is there. Returns whose rows they are.
    fn read(&mut self, max_rows: usize) -> Result<(Vec<SplitRun>, Taken), ReadFailure> {
        let Self { consumer, splits, split_of, rows, skipped, .. } = self;
        let mut runs: Vec<SplitRun> = Vec::new();
        let mut failure = None;
        let taken = consumer.poll(max_rows, |record| {
            let index = split_of[record.index()];
            let split = &splits[index];
            if failure.is_some() || split.position.end.is_some_and(|end| record.offset() >= end) {
                return;
            }
            match rows.push(&record) {
                Pushed::Row => match runs.last_mut() {
                    Some(run) if run.split == index => run.rows += 1,
                    _ => runs.push(SplitRun { split: index, rows: 1 }),
                },
                Pushed::Tombstone => {}
                Pushed::Skipped => *skipped += 1,
                Pushed::Failed(reason) => failure = Some(decode_error(&split.at, record.offset(), reason)),
            }
        });
        match failure {
            Some(error) => Err(ReadFailure::Record(error)),
            None => taken.map(|taken| (runs, taken)).map_err(ReadFailure::Client),
        }
    }

    /// An offset that is out of range stays so; the message is worth the time to ask for the range. A topic that one
    /// broker does not know, or credentials that one refuses, may be right for the cluster: it is asked before that
    /// ends the job.
    fn fail(&mut self, failure: ReadFailure) -> Result<Polled, SourceError> {
        match failure {
            ReadFailure::Client(
                error @ (KafkaError::OffsetOutOfRange { .. }
                | KafkaError::UnknownTopic { .. }
                | KafkaError::UnknownPartition { .. }
                | KafkaError::TopicMadeAgain { .. }
                | KafkaError::Authentication { .. }),
            ) => {
                self.failing = true;
                if let Some(background) = &self.background {
                    background.ask(Request::Verify(error));
                }
                Ok(Polled { drained: true, ..Polled::default() })
            }
            ReadFailure::Client(error) => Err(error.into()),
            ReadFailure::Record(error) => Err(error),
        }
    }

    /// Takes positions over from the consumer and closes splits that reached their end.
    fn advance(&mut self, polled: &mut Polled) {
        for (index, split) in self.splits.iter_mut().enumerate() {
            let SplitStatus::Reading(assigned) = split.status else { continue };
            split.position.offset = self.consumer.position(assigned);
            let Some(end) = split.position.end else { continue };
            if split.position.offset >= end {
                // Reading => Finished: nothing before the end is left.
                split.position.offset = end;
                split.status = SplitStatus::Finished;
                self.consumer.stop(assigned);
                polled.finished.push(index);
            }
        }
    }
}

impl SourceReader for KafkaReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled, SourceError> {
        let mut polled = Polled::default();
        self.take_notices(&mut polled)?;
        if self.failing {
            polled.drained = true;
            return Ok(polled);
        }
        let (runs, taken) = match self.read(max_rows) {
            Ok(read) => read,
            Err(failure) => return self.fail(failure),
        };
        if !self.rows.is_empty() {
            let splits = &self.splits;
            let batch = self.rows.finish(&runs, |split| &splits[split].at)?;
            polled.batch = Some((batch, runs));
        }
        self.advance(&mut polled);
        polled.drained = taken.drained;
        Ok(polled)
    }

    fn splits(&self) -> Vec<SplitState> {
        let state = |split: &Split| SplitState {
            split: split.name(),
            position: serde_json::to_value(&split.position).expect("numbers and texts"),
            watermark: None,
            idle: false,
            finished: split.status == SplitStatus::Finished,
        };
        self.splits.iter().map(state).collect()
    }

    fn finished(&self) -> bool {
        self.bounded && self.splits.iter().all(|s| s.status == SplitStatus::Finished)
    }

    fn progress(&self, split: usize) -> SplitProgress {
        let Split { status, position, .. } = &self.splits[split];
        let log_end = match status {
            SplitStatus::Reading(assigned) => self.consumer.log_end(*assigned),
            _ => Some(position.offset),
        };
        // A table that ends does not read what is behind its end.
        let end = [log_end, position.end].into_iter().flatten().min();
        let count = |offset: i64| u64::try_from(offset).unwrap_or(0);
        SplitProgress { unit: SplitUnit::Records, position: count(position.offset), end: end.map(count) }
    }

    fn lag_records(&self) -> Option<u64> {
        (0..self.splits.len()).map(|split| self.progress(split).lag()).sum()
    }

    fn backlog(&self, split: usize) -> Option<bool> {
        match self.splits[split].status {
            SplitStatus::Reading(assigned) => self.consumer.backlog(assigned),
            _ => Some(false),
        }
    }

    fn sealed(&mut self, splits: &[SplitState]) {
        let Some(background) = self.background.as_ref().filter(|_| self.commits_offsets) else { return };
        let offsets: BTreeMap<TopicPartition, i64> = splits
            .iter()
            .filter_map(|state| split::restore(state).ok())
            .map(|(at, position)| (at, position.offset))
            .collect();
        if !offsets.is_empty() {
            background.ask(Request::Commit(offsets));
        }
    }

    fn skipped_records(&self) -> u64 {
        self.skipped
    }
}

/// Why a read brought nothing.
enum ReadFailure {
    Client(KafkaError),
    Record(SourceError),
}

fn decode_error(at: &TopicPartition, offset: i64, reason: String) -> SourceError {
    SourceError::Decode {
        at: format!("topic '{}', partition {}, offset {offset}", at.topic, at.partition),
        reason: format!("{reason}; to skip such records set 'json.ignore-parse-errors' = 'true'"),
    }
}

impl From<ConnectionError> for SourceError {
    fn from(error: ConnectionError) -> Self {
        SourceError::User { reason: error.to_string() }
    }
}
