//! The thread that reads from one broker: ask, read the answer into a buffer, hand it over, ask again.
//!
//! Owns: its connection. It blocks on the socket, and for a buffer while the slot is busy with two answers. It ends with
//! the consumer, or when nothing was to be read from its broker for a while.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;

use super::answer::{self, Parts};
use super::hub::Hub;
use super::plan::Question;
use crate::error::KafkaError;
use crate::wire::{Connection, Deadline};

/// For a connection to be made, encrypted and authenticated.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Fetcher {
    hub: Arc<Hub>,
    node: i32,
    connection: Option<(String, Connection)>,
    /// In a row.
    failures: u32,
}

impl Fetcher {
    pub(super) fn spawn(hub: Arc<Hub>, node: i32) -> io::Result<()> {
        let fetcher = Self { hub, node, connection: None, failures: 0 };
        std::thread::Builder::new().name("kafka-fetch".to_owned()).spawn(move || fetcher.run()).map(drop)
    }

    fn run(mut self) {
        while let Some(question) = self.hub.question(self.node) {
            self.ask(*question);
        }
    }

    fn ask(&mut self, mut question: Question) {
        match self.exchange(&mut question) {
            Ok(parts) => {
                if self.failures > 0 {
                    tracing::info!(broker = question.address, "the Kafka broker answers again");
                    self.failures = 0;
                }
                self.hub.answered(self.node, &question.asked, parts, question.buffer);
            }
            Err(error) => {
                self.connection = None;
                self.failed(question, error);
            }
        }
    }

    fn exchange(&mut self, question: &mut Question) -> Result<Parts, KafkaError> {
        let Question { address, asked, buffer, response_bytes, wait } = question;
        let options = &self.hub.options;
        let connection = connection(&mut self.connection, &self.hub, self.node, address)?;
        let by_id = asked.iter().all(|one| one.id.is_some());
        let version = connection.version::<FetchRequest>(if by_id { answer::BY_ID } else { answer::BY_NAME })?;
        if version < answer::OLDEST {
            return Err(connection.protocol("it is older than Kafka 2.5".to_owned()));
        }
        let request = answer::request(asked, options, *response_bytes, *wait);
        let (bytes, correlation_id) = connection.call_into(&request, version, options.silence_max, buffer)?;
        answer::parse(&buffer[..bytes], version, correlation_id, asked)
            .map_err(|reason| connection.protocol(format!("the answer to a fetch: {reason}")))
    }

    /// A broker that is away comes back, or another one takes over; what is refused or not understood stays so.
    fn failed(&mut self, question: Question, error: KafkaError) {
        let Question { buffer, address, .. } = question;
        if !matches!(error, KafkaError::Unreachable { .. }) {
            self.hub.failed(error);
            self.hub.lost(self.node, buffer);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = self.hub.options.reconnect_pause.pause(self.failures);
        self.hub.lost(self.node, buffer);
        if self.hub.plan().closed {
            return;
        }
        // A connection that ends once is made again at once, without a word: brokers close idle ones.
        match self.failures {
            1 => tracing::debug!(broker = address, "{error}; trying again"),
            2 => tracing::warn!("{error}; trying again"),
            _ => tracing::debug!("{error}; trying again"),
        }
        self.hub.pause(pause);
    }
}

/// The connection to the broker, made if there is none, or if the broker has moved.
fn connection<'a>(
    current: &'a mut Option<(String, Connection)>,
    hub: &Hub,
    node: i32,
    address: &str,
) -> Result<&'a mut Connection, KafkaError> {
    if current.as_ref().is_none_or(|(known, _)| known != address) {
        let deadline = Deadline::after(CONNECT_TIMEOUT);
        let (tls, socket) = (hub.tls.as_ref(), &hub.options.socket);
        let opened = Connection::open_with(address, &hub.config, tls, socket, deadline)?;
        let gone = |reason: String| KafkaError::Unreachable { brokers: address.to_owned(), reason };
        if !hub.register(node, &opened).map_err(|e| gone(e.to_string()))? {
            return Err(gone("the consumer is closed".to_owned()));
        }
        *current = Some((address.to_owned(), opened));
    }
    Ok(&mut current.as_mut().expect("made above").1)
}
