//! What a Kafka source does beside reading: look for new partitions, commit group offsets, find out what a range is.
//!
//! One thread per source task that has something of this to do; it ends with the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use millstream_kafka::{
    Admin, ClientConfig, Deadline, ErrorKind, Isolation, KafkaError, OffsetAt, TopicDescription, TopicPartition,
};

use super::split::{Position, Split, SplitStatus};
use super::start::{check_topic, own_partitions};
use crate::source::{SlotWaker, SourceError};

/// For one look at the cluster. What fails is tried again with the next one.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// For the range that an error message should name.
const RANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long records of a topic that was deleted and made again may be taken for the old one's, by brokers that are not asked
/// by the topic's id (before 3.1). One small request.
const TOPIC_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// What the reader asks for.
pub(super) enum Request {
    /// Commit these for the group; a newer one makes an older one superfluous.
    Commit(BTreeMap<TopicPartition, i64>),
    /// The client reported this while it read: find out whether it is so for the cluster, and what there is instead.
    Verify(KafkaError),
}

/// What the reader is told.
pub(super) enum Notice {
    /// New partitions of this task, from their beginning.
    Found(Vec<Split>),
    /// The source cannot go on.
    Failed(SourceError),
}

/// The reader's end.
pub(super) struct Background {
    requests: Sender<Request>,
    notices: Receiver<Notice>,
}

/// What the thread works with.
pub(super) struct Worker {
    pub(super) config: ClientConfig,
    pub(super) topics: Vec<String>,
    pub(super) group_id: Option<String>,
    pub(super) discovery_interval: Option<Duration>,
    pub(super) index: u32,
    pub(super) parallelism: u32,
    /// The splits of this task, as they started.
    pub(super) known: Vec<(TopicPartition, Position)>,
    pub(super) waker: SlotWaker,
}

impl Background {
    pub(super) fn spawn(worker: Worker) -> Result<Self, SourceError> {
        let (requests, receive_requests) = mpsc::channel();
        let (send_notices, notices) = mpsc::channel();
        let admin = Admin::new(worker.config.clone())?;
        std::thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || worker.run(admin, &receive_requests, &send_notices))
            .map_err(|e| SourceError::Transient { reason: format!("failed to start a thread: {e}") })?;
        Ok(Self { requests, notices })
    }

    /// When the thread is gone, its last notice says why.
    pub(super) fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
    }

    pub(super) fn notice(&self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }
}

