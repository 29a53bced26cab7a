//! One worker, from its registration to its loss.
//!
//! Nothing here waits for one thing only: a worker that takes nothing any more is still seen to be silent.

use std::sync::Arc;

use millstream_api::control::{Attempt, WorkerCommand, WorkerReport};
use millstream_api::ids::Generation;
use millstream_api::proto::control::v1 as proto;
use proto::from_worker::Message as FromWorker;
use proto::to_worker::Message as ToWorker;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tonic::{Status, Streaming};

use super::{Ending, FAREWELL_MAX, Pace, Refusals};
use crate::operations::Readings;
use crate::runtime::{LinkReport, ToLink};

/// Commands to a worker that wait for its connection. A few per task and epoch are under way at most; with more the worker
/// is lost.
pub(super) const COMMANDS_MAX: usize = 1_024;
/// Messages between the conversation and the connection, and reports that wait for the job's event loop.
pub(super) const MESSAGES_MAX: usize = 64;

/// The two ends of a worker's call, and of its link.
pub(super) struct Conversation {
    pub(super) said: Streaming<proto::FromWorker>,
    pub(super) say: mpsc::Sender<Result<proto::ToWorker, Status>>,
    pub(super) commands: mpsc::Receiver<ToLink>,
    pub(super) reports: mpsc::Sender<LinkReport>,
    pub(super) readings: watch::Sender<Readings>,
    pub(super) pace: Pace,
    pub(super) rules: watch::Receiver<Option<Generation>>,
    pub(super) endings: watch::Receiver<Option<Ending>>,
    pub(super) refusals: Arc<Refusals>,
}

impl Conversation {
    /// Carries commands and reports until either side ends.
    pub(super) async fn run(mut self) {
        let reason = self.converse().await;
        // Nobody listens any more when the job is over.
        let _ = self.reports.send(LinkReport::Lost(reason)).await;
    }

    /// Returns why it ended.
    async fn converse(&mut self) -> String {
        let mut beat = interval(self.pace.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = Instant::now() + self.pace.silence_max;
        let mut next: Option<proto::ToWorker> = None;
        let say = self.say.clone();
        loop {
            tokio::select! {
                message = timeout_at(silent_at, self.said.message()) => {
                    let message = match message {
                        Err(_) => return format!("it said nothing for {:?}", self.pace.silence_max),
                        Ok(Err(status)) => return self.broken(&status),
                        Ok(Ok(None)) => return "its connection closed".to_owned(),
                        Ok(Ok(Some(message))) => message.message,
                    };
                    if let Err(reason) = self.hear(message).await {
                        self.refusals.count_message();
                        tracing::warn!("closed a worker's connection: {reason}");
                        return reason;
                    }
                    silent_at = Instant::now() + self.pace.silence_max;
                }
                command = self.commands.recv(), if next.is_none() => match command {
                    Some(ToLink::Command(command)) => next = Some(message(ToWorker::Command(encode(&command)))),
                    Some(ToLink::Released) => next = Some(message(ToWorker::Released(proto::Released {}))),
                    // The job has ended here, and everything that was queued is on its way.
                    None => return self.part().await,
                },
                room = say.reserve(), if next.is_some() => match (room, next.take()) {
                    (Ok(room), Some(message)) => room.send(Ok(message)),
                    _ => return "its connection closed".to_owned(),
                },
                _ = beat.tick() => {
                    // Where there is no room, something else is about to be heard.
                    let _ = self.say.try_send(Ok(message(ToWorker::Heartbeat(self.heartbeat()))));
                }
            }
        }
    }

    async fn hear(&mut self, message: Option<FromWorker>) -> Result<(), String> {
        let report = match message {
            Some(FromWorker::Report(report)) => LinkReport::Report(decode(&report)?),
            Some(FromWorker::Leave(leave)) => LinkReport::Leaving { deadline_ms: leave.deadline_ms },
            Some(FromWorker::Heartbeat(proto::Heartbeat { heard: None })) => return Ok(()),
            Some(FromWorker::Heartbeat(proto::Heartbeat { heard: Some(heard) })) => {
                LinkReport::Heard { generation: Generation(heard.generation), age_ms: heard.age_ms }
            }
            Some(FromWorker::Readings(readings)) => {
                let readings = serde_json::from_slice(&readings.body);
                let readings = readings.map_err(|e| format!("it sent readings that cannot be read: {e}"))?;
                self.readings.send_replace(Arc::new(readings));
                return Ok(());
            }
            Some(FromWorker::Register(_)) => return Err("it registered a second time".to_owned()),
            None => return Err("it sent a message of a kind that is not known".to_owned()),
        };
        // The job may be over and nobody listen any more: what is queued for the worker is still to reach it.
        let _ = self.reports.send(report).await;
        Ok(())
    }

    fn heartbeat(&self) -> proto::Heartbeat {
        let rules = *self.rules.borrow();
        proto::Heartbeat { heard: rules.map(|generation| proto::Heard { generation: generation.0, age_ms: 0 }) }
    }

    /// The last word, once it is known whether there is one. There is none for a worker that only its own link has left.
    async fn part(&mut self) -> String {
        let ending = timeout(FAREWELL_MAX, self.endings.wait_for(Option::is_some)).await;
        let ending = ending.map(|ending| ending.map(|ending| *ending));
        if let Ok(Ok(Some(Ending::Farewell))) = ending {
            // The server's end bounds the wait for room.
            let _ = self.say.send(Ok(message(ToWorker::Farewell(proto::Farewell {})))).await;
        }
        "the job has ended here".to_owned()
    }

    fn broken(&self, status: &Status) -> String {
        self.refusals.count_unreadable(status);
        format!("its connection broke: {}", status.message())
    }
}

pub(super) fn message(message: ToWorker) -> proto::ToWorker {
    proto::ToWorker { message: Some(message) }
}

fn encode(command: &WorkerCommand) -> proto::Command {
    let attempt = proto::Attempt { generation: command.attempt.generation.0, number: command.attempt.number };
    let body = serde_json::to_vec(&command.command).expect("commands are plain data").into();
    proto::Command { attempt: Some(attempt), body }
}

fn decode(report: &proto::Report) -> Result<WorkerReport, String> {
    let attempt = report.attempt.ok_or("it sent a report without an attempt")?;
    let attempt = Attempt { generation: Generation(attempt.generation), number: attempt.number };
    let report =
        serde_json::from_slice(&report.body).map_err(|e| format!("it sent a report that cannot be read: {e}"))?;
    Ok(WorkerReport { attempt, report })
}
