//! A producer's settings, read from the names and values that the caller has translated.
//!
//! Owns: defaults, bounds, which settings exist. Does not own: the Java client's names (the caller's).

use std::time::Duration;

use super::ProducerOptions;
use super::throttle::Throttle;
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::given::{Given, bad};
use crate::record_buffer::BATCH_BYTES_MAX;

/// Memory of one producer, and so the longest flush.
const BUFFER_MEMORY: usize = 16 << 20;
/// As the Java client's default.
const MAX_REQUEST_SIZE: usize = 1 << 20;
const REQUEST_TIMEOUT_MS: u64 = 30_000;
const DELIVERY_TIMEOUT_MS: u64 = 120_000;
const RETRY_BACKOFF_MS: u64 = 100;
const RETRY_BACKOFF_MAX_MS: u64 = 1_000;
const RECONNECT_BACKOFF_MS: u64 = 50;
const RECONNECT_BACKOFF_MAX_MS: u64 = 1_000;
/// One that the broker works on and one that waits in front of it.
const REQUESTS_IN_FLIGHT: usize = 2;
/// A request takes batches of further partitions up to this size, so that a second one is left to send meanwhile.
const REQUEST_BYTES: usize = 512 << 10;

/// Settings that a client may have and that change nothing about what this one writes.
const WITHOUT_EFFECT: &[&str] = &[
    "client.rack",
    "client.dns.lookup",
    "connections.max.idle.ms",
    "isolation.level",
    "socket.connection.setup.timeout.ms",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "topic.metadata.refresh.interval.ms",
];

/// How a producer writes.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) topic: String,
    pub(super) transactional_id: Option<String>,
    pub(super) transaction_timeout: Duration,
    pub(super) acks: i16,
    /// Batches carry sequence numbers, by which the broker drops repetitions.
    pub(super) idempotent: bool,
    pub(super) linger: Duration,
    pub(super) buffer_memory: usize,
    pub(super) max_request_size: usize,
    /// At most `max_request_size`.
    pub(super) request_bytes: usize,
    pub(super) requests_in_flight: usize,
    pub(super) retries: u32,
    pub(super) retry_backoff: Backoff,
    pub(super) reconnect_backoff: Backoff,
    pub(super) request_timeout: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) compression: String,
    pub(super) compression_level: Option<i32>,
    pub(super) client_id: String,
    pub(super) throttle: Throttle,
    pub(super) brokers: String,
}

