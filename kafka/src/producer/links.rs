//! The connections of one producer, one for each broker that leads partitions of its topic.
//!
//! Owns: opening and closing them, pauses before the next try, what is under way on each, time-outs of requests. Does
//! not own: what is sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::AbortHandle;

use super::engine::Input;
use super::link;
use super::request::{self, Frame, VERSION_LEAST, VERSION_MOST};
use super::runtime::blocking;
use super::settings::Settings;
use crate::error::KafkaError;
use crate::record_batch::Batch;
use crate::wire::{Deadline, Opened, Opener};

/// A broker that is silent for so long may lead nothing any more: who is cut off learns that last. It is given up as soon
/// as the others say so, and not only when `request.timeout.ms` is over.
pub(super) const LEADER_DOUBTED: Duration = Duration::from_secs(2);
/// For connecting, encryption and authentication together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A batch until its acknowledgement.
pub(super) struct Sending {
    pub(super) partition: usize,
    pub(super) batch: Arc<Batch>,
    /// It carries its sequence number: repeated, it is the same batch.
    pub(super) stamped: bool,
    pub(super) since: Instant,
    pub(super) failures: u32,
}

/// What a broker has not answered.
struct Request {
    correlation_id: i32,
    batches: Vec<Sending>,
    since: Instant,
}

pub(super) struct Links {
    settings: Arc<Settings>,
    opener: Opener,
    tell: UnboundedSender<Input>,
    by_node: BTreeMap<i32, Link>,
    connections: u64,
}

#[derive(Default)]
struct Link {
    /// Number of the current connection.
    connection: u64,
    state: State,
    requests: VecDeque<Request>,
    correlation_id: i32,
    failures: u32,
    /// The broker refused, or went away.
    not_before: Option<Instant>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Opening,
    Open {
        frames: mpsc::Sender<Frame>,
        version: i16,
        _task: Task,
    },
}

/// Ends with its owner, even in the middle of a write.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a link takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    /// When an answer comes or the link opens.
    Later,
    At(Instant),
    /// The leader table knows no address.
    Unknown,
}

/// What an answer was about.
pub(super) struct Answered {
    pub(super) batches: Vec<Sending>,
    /// `None`: no answer was to come.
    pub(super) partitions: Option<Vec<request::Answered>>,
}

impl Links {
    pub(super) fn new(settings: Arc<Settings>, opener: Opener, tell: UnboundedSender<Input>) -> Self {
        Self { settings, opener, tell, by_node: BTreeMap::new(), connections: 0 }
    }

    /// Whether the link takes a request; opens it where it is closed.
    pub(super) fn room(&mut self, node: i32, address: Option<&String>, now: Instant) -> Room {
        let link = self.by_node.entry(node).or_default();
        match (&link.state, link.not_before.max(self.settings.throttle.until(node))) {
            (State::Opening, _) => Room::Later,
            (_, Some(at)) if at > now => Room::At(at),
            (State::Open { .. }, _) if link.requests.len() < self.settings.requests_in_flight => Room::Yes,
            (State::Open { .. }, _) => Room::Later,
            (State::Closed, _) => {
                let Some(address) = address else { return Room::Unknown };
                self.connections += 1;
                link.connection = self.connections;
                link.state = State::Opening;
                self.open(node, address.clone());
                Room::Later
            }
        }
    }

    fn open(&self, node: i32, address: String) {
        let (opener, tell, connection) = (self.opener.clone(), self.tell.clone(), self.connections);
        let opening = blocking(move || opener.open(&address, Deadline::after(OPEN_TIMEOUT)));
        tokio::spawn(async move {
            let opened = opening.await.map(|result| Input::Opened { node, connection, result: result.map(Box::new) });
            // Whose connection it was may be gone.
            let _ = tell.send(opened.unwrap_or(Input::Panicked));
        });
    }

    /// A link is open, or it could not be opened: then the reason, unless it is of no interest any more.
    pub(super) fn opened(
        &mut self,
        node: i32,
        connection: u64,
        result: Result<Box<Opened>, KafkaError>,
        now: Instant,
    ) -> Result<(), KafkaError> {
        let Some(link) = self.by_node.get_mut(&node).filter(|link| link.connection == connection) else {
            return Ok(());
        };
        let opened = result.inspect_err(|_| {
            link.state = State::Closed;
            link.failures += 1;
            link.not_before = Some(now + self.settings.reconnect_backoff.pause(link.failures));
        })?;
        let Some(version) = opened.version::<ProduceRequest>(VERSION_LEAST, VERSION_MOST) else {
            return Err(KafkaError::Protocol {
                broker: self.settings.brokers.clone(),
                reason: format!("it does not speak Produce in versions {VERSION_LEAST} to {VERSION_MOST}"),
            });
        };
        let (frames, receive) = mpsc::channel(self.settings.requests_in_flight);
        let served = link::serve(*opened, (node, connection), receive, self.tell.clone());
        let task = Task(tokio::spawn(served).abort_handle());
        link.not_before = None;
        link.state = State::Open { frames, version, _task: task };
        Ok(())
    }

