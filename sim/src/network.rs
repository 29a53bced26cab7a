//! Connections between processes, and who cannot reach whom.
//!
//! A connection delivers what was sent on it in order, or the beginning of it: when it is cut, what is still on its way is
//! lost, and each end learns of it in its own time. Nothing is delivered twice; a worker that connects again is another one
//! to the coordinator. Messages of different connections overtake each other. A split takes one direction or both: what is
//! sent into it waits, and arrives once it is over, if the connection is still there.
//!
//! Owns: which connections there are, what waits behind a split. Does not own: when something arrives (the world), what
//! the ends make of it.

use std::collections::BTreeMap;

use millstream_api::control::{Attempt, WorkerCommand, WorkerReport};
use millstream_api::ids::{Generation, WorkerId};
use millstream_coordinator::job::Millis;

use crate::calls::ProcessId;
use crate::task::Element;

/// A connection, numbered in order of opening; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Between a coordinator (end 0) and a worker (end 1).
    /// `generation`: of the coordinator, when it rules as the connection is opened.
    Control { worker: WorkerId, generation: Option<Generation> },
    /// Rows between two workers, of the tasks that were deployed in that attempt.
    Shuffle { of: Attempt },
}

/// What workers send to each other.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Index of the source task.
    pub from: u32,
    /// Index of the count task.
    pub to: u32,
    pub content: Content,
}

#[derive(Clone, Copy, Debug)]
pub enum Content {
    Element(Element),
    /// The count task has taken an element.
    Credit,
}

#[derive(Clone, Debug)]
pub enum Message {
    Command(WorkerCommand),
    Report(WorkerReport),
    Frame(Frame),
    /// From a worker: the ruling coordinator that it heard last, and how long ago.
    Heard {
        generation: Generation,
        age_ms: Millis,
    },
    /// From a worker: its process is about to stop.
    Leave,
    /// To a worker: nothing of the job is there any more.
    Released,
}

/// Somebody that can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Process(ProcessId),
    Store,
    Broker,
}

/// A connection as the network sees it. Directions are numbered by the end that they go to.
#[derive(Debug)]
pub struct Connection {
    pub ends: [ProcessId; 2],
    pub purpose: Purpose,
    /// Nobody has ended or cut it.
    pub open: bool,
    /// The end knows that it is closed: nothing reaches it any more.
    pub told: [bool; 2],
    /// When the last message arrives, as far as is known.
    pub last_arrival: [Millis; 2],
    /// How long a message may take.
    pub delay_ms: Millis,
    stalled: [Vec<Message>; 2],
}

impl Connection {
    #[must_use]
    pub fn end_of(&self, process: ProcessId) -> Option<usize> {
        self.ends.iter().position(|end| *end == process)
    }
}

/// Everything between the processes.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    opened: u64,
    /// Until when nothing gets from the one to the other.
    splits: BTreeMap<(Party, Party), Millis>,
}

impl Network {
    pub fn open(&mut self, ends: [ProcessId; 2], purpose: Purpose, delay_ms: Millis) -> ConnectionId {
        self.opened += 1;
        let id = ConnectionId(self.opened);
        let connection = Connection {
            ends,
            purpose,
            open: true,
            told: [false; 2],
            last_arrival: [0; 2],
            delay_ms,
            stalled: Default::default(),
        };
        self.connections.insert(id, connection);
        id
    }

    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().map(|(id, connection)| (*id, connection))
    }

    /// The end knows: when both do, nothing is left of the connection.
    pub fn tell(&mut self, id: ConnectionId, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.told[end] = true;
        if connection.told == [true, true] {
            self.connections.remove(&id);
        }
    }

    /// Nothing gets from the one to the other until then.
    pub fn split(&mut self, from: Party, to: Party, until: Millis) {
        let known = self.splits.entry((from, to)).or_default();
        *known = until.max(*known);
    }

    /// Until when nothing gets from the one to the other; `None`: it does.
    #[must_use]
    pub fn lost_until(&self, now: Millis, from: Party, to: Party) -> Option<Millis> {
        if self.splits.is_empty() {
            return None;
        }
        self.splits.get(&(from, to)).copied().filter(|until| now < *until)
    }

    /// Whether something gets from the one to the other and back.
    #[must_use]
    pub fn reach(&self, now: Millis, a: Party, b: Party) -> bool {
        self.lost_until(now, a, b).is_none() && self.lost_until(now, b, a).is_none()
    }

    /// Whether nothing gets to an end of a connection.
    #[must_use]
    pub fn is_interrupted(&self, now: Millis, id: ConnectionId, to: usize) -> bool {
        let ends = self.connections.get(&id).map(|c| [c.ends[1 - to], c.ends[to]].map(Party::Process));
        ends.is_some_and(|[from, to]| self.lost_until(now, from, to).is_some())
    }

    /// Keeps back what arrives while nothing gets there, and what comes after it.
    ///
    /// # Errors
    /// The message: nothing hinders it.
    pub fn stall(&mut self, now: Millis, id: ConnectionId, to: usize, message: Message) -> Result<(), Message> {
        let interrupted = self.is_interrupted(now, id, to);
        match self.connections.get_mut(&id) {
            Some(connection) if interrupted || !connection.stalled[to].is_empty() => {
                connection.stalled[to].push(message);
                Ok(())
            }
            _ => Err(message),
        }
    }

    /// What waited on its way to an end.
    pub fn take_stalled(&mut self, id: ConnectionId, to: usize) -> Vec<Message> {
        self.connections.get_mut(&id).map(|c| std::mem::take(&mut c.stalled[to])).unwrap_or_default()
    }
}
