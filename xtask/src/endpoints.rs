//! Where the services listen: what `cargo xtask services up` writes and what tests read.
//!
//! Owns: the JSON shape, the environment variables, the one line that a skipped suite prints. Does not own: starting.

mod lookup;

pub use lookup::{kafka, kafka_secure, kafka3, s3, s3_tls};

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// All services that run. What is `None` or empty does not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// One broker, no security. `MILLSTREAM_TEST_KAFKA` is its `bootstrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaEndpoint>,
    /// Three brokers, replication factor 3. `MILLSTREAM_TEST_KAFKA3` is their `bootstrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka3: Option<KafkaEndpoint>,
    /// Command line of what kills and starts one of the three brokers, to which `kill` or `start` and its number are
    /// added. `MILLSTREAM_TEST_KAFKA3_CONTROL` is this list as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka3_control: Option<Vec<String>>,
    /// One broker with secured listeners. `MILLSTREAM_TEST_KAFKA_SECURE` is this value as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_secure: Option<SecureKafkaEndpoint>,
    /// S3 servers by plain HTTP. `MILLSTREAM_TEST_S3` is this list as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub s3: Vec<S3Endpoint>,
    /// S3 server by HTTPS with a private authority. `MILLSTREAM_TEST_S3_TLS` is this value as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_tls: Option<S3Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KafkaEndpoint {
    /// `host:port`, comma-separated.
    pub bootstrap: String,
}

/// A broker that has each kind of listener, each as `host:port`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecureKafkaEndpoint {
    pub plaintext: String,
    pub ssl: String,
    /// Mechanisms PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.
    pub sasl_plaintext: String,
    /// Mechanisms PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.
    pub sasl_ssl: String,
    /// PEM of the private authority that signed the broker's certificate (for 127.0.0.1 and localhost).
    pub ca_file: PathBuf,
    /// Known to all three mechanisms.
    pub username: String,
    pub password: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct S3Endpoint {
    /// `moto`, `versitygw`, `versitygw-tls`.
    pub name: String,
    pub endpoint: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Exists.
    pub bucket: String,
    /// PEM of the private authority where the endpoint is https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether it refuses wrong credentials (moto takes any).
    pub checks_credentials: bool,
}

impl Endpoints {
    /// Adds what `other` has.
    pub fn merge(&mut self, other: Endpoints) {
        self.kafka = other.kafka.or(self.kafka.take());
        self.kafka3 = other.kafka3.or(self.kafka3.take());
        self.kafka3_control = other.kafka3_control.or(self.kafka3_control.take());
        self.kafka_secure = other.kafka_secure.or(self.kafka_secure.take());
        self.s3.extend(other.s3);
        self.s3_tls = other.s3_tls.or(self.s3_tls.take());
    }

    /// The environment variables of the services that run.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(kafka) = &self.kafka {
            variables.push((lookup::KAFKA, kafka.bootstrap.clone()));
        }
        if let Some(kafka) = &self.kafka3 {
            variables.push((lookup::KAFKA3, kafka.bootstrap.clone()));
        }
        if let Some(command) = &self.kafka3_control {
            variables.push((lookup::KAFKA3_CONTROL, json_line(command)));
        }
        if let Some(kafka) = &self.kafka_secure {
            variables.push((lookup::KAFKA_SECURE, json_line(kafka)));
        }
        if !self.s3.is_empty() {
            variables.push((lookup::S3, json_line(&self.s3)));
        }
        if let Some(server) = &self.s3_tls {
            variables.push((lookup::S3_TLS, json_line(server)));
        }
        variables
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and lists always serialise")
    }
}

/// The file that `services up` writes: read by tests where the variables are not set.
pub fn file(run_folder: &Path) -> PathBuf {
    run_folder.join("endpoints.json")
}

fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and lists always serialise")
}
