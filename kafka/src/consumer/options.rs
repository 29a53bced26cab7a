//! A consumer's settings, by their Java names.

use std::time::Duration;

use crate::admin::Isolation;
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::given::{Given, bad};
use crate::wire::SocketOptions;

/// How a consumer fetches. Defaults are the Java client's where nothing else is said.
#[derive(Clone, Debug)]
pub(super) struct FetchOptions {
    pub(super) min_bytes: i32,
    pub(super) max_wait: Duration,
    /// `None`: a share of [`super::plan::BUFFERED_BYTES_MAX`].
    pub(super) response_bytes: Option<i32>,
    pub(super) partition_bytes: i32,
    /// Of all answers together, whatever the user asks for.
    pub(super) buffered_bytes_max: Option<usize>,
    pub(super) isolation: Isolation,
    pub(super) check_checksums: bool,
    /// Where this client runs: brokers may send it to a replica nearby.
    pub(super) rack: String,
    /// A connection without a byte for so long, and longer than an answer may be held back, is given up.
    pub(super) silence_max: Duration,
    pub(super) reconnect_pause: Backoff,
    pub(super) retry_pause: Backoff,
    pub(super) metadata_age_max: Duration,
    pub(super) socket: SocketOptions,
}

/// Java's 500 ms would also be how late a partition is asked for that comes to a broker meanwhile.
const MAX_WAIT_MS: u64 = 100;
/// As the Java client's defaults, these and the sizes.
const REQUEST_TIMEOUT_MS: u64 = 30_000;
const RECONNECT_BACKOFF_MS: u64 = 50;
const RETRY_BACKOFF_MS: u64 = 100;
const BACKOFF_MAX_MS: u64 = 1_000;
const METADATA_AGE_MAX_MS: u64 = 300_000;
/// An answer is at most so late beyond the time that the broker may hold it back.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

impl FetchOptions {
    /// # Errors
    /// A setting that a consumer does not have, or a value that is none.
    pub(super) fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let mut given = Given::new(config);
        let isolation = match given.text("isolation.level").as_deref() {
            None | Some("read_uncommitted") => Isolation::ReadUncommitted,
            Some("read_committed") => Isolation::ReadCommitted,
            Some(other) => return Err(bad("isolation.level", other)),
        };
        let max_wait = given.millis("fetch.max.wait.ms", MAX_WAIT_MS)?;
        let request_timeout = given.millis("request.timeout.ms", REQUEST_TIMEOUT_MS)?;
        let options = Self {
            min_bytes: given.at_least(0, "fetch.min.bytes", 1)?,
            max_wait,
            response_bytes: Some(given.at_least(0, "fetch.max.bytes", 0)?).filter(|bytes| *bytes > 0),
            partition_bytes: given.at_least(1, "max.partition.fetch.bytes", 1 << 20)?,
            buffered_bytes_max: config.buffered_bytes_max,
            isolation,
            check_checksums: given.text("check.crcs").as_deref() != Some("false"),
            rack: given.text("client.rack").unwrap_or_default(),
            silence_max: request_timeout.max(max_wait + ANSWER_MARGIN),
            reconnect_pause: given.backoff("reconnect.backoff", RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS)?,
            retry_pause: given.backoff("retry.backoff", RETRY_BACKOFF_MS, BACKOFF_MAX_MS)?,
            metadata_age_max: given.millis("metadata.max.age.ms", METADATA_AGE_MAX_MS)?,
            socket: SocketOptions {
                send_buffer_bytes: buffer(&mut given, "send.buffer.bytes")?,
                receive_buffer_bytes: buffer(&mut given, "receive.buffer.bytes")?,
                connect_timeout: Some(given.millis("socket.connection.setup.timeout.ms", 0)?).filter(|t| !t.is_zero()),
            },
        };
        given.nothing_left("consumer", &[])?;
        Ok(options)
    }
}

/// A socket buffer; -1, or 0, leaves it to the system.
fn buffer(given: &mut Given, name: &str) -> Result<Option<usize>, KafkaError> {
    Ok(usize::try_from(given.at_least(-1, name, -1)?).ok().filter(|bytes| *bytes > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<FetchOptions, KafkaError> {
        let settings = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        FetchOptions::new(&ClientConfig { settings, ..ClientConfig::default() })
    }

    #[test]
    fn settings_go_by_their_java_names_and_unknown_ones_are_errors() {
        let read = options(&[
            ("fetch.min.bytes", "100"),
            ("fetch.max.bytes", "3000000"),
            ("fetch.max.wait.ms", "60000"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "false"),
            ("receive.buffer.bytes", "-1"),
            ("send.buffer.bytes", "65536"),
        ])
        .expect("valid");
        assert_eq!((read.min_bytes, read.response_bytes, read.check_checksums), (100, Some(3_000_000), false));
        assert_eq!(read.isolation, Isolation::ReadCommitted);
        assert!(read.silence_max > read.max_wait, "an answer that is held back must not count as silence");
        assert_eq!((read.socket.receive_buffer_bytes, read.socket.send_buffer_bytes), (None, Some(65_536)));
        for (name, value) in [("fetch.wait.max.ms", "1"), ("fetch.min.bytes", "x"), ("isolation.level", "none")] {
            let error = options(&[(name, value)]).expect_err("refused").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
