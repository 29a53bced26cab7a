//! A consumer's settings, by their Java names.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::Isolation;
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::error::KafkaError;
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

/// An answer is at most so late beyond the time that the broker may hold it back.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

impl FetchOptions {
    /// # Errors
    /// A setting that a consumer does not have, or a value that is none.
    pub(super) fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let mut settings = Settings(config.settings.clone());
        let isolation = match settings.take("isolation.level").as_deref() {
            None | Some("read_uncommitted") => Isolation::ReadUncommitted,
            Some("read_committed") => Isolation::ReadCommitted,
            Some(other) => return Err(bad("isolation.level", other, "read_committed or read_uncommitted")),
        };
        // Java's 500 ms would also be how late a partition is asked for that comes to a broker meanwhile.
        let max_wait = settings.duration("fetch.max.wait.ms", 100)?;
        let request_timeout = settings.duration("request.timeout.ms", 30_000)?;
        let response_bytes = match settings.number("fetch.max.bytes", 0, 0)? {
            0 => None,
            bytes => Some(bytes),
        };
        let options = Self {
            min_bytes: settings.number("fetch.min.bytes", 1, 0)?,
            max_wait,
            response_bytes,
            partition_bytes: settings.number("max.partition.fetch.bytes", 1 << 20, 1)?,
            buffered_bytes_max: config.buffered_bytes_max,
            isolation,
            check_checksums: settings.take("check.crcs").as_deref() != Some("false"),
            rack: settings.take("client.rack").unwrap_or_default(),
            silence_max: request_timeout.max(max_wait + ANSWER_MARGIN),
            reconnect_pause: settings.pause("reconnect.backoff.ms", 50, "reconnect.backoff.max.ms", 1000)?,
            retry_pause: settings.pause("retry.backoff.ms", 100, "retry.backoff.max.ms", 1000)?,
            metadata_age_max: settings.duration("metadata.max.age.ms", 300_000)?,
            socket: SocketOptions {
                send_buffer_bytes: settings.buffer("send.buffer.bytes")?,
                receive_buffer_bytes: settings.buffer("receive.buffer.bytes")?,
                connect_timeout: match settings.duration("socket.connection.setup.timeout.ms", 0)? {
                    Duration::ZERO => None,
                    timeout => Some(timeout),
                },
            },
        };
        match settings.0.into_keys().next() {
            None => Ok(options),
            Some(name) => Err(KafkaError::Setting { name, reason: "a consumer has no such setting".to_owned() }),
        }
    }
}

/// What was not used yet.
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn number(&mut self, name: &str, default: i32, least: i32) -> Result<i32, KafkaError> {
        let Some(text) = self.take(name) else { return Ok(default) };
        let number = text.trim().parse().ok().filter(|n| *n >= least);
        number.ok_or_else(|| bad(name, &text, &format!("a whole number from {least} on")))
    }

    fn duration(&mut self, name: &str, default_ms: i32) -> Result<Duration, KafkaError> {
        let millis = self.number(name, default_ms, 0)?;
        Ok(Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
    }

    fn pause(&mut self, first: &str, first_ms: i32, longest: &str, longest_ms: i32) -> Result<Backoff, KafkaError> {
        let first = self.duration(first, first_ms)?;
        Ok(Backoff::new(first, self.duration(longest, longest_ms)?))
    }

    /// A socket buffer; -1, or 0, leaves it to the system.
    fn buffer(&mut self, name: &str) -> Result<Option<usize>, KafkaError> {
        Ok(usize::try_from(self.number(name, -1, -1)?).ok().filter(|bytes| *bytes > 0))
    }
}

fn bad(name: &str, value: &str, expected: &str) -> KafkaError {
    KafkaError::Setting { name: name.to_owned(), reason: format!("'{value}' is not {expected}") }
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
