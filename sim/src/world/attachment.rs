//! Connections that come about, carry messages and end: sessions of workers with coordinators, and links between workers.

use millstream_api::control::Attempt;
use millstream_coordinator::job::{Event, Millis};

use crate::calls::ProcessId;
use crate::network::{ConnectionId, Message, Party, Purpose};
use crate::plan::{CALM_AT_MS, PROBE_TIMEOUT_MS, SILENCE_MS};
use crate::process::Input;
use crate::worker::Worker;

use super::{HEARTBEAT_MS, Item, World};

/// Pause of a process before it tries to connect again.
const AGAIN_MS: Millis = 50;
/// A message takes up to this long, on a slow connection up to the other.
const DELAY_MS: Millis = 3;
const SLOW_MS: Millis = 40;

impl World {
    // --- sessions ---------------------------------------------------------------------------------------------------

    pub(super) fn attach_to_all(&mut self, worker: ProcessId) {
        let coordinators: Vec<ProcessId> =
            self.processes.values().filter(|p| p.coordinator.is_some()).map(|p| p.id).collect();
        for coordinator in coordinators {
            self.attach_soon(worker, coordinator);
        }
    }

    pub(super) fn attach_soon(&mut self, worker: ProcessId, coordinator: ProcessId) {
        if self.plan.cluster.is_none() {
            return;
        }
        let soon = self.now + self.below(AGAIN_MS);
        self.at(soon, Item::Connect { worker, coordinator });
    }

    /// Whether both are there, and are to be reached.
    fn reach(&self, a: ProcessId, b: ProcessId) -> Option<bool> {
        let stands_still = |id| self.processes.get(&id).map(|p| p.paused || p.worker_paused);
        let (first, second) = (stands_still(a)?, stands_still(b)?);
        Some(!first && !second && self.network.reach(self.now, Party::Process(a), Party::Process(b)))
    }

    /// Whether what a process says all the time gets to another one.
    fn hears(&self, who: ProcessId, whom: ProcessId) -> bool {
        let speaks = self.processes.get(&whom).is_some_and(|p| !p.paused && !p.worker_paused);
        speaks && self.network.lost_until(self.now, Party::Process(whom), Party::Process(who)).is_none()
    }

