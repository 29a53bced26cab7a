//! How to reach a cluster and how to prove oneself to it, for all clients alike.
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
    /// By the Java client's names; they win over this crate's defaults.
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

impl ClientConfig {
    /// The bootstrap servers one by one.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.bootstrap_servers.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_servers_are_a_list() {
        let config = ClientConfig { bootstrap_servers: "a:1, b:2,".into(), ..ClientConfig::default() };
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
