//! The I/O side of one producer: a task that sleeps until there is something to do.
//!
//! Owns: the order of everything: identity before batches, partitions in the transaction before their batches, the
//! flush before the commit. Does not own: batches on their way (`dispatch`), connections (`links`), questions to the
//! cluster (`questions`). It waits for inputs only; whatever may block runs elsewhere and comes back as an input.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::ProducerEvent;
use super::aborts::AbortUnderWay;
use super::dispatch::Partition;
use super::failure::one_brokers_word;
use super::handover::{Command, Handover};
use super::link::{FromLink, Said};
use super::links::Links;
use super::questions::{ClusterAnswer, ClusterQuestion, CoordinatorAnswer, CoordinatorQuestion, LeaderTable};
use super::runtime::blocking;
use super::settings::Settings;
use crate::error::{ErrorKind, KafkaError};
use crate::transactions::{ProducerIdentity, Transactions};
use crate::wire::{Cluster, Opened};

/// How often time-outs are looked at while something is under way.
const TIMEOUT_TICK: Duration = Duration::from_secs(1);
const TROUBLE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// A broker that just started knows no topic, and one that lags behind not what was just added; all of them for so long do
/// not forget one.
pub(super) const UNKNOWN_PATIENCE: Duration = Duration::from_secs(10);

/// What wakes an engine. There are as many of them at most as there are questions and requests under way.
pub(super) enum Input {
    Link(FromLink),
    Opened {
        node: i32,
        connection: u64,
        result: Result<Box<Opened>, KafkaError>,
    },
    Cluster {
        cluster: Box<Cluster>,
        question: ClusterQuestion,
        result: Result<ClusterAnswer, KafkaError>,
    },
    Coordinator {
        coordinator: Box<Transactions>,
        result: Result<CoordinatorAnswer, KafkaError>,
    },
    /// A question will never be answered.
    Panicked,
}

impl From<FromLink> for Input {
    fn from(from: FromLink) -> Self {
        Self::Link(from)
    }
}

/// A defect; the job starts anew.
pub(super) fn panicked() -> KafkaError {
    KafkaError::Broker {
        action: "use a producer".to_owned(),
        reason: "its I/O task has ended".to_owned(),
        retriable: true,
    }
}

pub(super) struct Engine {
    pub(super) shared: Arc<Handover>,
    pub(super) settings: Arc<Settings>,
    pub(super) inputs: UnboundedReceiver<Input>,
    pub(super) tell: UnboundedSender<Input>,
    pub(super) partitions: Vec<Partition>,
    pub(super) links: Links,
    pub(super) table: LeaderTable,
    /// Where the next request begins to look for batches.
    pub(super) first_partition: usize,
    /// `None` while a question is under way.
    cluster: Option<Box<Cluster>>,
    pub(super) leaders_wanted: bool,
    leaders_not_before: Option<Instant>,
    identity_not_before: Option<Instant>,
    topic_unknown_since: Option<Instant>,
    failed_questions: u32,
    /// `None` while a question is under way, and for producers without transactions.
    pub(super) coordinator: Option<Box<Transactions>>,
    /// Partitions with batches that the open transaction does not hold yet.
    pub(super) partitions_to_add: Vec<i32>,
    pub(super) identity: Option<ProducerIdentity>,
    pub(super) identity_wanted: bool,
    command: Option<Command>,
    trouble_told: Option<Instant>,
    pub(super) last_reason: Option<String>,
    failed: bool,
    wake_at: Option<Instant>,
}

impl Engine {
    pub(super) fn new(
        shared: Arc<Handover>,
        settings: Arc<Settings>,
        cluster: Cluster,
        coordinator: Option<Transactions>,
    ) -> Self {
        let (tell, inputs) = mpsc::unbounded_channel();
        let links = Links::new(settings.clone(), cluster.opener(), tell.clone());
        Self {
            identity_wanted: settings.idempotent && coordinator.is_none(),
            shared,
            settings,
            inputs,
            tell,
            partitions: Vec::new(),
            links,
            table: LeaderTable::default(),
            first_partition: 0,
            cluster: Some(Box::new(cluster)),
            leaders_wanted: true,
            leaders_not_before: None,
            identity_not_before: None,
            topic_unknown_since: None,
            failed_questions: 0,
            coordinator: coordinator.map(Box::new),
            partitions_to_add: Vec::new(),
            identity: None,
            command: None,
            trouble_told: None,
            last_reason: None,
            failed: false,
            wake_at: None,
        }
    }