impl Settings {
    pub(super) fn read(config: &ClientConfig, options: &ProducerOptions) -> Result<Self, KafkaError> {
        let mut given = Given::new(config);
        let transactional = options.transactional_id.is_some();
        let acks = match given.text("acks").as_deref() {
            None | Some("all" | "-1") => -1,
            Some(other) => {
                other.parse::<i16>().ok().filter(|acks| matches!(acks, 0 | 1)).ok_or_else(|| bad("acks", other))?
            }
        };
        let idempotence_asked = given.optional::<bool>("enable.idempotence")?;
        if idempotence_asked == Some(true) && acks != -1 && !transactional {
            return Err(KafkaError::Setting {
                name: "enable.idempotence".to_owned(),
                reason: "it needs 'acks' to be all".to_owned(),
            });
        }
        let max_request_size = given.number("max.request.size", MAX_REQUEST_SIZE)?;
        let delivery_timeout = given.millis("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)?;
        let transaction_timeout = Duration::from_millis(options.transaction_timeout_ms.into());
        given.optional::<usize>("batch.size")?;
        let settings = Self {
            topic: options.topic.clone(),
            transactional_id: options.transactional_id.clone(),
            transaction_timeout,
            acks: if transactional { -1 } else { acks },
            // As in the Java client: on, unless weaker acknowledgements are asked for.
            idempotent: transactional || idempotence_asked.unwrap_or(acks == -1),
            linger: given.millis("linger.ms", 0)?,
            buffer_memory: given.number("buffer.memory", BUFFER_MEMORY)?,
            max_request_size,
            request_bytes: REQUEST_BYTES.min(max_request_size),
            requests_in_flight: given.number("max.in.flight.requests.per.connection", REQUESTS_IN_FLIGHT)?.max(1),
            retries: given.number("retries", u32::MAX)?,
            retry_backoff: given.backoff("retry.backoff", RETRY_BACKOFF_MS, RETRY_BACKOFF_MAX_MS)?,
            reconnect_backoff: given.backoff("reconnect.backoff", RECONNECT_BACKOFF_MS, RECONNECT_BACKOFF_MAX_MS)?,
            request_timeout: given.millis("socket.timeout.ms", REQUEST_TIMEOUT_MS)?,
            delivery_timeout: if transactional { delivery_timeout.min(transaction_timeout) } else { delivery_timeout },
            compression: given.text("compression.type").unwrap_or_else(|| "none".to_owned()),
            compression_level: given.optional("compression.level")?,
            client_id: config.client_id.clone(),
            throttle: options.throttle.clone(),
            brokers: config.bootstrap_servers.clone(),
        };
        given.nothing_left("producer", WITHOUT_EFFECT)?;
        Ok(settings)
    }

    pub(super) fn transactional(&self) -> bool {
        self.transactional_id.is_some()
    }
}

/// How large a batch of a producer with these settings may become.
pub(super) fn batch_bytes_max(config: &ClientConfig) -> Result<usize, KafkaError> {
    let mut given = Given::new(config);
    let request = given.number("max.request.size", MAX_REQUEST_SIZE)?;
    Ok(given.number("batch.size", BATCH_BYTES_MAX)?.min(request))
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use super::*;

    pub(in super::super) fn options(transactional: bool) -> ProducerOptions {
        ProducerOptions {
            topic: "t".to_owned(),
            transactional_id: transactional.then(|| "id".to_owned()),
            transaction_timeout_ms: 60_000,
            throttle: Throttle::default(),
            waker: Arc::new(|| {}),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(transactional: bool, settings: &[(&str, &str)]) -> Result<Settings, KafkaError> {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = testing::options(transactional);
        Settings::read(&ClientConfig { settings, ..ClientConfig::default() }, &options)
    }

    #[test]
    fn idempotence_follows_acks_and_a_transaction_needs_both() {
        let of = |transactional, settings: &[(&str, &str)]| {
            let read = read(transactional, settings).unwrap();
            (read.acks, read.idempotent)
        };
        assert_eq!(of(false, &[]), (-1, true));
        assert_eq!(of(false, &[("acks", "1")]), (1, false));
        assert_eq!(of(false, &[("enable.idempotence", "false")]), (-1, false));
        assert_eq!(of(true, &[("acks", "0"), ("enable.idempotence", "false")]), (-1, true));
        let error = read(false, &[("acks", "1"), ("enable.idempotence", "true")]).unwrap_err();
        assert!(error.to_string().contains("'acks'"), "{error}");
    }

    #[test]
    fn what_no_producer_has_and_what_is_no_value_is_named() {
        for (name, value) in [("ssl.cipher.suites", "x"), ("acks", "2"), ("linger.ms", "soon")] {
            let error = read(false, &[(name, value)]).unwrap_err();
            assert!(matches!(&error, KafkaError::Setting { name: named, .. } if named == name), "{error}");
        }
        assert!(read(false, &[("client.rack", "r1")]).is_ok());
    }

    #[test]
    fn no_time_is_longer_than_the_transactions_and_no_batch_than_a_request() {
        assert_eq!(read(true, &[]).unwrap().delivery_timeout, Duration::from_secs(60));
        let settings = [("max.request.size", "2000")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let config = ClientConfig { settings, ..ClientConfig::default() };
        assert_eq!(batch_bytes_max(&config).unwrap(), 2_000);
        assert_eq!(batch_bytes_max(&ClientConfig::default()).unwrap(), BATCH_BYTES_MAX);
    }
}
