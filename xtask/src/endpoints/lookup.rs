//! How a test finds the services it needs, and what it does without them.

use super::{Endpoints, KafkaEndpoint, S3Endpoint, SecureKafkaEndpoint, file};
use serde::de::DeserializeOwned;
use std::io::Write;

pub(super) const KAFKA: &str = "MILLSTREAM_TEST_KAFKA";
pub(super) const KAFKA3: &str = "MILLSTREAM_TEST_KAFKA3";
pub(super) const KAFKA3_CONTROL: &str = "MILLSTREAM_TEST_KAFKA3_CONTROL";
pub(super) const KAFKA_SECURE: &str = "MILLSTREAM_TEST_KAFKA_SECURE";
pub(super) const S3: &str = "MILLSTREAM_TEST_S3";
pub(super) const S3_TLS: &str = "MILLSTREAM_TEST_S3_TLS";

/// The bootstrap servers of one broker; `None` after the line that the test is skipped.
///
/// # Panics
/// In CI when there is no broker: nothing is skipped there. So do the other functions of this module.
pub fn kafka(test: &str) -> Option<String> {
    let bootstrap = |endpoints: Endpoints| endpoints.kafka.map(|kafka: KafkaEndpoint| kafka.bootstrap);
    or_skip(test, "kafka", std::env::var(KAFKA).ok().or_else(|| from_file().and_then(bootstrap)))
}

/// The bootstrap servers of three brokers with replication factor 3.
pub fn kafka3(test: &str) -> Option<String> {
    let bootstrap = |endpoints: Endpoints| endpoints.kafka3.map(|kafka| kafka.bootstrap);
    or_skip(test, "kafka3", std::env::var(KAFKA3).ok().or_else(|| from_file().and_then(bootstrap)))
}

/// The broker with TLS and SASL.
pub fn kafka_secure(test: &str) -> Option<SecureKafkaEndpoint> {
    let found = from_variable(KAFKA_SECURE).or_else(|| from_file().and_then(|endpoints| endpoints.kafka_secure));
    or_skip(test, "kafka-secure", found)
}

/// All S3 servers with plain HTTP that run; never empty.
pub fn s3(test: &str) -> Option<Vec<S3Endpoint>> {
    let found = from_variable(S3).or_else(|| from_file().map(|endpoints| endpoints.s3));
    or_skip(test, "s3", found.filter(|servers: &Vec<S3Endpoint>| !servers.is_empty()))
}

/// The S3 server with HTTPS and a private authority.
pub fn s3_tls(test: &str) -> Option<S3Endpoint> {
    let found = from_variable(S3_TLS).or_else(|| from_file().and_then(|endpoints| endpoints.s3_tls));
    or_skip(test, "s3-strict", found)
}

fn from_variable<T: DeserializeOwned>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} is not what services up prints: {error}")))
}

fn from_file() -> Option<Endpoints> {
    let text = std::fs::read(file(&crate::services::default_run_folder())).ok()?;
    serde_json::from_slice(&text).ok()
}

fn or_skip<T>(test: &str, service: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        let missing = format!("{service} does not run: cargo xtask services up {service}");
        assert!(std::env::var_os("CI").is_none(), "{test}: {missing}");
        // Not eprintln: the test harness would swallow the line of a test that passes.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {missing}");
    }
    found
}
