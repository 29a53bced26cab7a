//! What can go wrong with Kafka, and what the caller must do about it.

use kafka_protocol::ResponseError;
use thiserror::Error;

use crate::admin::TopicId;

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same call may go through later.
    Retry,
    /// A person must act: a setting, a missing topic.
    User,
    /// The broker does not let this user in, or do that. A person must act, and the call may have gone through before: rights
    /// are taken away and given back while a job runs.
    Refused,
    /// The same record fails again the same way.
    UserData,
    /// This producer is dead: a newer one has its transactional id, or the broker aborted its transaction.
    Fenced,
}

/// A failed call to Kafka.
#[derive(Clone, Debug, Error)]
pub enum KafkaError {
    #[error(
        "failed to reach the Kafka brokers at {brokers}: {reason}; check 'properties.bootstrap.servers' and the network"
    )]
    Unreachable { brokers: String, reason: String },
    #[error(
        "failed to authenticate with the Kafka broker {broker}: {reason}; check 'properties.security.protocol', 'properties.sasl.*' and 'properties.ssl.*'"
    )]
    Authentication { broker: String, reason: String },
    #[error("the Kafka user has no right to {action}: {reason}; grant it on the broker")]
    Authorization { action: String, reason: String },
    #[error("topic '{topic}' does not exist; create it, or correct the option 'topic'")]
    UnknownTopic { topic: String },
    #[error("topic '{topic}' has no partition {partition}")]
    UnknownPartition { topic: String, partition: i32 },
    #[error("topic '{topic}' was deleted and made again: its id was {wanted}, now it is {found}")]
    TopicMadeAgain { topic: String, wanted: TopicId, found: TopicId },
    /// `range`: what the broker holds, where it could be asked.
    #[error("offset {offset} of topic '{topic}', partition {partition}, is out of range{}", range.map(|(first, end)| format!(": the broker holds {first} to {end} (exclusive)")).unwrap_or_default())]
    OffsetOutOfRange { topic: String, partition: i32, offset: i64, range: Option<(i64, i64)> },
    #[error("failed to write a record of {record_bytes} bytes to topic '{topic}': {reason}")]
    RecordTooLarge { topic: String, record_bytes: usize, reason: String },
    #[error("failed to write to topic '{topic}': {reason}")]
    Delivery { topic: String, reason: String },
    #[error("the producer with transactional id '{transactional_id}' is fenced: {reason}")]
    Fenced { transactional_id: String, reason: String },
    #[error("invalid Kafka setting '{name}': {reason}")]
    Setting { name: String, reason: String },
    #[error("failed to {action}: {reason}")]
    Broker { action: String, reason: String, retriable: bool },
    #[error("the Kafka broker {broker} sent what this client does not understand: {reason}")]
    Protocol { broker: String, reason: String },
}

impl KafkaError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Delivery { .. } | Self::Protocol { .. } => ErrorKind::Retry,
            Self::Broker { retriable: true, .. } => ErrorKind::Retry,
            Self::Authentication { .. } | Self::Authorization { .. } => ErrorKind::Refused,
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::TopicMadeAgain { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Setting { .. }
            | Self::Broker { retriable: false, .. } => ErrorKind::User,
            Self::RecordTooLarge { .. } => ErrorKind::UserData,
            Self::Fenced { .. } => ErrorKind::Fenced,
        }
    }

    /// The error behind a broker's error code. `action`: what was asked, as in "failed to {action}".
    pub(crate) fn from_code(code: i16, action: &str) -> Self {
        use ResponseError as E;
        let action = action.to_owned();
        let Some(error) = E::try_from_code(code) else {
            return Self::Broker { action, reason: format!("unknown error code {code}"), retriable: false };
        };
        let reason = format!("{error} ({error:?}, code {code})");
        match error {
            E::TopicAuthorizationFailed
            | E::GroupAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed => Self::Authorization { action, reason },
            E::SaslAuthenticationFailed | E::UnsupportedSaslMechanism | E::IllegalSaslState => {
                Self::Authentication { broker: action, reason }
            }
            other => Self::Broker { action, reason, retriable: other.is_retriable() },
        }
    }
}
