//! Settings as a client was given them: each is read once, by its name; what nobody has read it does not have.
//!
//! Owns: reading values. Does not own: which settings a client has, their defaults (`consumer`, `producer`), nor the Java
//! client's names and bounds (the caller's).

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::error::KafkaError;

/// Settings that were not read yet.
pub(crate) struct Given(BTreeMap<String, String>);

impl Given {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self(config.settings.clone())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(crate) fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, KafkaError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| bad(name, &value))
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, KafkaError> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// Kafka's protocol has signed numbers, of which few mean something below zero.
    pub(crate) fn at_least(&mut self, least: i32, name: &str, default: i32) -> Result<i32, KafkaError> {
        let number = self.number(name, default)?;
        if number < least { Err(bad(name, &number.to_string())) } else { Ok(number) }
    }

    pub(crate) fn millis(&mut self, name: &str, default: u64) -> Result<Duration, KafkaError> {
        Ok(Duration::from_millis(self.number(name, default)?))
    }

    /// `<name>.ms` and `<name>.max.ms`.
    pub(crate) fn backoff(&mut self, name: &str, first: u64, longest: u64) -> Result<Backoff, KafkaError> {
        let first = self.millis(&format!("{name}.ms"), first)?;
        let longest = self.millis(&format!("{name}.max.ms"), longest)?;
        Ok(Backoff::new(first, longest))
    }

    /// `client`: whose settings were read. `without_effect`: those that it need not read.
    pub(crate) fn nothing_left(self, client: &str, without_effect: &[&str]) -> Result<(), KafkaError> {
        match self.0.into_keys().find(|name| !without_effect.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let reason = format!("a {client} does not have it; remove the property");
                Err(KafkaError::Setting { name, reason })
            }
        }
    }
}

pub(crate) fn bad(name: &str, value: &str) -> KafkaError {
    KafkaError::Setting { name: name.to_owned(), reason: format!("'{value}' is no value of it") }
}
