//! The thread on which a producer's blocking calls run.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rdkafka_sys as ffi;

use super::ProducerEvent;
use super::aborts::AbortUnderWay;
use super::failure::Shared;
use crate::Waker;
use crate::error::KafkaError;
use crate::native::{self, CallError};
use crate::transactions::{TransactionState, Transactions};
use crate::wire::Deadline;

/// What the producer asks for.
pub(super) enum Command {
    WaitForRoom,
    Flush,
    Commit,
    Begin,
    /// The last one: nothing is answered any more.
    Abort(AbortUnderWay),
}

/// A blocking call looks up at least this often, whether its owner is gone.
const SLICE: Duration = Duration::from_millis(200);
/// For initialising and committing in all: longer than a broker's restart.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// For asking who we are, after a flush that the same broker just acknowledged.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody waits for an abort.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the length of a full queue is looked at: librdkafka has no event for it.
const ROOM_POLL: Duration = Duration::from_millis(1);

pub(super) struct IoThread {
    shared: Arc<Shared>,
    transactions: Option<Transactions>,
    commands: Receiver<Command>,
    events: Sender<Result<ProducerEvent, KafkaError>>,
    waker: Waker,
}

/// The owner is gone; the thread ends.
struct OwnerGone;

impl IoThread {
    pub(super) fn new(
        shared: Arc<Shared>,
        transactions: Option<Transactions>,
        commands: Receiver<Command>,
        events: Sender<Result<ProducerEvent, KafkaError>>,
        waker: Waker,
    ) -> Self {
        Self { shared, transactions, commands, events, waker }
    }

