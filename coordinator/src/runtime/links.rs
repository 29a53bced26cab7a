//! The workers as channels: whatever stands behind them, a thread of this process or a connection.
//!
//! Owns: numbers of workers, their commands in order, one stream of what they say. Does not own: how a worker is reached, nor
//! when it counts as lost; whoever made the link says so by ending it.

use std::collections::BTreeMap;
use std::future::pending;

use millstream_api::control::{WorkerCommand, WorkerReport};
use millstream_api::ids::{Generation, WorkerId};
use tokio::sync::{mpsc, watch};

use crate::job::{Event, Millis, WorkerOffer};
use crate::operations::{Board, Readings};

/// Commands that wait for a worker of this process; its own queue holds as many again.
const LOCAL_COMMANDS_MAX: usize = 1_024;
/// Reports of all workers that wait for the event loop; beyond it their senders wait.
const REPORTS_MAX: usize = 4_096;

/// A worker that has registered.
#[derive(Debug)]
pub struct WorkerLink {
    pub offer: WorkerOffer,
    /// A worker that lets it fill up is lost: it takes a few commands per epoch, and none is dropped.
    pub commands: mpsc::Sender<ToLink>,
    /// Its end is the loss of the worker.
    pub reports: mpsc::Receiver<LinkReport>,
    /// What its tasks count, told anew each second.
    pub readings: watch::Receiver<Readings>,
}

impl WorkerLink {
    /// A worker whose threads are this process's own. To be called within the event loop's runtime.
    #[must_use]
    pub fn local(
        slots: u32,
        commands: mpsc::Sender<WorkerCommand>,
        mut reports: mpsc::Receiver<WorkerReport>,
        readings: watch::Receiver<Readings>,
    ) -> Self {
        let (commands_in, mut commanded) = mpsc::channel(LOCAL_COMMANDS_MAX);
        tokio::spawn(async move {
            while let Some(next) = commanded.recv().await {
                // A worker of this process never asks to leave.
                let ToLink::Command(command) = next else { continue };
                if commands.send(command).await.is_err() {
                    return;
                }
            }
        });
        let (reports_in, linked) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                if reports_in.send(LinkReport::Report(report)).await.is_err() {
                    return;
                }
            }
            let reason = "its threads ended (a defect of Millstream)".to_owned();
            // The job is over when nobody takes it.
            let _ = reports_in.send(LinkReport::Lost(reason)).await;
        });
        let offer = WorkerOffer { slots, shuffle_address: None, name: "of this process".to_owned() };
        Self { offer, commands: commands_in, reports: linked, readings }
    }
}

/// What goes to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum ToLink {
    Command(WorkerCommand),
    /// Answer to its announcement that it leaves.
    Released,
}

/// What comes from a worker.
#[derive(Debug)]
pub enum LinkReport {
    Report(WorkerReport),
    /// It was asked to stop, and goes after so long, whatever is still there.
    Leaving {
        deadline_ms: Millis,
    },
    /// The ruling coordinator that it heard last, and how long ago.
    Heard {
        generation: Generation,
        age_ms: Millis,
    },
    /// Why the link ends. Nothing comes after it.
    Lost(String),
}

/// All workers of a job.
#[derive(Debug)]
pub(super) struct Links {
    arriving: Option<mpsc::Receiver<WorkerLink>>,
    commands: BTreeMap<WorkerId, mpsc::Sender<ToLink>>,
    offers: BTreeMap<WorkerId, WorkerOffer>,
    next: WorkerId,
    board: Board,
    reports_in: mpsc::Sender<(WorkerId, LinkReport)>,
    reports: mpsc::Receiver<(WorkerId, LinkReport)>,
    /// Workers that let their commands fill up.
    stuck: Vec<WorkerId>,
}

impl Links {
    pub(super) fn new(arriving: mpsc::Receiver<WorkerLink>, board: Board) -> Self {
        let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
        Self {
            arriving: Some(arriving),
            commands: BTreeMap::new(),
            offers: BTreeMap::new(),
            next: WorkerId(0),
            board,
            reports_in,
            reports,
            stuck: Vec::new(),
        }
    }

    /// Those that are there.
    pub(super) fn offers(&self) -> BTreeMap<WorkerId, WorkerOffer> {
        self.offers.clone()
    }

    /// Queues something for a worker. One that is gone does not hear it.
    pub(super) fn tell(&mut self, worker: WorkerId, what: ToLink) {
        let Some(commands) = self.commands.get(&worker) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = commands.try_send(what) {
            self.stuck.push(worker);
        }
    }

