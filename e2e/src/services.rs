//! The services that `cargo xtask services up` started, or what is missing.

use std::process::Command;

use crate::kafka::Broker;

/// An S3 server with a bucket.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct S3Server {
    pub name: String,
    pub endpoint: String,
    pub bucket: String,
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// The broker, or `None` after saying what is missing. In CI nothing may be missing.
pub fn broker(suite: &str) -> Option<Broker> {
    variable(suite, "MILLSTREAM_TEST_KAFKA").map(|bootstrap| Broker { bootstrap, copies: 1 })
}

/// Three brokers that hold each topic three times, and can be killed.
pub struct Cluster {
    pub broker: Broker,
    control: Vec<String>,
}

impl Cluster {
    pub fn kill(&self, id: i32) {
        self.tell("kill", id);
    }

    /// Returns when all three know each other again.
    pub fn start(&self, id: i32) {
        self.tell("start", id);
    }

    fn tell(&self, action: &str, id: i32) {
        let output = Command::new(&self.control[0]).args(&self.control[1..]).args([action, &id.to_string()]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{action} broker {id}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The three brokers, likewise.
pub fn cluster(suite: &str) -> Option<Cluster> {
    let bootstrap = variable(suite, "MILLSTREAM_TEST_KAFKA3")?;
    let control = variable(suite, "MILLSTREAM_TEST_KAFKA3_CONTROL")?;
    let control = serde_json::from_str(&control).expect("MILLSTREAM_TEST_KAFKA3_CONTROL is a command line as JSON");
    Some(Cluster { broker: Broker { bootstrap, copies: 3 }, control })
}

/// A broker with secured listeners, each as `host:port`.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct SecureBroker {
    pub sasl_ssl: String,
    pub plaintext: String,
    pub ca_file: String,
    pub username: String,
    pub password: String,
}

/// The secured broker, likewise.
pub fn secure_broker(suite: &str) -> Option<SecureBroker> {
    variable(suite, "MILLSTREAM_TEST_KAFKA_SECURE")
        .map(|json| serde_json::from_str(&json).expect("MILLSTREAM_TEST_KAFKA_SECURE is JSON"))
}

/// The S3 servers, likewise.
pub fn s3(suite: &str) -> Option<Vec<S3Server>> {
    variable(suite, "MILLSTREAM_TEST_S3")
        .map(|json| serde_json::from_str(&json).expect("MILLSTREAM_TEST_S3 is a JSON list of servers"))
}

fn variable(suite: &str, name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|v| !v.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{suite}: {name} is not set, and in CI nothing is skipped");
        eprintln!("SKIPPED {suite}: {name} is not set; run `cargo xtask services up`");
    }
    value
}