    pub(super) fn connect(&mut self, worker: ProcessId, coordinator: ProcessId) -> Result<(), String> {
        let has_session = self.network.iter().any(|(_, c)| {
            matches!(c.purpose, Purpose::Control { .. }) && c.ends == [coordinator, worker] && !c.told[1]
        });
        match self.reach(coordinator, worker) {
            Some(true) if !has_session => self.open_session(coordinator, worker),
            Some(false) if !has_session => {
                self.at(self.now + AGAIN_MS, Item::Connect { worker, coordinator });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The worker registers. An older session of it may not be known to be lost.
    pub(super) fn open_session(&mut self, coordinator: ProcessId, worker: ProcessId) -> Result<(), String> {
        let (mut number, slots) = (None, 0);
        let mut generation = None;
        if let Some(c) = self.processes.get_mut(&coordinator).and_then(|p| p.coordinator.as_mut()) {
            number = Some(c.next_worker());
            generation = c.rules();
        }
        let slots = self.processes.get(&worker).and_then(|p| p.worker.as_ref()).map_or(slots, |w| w.slots);
        let Some(number) = number else { return Ok(()) };
        let purpose = Purpose::Control { worker: number, generation };
        let delay_ms = self.draw_delay(coordinator == worker);
        let connection = self.network.open([coordinator, worker], purpose, delay_ms);
        if coordinator != worker {
            self.deliver(worker, Input::Opened { connection, purpose, peer: coordinator, slots })?;
        }
        self.deliver(coordinator, Input::Opened { connection, purpose, peer: worker, slots })
    }

    fn draw_delay(&mut self, local: bool) -> Millis {
        let slow = !local && self.now < CALM_AT_MS && self.below(6) == 0;
        if slow {
            self.coverage.hit("slow connection");
        }
        if slow { SLOW_MS } else { DELAY_MS }
    }

    /// A worker says which coordinator it heard last, and hears the one that is there.
    pub(super) fn heartbeat(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get(&id) else { return };
        let (stands_still, ruler) = (process.paused, process.worker.as_ref().and_then(Worker::ruler));
        let now = process.clock.read(self.now, self.rules.count_time);
        self.at(self.now + HEARTBEAT_MS, Item::Heartbeat { worker: id });
        if stands_still {
            return;
        }
        let ruling = ruler.and_then(|session| self.network.get(session)).filter(|c| c.open).map(|c| c.ends[0]);
        let heard = ruling.is_some_and(|coordinator| self.hears(id, coordinator));
        let Some(worker) = self.processes.get_mut(&id).and_then(|p| p.worker.as_mut()) else { return };
        if heard {
            worker.hear(now);
        }
        worker.look(now);
        let Some((generation, age_ms)) = worker.heard(now) else { return };
        let sessions: Vec<ConnectionId> = worker.sessions().collect();
        for session in sessions {
            self.send(id, session, Message::Heard { generation, age_ms });
        }
    }

    /// The answer of a process that is asked whether it rules; of one that does not answer, none in time.
    pub(super) fn probe(&mut self, by: ProcessId, of: ProcessId) {
        // Whoever asked may stand still meanwhile: the answer is there when it goes on.
        let answers = self.processes.get(&of).is_some_and(|p| !p.paused);
        let reached = answers && self.network.reach(self.now, Party::Process(by), Party::Process(of));
        let rules = self.processes.get(&of).filter(|_| reached).and_then(|p| p.coordinator.as_ref()?.rules());
        let gone = !self.processes.contains_key(&of);
        let after = if reached || gone { self.below(5) } else { PROBE_TIMEOUT_MS };
        let input = Input::Core(Event::LeaderProbed { rules });
        self.at(self.now + after, Item::Input { process: by, input });
    }

    /// A worker's process ends by itself.
    pub(super) fn depart(&mut self, id: ProcessId) -> Result<(), String> {
        self.processes.remove(&id);
        self.leave_network(id, true);
        if self.now >= CALM_AT_MS { self.staff() } else { Ok(()) }
    }

    // --- links between workers --------------------------------------------------------------------------------------

    /// A worker wants to exchange rows with another one, which may want it already.
    pub(super) fn want(&mut self, from: ProcessId, to: ProcessId, of: Attempt) {
        if self.wanted.remove(&(of, to, from)) {
            let soon = self.now + self.below(DELAY_MS);
            self.at(soon, Item::Link { ends: [from, to], of });
        } else {
            self.wanted.insert((of, from, to));
        }
    }

    pub(super) fn link(&mut self, ends: [ProcessId; 2], of: Attempt) -> Result<(), String> {
        let deployed = |id| self.processes.get(&id).and_then(|p| p.worker.as_ref()).and_then(|w| w.deployed_in());
        let [a, b] = ends;
        if deployed(a) != Some(of) || deployed(b) != Some(of) {
            return Ok(());
        }
        match self.reach(a, b) {
            Some(true) => {
                let purpose = Purpose::Shuffle { of };
                let delay_ms = self.draw_delay(false);
                let connection = self.network.open(ends, purpose, delay_ms);
                self.coverage.hit("workers connected");
                self.deliver(a, Input::Opened { connection, purpose, peer: b, slots: 0 })?;
                self.deliver(b, Input::Opened { connection, purpose, peer: a, slots: 0 })
            }
            Some(false) => {
                self.at(self.now + AGAIN_MS, Item::Link { ends, of });
                Ok(())
            }
            None => Ok(()),
        }
    }

    // --- messages ---------------------------------------------------------------------------------------------------

    pub(super) fn send(&mut self, from: ProcessId, id: ConnectionId, message: Message) {
        let Some(delay_ms) = self.network.get(id).filter(|c| c.open).map(|c| c.delay_ms) else { return };
        let soon = self.now + self.below(delay_ms);
        let Some(connection) = self.network.get_mut(id) else { return };
        let to = match message {
            Message::Report(_) | Message::Heard { .. } | Message::Leave => 0,
            Message::Command(_) | Message::Released => 1,
            Message::Frame(_) => usize::from(connection.ends[0] == from),
        };
        let arrival = soon.max(connection.last_arrival[to]);
        connection.last_arrival[to] = arrival;
        self.at(arrival, Item::Message { connection: id, to, message });
    }

    pub(super) fn arrive(&mut self, id: ConnectionId, to: usize, message: Message) -> Result<(), String> {
        let Some(process) = self.network.get(id).filter(|c| !c.told[to]).map(|c| c.ends[to]) else {
            self.coverage.hit("message lost");
            return Ok(());
        };
        match self.network.stall(self.now, id, to, message) {
            Ok(()) => Ok(()),
            Err(message) => self.deliver(process, Input::Message { connection: id, message }),
        }
    }

    // --- ends -------------------------------------------------------------------------------------------------------

    /// Cuts a connection. Each end learns of it in its own time, mostly at once, at the latest by the silence.
    pub(super) fn cut(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.get_mut(id).filter(|c| c.open) else { return };
        connection.open = false;
        for end in [0, 1] {
            let late = if self.below(8) == 0 { self.below(SILENCE_MS) } else { self.below(10) };
            self.at(self.now + late, Item::Told { connection: id, end });
        }
    }

    /// One end closes: what it sent before still arrives.
    pub(super) fn hang_up(&mut self, by: ProcessId, id: ConnectionId) {
        let Some(connection) = self.network.get_mut(id) else { return };
        let Some(end) = connection.end_of(by) else { return };
        let was_open = std::mem::replace(&mut connection.open, false);
        let after = connection.last_arrival[1 - end].max(self.now);
        self.network.tell(id, end);
        if was_open {
            self.at(after, Item::Told { connection: id, end: 1 - end });
        }
    }

    pub(super) fn tell_closed(&mut self, id: ConnectionId, end: usize) -> Result<(), String> {
        let Some(connection) = self.network.get(id).filter(|c| !c.told[end]) else { return Ok(()) };
        let process = connection.ends[end];
        let control = matches!(connection.purpose, Purpose::Control { .. });
        self.network.tell(id, end);
        self.deliver(process, Input::Closed { connection: id, control })
    }

    /// A process is gone. `politely`: what it sent still arrives; otherwise some of it is lost, and now and then nobody
    /// learns of it but by the silence.
    pub(super) fn leave_network(&mut self, id: ProcessId, politely: bool) {
        let of_it = self.network.iter().filter(|(_, c)| c.end_of(id).is_some());
        let connections: Vec<(ConnectionId, usize)> =
            of_it.map(|(connection, c)| (connection, usize::from(c.ends[1] == id))).collect();
        let without_a_word = !politely && self.below(8) == 0;
        for (connection, end) in connections {
            if politely {
                self.hang_up(id, connection);
                continue;
            }
            self.network.tell(connection, end);
            if let Some(c) = self.network.get_mut(connection) {
                c.open = false;
            }
            let after = if without_a_word { SILENCE_MS } else { self.below(10) };
            self.at(self.now + after, Item::Told { connection, end: 1 - end });
        }
    }

    // --- silence ----------------------------------------------------------------------------------------------------

    /// Who stands still for too long is taken for lost by everybody.
    pub(super) fn fall_silent(&mut self, id: ProcessId) {
        if !self.processes.get(&id).is_some_and(|p| p.paused) {
            return;
        }
        let remote = self.network.iter().filter(|(_, c)| c.end_of(id).is_some() && c.ends[0] != c.ends[1] && c.open);
        let connections: Vec<ConnectionId> = remote.map(|(connection, _)| connection).collect();
        if !connections.is_empty() {
            self.coverage.hit("lost by silence");
        }
        for connection in connections {
            self.cut(connection);
        }
    }

    fn between(&self, ends: [ProcessId; 2]) -> Vec<ConnectionId> {
        let of_both = |c: &crate::network::Connection| ends.iter().all(|end| c.end_of(*end).is_some());
        self.network.iter().filter(|(_, c)| c.open && of_both(c)).map(|(id, _)| id).collect()
    }

    /// Who has heard nothing of the other for too long takes it for lost. Where that is one end alone, the other learns of it
    /// by the end of the connection.
    pub(super) fn fall_apart(&mut self, ends: [ProcessId; 2]) -> Result<(), String> {
        for connection in self.between(ends) {
            match [0, 1].map(|end| self.network.is_interrupted(self.now, connection, end)) {
                [true, true] => {
                    self.coverage.hit("lost by a split");
                    self.cut(connection);
                }
                [false, false] => {}
                [first, _] => {
                    self.coverage.hit("given up by the end that hears nothing");
                    self.give_up(connection, usize::from(!first))?;
                }
            }
        }
        Ok(())
    }

    /// One end closes a connection for the silence of the other.
    fn give_up(&mut self, id: ConnectionId, end: usize) -> Result<(), String> {
        let Some(connection) = self.network.get(id) else { return Ok(()) };
        let (process, control) = (connection.ends[end], matches!(connection.purpose, Purpose::Control { .. }));
        self.hang_up(process, id);
        self.deliver(process, Input::Closed { connection: id, control })
    }

    /// What waited for the end of a split arrives.
    pub(super) fn heal(&mut self, ends: [ProcessId; 2]) -> Result<(), String> {
        for id in self.between(ends) {
            let Some(ends) = self.network.get(id).map(|c| c.ends) else { continue };
            for end in [0, 1] {
                if self.network.is_interrupted(self.now, id, end) {
                    continue;
                }
                for message in self.network.take_stalled(id, end) {
                    self.coverage.hit("message late by a split");
                    self.deliver(ends[end], Input::Message { connection: id, message })?;
                }
            }
        }
        Ok(())
    }
}