    pub(super) fn spawn(self) -> io::Result<()> {
        std::thread::Builder::new().name("kafka-producer".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        let Err(OwnerGone) = self.obey();
        // What was under way when the owner went could not be told; what the owner asked for last still counts.
        for command in self.commands.try_iter() {
            if let Command::Abort(under_way) = command {
                self.abort(under_way);
            }
        }
    }

    fn obey(&mut self) -> Result<Infallible, OwnerGone> {
        let ready = if self.transactions.is_some() { self.initialise().and_then(|()| self.begin()) } else { Ok(()) };
        self.tell(ready.map(|()| ProducerEvent::Ready))?;
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => command,
                None => self.commands.recv().map_err(|_| OwnerGone)?,
            };
            match command {
                Command::WaitForRoom => next = self.wait_for_room()?,
                Command::Flush => self.flush_and_identify()?,
                Command::Commit => {
                    let committed = self.call("commit", CALL_TIMEOUT, |client, timeout_ms| {
                        // SAFETY: valid client.
                        unsafe { ffi::rd_kafka_commit_transaction(client, timeout_ms) }
                    });
                    self.tell(committed.map(|()| ProducerEvent::Committed))?;
                }
                Command::Begin => {
                    let begun = self.begin();
                    self.tell(begun.map(|()| ProducerEvent::Begun))?;
                }
                Command::Abort(under_way) => {
                    self.abort(under_way);
                    return Err(OwnerGone);
                }
            }
        }
    }

    fn tell(&self, event: Result<ProducerEvent, KafkaError>) -> Result<(), OwnerGone> {
        self.events.send(event).map_err(|_| OwnerGone)?;
        (self.waker)();
        Ok(())
    }

    fn initialise(&self) -> Result<(), KafkaError> {
        self.call("initialise", CALL_TIMEOUT, |client, timeout_ms| {
            // SAFETY: valid client.
            unsafe { ffi::rd_kafka_init_transactions(client, timeout_ms) }
        })
    }

    fn begin(&self) -> Result<(), KafkaError> {
        // SAFETY: valid client. A local change of state, the broker is not asked.
        let result = native::check(unsafe { ffi::rd_kafka_begin_transaction(self.shared.client()) });
        result.map_err(|e| self.shared.call_error(&e, "begin"))
    }

    /// Runs one of librdkafka's resumable calls in slices.
    fn call(
        &self,
        verb: &str,
        timeout: Duration,
        call: impl Fn(*mut ffi::rd_kafka_t, i32) -> *mut ffi::rd_kafka_error_t,
    ) -> Result<(), KafkaError> {
        let deadline = Deadline::after(timeout);
        loop {
            let error = match native::check(call(self.shared.client(), SLICE.as_millis() as i32)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // What was reported about a message or the client says more than the call that failed because of it.
            self.shared.check()?;
            let CallError { retriable, .. } = error;
            if !retriable || deadline.passed() || self.shared.stopping() {
                return Err(self.shared.call_error(&error, verb));
            }
        }
    }

    fn flush_and_identify(&mut self) -> Result<(), OwnerGone> {
        let flushed = self.flush();
        let failed = flushed.is_err();
        self.tell(flushed.map(|()| ProducerEvent::Flushed))?;
        if failed || self.transactions.is_none() {
            return Ok(());
        }
        let identified = self.identify();
        self.tell(identified)
    }

    /// Waits until the brokers have acknowledged everything; ends at the latest when messages time out.
    fn flush(&self) -> Result<(), KafkaError> {
        loop {
            // SAFETY: valid client. While the call lasts librdkafka does not linger.
            unsafe { ffi::rd_kafka_flush(self.shared.client(), SLICE.as_millis() as i32) };
            self.shared.check()?;
            if self.shared.unacknowledged() == 0 {
                return Ok(());
            }
            if self.shared.stopping() {
                return Err(KafkaError::Broker {
                    action: "flush".to_owned(),
                    reason: "the producer was closed".to_owned(),
                    retriable: true,
                });
            }
        }
    }

    /// Asks the broker for the ids of the open transaction: librdkafka does not tell them, and they change with each
    /// abort. It also shows whether the transaction is still open at all.
    fn identify(&mut self) -> Result<ProducerEvent, KafkaError> {
        let transactions = self.transactions.as_mut().expect("asked only of transactional producers");
        let id = self.shared.transactional_id().unwrap_or_default().to_owned();
        let described = transactions.describe(std::slice::from_ref(&id), Deadline::after(IDENTIFY_TIMEOUT))?;
        match described.first() {
            Some(d) if d.state == TransactionState::Ongoing => Ok(ProducerEvent::Identified(d.identity)),
            other => Err(self.shared.fenced(format!(
                "the broker has given up its open transaction (state {:?}); was its time-out too short, or does \
                 another job use the same 'sink.transactional-id-prefix'?",
                other.map(|d| d.state)
            ))),
        }
    }

    /// Waits until half of the queue is free, or for the next command, which it returns.
    fn wait_for_room(&self) -> Result<Option<Command>, OwnerGone> {
        let enough = self.shared.unacknowledged() / 2;
        while self.shared.unacknowledged() > enough {
            match self.commands.recv_timeout(ROOM_POLL) {
                Ok(command) => {
                    // An owner that is gone may have left this as its last command.
                    let _ = self.tell(Ok(ProducerEvent::Room));
                    return Ok(Some(command));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(OwnerGone),
            }
            if let Err(e) = self.shared.check() {
                self.tell(Err(e))?;
                return Ok(None);
            }
        }
        self.tell(Ok(ProducerEvent::Room))?;
        Ok(None)
    }

    /// librdkafka purges what is queued and waits until the reports about that are taken: hence in slices.
    fn abort(&self, _under_way: AbortUnderWay) {
        let deadline = Deadline::after(ABORT_TIMEOUT);
        loop {
            // SAFETY: valid client. The call can be resumed.
            let error = unsafe { ffi::rd_kafka_abort_transaction(self.shared.client(), SLICE.as_millis() as i32) };
            let Err(error) = native::check(error) else { return };
            let _ = self.shared.check();
            if !error.retriable || deadline.passed() {
                tracing::debug!("an unfinished transaction is left to its time-out: {}", error.reason);
                return;
            }
        }
    }
}

impl Drop for IoThread {
    /// What is queued goes with the client; without this its end would wait for the brokers.
    fn drop(&mut self) {
        let flags = ffi::RD_KAFKA_PURGE_F_QUEUE | ffi::RD_KAFKA_PURGE_F_INFLIGHT | ffi::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: valid client.
        unsafe { ffi::rd_kafka_purge(self.shared.client(), flags) };
    }
}