impl Worker {
    fn run(mut self, mut admin: Admin, requests: &Receiver<Request>, notices: &Sender<Notice>) {
        let mut next_look = self.discovery_interval.map(|interval| Instant::now() + interval);
        let mut next_check = Instant::now() + TOPIC_CHECK_INTERVAL;
        loop {
            let next = next_look.map_or(next_check, |at| at.min(next_check));
            let wait = next.saturating_duration_since(Instant::now());
            let notice = match requests.recv_timeout(wait) {
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Request::Verify(error)) => Some(Notice::Failed(self.verified(&mut admin, error))),
                Ok(Request::Commit(offsets)) => {
                    self.commit(&mut admin, &offsets);
                    None
                }
                Err(RecvTimeoutError::Timeout) if next_look.is_some_and(|at| at <= Instant::now()) => {
                    let notice = self.look(&mut admin);
                    next_look = self.discovery_interval.map(|interval| Instant::now() + interval);
                    next_check = Instant::now() + TOPIC_CHECK_INTERVAL;
                    notice
                }
                Err(RecvTimeoutError::Timeout) => {
                    let notice = self.check(&mut admin);
                    next_check = Instant::now() + TOPIC_CHECK_INTERVAL;
                    notice
                }
            };
            if let Some(notice) = notice {
                if notices.send(notice).is_err() {
                    return;
                }
                (self.waker)();
            }
        }
    }

    /// For lag tools only, so a failure costs nothing but a line.
    fn commit(&self, admin: &mut Admin, offsets: &BTreeMap<TopicPartition, i64>) {
        let Some(group) = &self.group_id else { return };
        if let Err(e) = admin.commit_group_offsets(group, offsets, Deadline::after(LOOK_TIMEOUT)) {
            tracing::warn!("{e}; the checkpoint holds the offsets, so nothing is lost");
        }
    }

    /// Looks for new partitions, and whether the known ones still are what they were.
    fn look(&mut self, admin: &mut Admin) -> Option<Notice> {
        match self.try_look(admin) {
            Ok(new) if new.is_empty() => None,
            Ok(new) => Some(Notice::Found(new)),
            Err(SourceError::Transient { reason }) => {
                tracing::warn!("failed to look for new partitions: {reason}; trying again after the interval");
                None
            }
            Err(e) => Some(Notice::Failed(e)),
        }
    }

    /// Looks whether the topics still are what they were. That a broker is away shows elsewhere.
    fn check(&self, admin: &mut Admin) -> Option<Notice> {
        match self.try_check(admin, Deadline::after(LOOK_TIMEOUT)) {
            Ok(_) => None,
            Err(SourceError::Transient { reason }) => {
                tracing::debug!("failed to look at the topics: {reason}");
                None
            }
            Err(e) => Some(Notice::Failed(e)),
        }
    }

    fn try_check(&self, admin: &mut Admin, deadline: Deadline) -> Result<Vec<TopicDescription>, SourceError> {
        let topics = admin.topics(&self.topics, deadline)?;
        self.known.iter().try_for_each(|(at, position)| check_topic(&topics, at, position))?;
        Ok(topics)
    }

    /// What the cluster says to what a single broker said. A restart reads on where it does not agree.
    fn verified(&self, admin: &mut Admin, error: KafkaError) -> SourceError {
        if let KafkaError::OffsetOutOfRange { .. } = error {
            return match self.try_check(admin, Deadline::after(RANGE_TIMEOUT)) {
                // Why it is out of range.
                Err(made_again @ SourceError::State { .. }) => made_again,
                _ => with_range(admin, error).into(),
            };
        }
        match self.try_check(admin, Deadline::after(LOOK_TIMEOUT)) {
            Ok(_) => SourceError::Transient { reason: format!("{error}; the cluster says that it is not so") },
            Err(e) => e,
        }
    }

    fn try_look(&mut self, admin: &mut Admin) -> Result<Vec<Split>, SourceError> {
        let deadline = Deadline::after(LOOK_TIMEOUT);
        let topics = self.try_check(admin, deadline)?;
        let known: BTreeSet<&TopicPartition> = self.known.iter().map(|(at, _)| at).collect();
        let own = own_partitions(&topics, self.index, self.parallelism);
        let new: Vec<TopicPartition> = own.into_iter().filter(|at| !known.contains(at)).collect();
        let offsets = admin.offsets(&new, OffsetAt::Beginning, Isolation::ReadUncommitted, deadline)?;
        let found = offsets.into_iter().map(|(at, offset)| {
            let topic_id = topics.iter().find(|t| t.name == at.topic).and_then(|t| t.id);
            Split { at, position: Position { offset, end: None, topic_id }, status: SplitStatus::Finished }
        });
        let found: Vec<Split> = found.collect();
        self.known.extend(found.iter().map(|s| (s.at.clone(), s.position.clone())));
        Ok(found)
    }
}

/// The same error, with what the broker holds.
fn with_range(admin: &mut Admin, error: KafkaError) -> KafkaError {
    let KafkaError::OffsetOutOfRange { topic, partition, offset, .. } = error else { return error };
    let at = TopicPartition { topic: topic.clone(), partition };
    let deadline = Deadline::after(RANGE_TIMEOUT);
    let mut ask = |which| {
        let found = admin.offsets(std::slice::from_ref(&at), which, Isolation::ReadUncommitted, deadline);
        found.ok()?.get(&at).copied()
    };
    let range = ask(OffsetAt::Beginning).zip(ask(OffsetAt::End));
    KafkaError::OffsetOutOfRange { topic, partition, offset, range }
}

/// What the caller of a source must do about a failed call to Kafka.
impl From<KafkaError> for SourceError {
    fn from(error: KafkaError) -> Self {
        let reason = match &error {
            KafkaError::OffsetOutOfRange { .. } => format!(
                "{error}; records were deleted before they were read, or the topic was made again: start without the \
                 checkpoint, or from other offsets"
            ),
            other => other.to_string(),
        };
        match error.kind() {
            ErrorKind::Retry | ErrorKind::Fenced => SourceError::Transient { reason },
            ErrorKind::Refused => SourceError::Refused { reason },
            ErrorKind::User | ErrorKind::UserData => SourceError::User { reason },
        }
    }
}
