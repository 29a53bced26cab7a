//! From a table's `properties.*` to the settings of the Kafka client, for sources and sinks alike.
//!
//! Owns: joining the parts: secrets filled in, names translated, security taken apart. Does not own: the table of names
//! (`api::graph::kafka_properties`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use millstream_api::graph::KafkaSource;
use millstream_api::graph::kafka_properties::{KafkaClient, translate};
use millstream_kafka::{ClientCertificate, ClientConfig, Isolation, Pem, Sasl, SaslMechanism, Security, Tls};
use thiserror::Error;

use crate::secrets::{self, SecretError};

/// Flink's default for a table's clients.
const CLIENT_ID: &str = "millstream";

/// What the properties say.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) config: ClientConfig,
    pub(crate) group_id: Option<String>,
    pub(crate) isolation: Isolation,
    /// `auto.offset.reset`: where a group without offsets starts. `None`: that is an error.
    pub(crate) offset_reset: Option<OffsetReset>,
    pub(crate) transaction_timeout_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetReset {
    Earliest,
    Latest,
}

/// Properties that cannot be used: a person must act.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Property(String),
}

impl Connection {
    /// `name`: who connects, for the brokers' logs.
    pub(crate) fn new(
        properties: &BTreeMap<String, String>,
        client: KafkaClient,
        name: &str,
    ) -> Result<Self, ConnectionError> {
        let filled = secrets::resolve(properties)?;
        let mut settings = translate(client, &filled).map_err(|e| ConnectionError::Property(e.to_string()))?;
        let mut take = |name: &str| settings.remove(name);
        let bootstrap_servers = take("bootstrap.servers").unwrap_or_default();
        let client_id = take("client.id").unwrap_or_else(|| CLIENT_ID.to_owned());
        let group_id = take("group.id");
        let offset_reset = match take("auto.offset.reset").as_deref() {
            Some("earliest") => Some(OffsetReset::Earliest),
            Some("latest") => Some(OffsetReset::Latest),
            _ => None,
        };
        let transaction_timeout_ms = take("transaction.timeout.ms").and_then(|t| t.parse().ok());
        // How long Java's `initTransactions` may block: here it blocks nobody.
        take("transaction.init.timeout.ms");
        let security = security(&mut settings)?;
        let isolation = match settings.get("isolation.level").map(String::as_str) {
            Some("read_committed") => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        };
        let client_id = format!("{client_id}-{name}");
        let config = ClientConfig { bootstrap_servers, client_id, security, settings, ..ClientConfig::default() };
        Ok(Self { config, group_id, isolation, offset_reset, transaction_timeout_ms })
    }
}

/// The value of an option other than `properties.*`, placeholders filled in.
pub(crate) fn filled_in(option: &str, value: &str) -> Result<String, ConnectionError> {
    Ok(secrets::resolve_value(option, value)?)
}

/// The table with the placeholders of its topics filled in.
pub(crate) fn with_topics(table: &KafkaSource) -> Result<KafkaSource, ConnectionError> {
    let topics = table.topics.iter().map(|topic| filled_in("topic", topic)).collect::<Result<_, _>>()?;
    Ok(KafkaSource { topics, ..table.clone() })
}

/// Takes everything about security out of the settings.
fn security(settings: &mut BTreeMap<String, String>) -> Result<Security, ConnectionError> {
    let mut take = |name: &str| settings.remove(name);
    let protocol = take("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    let (mechanism, username, password) = (take("sasl.mechanism"), take("sasl.username"), take("sasl.password"));
    let verify_hostname = take("ssl.endpoint.identification.algorithm").as_deref() != Some("none");
    let mut pem = |name: &str| {
        let file = take(&format!("{name}.location")).map(|path| Pem::File(PathBuf::from(path)));
        take(&format!("{name}.pem")).map(Pem::Text).or(file)
    };
    let (authority, chain, key) = (pem("ssl.ca"), pem("ssl.certificate"), pem("ssl.key"));
    let property = |text: &str| Err(ConnectionError::Property(text.to_owned()));
    if take("ssl.key.password").is_some() {
        return property("'properties.ssl.key.password' is not supported: store the client's key unencrypted");
    }
    let tls = match protocol.as_str() {
        "ssl" | "sasl_ssl" => {
            let client = match (chain, key) {
                (Some(chain), Some(key)) => Some(ClientCertificate { chain, key }),
                (None, None) => None,
                _ => {
                    return property(
                        "a client certificate needs 'properties.ssl.keystore.certificate.chain' and '.key'",
                    );
                }
            };
            Some(Tls { authority, client, verify_hostname })
        }
        _ => None,
    };
    let sasl = match protocol.as_str() {
        "sasl_plaintext" | "sasl_ssl" => {
            let mechanism = mechanism.as_deref().and_then(SaslMechanism::from_name);
            let (Some(mechanism), Some(username), Some(password)) = (mechanism, username, password) else {
                return property(
                    "'properties.security.protocol' asks for SASL: set 'properties.sasl.mechanism' (PLAIN, \
                     SCRAM-SHA-256 or SCRAM-SHA-512) and 'properties.sasl.jaas.config'",
                );
            };
            Some(Sasl { mechanism, username, password })
        }
        _ => None,
    };
    Ok(Security { tls, sasl })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn connection(pairs: &[(&str, &str)]) -> Result<Connection, ConnectionError> {
        let properties = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Connection::new(&properties, KafkaClient::Consumer, "job-0")
    }

    #[test]
    fn takes_a_secured_table_apart() {
        let c = connection(&[
            ("bootstrap.servers", "a:1"),
            ("group.id", "g"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            (
                "sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password=\"p\";",
            ),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", "/ca.pem"),
        ])
        .unwrap();
        assert_eq!(c.config.bootstrap_servers, "a:1");
        assert_eq!((c.group_id.as_deref(), c.offset_reset), (Some("g"), Some(OffsetReset::Earliest)));
        assert_eq!(c.isolation, Isolation::ReadCommitted);
        let tls = c.config.security.tls.unwrap();
        assert!(tls.verify_hostname && tls.client.is_none());
        assert_eq!(tls.authority, Some(Pem::File("/ca.pem".into())));
        assert_eq!(c.config.security.sasl.map(|s| s.username).as_deref(), Some("u"));
        assert_eq!(c.config.settings.keys().collect::<Vec<_>>(), ["isolation.level"]);
    }

    #[test]
    fn sasl_without_a_login_is_an_error_that_says_what_to_set() {
        let error = connection(&[("security.protocol", "SASL_PLAINTEXT")]).unwrap_err().to_string();
        assert!(error.contains("sasl.jaas.config"), "{error}");
    }
}