    /// The next event about workers. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some(worker) = self.stuck.pop() {
                if let Some(event) = self.lost(worker, "it takes no commands any more".to_owned()) {
                    return event;
                }
                continue;
            }
            let Self { arriving, reports, .. } = self;
            let arrival = async {
                match arriving {
                    Some(arriving) => arriving.recv().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((worker, report)) = reports.recv() => match report {
                    LinkReport::Report(report) => return Event::Worker { worker, report },
                    LinkReport::Leaving { deadline_ms } => {
                        tracing::info!(%worker, deadline_ms, "a worker was asked to stop, its tasks are to move");
                        return Event::WorkerLeaving { worker };
                    }
                    LinkReport::Heard { generation, age_ms } => {
                        return Event::WorkerHeard { worker, generation, age_ms };
                    }
                    LinkReport::Lost(reason) => if let Some(event) = self.lost(worker, reason) {
                        return event;
                    },
                },
                link = arrival => match link {
                    Some(link) => return self.register(link),
                    None => {
                        self.arriving = None;
                        if self.commands.is_empty() {
                            return Event::NoWorkerLeft { reason: "none came, and none will".to_owned() };
                        }
                    }
                },
            }
        }
    }

    fn register(&mut self, link: WorkerLink) -> Event {
        let worker = self.next;
        self.next = worker.next();
        let WorkerLink { offer, commands, mut reports, readings } = link;
        self.commands.insert(worker, commands);
        self.offers.insert(worker, offer.clone());
        self.board.register(worker, readings);
        let reports_in = self.reports_in.clone();
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                let ends = matches!(report, LinkReport::Lost(_));
                if reports_in.send((worker, report)).await.is_err() || ends {
                    return;
                }
            }
            // The job is over when nobody takes it.
            let _ = reports_in.send((worker, LinkReport::Lost("its connection closed".to_owned()))).await;
        });
        Event::WorkerRegistered { worker, offer }
    }

    /// `None` when that is known already.
    fn lost(&mut self, worker: WorkerId, reason: String) -> Option<Event> {
        self.commands.remove(&worker)?;
        self.offers.remove(&worker);
        self.board.remove(worker);
        if self.arriving.is_none() && self.commands.is_empty() {
            return Some(Event::NoWorkerLeft { reason });
        }
        Some(Event::WorkerLost { worker, reason })
    }
}

#[cfg(test)]
mod tests {
    use millstream_api::control::{Attempt, Command};

    use super::*;

    /// A link, what its worker hears, and where it reports.
    fn link(commands: usize) -> (WorkerLink, mpsc::Receiver<ToLink>, mpsc::Sender<LinkReport>) {
        let (commands_in, heard) = mpsc::channel(commands);
        let (say, reports) = mpsc::channel(1);
        let offer = WorkerOffer { slots: 1, shuffle_address: None, name: "one".to_owned() };
        let (_, readings) = watch::channel(Readings::default());
        (WorkerLink { offer, commands: commands_in, reports, readings }, heard, say)
    }

    #[tokio::test]
    async fn the_last_workers_end_is_told_once_and_another_ones_as_a_loss() {
        let (arrivals, arriving) = mpsc::channel(2);
        let mut links = Links::new(arriving, Board::default());
        let ((first, _heard, say_first), (second, _heard_too, say_second)) = (link(1), link(1));
        arrivals.send(first).await.unwrap();
        assert!(matches!(links.next().await, Event::WorkerRegistered { worker: WorkerId(0), .. }));
        arrivals.send(second).await.unwrap();
        assert!(matches!(links.next().await, Event::WorkerRegistered { worker: WorkerId(1), .. }));
        say_first.send(LinkReport::Lost("silent".to_owned())).await.unwrap();
        let Event::WorkerLost { worker: WorkerId(0), reason } = links.next().await else { panic!("a loss") };
        assert_eq!(reason, "silent");
        drop((arrivals, say_second));
        // Whether it is seen first that none will come or that this one is gone.
        let last = loop {
            match links.next().await {
                Event::WorkerLost { worker: WorkerId(1), .. } => {}
                other => break other,
            }
        };
        assert!(matches!(last, Event::NoWorkerLeft { .. }), "{last:?}");
    }

    #[tokio::test]
    async fn a_worker_that_takes_no_commands_is_lost() {
        let (arrivals, arriving) = mpsc::channel(1);
        let mut links = Links::new(arriving, Board::default());
        let (one, _heard, _say) = link(1);
        arrivals.send(one).await.unwrap();
        links.next().await;
        for _ in 0..2 {
            let command = WorkerCommand { attempt: Attempt::default(), command: Command::Start };
            links.tell(WorkerId(0), ToLink::Command(command));
        }
        let Event::WorkerLost { reason, .. } = links.next().await else { panic!("a loss") };
        assert!(reason.contains("takes no commands"), "{reason}");
    }
}