    /// Sends one request. To be called when there is room.
    pub(super) fn send(&mut self, node: i32, batches: Vec<Sending>, now: Instant) {
        let link = self.by_node.entry(node).or_default();
        link.correlation_id = link.correlation_id.wrapping_add(1);
        if let State::Open { frames, version, .. } = &link.state {
            let parts: Vec<_> = batches.iter().map(|s| (s.partition as i32, s.batch.clone())).collect();
            let frame = request::frame(&self.settings, *version, link.correlation_id, &parts);
            // A task that has ended has told so: what was just sent comes back with that.
            let _ = frames.try_send(frame);
        }
        link.requests.push_back(Request { correlation_id: link.correlation_id, batches, since: now });
    }

    /// Takes an answer in. An answer that makes no sense is a reason to give the connection up.
    pub(super) fn answered(
        &mut self,
        node: i32,
        connection: u64,
        answer: Option<bytes::Bytes>,
        now: Instant,
    ) -> Result<Option<Answered>, String> {
        let Some(link) = self.by_node.get_mut(&node).filter(|link| link.connection == connection) else {
            return Ok(None);
        };
        let State::Open { version, .. } = link.state else { return Ok(None) };
        let Some(oldest) = link.requests.front() else { return Err("an answer to no request".to_owned()) };
        let mut partitions = None;
        if let Some(answer) = answer {
            let answer = request::decode(answer, version)?;
            if answer.correlation_id != oldest.correlation_id {
                return Err("an answer to another request".to_owned());
            }
            if answer.throttle_ms > 0 {
                // It answers nothing until then, and what is sent meanwhile would only wait.
                self.settings.throttle.note(node, now + Duration::from_millis(answer.throttle_ms));
            }
            partitions = Some(answer.partitions);
        }
        link.failures = 0;
        let Some(Request { batches, .. }) = link.requests.pop_front() else { return Ok(None) };
        // The broker works on one request at a time: the time of the next one begins with this answer, or when the
        // broker listens again.
        if let Some(next) = link.requests.front_mut() {
            next.since = self.settings.throttle.until(node).map_or(now, |at| at.max(now));
        }
        Ok(Some(Answered { batches, partitions }))
    }

    /// Closes a connection. Returns what was under way on it, `None` where that is known already.
    pub(super) fn lost(&mut self, node: i32, connection: u64, now: Instant) -> Option<Vec<Sending>> {
        let link = self.by_node.get_mut(&node).filter(|link| link.connection == connection)?;
        if let State::Closed = link.state {
            return None;
        }
        link.state = State::Closed;
        let under_way: Vec<_> = link.requests.drain(..).flat_map(|request| request.batches).collect();
        // A broker closes what was idle for long: that says nothing about it.
        if !under_way.is_empty() {
            link.failures += 1;
            link.not_before = Some(now + self.settings.reconnect_backoff.pause(link.failures));
        }
        Some(under_way)
    }

    /// Connections whose oldest request waits too long.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(i32, u64)> {
        self.waiting(now, self.settings.request_timeout).map(|(node, link)| (node, link.connection)).collect()
    }

    /// Connections of silent brokers that do not lead all that was sent to them any more.
    pub(super) fn forsaken(&self, now: Instant, leader: impl Fn(usize) -> Option<i32>) -> Vec<(i32, u64)> {
        let elsewhere = |node: i32, link: &Link| {
            let mut batches = link.requests.iter().flat_map(|request| &request.batches);
            batches.any(|sending| leader(sending.partition).is_some_and(|leader| leader != node))
        };
        let waiting = self.waiting(now, LEADER_DOUBTED).filter(|(node, link)| elsewhere(*node, link));
        waiting.map(|(node, link)| (node, link.connection)).collect()
    }

    pub(super) fn leaders_are_doubtful(&self, now: Instant) -> bool {
        self.waiting(now, LEADER_DOUBTED).next().is_some()
    }

    /// Links whose oldest request waits longer than this.
    fn waiting(&self, now: Instant, longer_than: Duration) -> impl Iterator<Item = (i32, &Link)> {
        let waits = move |link: &Link| {
            let oldest = link.requests.front();
            oldest.is_some_and(|request| now.saturating_duration_since(request.since) > longer_than)
        };
        self.by_node.iter().filter(move |(_, link)| waits(link)).map(|(node, link)| (*node, link))
    }

    pub(super) fn nothing_under_way(&self) -> bool {
        self.by_node.values().all(|link| link.requests.is_empty())
    }
}
