//! How to reach a cluster and how to prove oneself to it, for producers (librdkafka) and for the wire layer alike.
//!
//! Owns: the one description of security that both layers are set up from. Does not own: the Java client's names for
//! these things; the caller translates.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::KafkaError;

/// Everything that a client of a cluster needs to know.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// Name under which the brokers log this client.
    pub client_id: String,
    pub security: Security,
    /// They win over this crate's defaults. Of a consumer: the Java client's names and values; of a producer:
    /// librdkafka's.
    pub settings: BTreeMap<String, String>,
    /// Of a consumer: answers that it holds may have so many bytes together, whatever its settings say. `None`: no other bound
    /// than theirs.
    pub buffered_bytes_max: Option<usize>,
}

/// Encryption and authentication.
#[derive(Clone, Debug, Default)]
pub struct Security {
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

/// TLS to the brokers.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificates that are trusted; `None`: those of the system.
    pub authority: Option<Pem>,
    pub client: Option<ClientCertificate>,
    /// Whether the broker's certificate must name the host that was connected to.
    pub verify_hostname: bool,
}

/// What this client proves itself with (mutual TLS).
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub chain: Pem,
    /// Unencrypted.
    pub key: Pem,
}

/// PEM text, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    Text(String),
}

/// A private key may stand in the text.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => write!(f, "Pem::File({})", path.display()),
            Pem::Text(_) => f.write_str("Pem::Text(..)"),
        }
    }
}

impl Pem {
    /// The text, read from its file where it is one.
    pub(crate) fn read(&self, setting: &str) -> Result<Vec<u8>, KafkaError> {
        match self {
            Pem::Text(text) => Ok(text.as_bytes().to_vec()),
            Pem::File(path) => std::fs::read(path).map_err(|e| KafkaError::Setting {
                name: setting.to_owned(),
                reason: format!("failed to read {}: {e}", path.display()),
            }),
        }
    }
}

/// Name and password.
#[derive(Clone)]
pub struct Sasl {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: String,
}

/// Never shows the password.
impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sasl {{ {}, {:?}, .. }}", self.mechanism.name(), self.username)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl SaslMechanism {
    /// As registered with IANA and as Kafka calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism that is called so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512].into_iter().find(|m| m.name() == name)
    }
}

impl Security {
    /// The same in librdkafka's words.
    pub(crate) fn librdkafka(&self) -> Vec<(String, String)> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let mut pairs = vec![("security.protocol".to_owned(), protocol.to_owned())];
        let mut pem = |name: &str, pem: &Pem| match pem {
            Pem::File(path) => pairs.push((format!("{name}.location"), path.display().to_string())),
            Pem::Text(text) => pairs.push((format!("{name}.pem"), text.clone())),
        };
        if let Some(tls) = &self.tls {
            if let Some(authority) = &tls.authority {
                pem("ssl.ca", authority);
            }
            if let Some(client) = &tls.client {
                pem("ssl.certificate", &client.chain);
                pem("ssl.key", &client.key);
            }
            let check = if tls.verify_hostname { "https" } else { "none" };
            pairs.push(("ssl.endpoint.identification.algorithm".to_owned(), check.to_owned()));
        }
        if let Some(sasl) = &self.sasl {
            pairs.push(("sasl.mechanisms".to_owned(), sasl.mechanism.name().to_owned()));
            pairs.push(("sasl.username".to_owned(), sasl.username.clone()));
            pairs.push(("sasl.password".to_owned(), sasl.password.clone()));
        }
        pairs
    }
}

impl ClientConfig {
    /// All pairs for librdkafka: `defaults`, then security, then the caller's own settings, then `fixed`, which the
    /// caller cannot change because this crate's correctness rests on them.
    pub(crate) fn librdkafka(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        all.extend(own(defaults));
        all.extend(self.security.librdkafka());
        all.extend(self.settings.iter().map(|(name, value)| (canonical(name).to_owned(), value.clone())));
        all.insert("bootstrap.servers".to_owned(), self.bootstrap_servers.clone());
        all.insert("client.id".to_owned(), self.client_id.clone());
        all.extend(own(fixed));
        all.into_iter().collect()
    }

    /// The bootstrap servers one by one.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.bootstrap_servers.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
    }
}

/// librdkafka knows some settings by two names; with both given, the order would decide instead of the caller.
fn canonical(name: &str) -> &str {
    match name {
        "delivery.timeout.ms" => "message.timeout.ms",
        "queue.buffering.max.ms" => "linger.ms",
        "request.required.acks" => "acks",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_settings_win_over_defaults_but_not_over_what_is_fixed() {
        let config = ClientConfig {
            bootstrap_servers: "a:1, b:2,".into(),
            client_id: "me".into(),
            settings: BTreeMap::from([("linger.ms".into(), "7".into()), ("enable.auto.commit".into(), "true".into())]),
            ..ClientConfig::default()
        };
        let pairs: BTreeMap<_, _> =
            config.librdkafka(&[("linger.ms", "1")], &[("enable.auto.commit", "false")]).into_iter().collect();
        assert_eq!(pairs["linger.ms"], "7");
        assert_eq!(pairs["enable.auto.commit"], "false");
        assert_eq!(pairs["security.protocol"], "plaintext");
        assert_eq!(config.servers(), ["a:1", "b:2"]);
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let security = Security {
            tls: Some(Tls { authority: Some(Pem::Text("pem-secret".into())), client: None, verify_hostname: true }),
            sasl: Some(Sasl {
                mechanism: SaslMechanism::Plain,
                username: "user".into(),
                password: "password-secret".into(),
            }),
        };
        assert!(!format!("{security:?}").contains("secret"));
    }
}
