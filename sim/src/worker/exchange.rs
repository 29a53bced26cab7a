//! Rows between the tasks, on this worker and to others: one connection per pair of workers, credit per channel.

use std::collections::{BTreeMap, BTreeSet};

use millstream_api::control::{Attempt, Report};
use millstream_api::ids::TaskId;

use crate::calls::ProcessId;
use crate::coordinator::process_at;
use crate::job::{COUNT, SOURCE};
use crate::network::{ConnectionId, Content, Frame};
use crate::task::Element;

use super::{Job, Worker, transient};

/// Elements on their way or queued for a count task, over all of its channels, before its sources wait. As credit by drain
/// time would have it: the sink takes up to 25 ms for one, so a barrier behind all of them is in time for its checkpoint.
const QUEUED_MAX: usize = 12;
/// Of one channel, however many there are.
const CHANNEL_MIN: usize = 2;

/// The connections of what is deployed.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Workers that are not connected yet: nothing is deployed before.
    awaited: BTreeSet<ProcessId>,
    links: BTreeMap<ProcessId, ConnectionId>,
    /// Elements that no credit came back for, by source and count task.
    on_the_way: BTreeMap<(u32, u32), usize>,
}

impl Exchange {
    pub(super) fn connections(self) -> impl Iterator<Item = ConnectionId> {
        self.links.into_values()
    }
}

impl Worker {
    /// Connects to every other worker of the deployment. True when there is none.
    pub(super) fn connect(&mut self) -> bool {
        let Some(deployment) = &self.deployment else { return true };
        let placement = &deployment.placement;
        let others = placement.workers().into_iter().filter(|worker| *worker != deployment.worker);
        let peers = others.filter_map(|worker| process_at(placement.addresses.get(&worker)?));
        self.exchange.awaited = peers.collect();
        self.out.wanted.extend(self.exchange.awaited.iter().map(|peer| (*peer, self.deployed_in)));
        self.exchange.awaited.is_empty()
    }

    /// A worker is connected. Of an earlier deployment it is of no use.
    pub(super) fn linked(&mut self, connection: ConnectionId, of: Attempt, peer: ProcessId) {
        if self.deployed_in() != Some(of) || !self.exchange.awaited.remove(&peer) {
            self.out.closed.push(connection);
            return;
        }
        self.exchange.links.insert(peer, connection);
        if self.exchange.awaited.is_empty() {
            self.is_deployed();
        }
    }

    pub(super) fn unlinked(&mut self, connection: ConnectionId) {
        let peer = self.exchange.links.iter().find(|(_, link)| **link == connection).map(|(peer, _)| *peer);
        let Some(peer) = peer else { return };
        self.exchange.links.remove(&peer);
        self.hits.push("connection between workers lost");
        let failure = transient(&format!("lost the connection to process {}", peer.0));
        self.record.disconnected = true;
        self.report_deployed(Report::CommandFailed { failure });
    }

    /// The connection to the worker of a count task; `None`: the task is here, or does not run.
    fn link_to(&self, index: u32) -> Option<ConnectionId> {
        let deployment = self.deployment.as_ref()?;
        let task = TaskId { vertex: COUNT, index };
        if !deployment.tasks.contains(&task) {
            return None;
        }
        let worker = deployment.placement.worker_of(task);
        let peer = process_at(deployment.placement.addresses.get(&worker)?)?;
        self.exchange.links.get(&peer).copied()
    }

    /// Sends an element to a count task, wherever it runs.
    pub(super) fn route(&mut self, from: u32, to: u32, element: Element) {
        if let Some(count) = self.counts.get_mut(&to) {
            count.channels[from as usize].queue.push_back(element);
        } else if let Some(link) = self.link_to(to) {
            if !matches!(element, Element::Barrier(_)) {
                *self.exchange.on_the_way.entry((from, to)).or_default() += 1;
            }
            self.out.frames.push((link, Frame { from, to, content: Content::Element(element) }));
        }
    }

    /// Whether every channel of a source task takes an element. Barriers need no credit.
    pub(super) fn has_room(&self, from: u32) -> bool {
        let queued = self.counts.values().map(|count| count.channels[from as usize].queue.len());
        let sent = self.exchange.on_the_way.iter().filter(|((source, _), _)| *source == from).map(|(_, n)| *n);
        let sources = self.deployment.as_ref().map_or(1, |deployment| deployment.parallelism as usize);
        let most = (QUEUED_MAX / sources).max(CHANNEL_MIN);
        queued.chain(sent).all(|n| n < most)
    }

    /// A count task took an element that its channel had credit for.
    pub(super) fn give_credit(&mut self, from: u32, to: u32) {
        let Some(deployment) = &self.deployment else { return };
        let worker = deployment.placement.worker_of(TaskId { vertex: SOURCE, index: from });
        let peer = deployment.placement.addresses.get(&worker).and_then(|address| process_at(address));
        if let Some(link) = peer.and_then(|peer| self.exchange.links.get(&peer)) {
            self.out.frames.push((*link, Frame { from, to, content: Content::Credit }));
        }
    }

    /// Takes what another worker sent.
    pub fn frame(&mut self, link: ConnectionId, frame: Frame) -> Vec<Job> {
        if !self.exchange.links.values().any(|known| *known == link) {
            return Vec::new();
        }
        match frame.content {
            Content::Element(element) => {
                if let Some(count) = self.counts.get_mut(&frame.to) {
                    count.channels[frame.from as usize].queue.push_back(element);
                }
            }
            Content::Credit => {
                if let Some(n) = self.exchange.on_the_way.get_mut(&(frame.from, frame.to)) {
                    *n = n.saturating_sub(1);
                }
            }
        }
        self.pump()
    }
}