    /// Runs until the owner is gone.
    pub(super) async fn run(mut self) {
        if self.settings.transactional() {
            self.ask_coordinator(CoordinatorQuestion::Initialise);
        } else {
            self.shared.tell(ProducerEvent::Ready);
        }
        let shared = self.shared.clone();
        loop {
            // In this order: the owner asks for the abort and goes.
            let closed = shared.is_closed();
            if let Some(under_way) = self.abort_asked() {
                return self.abort(under_way).await;
            }
            if closed {
                return;
            }
            if !self.failed
                && let Err(error) = self.step(Instant::now())
            {
                self.fail(error);
            }
            let wake_at = self.wake_at;
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.work.notified() => {}
                Some(input) = self.inputs.recv() => self.take_inputs(input),
                () = sleep => {}
            }
        }
    }

    /// One look at everything that may have become possible.
    fn step(&mut self, now: Instant) -> Result<(), KafkaError> {
        self.wake_at = None;
        self.expire(now)?;
        self.dispatch(now)?;
        if !self.partitions_to_add.is_empty() && self.coordinator.is_some() {
            let partitions = std::mem::take(&mut self.partitions_to_add);
            self.ask_coordinator(CoordinatorQuestion::Add { partitions });
        }
        self.ask_cluster(now);
        self.obey();
        let (busy, lingering_until) = {
            let state = self.shared.lock();
            (state.records > 0, state.lingering_until)
        };
        if busy {
            self.wake(now + TIMEOUT_TICK);
        }
        match lingering_until {
            Some(at) if at <= now => {
                self.shared.lock().lingering_until = None;
                self.shared.room();
            }
            Some(at) => self.wake(at),
            None => {}
        }
        Ok(())
    }

    /// Looks again at this time, or earlier.
    pub(super) fn wake(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn fail(&mut self, error: KafkaError) {
        self.failed = true;
        self.wake_at = None;
        if !self.shared.is_closed() {
            self.shared.fail(one_brokers_word(&self.settings, error));
        }
    }

    fn take_inputs(&mut self, first: Input) {
        let mut next = Some(first);
        while let Some(input) = next {
            if let Err(error) = self.take_input(input, Instant::now()) {
                self.fail(error);
            }
            next = self.inputs.try_recv().ok();
        }
    }

    pub(super) fn take_input(&mut self, input: Input, now: Instant) -> Result<(), KafkaError> {
        match input {
            Input::Link(FromLink { node, connection, said }) => match said {
                Said::Answer(answer) => match self.links.answered(node, connection, answer, now) {
                    Ok(None) => Ok(()),
                    Ok(Some(answered)) => self.settle(answered, now),
                    Err(reason) => self.lose(node, connection, &reason, now),
                },
                Said::Lost(reason) => self.lose(node, connection, &reason, now),
            },
            Input::Opened { node, connection, result } => match self.links.opened(node, connection, result, now) {
                Err(error) if error.kind() == ErrorKind::Retry && !matches!(error, KafkaError::Protocol { .. }) => {
                    self.trouble(&error.to_string());
                    self.leaders_wanted = true;
                    Ok(())
                }
                other => other,
            },
            Input::Cluster { cluster, question, result } => {
                self.cluster = Some(cluster);
                self.cluster_answered(question, result, now)
            }
            Input::Coordinator { coordinator, result } => {
                self.coordinator = Some(coordinator);
                self.coordinator_answered(result?)
            }
            Input::Panicked => Err(panicked()),
        }
    }

    /// Told once a minute at most: while one broker is away, others go on answering.
    pub(super) fn trouble(&mut self, reason: &str) {
        self.last_reason = Some(reason.to_owned());
        if self.trouble_told.is_none_or(|at| at.elapsed() > TROUBLE_TOLD_EVERY) {
            self.trouble_told = Some(Instant::now());
            tracing::warn!(topic = %self.settings.topic, "failed to write: {reason}; trying again");
        }
    }

    pub(super) fn trouble_is_over(&mut self) {
        self.last_reason = None;
    }

    fn ask_cluster(&mut self, now: Instant) {
        let Some(question) = self.next_question(now) else { return };
        let Some(mut cluster) = self.cluster.take() else { return };
        match question {
            ClusterQuestion::Leaders => self.leaders_wanted = false,
            ClusterQuestion::Identity => self.identity_wanted = false,
        }
        let (settings, tell) = (self.settings.clone(), self.tell.clone());
        let asking = blocking(move || {
            let result = question.ask(&mut cluster, &settings);
            Input::Cluster { cluster, question, result }
        });
        tokio::spawn(async move { tell.send(asking.await.unwrap_or(Input::Panicked)) });
    }

    fn next_question(&mut self, now: Instant) -> Option<ClusterQuestion> {
        if self.identity_wanted && self.links.nothing_under_way() {
            match self.identity_not_before {
                Some(at) if at > now => self.wake(at),
                _ => return Some(ClusterQuestion::Identity),
            }
        }
        if self.leaders_wanted {
            match self.leaders_not_before {
                Some(at) if at > now => self.wake(at),
                _ => return Some(ClusterQuestion::Leaders),
            }
        }
        None
    }

    fn cluster_answered(
        &mut self,
        question: ClusterQuestion,
        result: Result<ClusterAnswer, KafkaError>,
        now: Instant,
    ) -> Result<(), KafkaError> {
        let error = match result {
            Ok(ClusterAnswer::Leaders(table)) => {
                self.failed_questions = 0;
                self.topic_unknown_since = None;
                // A table that is wrong is asked for again soon, but not at once.
                self.leaders_not_before = Some(now + self.settings.retry_backoff.pause(1));
                return self.lead(table, now);
            }
            Ok(ClusterAnswer::Identity(identity)) => {
                self.identified(identity);
                return Ok(());
            }
            Err(error) => error,
        };
        self.failed_questions += 1;
        let not_before = Some(now + self.settings.retry_backoff.pause(self.failed_questions));
        match question {
            ClusterQuestion::Leaders => (self.leaders_wanted, self.leaders_not_before) = (true, not_before),
            ClusterQuestion::Identity => (self.identity_wanted, self.identity_not_before) = (true, not_before),
        }
        if let KafkaError::UnknownTopic { .. } = error {
            let since = *self.topic_unknown_since.get_or_insert(now);
            if now.saturating_duration_since(since) > UNKNOWN_PATIENCE {
                return Err(error);
            }
        } else if error.kind() != ErrorKind::Retry {
            return Err(error);
        }
        self.trouble(&error.to_string());
        Ok(())
    }

    /// Does what the owner asked for, as far as it can be done now.
    fn obey(&mut self) {
        loop {
            if self.command.is_none() {
                self.command = self.shared.lock().commands.pop_front();
            }
            let in_transaction = self.partitions.iter().any(|p| p.in_transaction);
            let free = self.coordinator.is_some() || !self.settings.transactional();
            match &self.command {
                Some(Command::Flush) if free && self.shared.lock().records == 0 => {
                    self.shared.tell(ProducerEvent::Flushed);
                    if !self.settings.transactional() {
                        self.shared.lock().drop_spares();
                    }
                    if in_transaction {
                        self.ask_coordinator(CoordinatorQuestion::Describe);
                    }
                }
                Some(Command::Commit) if free && in_transaction => self.ask_coordinator(CoordinatorQuestion::Commit),
                // The broker never heard of it.
                Some(Command::Commit) if free => self.committed(),
                Some(Command::Begin) => {
                    self.partitions.iter_mut().for_each(|p| p.in_transaction = false);
                    self.shared.tell(ProducerEvent::Begun);
                }
                _ => return,
            }
            tracing::trace!("obeyed {:?}", self.command);
            self.command = None;
        }
    }

    fn abort_asked(&mut self) -> Option<AbortUnderWay> {
        let mut state = self.shared.lock();
        let at = state.commands.iter().position(|command| matches!(command, Command::Abort(_)))?;
        match state.commands.remove(at) {
            Some(Command::Abort(under_way)) => Some(under_way),
            _ => None,
        }
    }
}
